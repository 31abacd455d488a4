"""The same payload at less: what a device sheds that has lowered its own budget since it asked.

A payload names widths and no importances, so what goes first follows from its classes and a fixed order within each:

    weight_bytes               channels, the widest class first (all 8 → 4, then all 4 → 2), the last in wire order first
    table_bytes, latency_us    rows, whole, the narrowest class first, the least popular first

A channel's narrower slice is a part of the bytes that are there, and its scale is in the base; a row that came at 8 bits has no
scale for 4, so a row goes or stays. The widest channels come down first because the step from 8 to 4 bits frees most bytes
and loses least (`GAIN`). Nothing is widened, and gates and deltas stay. `download_bytes` is spent when a payload is there.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Int, Int64, UInt8

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.base import Base
from ossia.adaptation.cost import PriceList, price_list
from ossia.adaptation.prices import CostTable, or_top
from ossia.errors import BudgetError
from ossia.types import Budget


def lower(base: Base, adaptation: Adaptation, budget: Budget, *, cost_table: CostTable | None = None) -> Adaptation:
    """Bring an adaptation within a budget, by its own classes alone.

    Args:
        base: the base that it is for.
        adaptation: as it was decoded.
        budget: what the device can afford now.
        cost_table: its measured microseconds; without it `latency_us` does not count.

    Returns:
        the adaptation itself if it fits; else what is left of it, shed no further than it must be.

    Raises:
        BudgetError: too much even with every channel at 2 bits and no row; names the limit and the floor.
    """
    asked = replace(budget, download_bytes=None, latency_us=budget.latency_us if cost_table else None)
    if asked == Budget():  # the rule among devices; prices of a large catalog take a while
        return adaptation
    prices = price_list(base, gates=adaptation.gates, cost_table=cost_table)
    codes, rows = or_top(adaptation.codes, base.channels), or_top(adaptation.rows, len(base.table))
    falls, drops = _falls(codes), _drops(rows, base.table.popularity)

    def narrowed(steps: int) -> Adaptation:
        return replace(adaptation, codes=_fallen(codes, falls[:steps])) if steps else adaptation

    def thinned(steps: int) -> Adaptation:
        return replace(narrow, rows=_without(rows, drops[:steps])) if steps else narrow

    narrow = narrowed(_least(narrowed, len(falls), prices, budget, ("weight_bytes",)))
    return thinned(_least(thinned, len(drops), prices, budget, ("table_bytes", "latency_us")))


def floor(base: Base) -> Adaptation:
    """Return what no payload needs to stay above: every channel at 2 bits, no row.

    Args:
        base: the base.

    Returns:
        the adaptation; a budget that holds it can be met by every payload of the base.
    """
    return Adaptation(codes=np.ones(base.channels, np.uint8), rows=np.zeros(len(base.table), np.uint8))


def _least(take: Callable[[int], Adaptation], most: int, prices: PriceList, budget: Budget, names: tuple[str, ...]) -> int:
    """Find the fewest steps after which every limit holds; `most` must be enough."""
    if not _over(take(0), prices, budget, names):
        return 0
    steps = bisect_left(range(most), True, key=lambda count: not _over(take(count), prices, budget, names))
    for name, spent in _over(take(steps), prices, budget, names):
        raise BudgetError(name, spent, float(getattr(budget, name)))
    return steps


def _over(adaptation: Adaptation, prices: PriceList, budget: Budget, names: tuple[str, ...]) -> list[tuple[str, float]]:
    """Name the limits that an adaptation exceeds, each with what it spends."""
    found = prices.costs(adaptation)
    spent = ((name, getattr(found, name), getattr(budget, name)) for name in names)
    return [(name, float(much)) for name, much, limit in spent if much is not None and limit is not None and much > limit]


def _falls(codes: UInt8[np.ndarray, " channels"]) -> Int64[np.ndarray, " steps"]:
    """Name the channels in the order in which each loses a class: all at 8 bits, then all at 4, each time the last first."""
    widest, above = np.flatnonzero(codes == 3), np.flatnonzero(codes >= 2)
    return np.concatenate([widest[::-1], above[::-1]])


def _fallen(codes: UInt8[np.ndarray, " channels"], steps: Int64[np.ndarray, " steps"]) -> UInt8[np.ndarray, " channels"]:
    """Take a class from a channel each time that it is named."""
    return (codes - np.bincount(steps, minlength=len(codes))).astype(np.uint8)


def _drops(rows: UInt8[np.ndarray, " rows"], popularity: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " held"]:
    """Name the rows that are held in the order in which they go."""
    least_first = popularity[::-1]
    held = least_first[rows[least_first] > 0]
    return held[np.argsort(rows[held], kind="stable")]


def _without(rows: UInt8[np.ndarray, " rows"], gone: Int[np.ndarray, " gone"]) -> UInt8[np.ndarray, " rows"]:
    """Let rows go."""
    left = rows.copy()
    left[gone] = 0
    return left
