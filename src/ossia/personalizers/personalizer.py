"""What every personalizer of codes has in common: importance becomes widths of a given average, with gradients or without.

A step from a width to the next is worth I_c · Δgain / (k_c · Δbits) a bit of memory, with k_c the weights of channel c and gain
the share of a channel's importance that a width keeps; steps are taken in falling order of that until a user's bits are spent
(`relaxed.py`). What differs between personalizers is how I comes from the profile: `importance`, the one abstract method.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ossia.personalizers.relaxed import step_bits, straight_through, within_budget
from ossia.types import Slot


class AbstractPersonalizer(nn.Module, ABC):
    """A network from profiles to the importance of channels.

    Args:
        slots: the base's slots, in wire order.
        gains: for each width of the alphabet how much of a channel's importance it keeps (`adaptation.allocate`).
    """

    step_bits: Tensor
    step_gain: Tensor

    def __init__(self, slots: Sequence[Slot], gains: Mapping[int, float]) -> None:
        super().__init__()
        self.slots, self.gains = tuple(slots), dict(gains)
        alphabet = sorted(gains)
        self.register_buffer("step_bits", step_bits(slots, alphabet))
        self.register_buffer("step_gain", torch.tensor([gains[high] - gains[low] for low, high in pairwise(alphabet)]))
        self.least_bits = alphabet[0]

    @abstractmethod
    def importance(self, profiles: Float[Tensor, "users dim"]) -> Float[Tensor, "users channels"]:
        """Say how much each channel matters to each user.

        Args:
            profiles: user states as the device sends them: clipped, from int8.

        Returns:
            importance above 0 with mean 1 over a user's channels; slots in wire order.
        """

    def forward(self, profiles: Float[Tensor, "users dim"]) -> Float[Tensor, "users channels"]:
        """Call `importance`, under the name that an export looks for.

        Args:
            profiles: user states as the device sends them.

        Returns:
            importance above 0 with mean 1 over a user's channels.
        """
        return self.importance(profiles)

    def relax(
        self, profiles: Float[Tensor, "users dim"], average_bits: Float[Tensor, " users"], temperature: float
    ) -> Float[Tensor, "users steps channels"]:
        """Choose widths of a given average, differentiably: masks for `relaxed_slot`.

        Args:
            profiles: user states as the device sends them.
            average_bits: bits per weight that each user may spend on average over all slots.
            temperature: τ of the straight-through gradient, in nats of value.

        Returns:
            1 where a step is taken and 0 where not, with gradients.
        """
        value, spend = self._offer(self.importance(profiles), average_bits)
        return straight_through(value, self.step_bits, spend, temperature)

    @torch.no_grad()
    def cut(self, importance: Float[Tensor, "users channels"], average_bits: float) -> Float[Tensor, "users steps channels"]:
        """Choose widths of a given average for any importance, hard: the forward of `relax`, for controls and validation.

        Args:
            importance: above 0.
            average_bits: bits per weight that each user may spend on average over all slots.

        Returns:
            1 where a step is taken and 0 where not.
        """
        bits = torch.full((len(importance),), average_bits, device=importance.device)
        value, spend = self._offer(importance, bits)
        return within_budget(value, self.step_bits, spend)[0].float()

    def _offer(self, importance: Tensor, average_bits: Tensor) -> tuple[Tensor, Tensor]:
        """Price the steps: what each is worth per bit, and how many bits there are beyond the narrowest width."""
        weights = sum(slot.channels * slot.inputs for slot in self.slots)
        return importance[:, None] * self.step_gain[:, None] / self.step_bits, (average_bits - self.least_bits) * weights
