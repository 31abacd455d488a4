"""Codes as something that a gradient can reach: thresholds that meet a budget, and a forward with a width per user and channel.

Codes act per *output* channel, so a batch of users with different codes needs no weights of its own. With Q_b the weights
at b bits, which every user shares,

    ŷ_u = Σ_b m_ub ⊙ (x_u Q_bᵀ) + bias,        m_ub[c] = 1 if user u holds channel c at b bits, else 0

is one matmul per width and a selection. A channel at width 0 loses its bias too. The m are written as nested *steps*, one
for each move from a width to the next of the alphabet: step s is 1 where the channel is wider than the alphabet's s-th
width. For the alphabet (2, 4, 8),  Ŵ = Q2 + m₄ (Q4 − Q2) + m₈ (Q8 − Q4).

A budget turns importance into steps: every step has a value per bit; they are taken in falling order until the bits are
spent. The value at the cut, λ, is the user's threshold, and straight-through makes it differentiable:

    hard = 1 before the cut, else 0      soft = σ((log value − log λ) / τ)      m = hard + soft − soft.detach()

What this module does not do: meet a budget to the byte. `ossia.adaptation.allocate` does, and also fills what the first
step that does not fit has left over; this is the same order without that fill.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ossia.adaptation import Base
from ossia.quantization import fold
from ossia.types import WIDTHS, Slot

Joint: TypeAlias = Callable[[str, nn.Linear, Tensor], Tensor]
"""What a backbone calls at each slot: `(name, linear, x) -> y`."""


def weights_at(base: Base, alphabet: Sequence[int]) -> dict[str, Float[Tensor, "widths channels inputs"]]:
    """Dequantize every slot at every width of an alphabet, exactly as a device folds it.

    Args:
        base: the frozen base.
        alphabet: widths in rising order; 0 is nothing, and left out.

    Returns:
        for each slot, in wire order, its weights at the widths above 0, narrowest first.
    """
    codes = [WIDTHS.index(bits) for bits in alphabet if bits]
    return {
        name: torch.from_numpy(np.stack([fold(grid, np.full(len(grid.q), code, np.uint8)).dequantize() for code in codes]))
        for name, grid in base.grids.items()
    }


def within_budget(
    value: Float[Tensor, "users steps channels"],
    bits: Int[Tensor, "steps channels"],
    spend: Float[Tensor, " users"],
) -> tuple[Bool[Tensor, "users steps channels"], Float[Tensor, " users"]]:
    """Take the steps of highest value until each user's bits are spent.

    Args:
        value: what a step is worth per bit, above 0; a channel's later steps must be worth less than its earlier ones.
        bits: what each step costs.
        spend: how many bits each user may spend on steps.

    Returns:
        the steps that are taken, and each user's threshold: the geometric mean of the last value taken and the first not.
    """
    flat = value.flatten(1)
    order = flat.argsort(dim=1, descending=True, stable=True)
    spent = bits.flatten()[order].cumsum(dim=1)  # integers: exact
    taken_in_order = spent <= spend[:, None]
    taken = torch.zeros_like(taken_in_order).scatter(1, order, taken_in_order)
    ends = taken_in_order.sum(dim=1, keepdim=True) + torch.tensor([-1, 0], device=value.device)
    last_and_next = flat.gather(1, order.gather(1, ends.clamp(0, flat.shape[1] - 1)))
    return taken.view_as(value), last_and_next.log().mean(dim=1).exp()


def straight_through(
    value: Float[Tensor, "users steps channels"],
    bits: Int[Tensor, "steps channels"],
    spend: Float[Tensor, " users"],
    temperature: float,
) -> Float[Tensor, "users steps channels"]:
    """Cut at the budget, with the gradient of a sigmoid around the threshold.

        m = hard + soft − soft.detach(),   soft = σ((log value − log λ) / τ)

    Args:
        value: what a step is worth per bit, above 0.
        bits: what each step costs.
        spend: how many bits each user may spend on steps.
        temperature: τ, in nats of value: within about τ of the threshold a step feels the gradient.

    Returns:
        masks that are exactly 0 or 1 forward.
    """
    hard, threshold = within_budget(value.detach(), bits, spend)
    soft = soften(value, threshold, temperature)
    return hard + (soft - soft.detach())  # this order is exact: the bracket is 0, not merely small


def soften(
    value: Float[Tensor, "users steps channels"], threshold: Float[Tensor, " users"], temperature: float
) -> Float[Tensor, "users steps channels"]:
    """Relax a cut: σ((log value − log λ) / τ), which is the cut itself as τ → 0.

    Args:
        value: what a step is worth per bit, above 0.
        threshold: λ of each user.
        temperature: τ, in nats of value.

    Returns:
        between 0 and 1.
    """
    return torch.sigmoid((value.log() - threshold.log()[:, None, None]) / temperature)


def steps_to_codes(steps: Float[Tensor, "users steps channels"], codes: Sequence[int]) -> Int[Tensor, "users channels"]:
    """Name each channel's width: the number of steps taken indexes the alphabet's codes.

    Args:
        steps: 0 or 1, nested (a step is taken only where the one before it is).
        codes: the alphabet as codes, such as `(1, 2, 3)`; one more than there are steps.

    Returns:
        a code per user and channel.

    Example:
        >>> steps_to_codes(torch.tensor([[[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]]), (1, 2, 3))
        tensor([[3, 2, 1]])
    """
    return torch.tensor(codes, device=steps.device)[steps.sum(dim=1).round().long()]


def relaxed_slot(
    weights: Mapping[str, Float[Tensor, "widths channels inputs"]], steps: Float[Tensor, "users steps all_channels"]
) -> Joint:
    """Make the `slot` function that lets a backbone run a batch of users, each with widths of its own.

        ŷ = Σ_b m_b ⊙ (x Q_bᵀ) + bias ⊙ Σ_{b>0} m_b

    Args:
        weights: `weights_at` the alphabet: slots in wire order, widths above 0, narrowest first.
        steps: for each user and channel (slots in wire order) which steps are taken; may be soft.
            With as many steps as widths the alphabet starts at 0: the first step is from nothing to the first width.

    Returns:
        the function; its x has one row per user, in the masks' order.
    """
    droppable = steps.shape[1] == len(next(iter(weights.values())))
    held = steps if droppable else torch.cat([torch.ones_like(steps[:, :1]), steps], dim=1)  # held[:, b]: at width b or wider
    shares = torch.cat([held[:, :-1] - held[:, 1:], held[:, -1:]], dim=1)  # exactly at width b
    lengths = [stacked.shape[1] for stacked in weights.values()]
    share_of = dict(zip(weights, torch.split(shares, lengths, dim=2), strict=True))
    present_in = dict(zip(weights, torch.split(held[:, 0], lengths, dim=1), strict=True))

    def slot(name: str, linear: nn.Linear, x: Float[Tensor, "users time inputs"]) -> Float[Tensor, "users time channels"]:
        every_width = x @ weights[name].flatten(0, 1).T
        at_widths = every_width.view(*x.shape[:2], *weights[name].shape[:2])
        y = (at_widths * share_of[name][:, None]).sum(dim=2)
        return y if linear.bias is None else y + linear.bias * present_in[name][:, None]

    return slot


def step_bits(slots: Sequence[Slot], alphabet: Sequence[int]) -> Int[Tensor, "steps channels"]:
    """Count the bits that each step of each channel costs: the channel's inputs times the step's width.

    Args:
        slots: in wire order.
        alphabet: widths in rising order.

    Returns:
        whole numbers.

    Example:
        >>> step_bits((Slot("a", 1, 3), Slot("b", 2, 5)), (2, 4, 8))
        tensor([[ 6, 10, 10],
                [12, 20, 20]])
    """
    inputs = torch.tensor([slot.inputs for slot in slots for _ in range(slot.channels)])
    return torch.stack([inputs * (high - low) for low, high in pairwise(alphabet)])
