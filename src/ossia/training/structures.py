"""Structures that are the same for everybody: which are worth trying, and which is the best for a budget.

Of few gates every structure is tried, 2^L of them; of many the first blocks, of any number, and those that are left when one
block after another is dropped, each time the one that is missed least.

With the base's own weights, and judged by the likelihood of validation's next items, that is the lookup table, which a
controller must beat. With generated weights, and judged by what they were trained for, it says where a controller does:
`find_levels` goes through the prices of all structures from the cheapest, and wherever what runs gets better there is a level,
the controller's or everybody's (`personalizers/levels.py`).
"""

from collections.abc import Callable, Sequence
from itertools import groupby, product
from math import inf
from typing import Final, TypeAlias

import msgspec

from ossia.personalizers.levels import ROUNDING, Level

Structure: TypeAlias = tuple[int, ...]
"""1 for each block that runs, 0 for one that is skipped."""

FEW: Final = 6
"""Gates whose structures are all tried: 64."""

DIGITS: Final = 6
"""Of a share: prices that differ by less are equal."""


class Tried(msgspec.Struct, frozen=True):
    """A structure, and what it is worth on validation."""

    kept: Structure
    worth: float


def try_structures(gates: int, worth: Callable[[Structure], float]) -> tuple[Tried, ...]:
    """Judge every structure, or of many gates the sensible ones.

    Args:
        gates: how many there are.
        worth: judges a structure; higher is better.

    Returns:
        what was tried.

    Example:
        >>> [each.kept for each in try_structures(2, lambda kept: float(sum(kept)))]
        [(0, 0), (0, 1), (1, 0), (1, 1)]
    """
    found: dict[Structure, float] = {}

    def judge(kept: Structure) -> float:
        if kept not in found:
            found[kept] = worth(kept)
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


def find_levels(
    costs: Sequence[float], worth: Callable[[Structure], float], asked: Callable[[float], float]
) -> tuple[Level, ...]:
    """Find the budgets from which on something better runs, and what it is.

    Args:
        costs: of each block, as shares of 1.
        worth: judges a structure for everybody, with generated weights; higher is better.
        asked: judges a controller at a share, in the same unit.

    Returns:
        levels from share 0 on; shares rise, and what is judged with them.

    Example:
        A controller that is worth 1 wherever it is asked, and a block that is worth 2:

        >>> find_levels([1.0], lambda kept: 2.0 * sum(kept), lambda share: 1.0)
        (Level(share=0.0, kept=None), Level(share=1.0, kept=(1,)))
    """
    levels: list[Level] = []
    best = -inf

    def price(each: Tried) -> float:
        return round(_cost(each.kept, costs), DIGITS)

    for share, equals in groupby(sorted(try_structures(len(costs), worth), key=price), key=price):
        common, chosen = max(equals, key=lambda each: each.worth), asked(share)
        if max(common.worth, chosen) > best:
            best = max(common.worth, chosen)
            levels.append(Level(share, None if chosen > common.worth else common.kept))
    return tuple(levels)


def look_up(table: Sequence[Tried], costs: Sequence[float], share: float) -> Structure:
    """Find the likeliest structure that fits a budget.

    Args:
        table: what was tried; the structure without any block is in it.
        costs: of each block, as shares of 1.
        share: what the device can afford.

    Returns:
        the structure.
    """
    fit = [each for each in table if _cost(each.kept, costs) <= share + ROUNDING]
    return max(fit, key=lambda each: each.worth).kept


def _with_one_less(kept: Structure) -> list[Structure]:
    """List what is left when one block more is dropped."""
    return [(*kept[:gate], 0, *kept[gate + 1 :]) for gate, runs in enumerate(kept) if runs]


def _cost(kept: Structure, costs: Sequence[float]) -> float:
    """Add up what a structure costs."""
    return sum((cost for cost, runs in zip(costs, kept, strict=True) if runs), 0.0)
