"""Fake quantization in torch: the nested grid's twin, equal to `grid.py` bit for bit, with straight-through gradients.

Forward the weights are exactly what a device will compute with; backward the rounding is treated as the identity, so that
a backbone can be trained for all widths at once and a personalizer can compare them.
"""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from ossia.types import WIDTHS


def at_width(weight: Float[Tensor, "channels inputs"], bits: int) -> Float[Tensor, "channels inputs"]:
    """Round each channel onto the `bits`-bit slice of its own nested grid.

        w̃ = s_b · t_b(q),   q = round-half-away(w / s8),   s8 = max|w| / 127        (see `ossia.quantization.grid`)

    Args:
        weight: float32 weights, one row per channel.
        bits: 0, 2, 4 or 8; 0 gives zeros.

    Returns:
        the dequantised weights; the gradient passes straight through (none at 0 bits).
    """
    if bits == 0:
        return torch.zeros_like(weight)
    return cast(Tensor, _StraightThrough.apply(weight, bits))  # type: ignore[no-untyped-call]


def all_widths(weight: Float[Tensor, "channels inputs"]) -> Float[Tensor, "4 channels inputs"]:
    """Stack the weights at every width of `WIDTHS`, so that a code is an index.

    Args:
        weight: float32 weights, one row per channel.

    Returns:
        `all_widths(w)[code]` is w at the width that `code` names.
    """
    return torch.stack([at_width(weight, bits) for bits in WIDTHS])


class _StraightThrough(torch.autograd.Function):
    """Forward the rounded weights, backward the identity.

    The usual `w + (w̃ − w).detach()` is one rounding away from w̃: not what the device holds, to the last bit.
    """

    @staticmethod
    def forward(_context: torch.autograd.function.FunctionCtx, weight: Tensor, bits: int) -> Tensor:
        return _on_grid(weight, bits)

    @staticmethod
    def backward(_context: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def _on_grid(weight: Tensor, bits: int) -> Tensor:
    """Quantize and dequantise, in the order of operations of the numpy reference."""
    scale = weight.abs().amax(dim=1) / 127
    q = _round_half_away(weight / torch.where(scale > 0, scale, 1)[:, None]).clamp(-127, 127)
    if bits == 8:
        return q * scale[:, None]
    shift = 8 - bits
    master = q.to(torch.int64)
    t = ((master + 128) >> shift << shift) + (1 << (shift - 1)) - 128
    slice_scale = scale * ((master * t).sum(1).to(weight.dtype) / (t * t).sum(1).to(weight.dtype))
    return t.to(weight.dtype) * slice_scale[:, None]


def _round_half_away(x: Tensor) -> Tensor:
    """Round to the nearest integer, halves away from zero."""
    whole = x.trunc()
    return whole + torch.copysign(((x - whole).abs() >= 0.5).to(x.dtype), x)
