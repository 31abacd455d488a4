"""Caser: convolutions over the last few items, as an image of events × features.

The newest L items' vectors lie one above the other, and two kinds of filters slide over them (Tang and Wang, WSDM 2018,
https://arxiv.org/abs/1809.07426). A horizontal filter of height k sees k neighboring events whole, and says with its largest
answer whether what it looks for was there; a vertical filter weighs the L events the same way in every feature:

    X          = the newest L rows of E[items], oldest first; zeros where the history is shorter
    vertical   = V X                                                    one row of V per filter; `dim` features each
    height k   = max over t of relu(H_k [X_t … X_{t+k−1}] + b_k)        one row of H_k per filter; k = 1 … L
    state      = norm(X_L + combine([vertical, height 1, …, height L]))          score_i = state · E[i]

Each is a linear layer, and so a slot: V of L inputs, H_k of k · dim, `combine` of all that the filters say. A gate of each
branch puts zeros in its place.

A state is made from the L events up to its own, so that there is one at every event of a row, whatever lies before or
after. There is no maximum over more than these.

What it does not do: read more than L events, which is its `length`. A device holds that many rows of its history.

Differences from the paper: no vector per user, since a device may belong to a user whom training never saw (the user is the
history); the newest item's vector is added and a layer norm follows, in the place of a ReLU (validation NDCG@10 on Amazon
Beauty after eight epochs, one seed: .064 with that sum, .055 with the norm alone); item vectors are the same in and out; the
next item alone is a target, and losses are those of `ossia.training`.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ossia.backbones.backbone import INIT_STD, Backbone, GateJoint, SlotJoint, check_sizes, keep, plain, slot_of
from ossia.backbones.dropout import Dropout
from ossia.types import Slot


class Caser(Backbone):
    """History in, one user state per event out; the inner product of a state with an item's vector is the item's score.

    Args:
        items: rows of the item table.
        dim: width of item vectors and states.
        length: how many events a state is made from, and the greatest height of a filter.
        vertical: vertical filters.
        horizontal: horizontal filters of each height.
        dropout: probability of dropping a value of the item vectors, of the filters' answers and of what is added, in training.

    Raises:
        UsageError: a size below 1, or a dropout out of range.

    Example:
        >>> model = Caser(items=10, dim=8, length=3, vertical=2, horizontal=4).eval()
        >>> model(torch.tensor([[-1, 3, 7]])).shape
        torch.Size([1, 3, 8])
        >>> [slot.name for slot in model.slots()]
        ['vertical', 'horizontal.1', 'horizontal.2', 'horizontal.3', 'combine']
        >>> model.gates()
        ('vertical', 'horizontal.1', 'horizontal.2', 'horizontal.3')
    """

    kind = "caser"

    def __init__(
        self,
        items: int,
        *,
        dim: int = 64,
        length: int = 5,
        vertical: int = 4,
        horizontal: int = 16,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.shape = {"items": items, "dim": dim, "length": length, "vertical": vertical, "horizontal": horizontal}
        check_sizes(self.shape, dropout)
        heights = range(1, length + 1)
        self.items = nn.Embedding(items, dim)
        self.vertical = nn.Linear(length, vertical)
        self.horizontal = nn.ModuleDict({str(height): nn.Linear(height * dim, horizontal) for height in heights})
        self.combine = nn.Linear(vertical * dim + length * horizontal, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        self.dropout = Dropout(dropout)
        nn.init.normal_(self.items.weight, std=INIT_STD)

    def encode(
        self,
        vectors: Float[Tensor, "batch time dim"],
        positions: Int[Tensor, "batch time"],  # noqa: ARG002 (a place in the window is all that it knows of time)
        pieces: Int[Tensor, "batch time"],
        *,
        slot: SlotJoint = plain,
        gate: GateJoint = keep,
    ) -> Float[Tensor, "batch time dim"]:
        """Run the filters at every event, as `Backbone.encode` says.

        Args:
            vectors: each event's row of the item table.
            positions: not read.
            pieces: which history of its row each event belongs to.
            slot: how adaptable weights are applied.
            gate: what a branch says.

        Returns:
            the user state after each event.
        """
        h = self.dropout(vectors)
        windows = _windows(h, pieces, self.shape["length"])
        said = [gate("vertical", self._slide_down(windows, slot))]
        said += [gate(f"horizontal.{height}", self._slide_across(windows, int(height), slot)) for height in self.horizontal]
        combined = slot("combine", self.combine, self.dropout(torch.cat(said, dim=2)))
        state: Tensor = self.norm(h + self.dropout(combined))
        return state

    def slots(self) -> tuple[Slot, ...]:
        """Name the adaptable weights, in wire order: the vertical filters, each height of the horizontal ones, combine."""
        branches = [slot_of(name, self.get_submodule(name), name) for name in self.gates()]  # type: ignore[arg-type]
        return (*branches, slot_of("combine", self.combine, None))

    def gates(self) -> tuple[str, ...]:
        """Name the branches: the vertical filters, and each height of the horizontal ones."""
        return ("vertical", *(f"horizontal.{height}" for height in self.horizontal))

    def _slide_down(self, windows: Tensor, slot: SlotJoint) -> Float[Tensor, "batch time said"]:
        """Weigh a window's events in each feature: all filters' answers for feature 0, then all for feature 1, and so on."""
        batch, time, length, dim = windows.shape
        columns = windows.transpose(2, 3).reshape(batch, time * dim, length)
        return slot("vertical", self.vertical, columns).reshape(batch, time, -1)

    def _slide_across(self, windows: Tensor, height: int, slot: SlotJoint) -> Float[Tensor, "batch time said"]:
        """Give each filter's largest answer to `height` neighboring events of a window, and 0 at the least."""
        batch, time, length, _ = windows.shape
        places = windows.unfold(2, height, 1).transpose(3, 4).reshape(batch, time * (length - height + 1), -1)
        answers = slot(f"horizontal.{height}", self.horizontal[str(height)], places)  # type: ignore[arg-type]
        return answers.relu().view(batch, time, length - height + 1, -1).amax(dim=2)


def _windows(
    h: Float[Tensor, "batch time dim"], pieces: Int[Tensor, "batch time"], length: int
) -> Float[Tensor, "batch time length dim"]:
    """Gather the newest `length` events of each event's own history, oldest first; zeros where there are fewer."""
    rows = nn.functional.pad(h, (0, 0, length - 1, 0)).unfold(1, length, 1).transpose(2, 3)
    owners = nn.functional.pad(pieces, (length - 1, 0), value=-1).unfold(1, length, 1)
    return rows * (owners == pieces[..., None]).logical_and(owners >= 0)[..., None]
