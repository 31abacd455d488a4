"""From importances to exact widths within a budget: hard, all limits at once, for every user.

A channel or row of importance I at b bits is worth I · GAIN[b], where GAIN is the share of a Gaussian vector's energy that
its b-bit slice keeps. From the lowest width upward every thing has a ladder of *steps*; a step is worth
I · (GAIN[b'] − GAIN[b]) and costs bytes and microseconds. Steps are taken in the order of

    worth / price,      price = Σ over limits of  cost / (limit − floor)

until a limit is reached, and then whatever still fits, so that no limit is ever exceeded and none that binds is left unused.
For one limit this is the greedy rule for concave knapsacks: a threshold on importance per byte, as in CHORD.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from jaxtyping import Float, Float64, UInt8

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.allocate_codes import GAIN, CodeAllocator, only_weight
from ossia.adaptation.base import Base
from ossia.adaptation.climb import Ladder, climb
from ossia.adaptation.cost import PriceList, price_list
from ossia.adaptation.prices import WHOLE, CostTable, Prices
from ossia.adaptation.wire import varint_bytes
from ossia.errors import BudgetError, UsageError
from ossia.types import WIDTHS, Budget

LIMITS: Final = tuple(limit.name for limit in fields(Budget))
DOWNLOAD: Final = LIMITS.index("download_bytes")
REFILLS: Final = 4  # lists of rows come out shorter than their upper bound; so often the difference is handed out again


@dataclass(frozen=True, eq=False)
class Importance:
    """How much each channel and each row matters to one user; finite, ≥ 0, only ratios within a field count.

    Attributes:
        channels: one number per channel in wire order; None: channels stay at 8 bits.
        rows: one number per row of the item table; None: rows stay at 8 bits.
    """

    channels: Float[np.ndarray, " channels"] | None = None
    rows: Float[np.ndarray, " rows"] | None = None


@dataclass(frozen=True)
class Device:
    """What allocation must know of a device beside its budget.

    Attributes:
        holds: whose planes and rows are there already; None: a fresh device that has nothing.
        cost_table: its measured microseconds; needed for `latency_us`.
    """

    holds: Adaptation | None = WHOLE
    cost_table: CostTable | None = None


def allocate(
    base: Base,
    importance: Importance,
    budget: Budget,
    *,
    alphabet: Sequence[int] = (2, 4, 8),
    gates: UInt8[np.ndarray, " gates"] | None = None,
    device: Device = Device(),
    signed: bool = False,
) -> Adaptation:
    """Choose a width for every channel and row, within the budget.

    Args:
        base: the base.
        importance: what matters to this user.
        budget: the device's limits.
        alphabet: widths that a channel may have; a row may have any of `WIDTHS`.
        gates: which blocks run; None: all.
        device: what is on the device, and how fast it is.
        signed: leave room for a signature.

    Returns:
        the adaptation; a term that no limit touches stays None.

    Raises:
        BudgetError: even the lowest widths exceed a limit; names it and the floor.
        UsageError: `latency_us` without a cost table, or an importance that is negative, not finite or of another length.
    """
    _check(base, importance, budget, device)
    if importance.channels is not None and gates is None and only_weight(budget):
        return CodeAllocator.of(base, alphabet).allocate(importance.channels[None], [budget])[0]
    limits = np.array([np.inf if getattr(budget, name) is None else getattr(budget, name) for name in LIMITS])
    exact = np.array([name.endswith("bytes") for name in LIMITS])
    limits[exact] = np.floor(limits[exact])
    prices = price_list(base, gates=gates, on_device=device.holds, cost_table=device.cost_table)
    richest = Adaptation(gates=gates)
    if (_spent(prices, richest, signed) <= limits).all():
        return richest
    terms = _terms(prices, importance, limits, alphabet)
    lowest = _adapt(terms, [np.zeros(len(term.ladder.worth), np.int64) for term in terms], gates)
    floor = _spent(prices, lowest, signed)
    for name, least, limit in zip(LIMITS, floor.tolist(), limits.tolist(), strict=True):
        if least > limit:
            raise BudgetError(name, least, limit)
    return _fill(prices, terms, lowest, limits, floor, signed)


@dataclass(frozen=True, eq=False)
class _Term:
    """One field of the adaptation that is to be chosen: its ladder, and the code of each rung."""

    field: str
    ladder: Ladder
    codes: UInt8[np.ndarray, " rungs"]


def _fill(
    prices: PriceList,
    terms: list[_Term],
    lowest: Adaptation,
    limits: Float64[np.ndarray, " limits"],
    floor: Float64[np.ndarray, " limits"],
    signed: bool,
) -> Adaptation:
    """Climb; what the upper bound of the row lists left unused is handed out again."""
    best, saved = lowest, -3.0 * (varint_bytes(len(prices.base.table)) - 1)  # the three lists' own lengths may grow too
    for _ in range(REFILLS):
        slack = limits - floor
        slack[DOWNLOAD] = max(slack[DOWNLOAD] + saved, 0)
        slack[LIMITS.index("latency_us")] *= 1 - 1e-9  # sums of floats, added up in another order
        rungs = climb([term.ladder for term in terms], slack)
        adaptation = _adapt(terms, rungs, lowest.gates)
        used = _spent(prices, adaptation, signed)
        if (used > limits).any():
            break
        best = adaptation
        if not np.isfinite(limits[DOWNLOAD]):
            break  # only the lists' length is an estimate
        bound = sum(_climbed(term.ladder, rung) for term, rung in zip(terms, rungs, strict=True))
        saved = bound - (used - floor)[DOWNLOAD]
    return best


def _terms(
    prices: PriceList, importance: Importance, limits: Float64[np.ndarray, " limits"], alphabet: Sequence[int]
) -> list[_Term]:
    """Lay out the terms that have an importance and that some limit touches."""
    terms = []
    if importance.channels is not None:
        rungs = np.flatnonzero(np.isin(WIDTHS, alphabet)).astype(np.uint8)
        terms.append(_Term("codes", _ladder(importance.channels, prices.channels, "weight_bytes", rungs), rungs))
    if importance.rows is not None:
        rungs = np.arange(4, dtype=np.uint8)
        terms.append(_Term("rows", _ladder(importance.rows, prices.rows, "table_bytes", rungs), rungs))
    touched = [term for term in terms if (np.ptp(term.ladder.cost, axis=1)[:, np.isfinite(limits)] > 0).any()]
    for term in touched:
        if term.field == "rows":  # naming a row costs download too, but by itself is no reason to drop one
            term.ladder.cost[:, 1:, DOWNLOAD] += varint_bytes(len(prices.base.table))
    return touched


def _ladder(importance: Float[np.ndarray, " things"], prices: Prices, rest: str, codes: UInt8[np.ndarray, " rungs"]) -> Ladder:
    """Put worth and cost side by side; each kind's worth adds up to 1 at the top, so that kinds can be compared."""
    share = importance.astype(np.float64) / max(float(importance.sum(dtype=np.float64)), 1e-300)
    columns = {"download_bytes": prices.download, rest: prices.rest, "latency_us": prices.latency}
    nothing = np.zeros_like(prices.latency)
    cost = np.stack([columns.get(name, nothing) for name in LIMITS], axis=2).astype(np.float64)
    return Ladder(share[:, None] * np.array(GAIN)[codes], cost[:, codes])


def _adapt(terms: list[_Term], rungs: list[np.ndarray], gates: UInt8[np.ndarray, " gates"] | None) -> Adaptation:
    """Make the adaptation; a term that is at its top throughout is the base's own, and costs no bytes to say."""
    codes = {term.field: term.codes[rung] for term, rung in zip(terms, rungs, strict=True)}
    return Adaptation(gates=gates, **{name: code for name, code in codes.items() if (code < 3).any()})


def _climbed(ladder: Ladder, rungs: np.ndarray) -> float:
    """Return what the climb counted for the download."""
    cost = ladder.cost[:, :, DOWNLOAD]
    return float((cost[np.arange(len(rungs)), rungs] - cost[:, 0]).sum())


def _spent(prices: PriceList, adaptation: Adaptation, signed: bool) -> Float64[np.ndarray, " limits"]:
    """Price an adaptation by every limit."""
    found = prices.costs(adaptation, signed=signed)
    return np.array([getattr(found, name) or 0 for name in LIMITS], np.float64)


def _check(base: Base, importance: Importance, budget: Budget, device: Device) -> None:
    """Refuse what can't be allocated."""
    if budget.latency_us is not None and device.cost_table is None:
        raise UsageError("budget: expected a measured cost table with latency_us, got none")
    for field, values, count in (("channels", importance.channels, base.channels), ("rows", importance.rows, len(base.table))):
        if values is not None and (values.shape != (count,) or not np.isfinite(values).all() or (values < 0).any()):
            raise UsageError(f"importance of {field}: expected {count:,} finite numbers ≥ 0, got {values.shape}")
