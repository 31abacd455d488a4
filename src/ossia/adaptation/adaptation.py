"""The adaptation: the terms of the one equation, for one user.

    W_user = z · Q( W + Δ ; b )

Each field is a term, and None (or no delta) means "as the base has it", so `Adaptation()` is the base itself. The order,
add, then quantize, then gate, is written once, in `apply.py`; what a term costs is in `cost.py`; how it looks as bytes is in
`payload.py`.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float16, Float32, UInt8

from ossia.adaptation.basis import Basis


@dataclass(frozen=True, eq=False)
class Dense:
    """A delta written out: one number for each weight of its slot."""

    slot: str
    matrix: Float16[np.ndarray, "channels inputs"]

    def expand(self) -> Float32[np.ndarray, "channels inputs"]:
        """Return Δ in float32."""
        return self.matrix.astype(np.float32)


@dataclass(frozen=True, eq=False)
class LowRank:
    """A delta of low rank: Δ = left · right."""

    slot: str
    left: Float16[np.ndarray, "channels rank"]
    right: Float16[np.ndarray, "rank inputs"]

    def expand(self) -> Float32[np.ndarray, "channels inputs"]:
        """Return Δ in float32."""
        return _multiply(self.left.astype(np.float32), self.right.astype(np.float32))


@dataclass(frozen=True, eq=False)
class Coordinates:
    """A delta in the basis that the base carries: Δ = left · diag(θ) · right."""

    slot: str
    weights: Float16[np.ndarray, " rank"]

    def expand(self, basis: Basis) -> Float32[np.ndarray, "channels inputs"]:
        """Return Δ in float32: θ times the left factor first, then as a delta of low rank.

        Args:
            basis: the slot's, from the base.

        Returns:
            Δ.
        """
        left = basis.left.astype(np.float32) * self.weights.astype(np.float32)
        return _multiply(left, basis.right.astype(np.float32))


def _multiply(
    left: Float32[np.ndarray, "channels rank"], right: Float32[np.ndarray, "rank inputs"]
) -> Float32[np.ndarray, "channels inputs"]:
    """Return left · right, summed rank by rank: a fixed order, so that every device rounds alike."""
    total = left[:, :1] * right[:1]
    for rank in range(1, len(right)):
        total += left[:, rank : rank + 1] * right[rank : rank + 1]
    return total


Delta: TypeAlias = Dense | LowRank | Coordinates


@dataclass(frozen=True, eq=False)
class Adaptation:
    """What makes the base one user's: gates z, delta Δ, widths b of channels and of table rows.

    Attributes:
        gates: 1 keeps a block, 0 skips its residual branch, in the manifest's order; None: all are kept.
        codes: one width code per channel, slots in wire order; None: every channel at 8 bits.
        deltas: what is added, at most one per slot, in wire order.
        rows: one width code per row of the item table; None: every row at 8 bits.

    Example:
        >>> Adaptation(codes=np.array([3, 1], np.uint8)).bits.tolist()
        [8, 2]
    """

    gates: UInt8[np.ndarray, " gates"] | None = None
    codes: UInt8[np.ndarray, " channels"] | None = None
    deltas: tuple[Delta, ...] = ()
    rows: UInt8[np.ndarray, " rows"] | None = None

    @property
    def bits(self) -> UInt8[np.ndarray, " channels"]:
        """Return the width of each channel, in bits; only for an adaptation that has codes."""
        assert self.codes is not None, "an adaptation without codes has no list of widths"
        return np.array([0, 2, 4, 8], np.uint8)[self.codes]
