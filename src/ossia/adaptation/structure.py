"""Which blocks run: the most likely structure that a budget allows, hard, all limits at once.

A controller gives every block its log-odds ν of being kept. Without a limit the most likely structure keeps what has ν > 0.
Under limits, such blocks are taken in the order of

    ν / price,      price = Σ over limits of  cost / slack

each one if it still fits: the rule of `allocate`, for things that are there or not. A block costs microseconds, bytes at
rest, and the download of what is generated for it. A block that is skipped costs nothing, and what a limit cannot be met
without is the floor: every block skipped, every width at its lowest.

Costs follow from the budget alone, so a `StructurePlan` works them out once for all users who share one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Float64, UInt8

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.allocate import DOWNLOAD, LIMITS, Device
from ossia.adaptation.base import Base
from ossia.adaptation.cost import costs
from ossia.adaptation.delta_layout import DeltaLayout
from ossia.errors import BudgetError, UsageError
from ossia.types import WIDTHS, Budget

ROUNDING = 1 - 1e-9
"""Of a slack of microseconds: sums of floats, added up in another order."""


@dataclass(frozen=True, eq=False)
class StructurePlan:
    """What one budget means for the choice of blocks. Immutable; threads may share it.

    Attributes:
        cost: of each block that can be chosen, for each finite limit.
        slack: what is left of each finite limit when none of them runs.
    """

    cost: Float64[np.ndarray, "gates limits"]
    slack: Float64[np.ndarray, " limits"]

    @cached_property
    def share(self) -> float:
        """Of what all blocks cost together, what the device can afford: 0 … 1, the least over all limits."""
        total = self.cost.sum(axis=0)
        return float(np.divide(self.slack, total, out=np.ones_like(total), where=total > 0).min(initial=1.0))

    @cached_property
    def price(self) -> Float64[np.ndarray, " gates"]:
        """What each block costs, in parts of the slack."""
        price: Float64[np.ndarray, " gates"] = (self.cost / np.maximum(self.slack, 1e-9)).sum(axis=1)
        return price

    def choose(self, log_odds: Float[np.ndarray, " gates"]) -> UInt8[np.ndarray, " gates"]:
        """Choose one user's blocks.

        Args:
            log_odds: of keeping each block, finite.

        Returns:
            1 where a block runs and 0 where not.
        """
        kept, left = np.zeros(len(log_odds), np.uint8), self.slack.copy()
        for gate in np.argsort(-log_odds / np.maximum(self.price, 1e-12), kind="stable").tolist():
            if log_odds[gate] > 0 and (self.cost[gate] <= left).all():
                kept[gate] = 1
                left -= self.cost[gate]
        return kept


def plan_structure(
    base: Base,
    budget: Budget,
    layout: DeltaLayout,
    *,
    chosen: bool = True,
    alphabet: Sequence[int] = (8,),
    rows: bool = False,
    device: Device,
    signed: bool = False,
) -> StructurePlan:
    """Work out what a budget leaves for blocks.

    Args:
        base: the base.
        budget: the device's limits.
        layout: what is generated for each slot.
        chosen: whether blocks may be skipped; otherwise all of them belong to the floor.
        alphabet: widths that a channel may have; blocks come first, so each counts at the lowest.
        rows: whether rows of the table may be left out; then the floor has none.
        device: what is on it already, and how fast it is.
        signed: leave room for a signature.

    Returns:
        the plan.

    Raises:
        BudgetError: a limit is below its floor; names both.
        UsageError: `latency_us` without a cost table.
    """
    if budget.latency_us is not None and device.cost_table is None:
        raise UsageError("budget: expected a measured cost table with latency_us, got none")
    every = np.ones(len(base.manifest.gates), np.uint8)
    lowest = Adaptation(
        codes=None if alphabet[0] == 8 else np.full(base.channels, WIDTHS.index(alphabet[0]), np.uint8),
        rows=np.zeros(len(base.table), np.uint8) if rows else None,
    )

    def spent(gates: UInt8[np.ndarray, " gates"]) -> Float64[np.ndarray, " limits"]:
        return _spent(base, Adaptation(gates, lowest.codes, (), lowest.rows), layout, device, signed)

    floor = spent(0 * every if chosen else every)
    limits = np.array([np.inf if (limit := getattr(budget, name)) is None else limit for name in LIMITS])
    for name, least, limit in zip(LIMITS, floor.tolist(), limits.tolist(), strict=True):
        if least > limit:
            raise BudgetError(name, least, limit)
    blocks = (
        np.stack([spent(one) - floor for one in np.eye(len(every), dtype=np.uint8)]) if chosen else np.zeros((0, len(limits)))
    )
    finite = np.isfinite(limits)
    slack = (limits - floor)[finite] * np.where([LIMITS[i] == "latency_us" for i in np.flatnonzero(finite)], ROUNDING, 1)
    return StructurePlan(blocks[:, finite], slack)


def delta_bytes(base: Base, layout: DeltaLayout, gates: UInt8[np.ndarray, " gates"]) -> int:
    """Count what generated weights take on the wire at most; a delta that comes to nothing is not sent.

    Args:
        base: the base.
        layout: which slots have a delta.
        gates: which blocks run.

    Returns:
        bytes, the section's head included.
    """
    runs = dict(zip(base.manifest.gates, gates.tolist(), strict=True))
    names = [slot.name for slot in layout.slots if slot.gate is None or runs[slot.gate]]
    return 2 + -(-len(base.manifest.slots) // 8) + layout.bytes_of(names)


def _spent(
    base: Base, adaptation: Adaptation, layout: DeltaLayout, device: Device, signed: bool
) -> Float64[np.ndarray, " limits"]:
    """Price an adaptation by every limit, with the deltas that would come with it."""
    found = costs(base, adaptation, on_device=device.holds, cost_table=device.cost_table, signed=signed)
    spent = np.array([getattr(found, name) or 0 for name in LIMITS], np.float64)
    assert adaptation.gates is not None, "blocks are priced one by one"
    spent[DOWNLOAD] += delta_bytes(base, layout, adaptation.gates)
    return spent
