"""What every backbone is: a module that turns a history into user states, with two joints where an adaptation may enter.

    states = backbone(histories)                a state per event of left-padded item rows; the last column is the present one
    states = backbone.encode(vectors, …)        the same network on rows that hold several histories end to end
    score  = state · items.weight[i]

All that training, publishing and personalizers know of a backbone is here: `items`, `shape`, `slots()`, `gates()`, `forward`
and `encode`. It is an abstract class and no protocol, because it has to be a `torch.nn.Module` too, and Python's types
know no "both".

The joints are arguments of `forward`: `slot(name, linear, x)` stands for every application of an adaptable weight, and
`gate(name, branch)` for every branch that can be skipped. Left alone they are `plain` (`linear(x)`) and `keep` (the branch
itself), and then a backbone may compute in any way that gives the same numbers.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ossia.errors import UsageError
from ossia.types import ABSENT, Slot

SlotJoint: TypeAlias = Callable[[str, nn.Linear, Tensor], Tensor]
"""`(name, linear, x) -> y`: how an adaptable weight is applied to its input, which has three axes: row, place, feature."""

GateJoint: TypeAlias = Callable[[str, Tensor], Tensor]
"""`(name, branch) -> branch`: what a branch adds to the stream, or hands on; zeros skip the block."""

INIT_STD = 0.02
"""Of item vectors and positions: scores begin near zero, so the first steps are not spent on unlearning random ones."""


def plain(name: str, linear: nn.Linear, x: Tensor) -> Tensor:  # noqa: ARG001 (a joint is told its name)
    """Apply the weight as it was trained: `y = W x + bias`.

    Args:
        name: the slot's name.
        linear: the slot's own layer.
        x: inputs, features last.

    Returns:
        `linear(x)`.
    """
    y: Tensor = linear(x)
    return y


def keep(name: str, branch: Tensor) -> Tensor:  # noqa: ARG001 (a joint is told its name)
    """Keep a branch as it is: every gate is 1.

    Args:
        name: the gate's name.
        branch: what the branch adds to the residual stream, or hands on.

    Returns:
        the same branch.
    """
    return branch


class Backbone(nn.Module, ABC):
    """A recommender that can be trained: history in, one user state per event out.

    Attributes:
        kind: its name in `BACKBONES`, in recipes and in manifests.
        shape: the sizes that make it again, with `items`, `dim` and `length` among them: rows of the item table, width of
            vectors and states, and the longest history that it reads, in events.
        items: the item table.
    """

    kind: ClassVar[str]
    shape: dict[str, int]
    items: nn.Embedding

    @abstractmethod
    def encode(
        self,
        vectors: Float[Tensor, "batch time dim"],
        positions: Int[Tensor, "batch time"],
        pieces: Int[Tensor, "batch time"],
        *,
        slot: SlotJoint = plain,
        gate: GateJoint = keep,
    ) -> Float[Tensor, "batch time dim"]:
        """Encode rows that may hold several histories end to end: the network itself, without the layout of `forward`.

        Args:
            vectors: each event's row of the item table.
            positions: how many events of its history came after each event, 0 … `length` − 1.
            pieces: which history of its row each event belongs to; an event sees itself and earlier events of its own piece.
                Below 0: there is no event.
            slot: how adaptable weights are applied.
            gate: what a branch adds, or hands on.

        Returns:
            the user state after each event; where there is none it means nothing.
        """

    @abstractmethod
    def slots(self) -> tuple[Slot, ...]:
        """Name the adaptable weights, in wire order. Slot `a` is the linear layer `a`; a gate's last slot ends its branch."""

    @abstractmethod
    def gates(self) -> tuple[str, ...]:
        """Name the branches that a gate can skip, in wire order."""

    def forward(
        self, histories: Int[Tensor, "batch time"], *, slot: SlotJoint = plain, gate: GateJoint = keep
    ) -> Float[Tensor, "batch time dim"]:
        """Encode every prefix of every history.

        Args:
            histories: item rows, oldest first, padded on the left with `ABSENT`; at most `length` columns.
            slot: how adaptable weights are applied.
            gate: what a branch adds, or hands on.

        Returns:
            the user state after each event; the last column is the user's present state. States of padding mean nothing.

        Raises:
            UsageError: more columns than `length`.
        """
        time = histories.shape[1]
        if time > self.shape["length"]:
            raise UsageError(f"histories: expected at most {self.shape['length']} columns, got {time}")
        newest_is_zero = torch.arange(time - 1, -1, -1, device=histories.device).expand_as(histories)
        pieces = -(histories == ABSENT).int()  # padding is a piece of its own, −1: real events never see it
        return self.encode(self.items(histories.clamp_min(0)), newest_is_zero, pieces, slot=slot, gate=gate)


def slot_of(name: str, layer: nn.Linear, gate: str | None) -> Slot:
    """Describe a layer as a slot.

    Args:
        name: its published name.
        layer: the layer.
        gate: the gate that skips its block; None where no gate does.

    Returns:
        the slot, with the layer's sizes.
    """
    return Slot(name, layer.out_features, layer.in_features, gate)


def check_sizes(shape: dict[str, int], dropout: float) -> None:
    """Refuse sizes that make no network.

    Args:
        shape: sizes by name.
        dropout: probability of dropping a value.

    Raises:
        UsageError: a size below 1, or a dropout out of range.
    """
    for name, value in shape.items():
        if value < 1:
            raise UsageError(f"{name}: expected at least 1, got {value}")
    if not 0 <= dropout < 1:
        raise UsageError(f"dropout: expected 0 ≤ dropout < 1, got {dropout}")
