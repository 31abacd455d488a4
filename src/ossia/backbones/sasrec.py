"""SASRec: self-attentive sequential recommendation, as a textbook module.

A history becomes a user state, and an item's score is the inner product of that state with the item's vector. The network
is a small causal transformer over the history (Kang and McAuley, ICDM 2018, https://arxiv.org/abs/1808.09781), here with
the normalization before each branch (Xiong et al., ICML 2020, https://arxiv.org/abs/2002.04745), which trains without warm-up:

    h     = E[items] + P[positions]
    h     = h + output(attention(query(n), key(n), value(n)))     n = norm(h), for every block
    h     = h + contract(relu(expand(n)))                         n = norm(h)
    state = norm(h),   score_i = state · E[i]

Positions count from the newest item: position 0 is always the last event, so cropping a history or padding it on the left
moves nothing. There is no padding row: padding is masked out, not learned.

The module knows nothing of personalization; its joints are those of every backbone (`backbone.py`).

What it does not do: choose a loss, crop histories, skip absent items in the middle of a history, or rank (see `ranker.py`).
"""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ossia.backbones.backbone import INIT_STD, Backbone, GateJoint, SlotJoint, check_sizes, keep, plain, slot_of
from ossia.backbones.dropout import Dropout
from ossia.errors import UsageError
from ossia.types import Slot

BRANCHES = {"attention": ("query", "key", "value", "output"), "feed_forward": ("expand", "contract")}
"""The two residual branches of a block, and the slots of each in wire order."""


class Block(nn.Module):
    """One pre-norm transformer block: causal self-attention, then a feed-forward network, each a gated residual branch.

    Args:
        name: the block's published name, such as `blocks.0`; slots and gates are named below it.
        dim: width of the residual stream.
        heads: attention heads; head h owns channels `h·dim/heads … (h+1)·dim/heads − 1`.
        hidden: inner width of the feed-forward network.
        dropout: probability of dropping a value of a branch's output or of the hidden units, in training.
    """

    def __init__(self, name: str, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.name, self.heads = name, heads
        self.attention_norm = nn.LayerNorm(dim, eps=1e-5)
        self.query, self.key, self.value, self.output = (nn.Linear(dim, dim) for _ in range(4))
        self.feed_forward_norm = nn.LayerNorm(dim, eps=1e-5)
        self.expand = nn.Linear(dim, hidden)
        self.contract = nn.Linear(hidden, dim)
        self.dropout = Dropout(dropout)

    def forward(
        self, h: Float[Tensor, "batch time dim"], allowed: Bool[Tensor, "batch 1 time time"], slot: SlotJoint, gate: GateJoint
    ) -> Float[Tensor, "batch time dim"]:
        """Add both branches to the stream.

        Args:
            h: the residual stream.
            allowed: whether the row's event may look at the column's.
            slot: how adaptable weights are applied.
            gate: what a branch adds.

        Returns:
            the stream after this block.
        """
        h = h + gate(f"{self.name}.attention", self.dropout(self._attention(h, allowed, slot)))
        return h + gate(f"{self.name}.feed_forward", self.dropout(self._feed_forward(h, slot)))

    def _attention(self, h: Tensor, allowed: Tensor, slot: SlotJoint) -> Tensor:
        n = self.attention_norm(h)
        query = self._heads(slot(f"{self.name}.query", self.query, n))
        key = self._heads(slot(f"{self.name}.key", self.key, n))
        value = self._heads(slot(f"{self.name}.value", self.value, n))
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)  # scales by 1/√(dim/heads)
        return slot(f"{self.name}.output", self.output, mixed.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        """`[batch, time, dim]` → `[batch, heads, time, dim/heads]`."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def _feed_forward(self, h: Tensor, slot: SlotJoint) -> Tensor:
        inner = slot(f"{self.name}.expand", self.expand, self.feed_forward_norm(h)).relu()
        return slot(f"{self.name}.contract", self.contract, self.dropout(inner))


class SASRec(Backbone):
    """History in, one user state per event out; the inner product of a state with an item's vector is the item's score.

    Args:
        items: rows of the item table.
        dim: width of item vectors and states.
        length: the longest history it can read, in events.
        blocks: transformer blocks.
        heads: attention heads per block; divides `dim`.
        hidden: inner width of the feed-forward networks.
        dropout: probability of dropping a value in training; 0 to 1, 1 excluded.

    Raises:
        UsageError: a size below 1, heads that don't divide `dim`, or a dropout out of range.

    Example:
        >>> model = SASRec(items=10, dim=8, length=5, blocks=1, heads=2, hidden=16).eval()
        >>> model(torch.tensor([[-1, 3, 7]])).shape
        torch.Size([1, 3, 8])
        >>> [slot.name for slot in model.slots()][:2], model.gates()
        (['blocks.0.query', 'blocks.0.key'], ('blocks.0.attention', 'blocks.0.feed_forward'))
    """

    kind = "sasrec"

    def __init__(
        self,
        items: int,
        *,
        dim: int = 64,
        length: int = 50,
        blocks: int = 2,
        heads: int = 2,
        hidden: int = 256,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.shape = {"items": items, "dim": dim, "length": length, "blocks": blocks, "heads": heads, "hidden": hidden}
        _check(self.shape, dropout)
        self.items = nn.Embedding(items, dim)
        self.positions = nn.Embedding(length, dim)
        self.blocks = nn.ModuleList(Block(f"blocks.{i}", dim, heads, hidden, dropout) for i in range(blocks))
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        self.dropout = Dropout(dropout)
        for table in (self.items, self.positions):
            nn.init.normal_(table.weight, std=INIT_STD)

    def encode(
        self,
        vectors: Float[Tensor, "batch time dim"],
        positions: Int[Tensor, "batch time"],
        pieces: Int[Tensor, "batch time"],
        *,
        slot: SlotJoint = plain,
        gate: GateJoint = keep,
    ) -> Float[Tensor, "batch time dim"]:
        """Run the transformer, as `Backbone.encode` says.

        Args:
            vectors: each event's row of the item table.
            positions: how many events of its history came after each event.
            pieces: which history of its row each event belongs to.
            slot: how adaptable weights are applied.
            gate: what a residual branch adds.

        Returns:
            the user state after each event.

        Example:
            The state of `[3, 7]` is the same with padding before it:

            >>> model = SASRec(items=10, dim=8, length=5, blocks=1, heads=2, hidden=16).eval()
            >>> padded, bare = model(torch.tensor([[-1, -1, 3, 7]])), model(torch.tensor([[3, 7]]))
            >>> bool((padded[0, -1] - bare[0, -1]).abs().max() < 1e-6)
            True
        """
        h = self.dropout(vectors + self.positions(positions))
        allowed = _allowed(pieces)
        for block in self.blocks:
            h = block(h, allowed, slot, gate)
        states: Tensor = self.norm(h)
        return states

    def slots(self) -> tuple[Slot, ...]:
        """Name the adaptable weights, in wire order: query, key, value, output, expand, contract of each block."""
        return tuple(
            slot_of(f"{name}.{part}", getattr(block, part), f"{name}.{branch}")
            for name, block in self._named_blocks()
            for branch, parts in BRANCHES.items()
            for part in parts
        )

    def gates(self) -> tuple[str, ...]:
        """Name the residual branches that a gate can skip, in order: two a block."""
        return tuple(f"{name}.{branch}" for name, _ in self._named_blocks() for branch in BRANCHES)

    def _named_blocks(self) -> Iterator[tuple[str, nn.Module]]:
        """Go through the blocks with their published names."""
        return ((f"blocks.{index}", block) for index, block in enumerate(self.blocks))


def _allowed(pieces: Int[Tensor, "batch time"]) -> Bool[Tensor, "batch 1 time time"]:
    """Say which event may look at which: at itself, and at earlier events of its own piece."""
    time = pieces.shape[1]
    causal = torch.ones(time, time, dtype=torch.bool, device=pieces.device).tril()
    return (causal & (pieces[:, :, None] == pieces[:, None, :]))[:, None]


def _check(shape: dict[str, int], dropout: float) -> None:
    """Refuse sizes that make no network."""
    check_sizes(shape, dropout)
    if shape["dim"] % shape["heads"]:
        raise UsageError(f"heads: expected a divisor of dim {shape['dim']}, got {shape['heads']}")
