"""GRU4Rec: a recurrent network over the history, as gated residual blocks.

A gated recurrent unit reads the events one by one and keeps a memory of fixed size (Hidasi et al., ICLR 2016,
https://arxiv.org/abs/1511.06939; the unit is that of Cho et al., 2014, in PyTorch's order of gates, r, z, n):

    r = σ(W_ir x + b_ir + W_hr m + b_hr)
    z = σ(W_iz x + b_iz + W_hz m + b_hz)
    n = tanh(W_in x + b_in + r ⊙ (W_hn m + b_hn))            x one event, m the memory after the one before, 0 at first
    m ← (1 − z) ⊙ n + z ⊙ m

    h     = E[items]
    h     = h + output(m of each event)                      x = norm(h), for every layer
    state = norm(h),   score_i = state · E[i]

The three W_i are one slot, `input`, of 3 · hidden channels, and so are the three W_h, `hidden`. A layer is a branch beside the
stream, so that a gate can skip it, the stream passing on; `output` brings a memory of any width back to the stream's.

Where no adaptation enters, torch's own loop runs over all histories at once, longest first, each only as long as it is
(`_Order`); with one, the same steps go through the joints, column by column. A law test holds the two together.

What it does not do: read positions (the order of events is all it knows of time), or carry a memory from one session to
the next.

Differences from the paper: users' histories, not sessions, cut to `length`; item vectors as input in the place of
one-hot ones, tied to the output's; layer norms and a residual stream; losses are those of `ossia.training`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ossia.backbones.backbone import INIT_STD, Backbone, GateJoint, SlotJoint, check_sizes, keep, plain, slot_of
from ossia.backbones.dropout import Dropout
from ossia.types import Slot

PARTS = ("input", "hidden", "output")
"""The slots of a layer, in wire order."""


class Layer(nn.Module):
    """One pre-norm recurrent block: a gated recurrent unit, and a linear layer back to the stream.

    Args:
        name: the layer's published name, such as `layers.0`; it is the gate's too, and slots are named below it.
        dim: width of the residual stream.
        hidden: width of the memory.
    """

    def __init__(self, name: str, dim: int, hidden: int) -> None:
        super().__init__()
        self.name = name
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        self.input, self.hidden = nn.Linear(dim, 3 * hidden), nn.Linear(hidden, 3 * hidden)
        self.output = nn.Linear(hidden, dim)

    def run(self, stream: Float[Tensor, "events dim"], sizes: Int[Tensor, " steps"]) -> Float[Tensor, "events dim"]:
        """Read many histories side by side, with torch's own loop.

        Args:
            stream: events in the order of a packed sequence: the first of every history, longest history first, then the
                second, and so on.
            sizes: how many histories have a first event, a second, and so on; on the CPU.

        Returns:
            what the block adds after each event.
        """
        first = stream.new_zeros(1, int(sizes[0]), self.hidden.in_features)
        weights = [self.input.weight, self.hidden.weight, self.input.bias, self.hidden.bias]
        memory, _ = torch.gru(self.norm(stream), sizes, first, weights, True, 1, 0.0, self.training, False)
        added: Tensor = self.output(memory)
        return added

    def step_through(
        self, stream: Float[Tensor, "batch time dim"], goes_on: Float[Tensor, "batch time 1"], slot: SlotJoint
    ) -> Float[Tensor, "batch time dim"]:
        """Read rows column by column, through the joint.

        Args:
            stream: rows of histories.
            goes_on: 0 where an event is the first of its history, and no memory is before it; else 1.
            slot: how adaptable weights are applied.

        Returns:
            what the block adds after each event.
        """
        inputs = slot(f"{self.name}.input", self.input, self.norm(stream))
        memory, memories = stream.new_zeros(len(stream), 1, self.hidden.in_features), []
        for column in range(stream.shape[1]):
            memory = memory * goes_on[:, column, None]
            hidden = slot(f"{self.name}.hidden", self.hidden, memory)
            memory = update_memory(inputs[:, column, None], hidden, memory)
            memories.append(memory)
        return slot(f"{self.name}.output", self.output, torch.cat(memories, dim=1))


def update_memory(inputs: Tensor, hidden: Tensor, memory: Tensor) -> Tensor:
    """Take one step of a gated recurrent unit: (1 − z) ⊙ n + z ⊙ m.

    Args:
        inputs: W_i x + b_i, the channels of r, z and n.
        hidden: W_h m + b_h, likewise.
        memory: m.

    Returns:
        the memory after the event.
    """
    (ri, zi, ni), (rh, zh, nh) = inputs.chunk(3, dim=-1), hidden.chunk(3, dim=-1)
    z, n = torch.sigmoid(zi + zh), torch.tanh(ni + torch.sigmoid(ri + rh) * nh)
    return (1 - z) * n + z * memory


class GRU4Rec(Backbone):
    """History in, one user state per event out; the inner product of a state with an item's vector is the item's score.

    Args:
        items: rows of the item table.
        dim: width of item vectors and states.
        length: the longest history it reads, in events.
        layers: recurrent layers.
        hidden: width of each layer's memory.
        dropout: probability of dropping a value of the item vectors and of what a layer adds, in training.

    Raises:
        UsageError: a size below 1, or a dropout out of range.

    Example:
        >>> model = GRU4Rec(items=10, dim=8, length=5, layers=1, hidden=16).eval()
        >>> model(torch.tensor([[-1, 3, 7]])).shape
        torch.Size([1, 3, 8])
        >>> [slot.name for slot in model.slots()], model.gates()
        (['layers.0.input', 'layers.0.hidden', 'layers.0.output'], ('layers.0',))
    """

    kind = "gru4rec"

    def __init__(
        self, items: int, *, dim: int = 64, length: int = 50, layers: int = 1, hidden: int = 128, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.shape = {"items": items, "dim": dim, "length": length, "layers": layers, "hidden": hidden}
        check_sizes(self.shape, dropout)
        self.items = nn.Embedding(items, dim)
        self.layers = nn.ModuleList(Layer(f"layers.{index}", dim, hidden) for index in range(layers))
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        self.dropout = Dropout(dropout)
        nn.init.normal_(self.items.weight, std=INIT_STD)

    def encode(
        self,
        vectors: Float[Tensor, "batch time dim"],
        positions: Int[Tensor, "batch time"],  # noqa: ARG002 (the order of events is all that it knows of time)
        pieces: Int[Tensor, "batch time"],
        *,
        slot: SlotJoint = plain,
        gate: GateJoint = keep,
    ) -> Float[Tensor, "batch time dim"]:
        """Run the recurrent layers, as `Backbone.encode` says.

        Args:
            vectors: each event's row of the item table.
            positions: not read.
            pieces: which history of its row each event belongs to, in one stretch of columns.
            slot: how adaptable weights are applied.
            gate: what a layer adds.

        Returns:
            the user state after each event.
        """
        h = self.dropout(vectors)
        if slot is not plain:
            goes_on = 1 - _firsts(pieces)[..., None].to(h.dtype)
            for layer in self._layers():
                h = h + gate(layer.name, self.dropout(layer.step_through(h, goes_on, slot)))
            return self.norm(h)
        order = _Order.of(pieces)
        stream = h.flatten(0, 1)[order.places]
        for layer in self._layers() if len(stream) else ():
            stream = stream + gate(layer.name, self.dropout(layer.run(stream, order.sizes)))
        states = h.new_zeros(h.shape).flatten(0, 1)
        return states.index_copy(0, order.places, self.norm(stream)).view_as(h)

    def slots(self) -> tuple[Slot, ...]:
        """Name the adaptable weights, in wire order: input, hidden, output of each layer."""
        return tuple(
            slot_of(f"{layer.name}.{part}", getattr(layer, part), layer.name) for layer in self._layers() for part in PARTS
        )

    def gates(self) -> tuple[str, ...]:
        """Name the layers: a gate skips one."""
        return tuple(layer.name for layer in self._layers())

    def _layers(self) -> Iterable[Layer]:
        """Go through the layers, whose type a `ModuleList` has forgotten."""
        return cast(Iterable[Layer], self.layers)


@dataclass(frozen=True, eq=False)
class _Order:
    """Events of many histories in the order of a packed sequence, without the places where there is none.

    Attributes:
        places: where each event stands among all places, row by row.
        sizes: how many histories have a first event, a second, and so on; on the CPU, where torch wants it.
    """

    places: Int[Tensor, " events"]
    sizes: Int[Tensor, " steps"]

    @classmethod
    def of(cls, pieces: Int[Tensor, "batch time"]) -> "_Order":
        """Find the order of rows of histories."""
        firsts = _firsts(pieces)
        column = torch.arange(pieces.shape[1], device=pieces.device).expand_as(pieces)
        age = column - torch.where(firsts, column, 0).cummax(dim=1).values
        places = (pieces >= 0).flatten().nonzero()[:, 0]
        ages, histories = age.flatten()[places], firsts.flatten().cumsum(0)[places] - 1
        lengths = torch.bincount(histories)
        rank = lengths.argsort(descending=True, stable=True).argsort()
        order = (ages * len(lengths) + rank[histories]).argsort()
        return cls(places[order], torch.bincount(ages).cpu())


def _firsts(pieces: Int[Tensor, "batch time"]) -> Tensor:
    """Tell which events are the first of their history."""
    before = nn.functional.pad(pieces[:, :-1], (1, 0), value=-1)
    return (pieces >= 0) & (pieces != before)
