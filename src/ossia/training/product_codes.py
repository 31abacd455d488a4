"""Fitting product codes: a coarse version of a whole item table (`ossia.adaptation.tail`), one byte for each part of a row.

What should be small is the error of a *score*, not of a vector: E (s · (e − ê))² = (e − ê)ᵀ Σ (e − ê) with Σ = E s sᵀ over user
states. So vectors are multiplied by Σ^{1/2} before the codebooks are fitted, and states by Σ^{−1/2} (in the spirit of
anisotropic quantization, Guo et al., ICML 2020, which weighs the direction of each vector instead); and directions are dealt
out to the parts so that each gets a like share of the variance (parametric optimized product codes, Ge et al., CVPR 2013).

A mean over all rows spends most of its care on rows that nobody is shown. So codewords and rotation then learn, by gradient, to
order rows as the table itself does; codes stay. With p and p̂ the softmax over rows of s · E / τ and of the coarse scores,

    loss = KL(p ‖ p̂), mean over user states          rows near the top of somebody's list are those that count

No next item is looked at: who learns from the few that there are learns them by heart (docs/chord.md has both).

k-means is Lloyd's with a fixed number of rounds. Libraries do it better and faster (faiss), and may, as long as what comes out
is codes and codebooks.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ossia.adaptation.tail import WORDS, Tail
from ossia.errors import UsageError

ROUNDS = 12
STEPS, STATES, ROWS = 300, 192, 16_384
LR, TURN, TEMPERATURE = 3e-2, 0.3, 0.25
"""Of learning to order rows: steps; states and rows of each; Adam's step size and τ, in the spread of what they are of."""


@torch.no_grad()
def fit_product_codes(
    vectors: Float[Tensor, "rows dim"], states: Float[Tensor, "users dim"], parts: int, *, seed: int = 0
) -> Tail:
    """Fit product codes to a table.

    Args:
        vectors: the rows.
        states: of many users: what scores are to be right for.
        parts: bytes per row; divides the width of a row.
        seed: of the first codewords.

    Returns:
        codes, codewords and the rotation of states.

    Raises:
        UsageError: parts do not divide the width.
    """
    dim = vectors.shape[1]
    if parts < 1 or dim % parts:
        raise UsageError(f"tail: expected a number of parts that divides {dim}, got {parts}")
    second = (states.T @ states / len(states)).double()
    values, basis = torch.linalg.eigh(second + 1e-3 * second.diag().mean() * torch.eye(dim, dtype=torch.float64))
    root, inverse = (basis * values**power @ basis.T for power in (0.5, -0.5))
    seen = vectors.double() @ root
    spread, axes = torch.linalg.eigh(seen.T @ seen)
    turn = axes[:, deal(spread.numpy(), parts)]
    rotated = (seen @ turn).float()
    generator = torch.Generator().manual_seed(seed)
    fitted = [_k_means(part, generator) for part in torch.split(rotated, dim // parts, dim=1)]
    codes = torch.stack([assigned for _, assigned in fitted], dim=1).to(torch.uint8)
    return Tail(codes.numpy(), torch.stack([book for book, _ in fitted]).half().numpy(), (inverse @ turn).half().numpy())


@torch.enable_grad()
def learn_order(
    tail: Tail,
    vectors: Float[Tensor, "rows dim"],
    states: Float[Tensor, "users dim"],
    *,
    steps: int = STEPS,
    temperature: float = TEMPERATURE,
    seed: int = 0,
) -> Tail:
    """Move codewords and rotation until coarse scores order rows as the table does; codes stay as they are.

    Args:
        tail: fitted to the table.
        vectors: the table's rows.
        states: of many users, whose orders count.
        steps: of Adam.
        temperature: τ, in standard deviations of a state's scores over rows.
        seed: of the states and rows of each step.

    Returns:
        a tail of as many bytes.
    """
    codes = torch.from_numpy(tail.codes.astype(np.int64))
    words, turn = (torch.from_numpy(each.astype(np.float32)).requires_grad_() for each in (tail.codewords, tail.rotation))
    generator = torch.Generator().manual_seed(seed)
    tau = temperature * float((states[:1024] @ vectors[_draw_rows(len(vectors), generator)].T).std(dim=1).mean())
    rates = [LR * float(words.detach().std()), LR * TURN * float(turn.detach().std())]
    optimizer = torch.optim.Adam([{"params": [each], "lr": rate} for each, rate in zip((words, turn), rates, strict=True)])
    for step in range(steps):
        some, rows = states[torch.randint(len(states), (STATES,), generator=generator)], _draw_rows(len(vectors), generator)
        coarse = torch.cat([book[mine] for book, mine in zip(words, codes[rows].T, strict=True)], dim=1)
        wanted = (some @ vectors[rows].T / tau).softmax(dim=1)
        loss = -(wanted * ((some @ turn) @ coarse.T / tau).log_softmax(dim=1)).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (1 - (step + 1) / (steps + 1))
    return Tail(tail.codes, words.detach().half().numpy(), turn.detach().half().numpy())


def _draw_rows(count: int, generator: torch.Generator) -> Int[Tensor, " drawn"]:
    """Draw the rows of a step: all of them, or some of a large table."""
    return torch.arange(count) if count <= ROWS else torch.randperm(count, generator=generator)[:ROWS]


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
