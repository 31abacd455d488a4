"""What every personalizer that generates weights has in common: profile in, the numbers of a delta out, and a way to run them.

A batch of users with weights of their own needs no weights of its own for a low rank: with Δ_u = A_u B_u,

    y_u = x_u Wᵀ + bias + (x_u B_uᵀ) A_uᵀ          dense: y_u = x_u Wᵀ + bias + x_u Δ_uᵀ
                                                   coordinates: A_u = A diag(θ_u), B_u = B

two thin products per slot and user beside the one that all users share. This is the equation's Δ without its last rounding: the
device puts W + Δ on the grid again, 8 bits, which moves a state by less than the rounding of the base itself; tests hold
the two within that.

Where blocks are chosen too (`structured`), gates multiply what each block adds to the stream. `graphs` says what is exported:
one graph from profiles to numbers, and where there is a controller, one from profile and budget to gates before it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ossia.adaptation.delta_layout import DeltaLayout
from ossia.adaptation.personalizer_manifest import MODEL
from ossia.backbones.backbone import GateJoint, SlotJoint
from ossia.types import Slot


@dataclass(frozen=True)
class Graph:
    """A part of a personalizer that the service runs.

    Attributes:
        network: in torch.
        inputs: width of each input, by name, in order.
        output: its name.
    """

    network: nn.Module
    inputs: Mapping[str, int]
    output: str


class AbstractGenerator(nn.Module, ABC):
    """A network from profiles to the numbers of a delta.

    Args:
        layout: which slots have a delta.
        gates: names of the blocks that can be skipped, in wire order.
        costs: what each of them costs, in any unit.
    """

    settings: ClassVar[tuple[str, ...]]
    structured: ClassVar[bool] = False
    costs: Tensor

    def __init__(self, layout: DeltaLayout, gates: Sequence[str], costs: Sequence[float]) -> None:
        super().__init__()
        self.layout, self.gates = layout, tuple(gates)
        every = torch.tensor(costs, dtype=torch.float32)
        self.register_buffer("costs", every / every.sum())

    @classmethod
    @abstractmethod
    def own_slots(cls, slots: Sequence[Slot]) -> tuple[str, ...]:
        """Choose the slots that this method gives a delta, where nobody asks for others.

        Args:
            slots: all of a base's, in wire order.

        Returns:
            their names.
        """

    @abstractmethod
    def numbers(
        self, profiles: Float[Tensor, "users dim"], kept: Float[Tensor, "users gates"]
    ) -> Float[Tensor, "users numbers"]:
        """Generate.

        Args:
            profiles: user states as the device sends them: clipped, from int8.
            kept: 1 where a block runs and 0 where not.

        Returns:
            what `layout` reads; zeros from an untrained generator, whose answer is the base itself.
        """

    def choose(self, profiles: Float[Tensor, "users dim"], share: Float[Tensor, " users"]) -> Float[Tensor, "users gates"]:  # noqa: ARG002
        """Choose the blocks that run, hard; all of them where a method does not choose.

        Args:
            profiles: user states as the device sends them.
            share: of what all blocks cost together, what each device can afford.

        Returns:
            1 where a block runs and 0 where not.
        """
        return profiles.new_ones(len(profiles), len(self.gates))

    def relax(
        self,
        profiles: Float[Tensor, "users dim"],
        share: Float[Tensor, " users"],
        temperature: float,  # noqa: ARG002
        generator: torch.Generator,  # noqa: ARG002
    ) -> Float[Tensor, "users gates"]:
        """Choose the blocks that run, with gradients where a method chooses.

        Args:
            profiles: user states as the device sends them.
            share: of what all blocks cost together, what each device can afford.
            temperature: of the relaxation.
            generator: of its noise.

        Returns:
            1 where a block runs and 0 where not.
        """
        return self.choose(profiles, share)

    @abstractmethod
    def graphs(self, profile_dim: int) -> Mapping[str, Graph]:
        """Say what the service runs.

        Args:
            profile_dim: length of a profile.

        Returns:
            graphs by file name.
        """


class HeadGenerator(AbstractGenerator):
    """A generator of the network's end: what runs before it, it does not ask. One graph, its `forward`."""

    def numbers(
        self,
        profiles: Float[Tensor, "users dim"],
        kept: Float[Tensor, "users gates"],  # noqa: ARG002
    ) -> Float[Tensor, "users numbers"]:
        """Generate, whatever runs.

        Args:
            profiles: user states as the device sends them.
            kept: not read.

        Returns:
            what the layout reads.
        """
        numbers: Tensor = self(profiles)
        return numbers

    def graphs(self, profile_dim: int) -> Mapping[str, Graph]:
        """Say what the service runs: the whole network.

        Args:
            profile_dim: length of a profile.

        Returns:
            one graph.
        """
        return {MODEL: Graph(self, {"profiles": profile_dim}, "numbers")}


def delta_joint(
    layout: DeltaLayout, numbers: Float[Tensor, "users numbers"], basis: Mapping[str, tuple[Tensor, Tensor]] | None = None
) -> SlotJoint:
    """Make the `slot` function that lets a backbone run a batch of users, each with a delta of their own.

    Args:
        layout: what the numbers mean.
        numbers: of each user.
        basis: left and right directions of each slot; for a layout of coordinates.

    Returns:
        the function; its x has one row per user, in the same order.
    """
    deltas = {}
    for adapted, shapes, mine in zip(layout.slots, layout.shapes, torch.split(numbers, list(layout.sizes), dim=1), strict=True):
        pieces = torch.split(mine, [rows * columns for rows, columns in shapes], dim=1)
        deltas[adapted.name] = [piece.reshape(-1, *shape) for piece, shape in zip(pieces, shapes, strict=True)]
        if layout.coordinates:
            assert basis is not None, "coordinates without a basis"
            left, right = basis[adapted.name]
            deltas[adapted.name] = [left * deltas[adapted.name][0], right]

    def slot(name: str, linear: nn.Linear, x: Float[Tensor, "users time inputs"]) -> Float[Tensor, "users time channels"]:
        shared: Tensor = linear(x)
        for matrix in reversed(deltas.get(name, ())):
            x = x @ matrix.mT
        return shared + x if name in deltas else shared

    return slot


def gate_joint(gates: Sequence[str], kept: Float[Tensor, "users gates"]) -> GateJoint:
    """Make the `gate` function for a batch of users, each with blocks of their own.

    Args:
        gates: their names, in wire order.
        kept: 1 or 0 for each user and block; may be soft.

    Returns:
        the function; a branch has one row per user, in the same order.
    """
    place = {name: index for index, name in enumerate(gates)}

    def gate(name: str, branch: Tensor) -> Tensor:
        return branch * kept[:, place[name]].view(-1, *[1] * (branch.ndim - 1))

    return gate
