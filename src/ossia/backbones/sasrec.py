"""SASRec: self-attentive sequential recommendation, as a textbook module.

A history becomes a user state, and an item's score is the inner product of that state with the item's vector. The network
is a small causal transformer over the history (Kang and McAuley, ICDM 2018, https://arxiv.org/abs/1808.09781), here with
the normalization before each branch (Xiong et al., ICML 2020, https://arxiv.org/abs/2002.04745), which trains without warm-up:

    h     = E[items] + P[positions]
    h     = h + output(attention(query(n), key(n), value(n)))     n = norm(h), for every block
    h     = h + contract(relu(expand(n)))                         n = norm(h)
    state = norm(h),   score_i = state · E[i]

With `valves` a branch is let through channel by channel, as far as the stream before it says, and the feed-forward network
multiplies two layers instead of cutting one off. These are the LiGR blocks (Borisyuk et al., https://arxiv.org/abs/2502.03417)
that eSASRec (RecSys 2025) puts into a SASRec; a shape without them has no word of them:

    h     = h + σ(attention_valve(h)) · output(attention(query(n), key(n), value(n)))
    h     = h + σ(feed_forward_valve(h)) · contract(silu(expand(n)) · up(n))          silu(x) = x · σ(x)

A valve is learned and belongs to the base. A gate is 0 or 1, belongs to an adaptation, and skips a branch with its valve.

Positions count from the newest item: position 0 is always the last event, so cropping a history or padding it on the left
moves nothing. There is no padding row: padding is masked out, not learned.

The module knows nothing of personalization; its joints are those of every backbone (`backbone.py`).

What it does not do: choose a loss, crop histories, skip absent items in the middle of a history, or rank (see `ranker.py`).

Differences from the papers: every layer has a bias, and `hidden` is the width it says, also of the two layers that are
multiplied (with valves a feed-forward network of the same `hidden` is half as large again).
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

VALVED_BRANCHES = {
    "attention": ("query", "key", "value", "attention_valve", "output"),
    "feed_forward": ("expand", "up", "feed_forward_valve", "contract"),
}
"""The same of a block with valves: what ends a branch still comes last."""


class Block(nn.Module):
    """One pre-norm transformer block: causal self-attention, then a feed-forward network, each a residual branch with a gate.

    Args:
        name: the block's published name, such as `blocks.0`; slots and gates are named below it.
        dim: width of the residual stream.
        heads: attention heads; head h owns channels `h·dim/heads … (h+1)·dim/heads − 1`.
        hidden: inner width of the feed-forward network.
        dropout: probability of dropping a value of a branch's output or of the hidden units, in training.
        valves: whether valves let the branches through, and two layers are multiplied in the feed-forward network.
    """

    def __init__(self, name: str, dim: int, heads: int, hidden: int, dropout: float, *, valves: bool = False) -> None:
        super().__init__()
        self.name, self.heads, self.valves = name, heads, valves
        self.attention_norm = nn.LayerNorm(dim, eps=1e-5)
        self.query, self.key, self.value, self.output = (nn.Linear(dim, dim) for _ in range(4))
        self.feed_forward_norm = nn.LayerNorm(dim, eps=1e-5)
        self.expand = nn.Linear(dim, hidden)
        self.contract = nn.Linear(hidden, dim)
        if valves:
            self.up = nn.Linear(dim, hidden)
            self.attention_valve, self.feed_forward_valve = (nn.Linear(dim, dim) for _ in range(2))
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
        return self._end("attention_valve", "output", h, mixed.transpose(1, 2).flatten(2), slot)

    def _heads(self, x: Tensor) -> Tensor:
        """`[batch, time, dim]` → `[batch, heads, time, dim/heads]`."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def _feed_forward(self, h: Tensor, slot: SlotJoint) -> Tensor:
        n = self.feed_forward_norm(h)
        inner = slot(f"{self.name}.expand", self.expand, n)
        inner = nn.functional.silu(inner) * slot(f"{self.name}.up", self.up, n) if self.valves else inner.relu()
        return self._end("feed_forward_valve", "contract", h, self.dropout(inner), slot)

    def _end(self, valve: str, last: str, h: Tensor, x: Tensor, slot: SlotJoint) -> Tensor:
        """Apply a branch's last layer to x, and let through what its valve lets, which reads the stream before the branch."""
        opening = slot(f"{self.name}.{valve}", getattr(self, valve), h).sigmoid() if self.valves else None
        branch = slot(f"{self.name}.{last}", getattr(self, last), x)
        return branch if opening is None else opening * branch


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
        valves: 1 for LiGR blocks, 0 for plain ones, whose shape does not name it.

    Raises:
        UsageError: a size below 1, heads that don't divide `dim`, valves that are neither, or a dropout out of range.

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
        valves: int = 0,
    ) -> None:
        super().__init__()
        self.shape = {"items": items, "dim": dim, "length": length, "blocks": blocks, "heads": heads, "hidden": hidden}
        self.shape |= {"valves": valves} if valves else {}
        self.branches = VALVED_BRANCHES if valves else BRANCHES
        _check(self.shape, dropout)
        self.items = nn.Embedding(items, dim)
        self.positions = nn.Embedding(length, dim)
        self.blocks = nn.ModuleList(
            Block(f"blocks.{i}", dim, heads, hidden, dropout, valves=bool(valves)) for i in range(blocks)
        )
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
        """Name the adaptable weights, in wire order: of each block those of its branches, one after the other."""
        return tuple(
            slot_of(f"{name}.{part}", getattr(block, part), f"{name}.{branch}")
            for name, block in self._named_blocks()
            for branch, parts in self.branches.items()
            for part in parts
        )

    def gates(self) -> tuple[str, ...]:
        """Name the residual branches that a gate can skip, in order: two a block."""
        return tuple(f"{name}.{branch}" for name, _ in self._named_blocks() for branch in self.branches)

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
    if shape.get("valves", 1) != 1:
        raise UsageError(f"valves: expected 1 or 0, got {shape['valves']}")
    if shape["dim"] % shape["heads"]:
        raise UsageError(f"heads: expected a divisor of dim {shape['dim']}, got {shape['heads']}")
