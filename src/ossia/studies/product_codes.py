"""Product codes: a coarse version of a whole item table, one byte for each of a few parts of every row.

    E_i R ≈ (c_1[a_i1], …, c_m[a_im])        m parts of the rotated vector, 256 codewords each
    score  = Σ_j (R' s)_j · c_j[a_ij]        a device adds m entries of m tables of 256 numbers

What should be small is the error of a *score*, not of a vector: E (s · (e − ê))² = (e − ê)ᵀ Σ (e − ê) with Σ = E s sᵀ over user
states. So vectors are multiplied by Σ^{1/2} before the codebooks are fitted, and states by Σ^{−1/2} (in the spirit of
anisotropic quantization, Guo et al., ICML 2020, which weighs the direction of each vector instead); and directions are dealt
out to the parts so that each gets a like share of the variance (parametric optimized product codes, Ge et al., CVPR 2013).

k-means is Lloyd's with a fixed number of rounds. Libraries do it better and faster (faiss), and may, as long as what comes out
is codes and codebooks.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

WORDS = 256
ROUNDS = 12
CODEBOOK_BYTES = 2  # float16


@dataclass(frozen=True, eq=False)
class ProductCodes:
    """A table's coarse version.

    Attributes:
        codes: one codeword per row and part.
        codebooks: the codewords of each part.
        rotation: what a user state is multiplied by before it meets codewords.
    """

    codes: Int[Tensor, "rows parts"]
    codebooks: Float[Tensor, "parts words width"]
    rotation: Float[Tensor, "dim dim"]

    @property
    def bytes(self) -> int:
        """Count codes, codebooks and rotation, the latter two in float16."""
        floats = self.codebooks.numel() + self.rotation.numel()
        return self.codes.numel() + CODEBOOK_BYTES * floats

    def scores(self, states: Float[Tensor, "users dim"]) -> Float[Tensor, "users rows"]:
        """Score every row coarsely.

        Args:
            states: user states.

        Returns:
            the scores.
        """
        return (states @ self.rotation) @ self.rows.T

    @property
    def rows(self) -> Float[Tensor, "rows dim"]:
        """The rows as the codes have them, in the rotated space."""
        return torch.cat([book[self.codes[:, part]] for part, book in enumerate(self.codebooks)], dim=1)


@torch.no_grad()
def fit_product_codes(
    vectors: Float[Tensor, "rows dim"], states: Float[Tensor, "users dim"], parts: int, *, seed: int = 0
) -> ProductCodes:
    """Fit product codes to a table.

    Args:
        vectors: the rows.
        states: of many users: what scores are to be right for.
        parts: bytes per row; divides the width of a row.
        seed: of the first codewords.

    Returns:
        codes, codebooks and the rotation of states.
    """
    dim = vectors.shape[1]
    second = (states.T @ states / len(states)).double()
    values, basis = torch.linalg.eigh(second + 1e-3 * second.diag().mean() * torch.eye(dim, dtype=torch.float64))
    root, inverse = (basis * values**power @ basis.T for power in (0.5, -0.5))
    seen = vectors.double() @ root
    spread, axes = torch.linalg.eigh(seen.T @ seen)
    turn = axes[:, deal(spread.numpy(), parts)]
    rotated = (seen @ turn).float()
    generator = torch.Generator().manual_seed(seed)
    fitted = [_k_means(part, generator) for part in torch.split(rotated, dim // parts, dim=1)]
    codes = torch.stack([assigned for _, assigned in fitted], dim=1)
    return ProductCodes(codes, torch.stack([book for book, _ in fitted]), (inverse @ turn).float())


def deal(variance: Float[np.ndarray, " dim"], parts: int) -> list[int]:
    """Deal directions out to parts of equal size, the largest first, each to the part with the least product so far.

    Args:
        variance: of each direction.
        parts: how many; divides their number.

    Returns:
        an order of the directions, part by part.

    Example:
        >>> deal(np.array([1.0, 2.0, 3.0, 4.0]), 2)
        [3, 0, 2, 1]
    """
    size = len(variance) // parts
    hands: list[list[int]] = [[] for _ in range(parts)]
    logs = np.log(np.maximum(variance, 1e-12))
    for direction in np.argsort(-variance, kind="stable").tolist():
        free = [hand for hand in hands if len(hand) < size]
        min(free, key=lambda hand: sum(logs[each] - logs.min() for each in hand)).append(direction)
    return [direction for hand in hands for direction in hand]


def k_means(points: Float[Tensor, "points width"], words: int, *, seed: int = 0) -> Int[Tensor, " points"]:
    """Group points.

    Args:
        points: what to group.
        words: how many groups at most.
        seed: of the first centers.

    Returns:
        the group of each point.
    """
    return _k_means(points, torch.Generator().manual_seed(seed), words)[1]


def _k_means(points: Tensor, generator: torch.Generator, words: int = WORDS) -> tuple[Tensor, Tensor]:
    """Lloyd's rounds from random points; an empty group starts again at a random point."""
    words = min(words, len(points))
    centers = points[torch.randperm(len(points), generator=generator)[:words]].clone()
    for _ in range(ROUNDS):
        nearest = _nearest(points, centers)
        counts = torch.bincount(nearest, minlength=words)
        sums = torch.zeros_like(centers).index_add_(0, nearest, points)
        fresh = points[torch.randint(len(points), (words,), generator=generator)]
        centers = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], fresh)
    return centers, _nearest(points, centers)


def _nearest(points: Tensor, centers: Tensor) -> Tensor:
    """Find each point's nearest center: argmin ‖c‖² − 2 p · c."""
    half = centers.square().sum(dim=1) / 2
    return torch.cat([(half - chunk @ centers.T).argmin(dim=1) for chunk in torch.split(points, 4096)])
