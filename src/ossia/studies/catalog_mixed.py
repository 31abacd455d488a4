"""Own rows at mixed widths: the rows worth most at 8 bits, then some at 4, the rest at 2, for the bytes of rows all at 4.

The order is that of own rows (state · item + β log popularity). What is chosen is how the bytes are split: a part for rows at 8
bits, another for rows at 2, what is left for rows at 4. Narrow rows are more rows: a chance that the target is there; wide ones
tell apart what is there.

    n_8 = ⌊eight · B / bytes(8)⌋,   n_2 = ⌊two · B / bytes(2)⌋,   n_4 = ⌊(1 − eight − two) · B / bytes(4)⌋

For each size of holding the split is the one of `SPLITS` with the highest NDCG@10 on validation events, mean over fresh, two
and five events stale; all at 4 bits is one of them. Test events are read once, for the figures.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ossia.adaptation import Base
from ossia.adaptation.prices import fixed_table
from ossia.data import Cases
from ossia.evaluation.metrics import gains_at_k
from ossia.studies.catalog import SHARES, Holding
from ossia.studies.catalog_room import CHUNK, STALE, Room, row_bytes
from ossia.training.events import earlier, take_cases
from ossia.training.frozen import remove_seen

MIXED = "own rows, mixed widths"
BITS = (8, 4, 2)
PARTS = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0)
CASES = 2_000
"""Validation cases that choose."""


class Split(NamedTuple):
    """Which part of the bytes goes to rows at 8 bits, and which to rows at 2; what is left goes to rows at 4."""

    eight: float
    two: float

    def __str__(self) -> str:
        """Say it in words."""
        return f"{self.eight:.0%} of the bytes at 8 bits, {1 - self.eight - self.two:.0%} at 4, {self.two:.0%} at 2"


SPLITS = tuple(Split(eight, two) for eight in PARTS[:4] for two in PARTS if eight + two <= 1)


def rows_of(base: Base, share: float, split: Split) -> dict[int, int]:
    """Count the rows at each width that fit into a share of the table's bytes, beside the device's own history.

    Args:
        base: the base with its table.
        share: of the whole table at 8 bits.
        split: of the bytes.

    Returns:
        rows by width, widest first; none where the history alone is more, never more than there are.
    """
    spend = max(0.0, share * len(base.table) * row_bytes(base, 8) - fixed_table(base, True))
    parts, left, found = (split.eight, 1 - split.eight - split.two, split.two), len(base.table), {}
    for bits, part in zip(BITS, parts, strict=True):
        found[bits] = min(left, int(part * spend / row_bytes(base, bits) + 1e-9))
        left -= found[bits]
    return found


def choose_splits(room: Room) -> dict[float, Split]:
    """Choose a split for each share, on validation events.

    Args:
        room: of one run.

    Returns:
        the best split by share; of equal ones the first.
    """
    base, cases = room.material.frozen.base, room.material.select.cases
    some = take_cases(cases, np.sort(np.random.default_rng(0).permutation(len(cases))[:CASES]))
    counts = {(share, split): rows_of(base, share, split) for share in SHARES for split in SPLITS}
    gains = dict.fromkeys(counts, 0.0)
    for chunk in _chunks(room, some):
        for stale in STALE:
            for each, rows in counts.items():
                gains[each] += float(gains_at_k(chunk.ranks(stale, rows), 10).sum())
    best: dict[float, Split] = {}
    for (share, split), gain in gains.items():
        if share not in best or gain > gains[share, best[share]]:
            best[share] = split
    return best


def judge_mixed(room: Room, splits: Mapping[float, Split]) -> Iterator[tuple[Holding, Int[np.ndarray, " cases"]]]:
    """Judge own rows at mixed widths on the room's test cases.

    Args:
        room: of one run.
        splits: as validation chose them.

    Yields:
        each holding with the ranks of all cases.
    """
    base = room.material.frozen.base
    counts = {share: rows for share in SHARES if sum((rows := rows_of(base, share, splits[share])).values())}
    chunks = [
        {(share, stale): chunk.ranks(stale, counts[share]) for share in counts for stale in STALE}
        for chunk in _chunks(room, room.cases)
    ]
    for share, stale in chunks[0]:  # what is spent differs by less than a row with the split, which each run chooses for itself
        yield Holding(MIXED, share, stale), np.concatenate([chunk[share, stale] for chunk in chunks])


class _Chunk(NamedTuple):
    """Some cases: what every row scores at each width, and the order in which rows are wanted, by staleness."""

    scores: dict[int, Float[Tensor, "cases rows"]]
    orders: dict[int, Int[Tensor, "cases most"]]
    targets: Int[Tensor, " cases"]

    def ranks(self, stale: int, rows: Mapping[int, int]) -> Int[np.ndarray, " cases"]:
        """Rank the targets among the rows held, ties against them; one that is not held, or was seen, is last."""
        places = torch.split(self.orders[stale][:, : sum(rows.values())], list(rows.values()), dim=1)
        held = torch.cat([self.scores[bits].gather(1, place) for bits, place in zip(rows, places, strict=True)], dim=1)
        mine = torch.cat(places, dim=1) == self.targets[:, None]
        nothing = held.new_full((len(held), 1), -torch.inf)  # a maximum over no rows has no value
        target = torch.cat([held.masked_fill(~mine, -torch.inf), nothing], dim=1).amax(dim=1, keepdim=True)
        ranks = torch.where(target[:, 0].isfinite(), (held >= target).sum(dim=1), self.scores[BITS[0]].shape[1])
        return ranks.numpy().astype(np.int32)


@torch.no_grad()
def _chunks(room: Room, cases: Cases) -> Iterator[_Chunk]:
    """Score the table at every width for some cases at a time."""
    frozen, now = room.material.frozen, room.material.frozen.events(cases)
    profiles = {stale: frozen.events(earlier(cases, stale)).profiles for stale in STALE}
    tables = {bits: room.at(bits) for bits in BITS}
    most = sum(rows_of(frozen.base, max(SHARES), Split(0.0, 1.0)).values())
    for rows in np.array_split(np.arange(len(cases)), -(-len(cases) // CHUNK)):
        batch = now.batch(rows)
        states, seen = frozen.states(batch.histories), [cases.histories[row] for row in rows.tolist()]
        scores = {bits: states @ table.T for bits, table in tables.items()}
        for each in scores.values():
            remove_seen(each, seen)
        orders = {stale: (profiles[stale][rows] @ frozen.vectors.T + room.prior).topk(most, dim=1).indices for stale in STALE}
        yield _Chunk(scores, orders, batch.targets)
