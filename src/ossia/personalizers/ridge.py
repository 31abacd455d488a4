"""The ridge: a personalizer without a hidden layer, which a linear solve can train.

    φ(p) = (1, z, √(2d/m) cos(z Ω + ω))       z: the profile, standardized; m = 1,024 random cosines (Rahimi and Recht, 2007)
    s_c  = φ(p) · C_c                          a channel's predicted sensitivity per weight, in units of its spread
    I_c  = k_c · softplus(s_c),  divided by its mean over all channels

The frequencies Ω ~ N(0, 1/d) and phases ω are drawn once and never learned. s is linear in what is learned, C, which so has a
closed form (`ossia.training.sensitivities`). softplus keeps the order and makes importance positive; what is predicted to do
harm comes to nearly nothing. C starts at 0: before training a channel matters as much as it has weights.

The ridge is CHORD's baseline and its teacher. Gradients reach C as they reach any personalizer, so it can go on learning
straight-through. It costs 1,089 multiplications a channel, three to five times those of CHORD's heads.

Differences from the literature: none known; it is ridge regression on random features, put to this use.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ossia.personalizers.personalizer import AbstractPersonalizer
from ossia.types import Slot

COSINES = 1024
FLOOR = 1e-6
"""The least importance, of a mean of 1: softplus underflows, and a logarithm of 0 has no gradient."""


class Cosines(nn.Module):
    """φ(p): a constant, the standardized profile, random cosines of it.

    Args:
        profile_dim: length of a profile.
        cosines: how many.
        seed: of their frequencies and phases.
    """

    mean: Tensor
    spread: Tensor
    frequencies: Tensor
    phases: Tensor

    def __init__(self, profile_dim: int, cosines: int = COSINES, *, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("mean", torch.zeros(profile_dim))
        self.register_buffer("spread", torch.ones(profile_dim))
        self.register_buffer("frequencies", torch.randn(profile_dim, cosines, generator=generator) / profile_dim**0.5)
        self.register_buffer("phases", 2 * torch.pi * torch.rand(cosines, generator=generator))

    @property
    def size(self) -> int:
        """How many features there are."""
        return 1 + len(self.mean) + len(self.phases)

    def standardize(self, profiles: Float[Tensor, "events dim"]) -> "Cosines":
        """Take the mean and the spread of some profiles as those of z.

        Args:
            profiles: what to standardize by.

        Returns:
            itself.
        """
        self.mean.copy_(profiles.mean(dim=0))
        self.spread.copy_(profiles.std(dim=0, correction=0).clamp_min(1e-6))
        return self

    def forward(self, profiles: Float[Tensor, "events dim"]) -> Float[Tensor, "events features"]:
        """Compute φ.

        Args:
            profiles: any.

        Returns:
            the features.
        """
        z = (profiles - self.mean) / self.spread
        scale = (2 * z.shape[1] / len(self.phases)) ** 0.5  # the cosines together weigh as much as the linear part
        return torch.cat([torch.ones_like(z[:, :1]), z, scale * torch.cos(z @ self.frequencies + self.phases)], dim=1)


class Ridge(AbstractPersonalizer):
    """Predicted sensitivities as importance.

    Args:
        slots: the base's slots, in wire order.
        _weights: not needed; every personalizer is made alike.
        profile_dim: length of a profile.
        gains: for each width of the alphabet how much of a channel's importance it keeps (`adaptation.allocate`).
    """

    settings: ClassVar[tuple[str, ...]] = ()
    inputs: Tensor

    def __init__(
        self, slots: Sequence[Slot], _weights: Mapping[str, Tensor], profile_dim: int, *, gains: Mapping[int, float]
    ) -> None:
        super().__init__(slots, gains)
        self.features = Cosines(profile_dim)
        self.register_buffer("inputs", torch.cat([torch.full((slot.channels,), float(slot.inputs)) for slot in slots]))
        self.coefficients = nn.Parameter(torch.zeros(self.features.size, len(self.inputs)))

    def importance(self, profiles: Float[Tensor, "users dim"]) -> Float[Tensor, "users channels"]:
        """Say how much each channel matters to each user: I_c ∝ k_c · softplus(φ(p) · C_c).

        Args:
            profiles: user states as the device sends them: clipped, from int8.

        Returns:
            importance above 0 with mean 1 over a user's channels; slots in wire order.
        """
        importance = self.inputs * F.softplus(self.features(profiles) @ self.coefficients)
        return importance / importance.mean(dim=1, keepdim=True) + FLOOR
