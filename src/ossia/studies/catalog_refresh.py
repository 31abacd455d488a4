"""What it costs to keep a personal catalog fresh: a refresh sends the list of rows, and only the rows that are not held.

A device's rows were chosen some events ago, and are chosen again now. A row that is held costs nothing to keep, so it may stay
as long as it is among the best `keep · n` of now, n the number of rows held; what is free goes to the best that are not held:

    keep = 1       the n best rows of now, whatever is there
    keep = 2, 4    fewer rows are sent, and some that are held are no longer among the best n

Sent are the list (sorted, delta-coded, as in the payload's table section) with its digest, and each new row with scale and id.
The unit is the slice: all rows that are held. Quality is that of the slice at once, and of one refreshed two events ago.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from msgspec import Struct
from torch import Tensor

from ossia.adaptation import Base
from ossia.adaptation.sections import DIGEST_BYTES, encode_row_lists
from ossia.evaluation.metrics import gains_at_k
from ossia.studies.catalog import ranks_of
from ossia.studies.catalog_room import CHUNK, ROW_BITS, Room, row_bytes, rows_within
from ossia.training.events import earlier, take_cases
from ossia.training.frozen import remove_seen
from ossia.types import WIDTHS

KEEP = (1, 2, 4)
SHARES = (0.02, 0.05, 0.10)
EVENTS = 2


class Refresh(Struct, frozen=True):
    """What a rule for refreshing every two events does.

    Attributes:
        share: bytes of rows and history, of the whole table's at 8 bits.
        keep: how long a held row stays.
        sent: bytes of a refresh, of the slice's; mean over users.
        fresh: NDCG@10 right after a refresh, of the whole table's.
        stale: NDCG@10 two events after a refresh, of the whole table's.
    """

    share: float
    keep: int
    sent: float
    fresh: float
    stale: float


@torch.no_grad()
def refreshes(room: Room) -> Iterator[Refresh]:
    """Judge every rule, for rows chosen by state · item + β log popularity.

    Args:
        room: of one run.

    Yields:
        each rule's bytes and quality.
    """
    base, profiles = room.material.frozen.base, {ago: _profiles(room, ago) for ago in (0, EVENTS, 2 * EVENTS)}
    rules = [(share, keep) for share in SHARES if rows_within(base, share) for keep in KEEP]
    sent: dict[tuple[float, int], list[float]] = {rule: [] for rule in rules}
    gains: dict[tuple[float, int], list[np.ndarray]] = {rule: [] for rule in rules}
    whole = []
    for rows in np.array_split(np.arange(len(room.cases)), -(-len(room.cases) // CHUNK)):
        chunk = _Chunk(room, rows)
        whole.append(gains_at_k(chunk.ranks(None), 10))
        wants = {ago: profiles[ago][rows] @ room.material.frozen.vectors.T + room.prior for ago in profiles}
        for rule in rules:
            count, keep = rows_within(base, rule[0]), rule[1]
            held = choose(wants[2 * EVENTS], None, count, keep)
            old = choose(wants[EVENTS], held, count, keep)
            new = choose(wants[0], old, count, keep)
            sent[rule] += [_bytes(base, *mine) for mine in zip(new.numpy(), old.numpy(), strict=True)]
            gains[rule].append(np.stack([gains_at_k(chunk.ranks(slice_), 10) for slice_ in (new, old)]))
    best = float(np.concatenate(whole).mean())
    for share, keep in rules:
        size = rows_within(base, share) * row_bytes(base, ROW_BITS)
        fresh, stale = np.concatenate(gains[share, keep], axis=1).mean(axis=1).tolist()
        yield Refresh(share, keep, float(np.mean(sent[share, keep])) / size, fresh / best, stale / best)


def choose(
    wants: Float[Tensor, "users rows"], held: Bool[Tensor, "users rows"] | None, count: int, keep: int
) -> Bool[Tensor, "users rows"]:
    """Choose the rows to hold.

    Args:
        wants: how much each row is wanted now.
        held: which rows are there, one flag a row; None: none.
        count: how many rows can be held.
        keep: a row that is held stays while it is among the best `keep · count`.

    Returns:
        one flag a row, `count` of them set for each user.

    Example:
        >>> wants, held = torch.tensor([[3.0, 2.0, 1.0, 0.0]]), torch.tensor([[False, False, True, True]])
        >>> choose(wants, held, 2, 1).tolist(), choose(wants, held, 2, 2).tolist()
        ([[True, True, False, False]], [[False, False, True, True]])
    """
    order = wants.topk(min(keep * count, wants.shape[1]), dim=1).indices
    if held is not None:
        stays = held.gather(1, order)
        first = torch.argsort(~stays, dim=1, stable=True)[:, :count]  # those held, best first; then the best of the others
        order = order.gather(1, first)
    return torch.zeros_like(wants, dtype=torch.bool).scatter(1, order[:, :count], True)


class _Chunk:
    """Some cases and what every row scores for them."""

    def __init__(self, room: Room, rows: Int[np.ndarray, " chunk"]) -> None:
        frozen, cases = room.material.frozen, take_cases(room.cases, rows)
        batch = frozen.events(cases).batch(np.arange(len(rows)))
        states, seen = frozen.states(batch.histories), [cases.histories[row] for row in range(len(rows))]
        self._targets, self._fine, self._whole = batch.targets, states @ room.at(ROW_BITS).T, states @ room.at(8).T
        remove_seen(self._fine, seen)
        remove_seen(self._whole, seen)

    def ranks(self, held: Bool[Tensor, "chunk rows"] | None) -> Int[np.ndarray, " chunk"]:
        """Rank the targets among the rows held; None: the whole table at 8 bits."""
        scores = self._whole if held is None else self._fine.masked_fill(~held, -torch.inf)
        return ranks_of(scores, self._targets)


def _profiles(room: Room, ago: int) -> Float[Tensor, "cases dim"]:
    """Encode what the cloud saw some events ago."""
    return room.material.frozen.events(earlier(room.cases, ago)).profiles


def _bytes(base: Base, new: Bool[np.ndarray, " rows"], old: Bool[np.ndarray, " rows"]) -> int:
    """Count a refresh: list, digest, new rows."""
    codes = np.where(new, WIDTHS.index(ROW_BITS), 0).astype(np.uint8)
    return len(encode_row_lists(codes)) + DIGEST_BYTES + int((new & ~old).sum()) * row_bytes(base, ROW_BITS)
