"""Fake quantization in torch: the nested grid's twin, equal to `grid.py` bit for bit, with straight-through gradients.

Forward the weights are exactly what a device will compute with; backward the rounding is treated as the identity, so that
a backbone can be trained for all widths at once and a personalizer can compare them.

A second kind of scales is here for comparison, and nowhere else in the house:

    free        s8 = max|w| / 127, and each width has the scale that fits it best          (`grid.py`)
    exponent    s8 = the smallest power of two with 127 · s8 ≥ max|w|, and all widths have this one

The second is the idea of OTARo's shared exponents (https://arxiv.org/abs/2511.13147), with a channel as the group and this
grid's half-step offset: three scales of a channel shrink to one byte. What that costs: `docs/chord.md`.
"""

from typing import Literal, TypeAlias, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ossia.types import WIDTHS

Scales: TypeAlias = Literal["free", "exponent"]


def at_width(weight: Float[Tensor, "channels inputs"], bits: int, scales: Scales = "free") -> Float[Tensor, "channels inputs"]:
    """Round each channel onto the `bits`-bit slice of its own nested grid.

        w̃ = s_b · t_b(q),   q = round-half-away(w / s8),   s8 = max|w| / 127        (see `ossia.quantization.grid`)

    Args:
        weight: float32 weights, one row per channel.
        bits: 0, 2, 4 or 8; 0 gives zeros.
        scales: which scales; a device has free ones.

    Returns:
        the dequantized weights; the gradient passes straight through (none at 0 bits).
    """
    if bits == 0:
        return torch.zeros_like(weight)
    return at_widths(weight, torch.full((len(weight),), bits, device=weight.device), scales)


def at_widths(
    weight: Float[Tensor, "channels inputs"], bits: Int[Tensor, " channels"], scales: Scales = "free"
) -> Float[Tensor, "channels inputs"]:
    """Round each channel onto a slice of its own width.

    Args:
        weight: float32 weights, one row per channel.
        bits: 2, 4 or 8 for each channel.
        scales: which scales; a device has free ones.

    Returns:
        the dequantized weights; the gradient passes straight through.

    Example:
        >>> at_widths(torch.tensor([[1.0, -0.5], [1.0, -0.5]]), torch.tensor([8, 2]))
        tensor([[ 1.0000, -0.5039],
                [ 1.0512, -0.3504]])
    """
    return cast(Tensor, _StraightThrough.apply(weight, bits, scales))  # type: ignore[no-untyped-call]


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
    def forward(_context: torch.autograd.function.FunctionCtx, weight: Tensor, bits: Tensor, scales: Scales) -> Tensor:
        return _on_grid(weight, bits, scales)

    @staticmethod
    def backward(_context: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient, None, None


def _on_grid(weight: Tensor, bits: Tensor, scales: Scales) -> Tensor:
    """Quantize and dequantize, in the order of operations of the numpy reference.

    The integers are held in floats, which are exact up to 2²⁴, and their sums in doubles.
    """
    scale = weight.abs().amax(dim=1) / 127
    if scales == "exponent":
        scale = _power_of_two(scale)
    q = _round_half_away(weight / torch.where(scale > 0, scale, 1)[:, None]).clamp_(-127, 127)
    cell = torch.exp2(8 - bits).to(weight.dtype)[:, None]
    t = ((q + 128) / cell).floor_().mul_(cell).add_((cell / 2).floor() - 128)  # a cell of one has no middle
    if scales == "free":
        wide = t.double()
        scale = scale * ((q * wide).sum(1).to(weight.dtype) / wide.square().sum(1).clamp_min(1).to(weight.dtype))
    return t * scale[:, None]


def _power_of_two(x: Float[Tensor, " channels"]) -> Float[Tensor, " channels"]:
    """Find the smallest power of two that is not below x; 0 stays 0."""
    mantissa, exponent = torch.frexp(x)  # x = mantissa · 2^exponent with a mantissa from ½ to below 1
    return torch.where(x > 0, torch.ldexp(torch.ones_like(x), exponent - (mantissa == 0.5).to(exponent.dtype)), 0)


def _round_half_away(x: Tensor) -> Tensor:
    """Round to the nearest integer, halves away from zero."""
    whole = x.trunc()
    return whole + torch.copysign(((x - whole).abs() >= 0.5).to(x.dtype), x)
