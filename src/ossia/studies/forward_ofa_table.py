"""The lookup table that a controller must beat: for each budget the best structure of the base itself, the same for everybody.

Of few gates every structure is tried, 2^L of them; of many the first blocks, of any number, and those that are left when one
block after another is dropped, each time the one that is missed least. *Best* is the highest likelihood on validation.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Final, TypeAlias

import msgspec

Structure: TypeAlias = tuple[int, ...]
"""1 for each block that runs, 0 for one that is skipped."""

FEW: Final = 6
"""Gates whose structures are all tried: 64."""


class Tried(msgspec.Struct, frozen=True):
    """A structure, and how likely it makes validation's next items."""

    kept: Structure
    likelihood: float


def try_structures(gates: int, likelihood: Callable[[Structure], float]) -> tuple[Tried, ...]:
    """Judge every structure, or of many gates the sensible ones.

    Args:
        gates: how many there are.
        likelihood: judges a structure; higher is better.

    Returns:
        what was tried.

    Example:
        >>> [each.kept for each in try_structures(2, lambda kept: float(sum(kept)))]
        [(0, 0), (0, 1), (1, 0), (1, 1)]
    """
    found: dict[Structure, float] = {}

    def judge(kept: Structure) -> float:
        if kept not in found:
            found[kept] = likelihood(kept)
        return found[kept]

    if gates <= FEW:
        for kept in product((0, 1), repeat=gates):
            judge(kept)
    else:
        for count in range(gates + 1):
            judge((1,) * count + (0,) * (gates - count))
        kept = (1,) * gates
        while any(kept):
            kept = max(_with_one_less(kept), key=judge)
    return tuple(Tried(kept, value) for kept, value in found.items())


def look_up(table: Sequence[Tried], costs: Sequence[float], share: float) -> Structure:
    """Find the likeliest structure that fits a budget.

    Args:
        table: what was tried; the structure without any block is in it.
        costs: of each block, as shares of 1.
        share: what the device can afford.

    Returns:
        the structure.
    """
    fit = [each for each in table if sum(cost for cost, runs in zip(costs, each.kept, strict=True) if runs) <= share + 1e-6]
    return max(fit, key=lambda each: each.likelihood).kept


def _with_one_less(kept: Structure) -> list[Structure]:
    """List what is left when one block more is dropped."""
    return [(*kept[:gate], 0, *kept[gate + 1 :]) for gate, runs in enumerate(kept) if runs]
