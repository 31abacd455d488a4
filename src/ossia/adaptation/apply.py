"""Folding an adaptation into the base: the one place where the order of the equation is written.

    W_user = z · Q( W + Δ ; b )          add, then quantize, then gate

`apply` is pure: the base's bytes stay as they are, and two users on one machine never disturb each other. What comes out is
plain int8 matrices with one scale per channel, whatever the mix of widths, so the device computes with ordinary kernels.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8

from ossia.adaptation.adaptation import Adaptation, Coordinates, Delta
from ossia.adaptation.base import Base
from ossia.adaptation.tail import Tail
from ossia.quantization.grid import Grid, Panel, fold, quantize


@dataclass(frozen=True, eq=False)
class Weights:
    """The base as one user's device computes with it: folded, read-only.

    Attributes:
        backbone: the architecture's name.
        shape: its sizes.
        slots: each slot's folded int8 panel, by name.
        floats: biases, norms, positions; the bias of a dropped channel is 0.
        gates: whether each block runs, by name.
        rows: the item rows as this device holds them; an absent row is zeros with scale 0.
        held: which rows are there.
        history_rows: every row at 8 bits: a device always holds the rows of its own history.
        popularity: row numbers, most popular first.
        tail: scores the rows that are not there; None: nothing does.
    """

    backbone: str
    shape: Mapping[str, int]
    slots: Mapping[str, Panel]
    floats: Mapping[str, Float32[np.ndarray, "..."]]
    gates: Mapping[str, bool]
    rows: Panel
    held: Bool[np.ndarray, " items"]
    history_rows: Panel
    popularity: Int32[np.ndarray, " items"]
    tail: Tail | None = None


def apply(base: Base, adaptation: Adaptation) -> Weights:
    """Fold an adaptation into a base.

    Args:
        base: the frozen base.
        adaptation: one user's terms; `Adaptation()` gives the base itself.

    Returns:
        the weights to rank with.
    """
    codes = adaptation.codes if adaptation.codes is not None else np.full(base.channels, 3, np.uint8)
    deltas = {delta.slot: delta for delta in adaptation.deltas}
    slots = {name: fold(add_delta(base, name, deltas.get(name)), codes[span]) for name, span in base.spans.items()}
    gates = adaptation.gates if adaptation.gates is not None else np.ones(len(base.manifest.gates), np.uint8)
    rows, held = _fold_rows(base, adaptation.rows)
    return Weights(
        base.manifest.backbone,
        base.manifest.shape,
        slots,
        _drop_biases(base, codes),
        dict(zip(base.manifest.gates, gates.astype(bool).tolist(), strict=True)),
        rows,
        held,
        base.table.whole,
        base.table.popularity,
        base.table.tail,
    )


def add_delta(base: Base, slot: str, delta: Delta | None) -> Grid:
    """Add a delta and requantize; a slot without one keeps the base's own bytes.

    Args:
        base: whose slot.
        slot: its name.
        delta: what is added; None: nothing.

    Returns:
        the master to fold.
    """
    grid = base.grids[slot]
    if delta is None:
        return grid
    added = delta.expand(base.basis[slot]) if isinstance(delta, Coordinates) else delta.expand()
    return quantize(Panel(grid.q, grid.scales[-1]).dequantize() + added)


def _drop_biases(base: Base, codes: UInt8[np.ndarray, " channels"]) -> dict[str, np.ndarray]:
    """Zero the biases of channels at width 0; everything else is the base's own."""
    if codes.all():
        return dict(base.floats)
    floats = dict(base.floats)
    for name, span in base.spans.items():
        bias = f"{name}.bias"
        if bias in floats:
            floats[bias] = np.where(codes[span] > 0, floats[bias], np.float32(0))
    return floats


def _fold_rows(base: Base, rows: UInt8[np.ndarray, " rows"] | None) -> tuple[Panel, Bool[np.ndarray, " items"]]:
    """Fold the item rows; codes made for an older, shorter table say nothing of the new rows."""
    table = base.table
    if rows is None:
        return table.whole, np.ones(len(table), bool)
    codes = np.pad(rows, (0, len(table) - len(rows)))
    return fold(table.grid, codes), codes > 0
