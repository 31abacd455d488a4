"""The nested grid: one 8-bit master, of which a 4- or 2-bit channel is the top bits.

    s8 = max|w| / 127                                       per channel (an output row of a matrix, or a row of the item table)
    q  = round-half-away(w / s8)                            −127 … 127
    t_b = ((q + 128) >> (8 − b) << (8 − b)) + 2^(7 − b) − 128       the b-bit slice, b = 4 or 2; t_8 = q
    s_b = s8 · (Σ q t / Σ t²)                               least squares: the scale that brings s_b · t closest to s8 · q

Plain truncation of low bits is biased towards −∞; the half step `2^(7 − b)` puts every slice in the middle of its cell, so
that 4 bits give the sixteen levels 8 · (−15, −13, … 15) and 2 bits the four levels 32 · (−3, −1, 1, 3). A code is thus
"how many low bits to ignore", a device keeps one master and no second copy, and any mix of widths *folds* into one int8
matrix with one float32 scale per channel, which is what plain int8 kernels want.

Everything here is integer arithmetic plus one float32 division, so numpy, torch and C agree to the last bit. This module is
the reference; `fake.py` is its twin in torch.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int8, Int64, UInt8

from ossia.types import WIDTHS


@dataclass(frozen=True, eq=False)
class Grid:
    """A matrix on the nested grid.

    Attributes:
        q: the 8-bit master, −127 … 127.
        scales: one row per width 2, 4, 8: what a unit of that slice is worth.
    """

    q: Int8[np.ndarray, "channels inputs"]
    scales: Float32[np.ndarray, "3 channels"]


@dataclass(frozen=True, eq=False)
class Panel:
    """An int8 matrix with one float32 scale per row: what a device computes with. A dropped row is zeros with scale 0."""

    values: Int8[np.ndarray, "channels inputs"]
    scale: Float32[np.ndarray, " channels"]

    def dequantize(self) -> Float32[np.ndarray, "channels inputs"]:
        """Return the matrix that this panel stands for, `values * scale` in float32."""
        return self.values.astype(np.float32) * self.scale[:, None]


def round_half_away(x: Float32[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """Round to the nearest integer, halves away from zero, as C's `roundf` does.

    `floor(|x| + 0.5)` would be wrong: 0.49999997 + 0.5 is 1.0 in float32. The fraction `x − trunc(x)` is exact.

    Args:
        x: finite numbers.

    Returns:
        whole numbers, of x's shape.

    Example:
        >>> round_half_away(np.array([0.5, -0.5, 1.5, 0.49999997], np.float32))
        array([ 1., -1.,  2.,  0.], dtype=float32)
    """
    whole = np.trunc(x)
    return whole + np.copysign(np.abs(x - whole) >= np.float32(0.5), x)


def quantize_rows(x: Float32[np.ndarray, "rows inputs"]) -> Panel:
    """Put each row on its own symmetric 8-bit grid: s = max|x| / 127, q = round-half-away(x / s).

    Used for weights (the master's first step) and for dynamic activations (a row is one position).

    Args:
        x: finite numbers.

    Returns:
        the int8 rows and their scales; a row of zeros has scale 0.

    Example:
        >>> quantize_rows(np.array([[-2.0, 1.0, 0.0]], np.float32)).values
        array([[-127,   64,    0]], dtype=int8)
    """
    scale = np.abs(x).max(axis=1, initial=0) / np.float32(127)
    divisor = np.where(scale > 0, scale, np.float32(1))  # x / s overflows nothing: |x| ≤ 127 s, but for denormal s, hence clip
    q = np.clip(round_half_away(x / divisor[:, None]), -127, 127)
    return Panel(q.astype(np.int8), scale)


def quantize(weight: Float32[np.ndarray, "channels inputs"]) -> Grid:
    """Put a matrix on the nested grid (equations in the module's docstring).

    Args:
        weight: finite float32 weights, one row per channel.

    Returns:
        the master and its scales at 2, 4 and 8 bits.

    Example:
        >>> quantize(np.array([[1.0, -0.5, 0.25]], np.float32)).q
        array([[127, -64,  32]], dtype=int8)
    """
    assert np.isfinite(weight).all(), "weights must be finite before they are put on a grid"
    panel = quantize_rows(weight)
    return Grid(panel.values, np.stack([slice_scale(panel.values, panel.scale, bits) for bits in WIDTHS[1:]]))


def slice_bits(q: Int8[np.ndarray, "channels inputs"], bits: int) -> Int8[np.ndarray, "channels inputs"]:
    """Keep the top `bits` bits of a master and put the value in the middle of its cell.

    Args:
        q: the 8-bit master.
        bits: 2, 4 or 8.

    Returns:
        the slice, in units of the master: t ≈ q.

    Example:
        >>> slice_bits(np.array([[127, 3, -3, -127]], np.int8), 2)
        array([[ 96,  32, -32, -96]], dtype=int8)
    """
    if bits == 8:
        return q
    shift = 8 - bits
    return (((q.astype(np.int16) + 128) >> shift << shift) + (1 << (shift - 1)) - 128).astype(np.int8)


def slice_scale(
    q: Int8[np.ndarray, "channels inputs"], scale: Float32[np.ndarray, " channels"], bits: int
) -> Float32[np.ndarray, " channels"]:
    """Return what a unit of the `bits`-bit slice is worth: s_b = s8 · (Σ q t / Σ t²).

    Args:
        q: the 8-bit master.
        scale: its scale s8.
        bits: 2, 4 or 8.

    Returns:
        s_b. The sums are exact integers; they are rounded to float32, divided once, and multiplied once.
    """
    if bits == 8:
        return scale
    t = slice_bits(q, bits)
    return scale * (_dot(q, t).astype(np.float32) / _dot(t, t).astype(np.float32))


def fold(grid: Grid, codes: UInt8[np.ndarray, " channels"]) -> Panel:
    """Fold a code per channel into one int8 matrix with one scale per channel.

    Args:
        grid: the nested master.
        codes: 0 … 3, naming 0, 2, 4, 8 bits.

    Returns:
        the panel: at 8 bits the master itself, at 4 and 2 its slices, at 0 zeros with scale 0.
    """
    shift = FOLD_SHIFT[codes][:, None]
    unsigned = grid.q.view(np.uint8) ^ np.uint8(128)  # q + 128 without widening
    values = (((unsigned >> shift << shift) + FOLD_HALF[codes][:, None]) ^ np.uint8(128)).view(np.int8)
    scale = np.vstack([np.zeros_like(grid.scales[:1]), grid.scales])[codes, np.arange(len(codes))]
    return Panel(np.where(codes[:, None] > 0, values, np.int8(0)), scale)


FOLD_SHIFT = np.array([0, 6, 4, 0], np.uint8)  # how many low bits a code ignores
FOLD_HALF = np.array([0, 32, 8, 0], np.uint8)  # half a cell of that size


def split_planes(q: Int8[np.ndarray, "channels inputs"]) -> dict[str, UInt8[np.ndarray, "channels _"]]:
    """Split a master into its three bit planes: the top 2 bits, 2 more, 4 more, of q + 128.

    Args:
        q: the 8-bit master.

    Returns:
        `plane2` and `plane4` hold four inputs to a byte, `plane8` two; the first input sits lowest, padding is zero.
    """
    u = q.view(np.uint8) ^ np.uint8(128)
    return {"plane2": _pack(u >> 6, 2), "plane4": _pack(u >> 4 & 3, 2), "plane8": _pack(u & 15, 4)}


def join_planes(planes: dict[str, UInt8[np.ndarray, "channels _"]], inputs: int) -> Int8[np.ndarray, "channels inputs"]:
    """Undo `split_planes`.

    Args:
        planes: `plane2`, `plane4` and `plane8`.
        inputs: how many weights a channel has.

    Returns:
        the 8-bit master.
    """
    high, middle, low = (_unpack(planes[f"plane{width}"], bits, inputs) for width, bits in ((2, 2), (4, 2), (8, 4)))
    return ((high << 6 | middle << 4 | low) ^ np.uint8(128)).view(np.int8)


def plane_bytes(inputs: int, bits: int) -> int:
    """Count the bytes of one channel's planes up to a width.

    Args:
        inputs: weights per channel.
        bits: 0, 2, 4 or 8.

    Returns:
        bytes: a plane of 2 bits takes ceil(inputs / 4), the plane of 4 bits ceil(inputs / 2).

    Example:
        >>> [plane_bytes(64, bits) for bits in (0, 2, 4, 8)]
        [0, 16, 32, 64]
    """
    quarter, half = -(-inputs // 4), -(-inputs // 2)
    return {0: 0, 2: quarter, 4: 2 * quarter, 8: 2 * quarter + half}[bits]


def _pack(values: UInt8[np.ndarray, "channels inputs"], bits: int) -> UInt8[np.ndarray, "channels _"]:
    """Pack `bits`-bit values along the last axis, first lowest."""
    per_byte = 8 // bits
    width = -(-values.shape[1] // per_byte)
    padded = np.zeros((len(values), width * per_byte), np.uint8)
    padded[:, : values.shape[1]] = values
    padded = padded.reshape(len(values), width, per_byte)
    return np.bitwise_or.reduce(padded << np.arange(0, 8, bits, dtype=np.uint8), axis=2)


def _unpack(packed: UInt8[np.ndarray, "channels _"], bits: int, inputs: int) -> UInt8[np.ndarray, "channels inputs"]:
    """Undo `_pack`."""
    spread = packed[:, :, None] >> np.arange(0, 8, bits, dtype=np.uint8) & np.uint8((1 << bits) - 1)
    return spread.reshape(len(packed), packed.shape[1] * (8 // bits))[:, :inputs]


def _dot(a: Int8[np.ndarray, "channels inputs"], b: Int8[np.ndarray, "channels inputs"]) -> Int64[np.ndarray, " channels"]:
    """Sum the products of each row exactly."""
    return np.einsum("ck,ck->c", a, b, dtype=np.int64, casting="safe")
