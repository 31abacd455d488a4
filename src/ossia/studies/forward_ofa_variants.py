"""Forward-OFA with one of its parts taken away, and a static model of its size: what the study compares it with.

    without controller            the first blocks that the budget allows, for everybody
    random structure              blocks in a random order, as many as the budget allows
    shared weights, no mapper     one learned Δ for everybody and every structure; the controller stays
    mapper without structure      z from the profile alone
    one generator                 the same decoder for all layers, told the layer by a learned vector added to z
    static                        no payload at all: an adapter behind the user state, as many parameters, the same events

Each is trained as the whole is, by the same recipe on the same events.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ossia.adaptation.delta_layout import DeltaLayout
from ossia.personalizers.decoder import Decoder, mapper
from ossia.personalizers.forward_ofa import ForwardOfa, Parameters, layers_of, project
from ossia.personalizers.generator import AbstractGenerator


class WithoutController(ForwardOfa):
    """Uniform depth: the first blocks first, the same for everybody with one budget."""

    def __init__(self, layout: DeltaLayout, gates: Sequence[str], profile_dim: int, **settings: Any) -> None:
        super().__init__(layout, gates, profile_dim, **settings)
        del self.controller

    def log_odds(self, profiles: Float[Tensor, "users dim"], share: Float[Tensor, " users"]) -> Float[Tensor, "users gates"]:
        """Want every block, the first ones most, whatever they cost.

        Args:
            profiles: user states as the device sends them.
            share: of what all blocks cost together, what each device can afford.

        Returns:
            ν.
        """
        place = torch.arange(len(self.gates), 0, -1, device=share.device)
        return (self.costs * place).expand(len(profiles), -1)

    relax = AbstractGenerator.relax  # as when it counts: nothing is learned about structures


class RandomStructure(WithoutController):
    """Blocks in a random order, drawn anew for each user and budget; all of them where the budget allows."""

    def relax(
        self,
        profiles: Float[Tensor, "users dim"],
        share: Float[Tensor, " users"],
        temperature: float,  # noqa: ARG002
        generator: torch.Generator,
    ) -> Float[Tensor, "users gates"]:
        """Draw.

        Args:
            profiles: user states as the device sends them.
            share: of what all blocks cost together, what each device can afford.
            temperature: of the relaxation.
            generator: of the noise.

        Returns:
            1 where a block runs and 0 where not.
        """
        order = torch.rand(len(profiles), len(self.gates), generator=generator, device=share.device)
        return project(order * self.costs, self.costs, share)

    def choose(self, profiles: Float[Tensor, "users dim"], share: Float[Tensor, " users"]) -> Float[Tensor, "users gates"]:
        """Draw, the same every time.

        Args:
            profiles: user states as the device sends them.
            share: of what all blocks cost together, what each device can afford.

        Returns:
            1 where a block runs and 0 where not.
        """
        return self.relax(profiles, share, 1.0, torch.Generator(share.device).manual_seed(0))


class SharedWeights(ForwardOfa):
    """A structure for each user, and one Δ for all."""

    def __init__(self, layout: DeltaLayout, gates: Sequence[str], profile_dim: int, **settings: Any) -> None:
        super().__init__(layout, gates, profile_dim, **settings)
        del self.parameters_of
        self.shared = nn.Parameter(torch.cat([Decoder(1, layer).linear.bias.detach() for layer in layers_of(layout)]))

    def numbers(
        self,
        profiles: Float[Tensor, "users dim"],  # noqa: ARG002
        kept: Float[Tensor, "users gates"],
    ) -> Float[Tensor, "users numbers"]:
        """Answer everybody alike.

        Args:
            profiles: user states as the device sends them.
            kept: 1 where a block runs and 0 where not.

        Returns:
            what the layout reads.
        """
        return self.shared.expand(len(kept), -1)


class MapperWithoutStructure(ForwardOfa):
    """Weights that do not know which blocks run."""

    def numbers(
        self, profiles: Float[Tensor, "users dim"], kept: Float[Tensor, "users gates"]
    ) -> Float[Tensor, "users numbers"]:
        """Generate for all blocks, whatever runs.

        Args:
            profiles: user states as the device sends them.
            kept: 1 where a block runs and 0 where not.

        Returns:
            what the layout reads.
        """
        return super().numbers(profiles, torch.ones_like(kept))


class _OneDecoder(Parameters):
    """One decoder, as large as the largest layer needs; a layer takes the first of its numbers."""

    def __init__(self, layout: DeltaLayout, gates: int, profile_dim: int, *, hidden: int, latent: int, structure: int) -> None:
        super().__init__(layout, gates, profile_dim, hidden=hidden, latent=latent, structure=structure)
        layers = layers_of(layout)
        self.sizes = tuple(layer.numbers for layer in layers)
        largest = max(layers, key=lambda layer: layer.numbers)
        self.generators = nn.ModuleList([Decoder(latent, largest)])
        self.layer = nn.Parameter(torch.zeros(len(layers), latent))

    def forward(
        self, profiles: Float[Tensor, "users dim"], kept: Float[Tensor, "users gates"]
    ) -> Float[Tensor, "users numbers"]:
        """Generate layer by layer with the same weights.

        Args:
            profiles: user states as the device sends them.
            kept: 1 where a block runs and 0 where not.

        Returns:
            what the layout reads.
        """
        z = self.mapper(torch.cat([self.norm(profiles), self.policy(kept)], dim=1))
        (decoder,) = self.generators
        return torch.cat([decoder(z + layer)[:, :size] for layer, size in zip(self.layer, self.sizes, strict=True)], dim=1)


class OneGenerator(ForwardOfa):
    """One generator for all layers."""

    def __init__(
        self, layout: DeltaLayout, gates: Sequence[str], profile_dim: int, *, costs: Sequence[float], **sizes: int
    ) -> None:
        super().__init__(layout, gates, profile_dim, costs=costs, **sizes)
        self.parameters_of = _OneDecoder(layout, len(gates), profile_dim, **sizes)


class Static(WithoutController):
    """state + M₂ relu(M₁ norm(state)): an adapter of as many parameters as the whole has, behind the first blocks."""

    def __init__(self, layout: DeltaLayout, gates: Sequence[str], profile_dim: int, **settings: Any) -> None:
        whole = ForwardOfa(layout, gates, profile_dim, **settings)
        super().__init__(layout, gates, profile_dim, **settings)
        del self.parameters_of
        size = sum(parameter.numel() for parameter in whole.parameters())
        self.norm = nn.LayerNorm(profile_dim)
        self.adapter = mapper(profile_dim, -(-size // (2 * profile_dim + 1)), profile_dim)

    def numbers(
        self, profiles: Float[Tensor, "users dim"], kept: Float[Tensor, "users gates"]
    ) -> Float[Tensor, "users numbers"]:
        """Send nothing.

        Args:
            profiles: user states as the device sends them.
            kept: 1 where a block runs and 0 where not.

        Returns:
            what the layout reads.
        """
        return profiles.new_zeros(len(kept), self.layout.numbers)

    def after(self, states: Float[Tensor, "users dim"]) -> Float[Tensor, "users dim"]:
        """Move user states.

        Args:
            states: from the blocks that run.

        Returns:
            the states to score with.
        """
        moved: Tensor = states + self.adapter(self.norm(states))
        return moved


VARIANTS: Final[Mapping[str, type[ForwardOfa]]] = {
    "own payload": ForwardOfa,
    "without controller": WithoutController,
    "random structure": RandomStructure,
    "shared weights, no mapper": SharedWeights,
    "mapper without structure": MapperWithoutStructure,
    "one generator for all layers": OneGenerator,
    "static model of the same size": Static,
}
"""What is trained, by the name of its row."""
