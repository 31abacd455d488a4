"""From importances to exact widths within a budget: hard, all limits at once, for every user.

A channel or row of importance I at b bits is worth I · GAIN[b], where GAIN is the share of a Gaussian vector's energy that
its b-bit slice keeps. From the lowest width upward every thing has a ladder of *steps*; a step is worth
I · (GAIN[b'] − GAIN[b]) and costs bytes and microseconds. Steps are taken in the order of

    worth / price,      price = Σ over limits of  cost / (limit − floor)

until a limit is reached, and then whatever still fits, so that no limit is ever exceeded and none that binds is left unused.
For one limit this is the greedy rule for concave knapsacks: a threshold on importance per byte, as in CHORD.

Prices, floor and order of the ladders follow from the budget alone. A `Plan` works them out once for all users who share a
budget; `allocate` makes one and uses it once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Final

import numpy as np
from jaxtyping import Float, Float64, UInt8

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.allocate_codes import GAIN, CodeAllocator, only_weight
from ossia.adaptation.base import Base
from ossia.adaptation.climb import Ladder, Stairs, lay_out
from ossia.adaptation.cost import PriceList, price_list
from ossia.adaptation.held_rows import let_stay
from ossia.adaptation.prices import WHOLE, CostTable, Prices
from ossia.adaptation.wire import varint_bytes
from ossia.errors import BudgetError, UsageError
from ossia.types import WIDTHS, Budget

LIMITS: Final = tuple(limit.name for limit in fields(Budget))
NO_LADDER: Final = Ladder(np.zeros((0, 1)), np.zeros((0, 1, len(LIMITS))))
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


KINDS: Final = tuple(field.name for field in fields(Importance))


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
    chosen = tuple(name for name in KINDS if getattr(importance, name) is not None)
    plan = make_plan(base, budget, alphabet=alphabet, gates=gates, device=device, signed=signed, chosen=chosen)
    _check(base, importance)
    return plan.allocate(importance)


@dataclass(frozen=True, eq=False)
class _Term:
    """One field of the adaptation that is to be chosen: by which importance, its ladder, and the code of each rung."""

    kind: str
    field: str
    ladder: Ladder
    codes: UInt8[np.ndarray, " rungs"]


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything about an allocation that does not depend on the user. Immutable; threads may share it.

    Attributes:
        prices: of every width of everything, for this device.
        limits: of the budget, in the order of `LIMITS`; inf for none.
        floor: what the lowest widths cost.
        lowest: the adaptation with the lowest widths.
        signed: whether a signature is counted.
        terms: what is to be chosen; none, if no limit touches anything.
        stairs: the terms' ladders, priced.
        budget: what was asked.
        codes_alone: does it where the budget limits weight bytes and nothing else: then many users are climbed side by side.
    """

    prices: PriceList
    limits: Float64[np.ndarray, " limits"]
    floor: Float64[np.ndarray, " limits"]
    lowest: Adaptation
    signed: bool
    terms: tuple[_Term, ...]
    stairs: Stairs
    budget: Budget
    codes_alone: CodeAllocator | None

    @cached_property
    def needs(self) -> tuple[str, ...]:
        """The fields of `Importance` that the answer depends on."""
        return tuple(term.kind for term in self.terms)

    def allocate(self, importance: Importance, held: UInt8[np.ndarray, " rows"] | None = None) -> Adaptation:
        """Choose one user's widths.

        Args:
            importance: what matters to this user, with every field that `needs` names; finite and ≥ 0.
            held: the width code of each row that the device has, which may stay (`let_stay`); None: it has none.

        Returns:
            the adaptation, within every limit.
        """
        chosen = self._choose(importance)
        if held is None or chosen.rows is None or importance.rows is None:
            return chosen
        staying = replace(chosen, rows=let_stay(chosen.rows, importance.rows, held))
        fits = (_spent(self.prices, staying, self.signed) <= self.limits).all()  # its lists may take a few bytes more
        return staying if fits else chosen

    def _choose(self, importance: Importance) -> Adaptation:
        """Choose one user's widths for a device that has no rows."""
        if not self.terms:
            return self.lowest
        if self.codes_alone:
            assert importance.channels is not None, "a plan for channels was asked without their importance"
            return self.codes_alone.allocate(importance.channels[None], [self.budget])[0]
        shares = np.concatenate([_share(importance, term.kind) for term in self.terms])
        if np.isfinite(self.limits[DOWNLOAD]):
            return self._refill(shares)
        return _adapt(self.terms, self.stairs.climb(shares), self.lowest.gates)

    def _refill(self, shares: Float64[np.ndarray, " things"]) -> Adaptation:
        """Climb; what the upper bound of the row lists left unused of the download is handed out again."""
        best, saved = self.lowest, -3.0 * (varint_bytes(len(self.prices.base.table)) - 1)  # the lists' own lengths may grow too
        ladders = [term.ladder for term in self.terms]
        for _ in range(REFILLS):
            slack = _slack(self.limits, self.floor, saved)
            rungs = lay_out(ladders, slack).climb(shares)
            adaptation = _adapt(self.terms, rungs, self.lowest.gates)
            used = _spent(self.prices, adaptation, self.signed)
            if (used > self.limits).any():
                break
            best = adaptation
            bound = sum(_climbed(term.ladder, rung) for term, rung in zip(self.terms, rungs, strict=True))
            saved = bound - (used - self.floor)[DOWNLOAD]
        return best


def make_plan(
    base: Base,
    budget: Budget,
    *,
    alphabet: Sequence[int] = (2, 4, 8),
    gates: UInt8[np.ndarray, " gates"] | None = None,
    device: Device = Device(),
    signed: bool = False,
    chosen: Sequence[str] = KINDS,
) -> Plan:
    """Work out what one budget means for every user.

    Args:
        base: the base.
        budget: the device's limits.
        alphabet: widths that a channel may have; a row may have any of `WIDTHS`.
        gates: which blocks run; None: all.
        device: what is on the device, and how fast it is.
        signed: leave room for a signature.
        chosen: the fields of `Importance` that users will bring; the others' things stay at 8 bits.

    Returns:
        the plan.

    Raises:
        BudgetError: even the lowest widths exceed a limit; names it and the floor.
        UsageError: `latency_us` without a cost table.
    """
    if budget.latency_us is not None and device.cost_table is None:
        raise UsageError("budget: expected a measured cost table with latency_us, got none")
    limits = np.array([np.inf if getattr(budget, name) is None else getattr(budget, name) for name in LIMITS])
    exact = np.array([name.endswith("bytes") for name in LIMITS])
    limits[exact] = np.floor(limits[exact])
    prices = price_list(base, gates=gates, on_device=device.holds, cost_table=device.cost_table)
    richest = Adaptation(gates=gates)
    fits = bool((_spent(prices, richest, signed) <= limits).all())
    terms = () if fits else _terms(prices, limits, alphabet, chosen)
    lowest = _adapt(terms, [np.zeros(len(term.ladder.worth), np.int64) for term in terms], gates)
    floor = _spent(prices, lowest, signed)
    for name, least, limit in zip(LIMITS, floor.tolist(), limits.tolist(), strict=True):
        if least > limit:
            raise BudgetError(name, least, limit)
    stairs = lay_out([term.ladder for term in terms] or [NO_LADDER], _slack(limits, floor, 0.0))
    alone = CodeAllocator.of(base, alphabet) if terms and gates is None and only_weight(budget) else None
    return Plan(prices, limits, floor, lowest, signed, terms, stairs, budget, alone)


def _slack(
    limits: Float64[np.ndarray, " limits"], floor: Float64[np.ndarray, " limits"], saved: float
) -> Float64[np.ndarray, " limits"]:
    """Say what is left above the lowest widths."""
    slack = limits - floor
    slack[DOWNLOAD] = max(slack[DOWNLOAD] + saved, 0)
    slack[LIMITS.index("latency_us")] *= 1 - 1e-9  # sums of floats, added up in another order
    return slack


def _terms(
    prices: PriceList, limits: Float64[np.ndarray, " limits"], alphabet: Sequence[int], chosen: Sequence[str]
) -> tuple[_Term, ...]:
    """Lay out the terms that have an importance and that some limit touches."""
    terms = []
    if "channels" in chosen:
        rungs = np.flatnonzero(np.isin(WIDTHS, alphabet)).astype(np.uint8)
        terms.append(_Term("channels", "codes", _ladder(prices.channels, "weight_bytes", rungs), rungs))
    if "rows" in chosen:
        rungs = np.arange(4, dtype=np.uint8)
        terms.append(_Term("rows", "rows", _ladder(prices.rows, "table_bytes", rungs), rungs))
    touched = [term for term in terms if (np.ptp(term.ladder.cost, axis=1)[:, np.isfinite(limits)] > 0).any()]
    for term in touched:
        if term.field == "rows":  # naming a row costs download too, but by itself is no reason to drop one
            term.ladder.cost[:, 1:, DOWNLOAD] += varint_bytes(len(prices.base.table))
    return tuple(touched)


def _ladder(prices: Prices, rest: str, codes: UInt8[np.ndarray, " rungs"]) -> Ladder:
    """Put worth and cost side by side."""
    columns = {"download_bytes": prices.download, rest: prices.rest, "latency_us": prices.latency}
    nothing = np.zeros_like(prices.latency)
    cost = np.stack([columns.get(name, nothing) for name in LIMITS], axis=2).astype(np.float64)
    return Ladder(np.tile(np.array(GAIN)[codes], (len(cost), 1)), cost[:, codes])


def _share(importance: Importance, kind: str) -> Float64[np.ndarray, " things"]:
    """Return one kind's importance; each kind adds up to 1, so that kinds can be compared."""
    values = getattr(importance, kind)
    assert values is not None, f"a plan that needs the importance of {kind} was asked without it"
    return np.asarray(values / max(float(values.sum(dtype=np.float64)), 1e-300), np.float64)


def _adapt(terms: Sequence[_Term], rungs: list[np.ndarray], gates: UInt8[np.ndarray, " gates"] | None) -> Adaptation:
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


def _check(base: Base, importance: Importance) -> None:
    """Refuse an importance that is none."""
    for field, values, count in (("channels", importance.channels, base.channels), ("rows", importance.rows, len(base.table))):
        if values is not None and (values.shape != (count,) or not np.isfinite(values).all() or (values < 0).any()):
            raise UsageError(f"importance of {field}: expected {count:,} finite numbers ≥ 0, got {values.shape}")
