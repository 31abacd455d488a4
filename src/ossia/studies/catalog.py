"""The study of the personal catalog: which part of the item table a device should hold, judged fresh and stale.

A device holds some rows at 4 bits, chosen by what the cloud knew when it last heard from it, and ranks with its present state.
So rows are chosen by the profile of 0, 2 or 5 events ago, and

    score of item i = state · E_i (4 bits)     if row i is held
                    = state · Ê_i              if it is not, but a coarse tail of product codes is there for everybody
                    = −∞                       otherwise: a miss

What is wanted most is held, until the bytes are spent:

    own rows           profile · E_i + β log(count_i + 1)                 β as `row_prior` chooses it, on validation
    learned rows       (profile + δ(profile)) · E_i + β log(count_i + 1)      δ: `catalog_room.py`
    another user's     own rows, for the wrong person
    popular rows       count_i
    own groups         rows of the k-means groups with the highest mean probability; another user's groups
    product codes      4, 8 or 16 bytes for every row and nothing else; or those under own rows: the coarse tail
    trained codes      those that the run carries, trained along with it (`ossia.training.coarse`)
    … by k-means       the same bytes, but codewords that have not learned to order rows (`ossia.training.product_codes`)
    whole table        at 8, 4, 2 bits

Everything is counted: rows with scale and id, product codes with their codebooks, and the rows of the device's own history at
8 bits. The unit is the whole table at 8 bits. Not counted, for no kind: the encoder, and what crosses the wire.
"""

import io
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import torch
from jaxtyping import Float, Int
from msgspec import Struct
from torch import Tensor

from ossia.adaptation.prices import fixed_table
from ossia.evaluation.controls import another_user
from ossia.files import write_whole
from ossia.studies.catalog_room import BY_MEANS, CHUNK, GROUPS, ROW_BITS, STALE, Room, row_bytes, rows_within
from ossia.training.events import take_cases
from ossia.training.frozen import remove_seen

SHARES = (0.01, 0.02, 0.05, 0.10, 0.20)
TAIL_SHARES = (0.01, 0.015, 0.02, 0.05, 0.10)


class Holding(Struct, frozen=True):
    """What a device holds.

    Attributes:
        kind: how rows are chosen.
        share: bytes of everything it holds of the table, of the whole table's at 8 bits.
        stale: events since the rows were chosen.
    """

    kind: str
    share: float
    stale: int

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.kind}, {self.share:.1%} of the table, {self.stale} events stale"


def judge(room: Room, whole: Float[Tensor, "rows dim"]) -> Iterator[tuple[Holding, Int[np.ndarray, " cases"]]]:
    """Judge every holding, chunk by chunk of cases.

    Args:
        room: of one run.
        whole: the item vectors in float32, as they were trained.

    Yields:
        each holding with the ranks of all cases, when all chunks are through.
    """
    ranks: dict[Holding, list[np.ndarray]] = {}
    for rows in np.array_split(np.arange(len(room.cases)), -(-len(room.cases) // CHUNK)):
        for holding, found in _judge_chunk(room, rows, whole):
            ranks.setdefault(holding, []).append(found)
    yield from ((holding, np.concatenate(found)) for holding, found in ranks.items())


@torch.no_grad()
def _judge_chunk(
    room: Room, rows: Int[np.ndarray, " chunk"], whole: Float[Tensor, "rows dim"]
) -> Iterator[tuple[Holding, Int[np.ndarray, " chunk"]]]:
    """Judge every holding for some cases."""
    frozen, cases = room.material.frozen, take_cases(room.cases, rows)
    batch = frozen.events(cases).batch(np.arange(len(rows)))
    states, targets = frozen.states(batch.histories), batch.targets
    histories = [cases.histories[row] for row in range(len(rows))]

    def ranked(scores: Tensor) -> Int[np.ndarray, " chunk"]:
        remove_seen(scores, histories)
        return ranks_of(scores, targets)

    float_states = room.material.backbone(batch.histories)[:, -1]
    yield Holding("float32 table", 4.0, 0), ranked(float_states @ whole.T)
    for bits in (8, 4, 2):
        share = row_bytes(frozen.base, bits) / row_bytes(frozen.base, 8)
        yield Holding(f"whole table at {bits} bits", share, 0), ranked(states @ room.at(bits).T)
    fine = states @ room.at(ROW_BITS).T
    remove_seen(fine, histories)
    coarse = {name: torch.from_numpy(codes.scores_of_all(states.numpy())) for name, codes in room.tails.items()}
    for name, scores in coarse.items():
        remove_seen(scores, histories)
        yield Holding(f"product {name}", _share(room, 0, name), 0), ranks_of(scores, targets)
    for kind, stale, wanted in _wanted(room, rows):
        for name, share in [("", each) for each in SHARES] + [(n, s) for n in _tails_under(room, kind) for s in TAIL_SHARES]:
            count = rows_within(frozen.base, share)
            if not count:
                continue
            held = torch.zeros_like(fine, dtype=torch.bool).scatter(1, wanted[:, :count], True)
            scores = torch.where(held, fine, coarse[name] if name else torch.tensor(-torch.inf))
            yield Holding(f"{kind} over {name}" if name else kind, _share(room, count, name), stale), ranks_of(scores, targets)


def _tails_under(room: Room, kind: str) -> list[str]:
    """Name the tails that are judged under a kind of rows: those by k-means alone under own rows only."""
    if kind not in ("own rows", "learned rows", "another user's rows"):
        return []
    return [name for name in room.tails if kind == "own rows" or not name.endswith(BY_MEANS)]


def _wanted(room: Room, rows: Int[np.ndarray, " chunk"]) -> Iterator[tuple[str, int, Int[Tensor, "chunk most"]]]:
    """Order the rows by what each kind wants, best first, as many as the largest share can hold."""
    frozen = room.material.frozen
    most = rows_within(frozen.base, max(SHARES))
    popular = torch.from_numpy(frozen.base.table.popularity[:most].astype(np.int64)).expand(len(rows), -1)
    yield "popular rows", 0, popular
    other = another_user(len(room.cases), seed=0)[rows]
    for stale in STALE:
        own = room.profiles[stale][rows]
        wants = own @ frozen.vectors.T + room.prior
        yield "own rows", stale, wants.topk(most, dim=1).indices
        learned = own + room.features(own) @ room.drift
        yield "learned rows", stale, (learned @ frozen.vectors.T + room.prior).topk(most, dim=1).indices
        swapped = room.profiles[stale][other] @ frozen.vectors.T + room.prior
        yield "own groups", stale, _by_group(room, wants).topk(most, dim=1).indices
        if stale == 0:
            yield "another user's rows", 0, swapped.topk(most, dim=1).indices
            yield "another user's groups", 0, _by_group(room, swapped).topk(most, dim=1).indices


def _by_group(room: Room, wants: Float[Tensor, "users rows"]) -> Float[Tensor, "users rows"]:
    """Give each row the mean probability of its group; within a group by the row's own, far below any group's difference."""
    shares = (wants / room.material.frozen.temperature).softmax(dim=1)
    sums = torch.zeros(len(wants), GROUPS).index_add_(1, room.groups, shares)
    means = sums / torch.bincount(room.groups, minlength=GROUPS).clamp_min(1)
    return means[:, room.groups] + 1e-9 * shares


def _share(room: Room, count: int, tail: str) -> float:
    """Count the bytes of rows, tail and history, in whole tables."""
    base = room.material.frozen.base
    coarse = room.tails[tail].nbytes if tail else 0
    held = count * row_bytes(base, ROW_BITS) + coarse + fixed_table(base, True)
    return held / (len(base.table) * row_bytes(base, 8))


def ranks_of(scores: Float[Tensor, "users rows"], targets: Int[Tensor, " users"]) -> Int[np.ndarray, " users"]:
    """Rank targets, ties against them: one that is absent or seen has the last rank.

    Args:
        scores: of every row; −inf for one that is not held, or was seen.
        targets: the rows wanted.

    Returns:
        ranks, 1 for the first.
    """
    target = scores.gather(1, targets[:, None])
    return (scores.shape[1] - (scores < target).sum(dim=1)).numpy().astype(np.int32)


def write_holdings(path: Path, judged: Iterator[tuple[Holding, Int[np.ndarray, " cases"]]]) -> None:
    """Write ranks down, all holdings in one file.

    Args:
        path: the file.
        judged: holdings with their ranks.
    """
    holdings, ranks = zip(*judged, strict=True)
    out = io.BytesIO()
    names = np.frombuffer(msgspec.json.encode(holdings), np.uint8)
    np.savez_compressed(out, holdings=names, ranks=np.stack(ranks))
    write_whole(path, out.getvalue())


def read_holdings(path: Path) -> dict[Holding, Int[np.ndarray, " cases"]]:
    """Read ranks.

    Args:
        path: what `write_holdings` wrote.

    Returns:
        ranks by holding.
    """
    with np.load(path, allow_pickle=False) as found:
        holdings = msgspec.json.decode(found["holdings"].tobytes(), type=list[Holding])
        return dict(zip(holdings, found["ranks"], strict=True))
