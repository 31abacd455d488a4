"""CHORD: which channels deserve bits, for this user (arXiv 2510.03038, ACM MM 2025).

Every device holds the same frozen base. What is personal is one width per output channel, and a *hypernetwork*, a network
that writes part of another network, reads it off the user's profile p. It works at three levels and fuses them:

    filter    f_l(p) ∈ R^{C_l}          one importance per output channel
    element   A_l(p) ∈ R^{C_l × k_l}    one importance per weight
    layer     g(p)   ∈ R^L              one importance per layer

    rebuild   r_lc = f_lc · mean_k |A_lck W_lck|
    fuse      I_lc = g_l · r_lc,  divided by its mean over all channels

A full A_l would cost hidden × C_l × k_l parameters per layer, more than the base itself. Here it is an outer product,
A_l = a_l b_lᵀ, so that rebuilding is one matrix product with the base's own magnitudes:

    mean_k |A_lck W_lck| = a_lc · (|W_l| b_l)_c / k_l,      a, b, f, g > 0 by softplus

Only the order of I within a user, and its ratios, decide who gets bits; dividing by the mean fixes the one degree of
freedom that means nothing, and makes averages over users meaningful. A trunk (LayerNorm, one hidden layer) is shared by
all heads. The heads start at zero, so that an untrained Chord says what the weights say: importance is mean |W|.

`relax` turns importance into masks of a given average width, with a straight-through gradient;
`ossia.adaptation.allocate` turns the same importance into codes that meet a device's budget to the byte.

Differences from the paper (no code is public; the figure leaves these open): the base is trained, not random; A is rank
one; the three levels share a trunk; the budget enters through the threshold alone; code 0 (dropped) is a recipe.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ossia.errors import UsageError
from ossia.personalizers.personalizer import AbstractPersonalizer
from ossia.types import Slot

FLOOR = 1e-6
"""The least importance, of a mean of 1: what is never negative must stay above 0, or its logarithm has no gradient."""


class Chord(AbstractPersonalizer):
    """Hypernetworks at filter, element and layer level, on the weights of a frozen base.

    Args:
        slots: the base's slots, in wire order.
        weights: the frozen weights of each slot, as the device holds them at 8 bits.
        profile_dim: length of a profile.
        gains: for each width of the alphabet how much of a channel's importance it keeps (`adaptation.allocate`).
        hidden: width of the trunk.
        filter_level, element_level, layer_level: whether that level speaks; at least one must.

    Raises:
        UsageError: every level is switched off.
    """

    settings: ClassVar[tuple[str, ...]] = ("hidden", "filter_level", "element_level", "layer_level")
    layer_of_channel: Tensor

    def __init__(
        self,
        slots: Sequence[Slot],
        weights: Mapping[str, Tensor],
        profile_dim: int,
        *,
        gains: Mapping[int, float],
        hidden: int = 128,
        filter_level: bool = True,
        element_level: bool = True,
        layer_level: bool = True,
    ) -> None:
        super().__init__(slots, gains)
        if not (filter_level or element_level or layer_level):
            raise UsageError("chord: expected at least one of the filter, element and layer levels, got none")
        channels, inputs = sum(slot.channels for slot in slots), sum(slot.inputs for slot in slots)
        self.trunk = nn.Sequential(nn.LayerNorm(profile_dim), nn.Linear(profile_dim, hidden), nn.ReLU())
        self.filter = _head(hidden, channels) if filter_level else None
        self.element_out = _head(hidden, channels) if element_level else None
        self.element_in = _head(hidden, inputs) if element_level else None
        self.layer = _head(hidden, len(slots)) if layer_level else None
        for slot in slots:  # buffers: the base shapes the output too, but is frozen
            self.register_buffer(_buffer(slot), weights[slot.name].detach().abs() / slot.inputs)
        lengths = torch.tensor([slot.channels for slot in slots])
        self.register_buffer("layer_of_channel", torch.arange(len(slots)).repeat_interleave(lengths))

    def importance(self, profiles: Float[Tensor, "users dim"]) -> Float[Tensor, "users channels"]:
        """Say how much each channel matters to each user.

            I_lc = g_l · f_lc · mean_k |a_lc b_lk W_lck|, divided by its mean over all channels

        Args:
            profiles: user states as the device sends them: clipped, from int8.

        Returns:
            importance above 0 with mean 1 over a user's channels; slots in wire order.
        """
        trunk = self.trunk(profiles)
        rebuilt = self._rebuild(trunk)
        if self.filter is not None:
            rebuilt = rebuilt * F.softplus(self.filter(trunk))
        if self.layer is not None:
            rebuilt = rebuilt * F.softplus(self.layer(trunk))[:, self.layer_of_channel]
        return rebuilt / rebuilt.mean(dim=1, keepdim=True) + FLOOR

    def _rebuild(self, trunk: Tensor) -> Tensor:
        """Rebuild filter importance from element importance: a_lc · (|W_l| b_l)_c / k_l, or mean |W| without that level."""
        magnitudes = [cast(Tensor, getattr(self, _buffer(slot))) for slot in self.slots]
        if self.element_in is None or self.element_out is None:
            return torch.cat([magnitude.sum(dim=1) for magnitude in magnitudes]).expand(len(trunk), -1)
        into = torch.split(F.softplus(self.element_in(trunk)), [slot.inputs for slot in self.slots], dim=1)
        seen = [b @ magnitude.T for b, magnitude in zip(into, magnitudes, strict=True)]
        return F.softplus(self.element_out(trunk)) * torch.cat(seen, dim=1)


def _head(hidden: int, outputs: int) -> nn.Linear:
    """A linear head that starts at a constant 1 after softplus, so that at first the base's weights alone speak."""
    head = nn.Linear(hidden, outputs)
    nn.init.zeros_(head.weight)
    nn.init.constant_(head.bias, 0.541324854612918)  # softplus(x) = 1 at x = log(e − 1)
    return head


def _buffer(slot: Slot) -> str:
    """Name the buffer of a slot's magnitudes: torch allows no dot in it."""
    return "magnitude_" + slot.name.replace(".", "_")


__all__ = ["Chord"]
