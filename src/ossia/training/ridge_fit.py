"""A ridge regression of many numbers at once, in one pass over events: only sums are kept, so a log of any length fits.

    B = (ΦᵀΦ + λ √n)⁻¹ ΦᵀS,     φ: `ossia.personalizers.ridge`,  centered on both sides

What is predicted here (a sensitivity, a gradient) is nearly all noise, and is used by its direction. So λ is the one whose
predictions point most nearly where every fifth event does, by the cosine

    a(λ) = Σ_u ŝ_u · s_u / √(Σ_u |ŝ_u|² Σ_u |s_u|²)          deviations from the mean over users
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ossia.personalizers.ridge import Cosines

PENALTIES = tuple(float(2.0**power) for power in range(-2, 15))
HELD_OUT = 5  # every fifth event chooses the penalty


@dataclass(frozen=True, eq=False)
class Fit:
    """What a ridge regression found.

    Attributes:
        coefficients: B; the first feature is the constant.
        alignment: cosine between what was predicted and what was held out, both as deviations from the mean.
        penalty: λ.
    """

    coefficients: Float[Tensor, "features targets"]
    alignment: float
    penalty: float


def fit_ridge(
    features: Cosines, targets: int, observed: Iterable[tuple[Float[Tensor, "events dim"], Float[Tensor, "events targets"]]]
) -> Fit:
    """Fit a ridge in one pass; nothing but sums is kept.

    Args:
        features: φ, on the CPU.
        targets: how many numbers are predicted of each event.
        observed: profiles and what to predict, in batches of events in random order.

    Returns:
        the fit to all events, with the penalty that was best on every fifth.
    """
    kept, held = (_Sums(features.size - 1, targets) for _ in range(2))
    for profiles, found in observed:
        phi = features(profiles)[:, 1:].double()  # without the constant: sums are centered instead
        is_held = torch.arange(len(phi)) % HELD_OUT == 0
        kept.add(phi[~is_held], found[~is_held].double())
        held.add(phi[is_held], found[is_held].double())
    alignments = kept.alignments(held)
    best = int(alignments.argmax())
    kept.merge(held)
    return Fit(kept.solve(PENALTIES[best]), float(alignments[best]), PENALTIES[best])


class _Sums:
    """Sufficient statistics of a linear regression on many targets, in double precision."""

    def __init__(self, features: int, targets: int) -> None:
        double = torch.float64
        self.events, self.total = 0, 0.0
        self.phi, self.found = torch.zeros(features, dtype=double), torch.zeros(targets, dtype=double)
        self.square, self.cross = torch.zeros(features, features, dtype=double), torch.zeros(features, targets, dtype=double)

    def add(self, phi: Tensor, found: Tensor) -> None:
        """Count some events in."""
        self.events += len(phi)
        self.total += float(found.square().sum())
        self.phi += phi.sum(dim=0)
        self.found += found.sum(dim=0)
        self.square.addmm_(phi.T, phi)
        self.cross.addmm_(phi.T, found)

    def merge(self, other: "_Sums") -> None:
        """Count another's events in."""
        self.events += other.events
        self.total += other.total
        for name in ("phi", "found", "square", "cross"):
            getattr(self, name).add_(getattr(other, name))

    def around(self, phi: Tensor, found: Tensor) -> tuple[Tensor, Tensor, float]:
        """Move the origin: Σ (φ − a)(φ − a)ᵀ, Σ (φ − a)(s − b)ᵀ, Σ |s − b|²."""
        square = self.square - torch.outer(self.phi, phi) - torch.outer(phi, self.phi) + self.events * torch.outer(phi, phi)
        cross = self.cross - torch.outer(self.phi, found) - torch.outer(phi, self.found) + self.events * torch.outer(phi, found)
        return square, cross, self.total - 2 * float(found @ self.found) + self.events * float(found @ found)

    def solve(self, penalty: float) -> Float[Tensor, "features targets"]:
        """Solve for the coefficients, the constant's first; the constant is not penalized."""
        phi, found = self.phi / self.events, self.found / self.events
        square, cross, _ = self.around(phi, found)
        slopes = torch.linalg.solve(square + penalty * self.events**0.5 * torch.eye(len(phi), dtype=torch.float64), cross)
        return torch.cat([(found - phi @ slopes)[None], slopes]).float()

    def alignments(self, held: "_Sums") -> Float[Tensor, " penalties"]:
        """Say for each penalty how well what is learned here predicts the direction of what is held out.

        In the basis in which ΦᵀΦ is diagonal, every penalty is one division, and no coefficients need be made:
        with G = Vᵀ ΦᵀS and w = 1 / (d + λ√n),  Σ ŝ·s = w · diag(G Hᵀ)  and  Σ |ŝ|² = wᵀ (VᵀΦ'ᵀΦ'V ∘ G Gᵀ) w.
        """
        phi, found = self.phi / self.events, self.found / self.events
        square, cross, _ = self.around(phi, found)
        other_square, other_cross, other_total = held.around(phi, found)
        diagonal, basis = torch.linalg.eigh(square)
        mine, theirs = basis.T @ cross, basis.T @ other_cross
        together = (mine * theirs).sum(dim=1)
        lengths = (basis.T @ other_square @ basis) * (mine @ mine.T)
        found_so_far = []
        for penalty in PENALTIES:
            weight = 1 / (diagonal.clamp_min(0) + penalty * self.events**0.5)
            length = float(weight @ lengths @ weight)
            found_so_far.append(float(weight @ together) / max(length * other_total, 1e-60) ** 0.5)
        return torch.tensor(found_so_far)
