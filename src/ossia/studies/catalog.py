"""The study of the personal catalog: which part of the item table a device should hold, judged fresh and stale.

A device holds some rows at 4 bits, chosen by what the cloud knew when it last heard from it, and ranks with its present state.
So rows are chosen by the profile of 0, 2 or 5 events ago, and

    score of item i = state · E_i (4 bits)     if row i is held
                    = state · Ê_i              if it is not, but a coarse tail of product codes is there for everybody
                    = −∞                       otherwise: a miss

What is wanted most is held, until the bytes are spent:

    own rows           profile · E_i + β log(count_i + 1)                 β as `row_prior` chooses it, on validation
    learned rows       (profile + δ(profile)) · E_i + β log(count_i + 1)      δ: below
    another user's     own rows, for the wrong person
    popular rows       count_i
    own groups         rows of the k-means groups with the highest mean probability; another user's groups
    product codes      4, 8 or 16 bytes for every row and nothing else; or those under own rows: the coarse tail
    trained codes      those that the run carries, trained along with it (`ossia.training.coarse`)
    … by k-means       the same bytes, but codewords that have not learned to order rows (`ossia.training.product_codes`)
    whole table        at 8, 4, 2 bits

δ is learned on *future* targets: where a profile two events old should have been for the item that comes now,
−∂ loss / ∂ profile, averaged by the ridge on random features of the profile (`ossia.training.sensitivities`) over the
validation events of four users in five; its length is the one at which most targets of the fifth user's are held.

Everything is counted: rows with scale and id, product codes with their codebooks, and the rows of the device's own history at
8 bits. The unit is the whole table at 8 bits. Not counted, for no kind: the encoder, and what crosses the wire.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
import torch
from jaxtyping import Float, Int
from msgspec import Struct
from torch import Tensor

from ossia.adaptation import Base
from ossia.adaptation.prices import ROW_BYTES, fixed_table
from ossia.adaptation.tail import Tail
from ossia.data import Cases, Dataset
from ossia.evaluation.controls import another_user
from ossia.files import write_whole
from ossia.personalizers.ridge import Cosines
from ossia.quantization.grid import fold, plane_bytes
from ossia.studies.chord_material import Material
from ossia.training import load_run
from ossia.training.frozen import Events, FrozenBase, earlier, remove_seen, take_cases
from ossia.training.product_codes import fit_product_codes, k_means, learn_order
from ossia.training.row_prior import choose_beta
from ossia.training.sensitivities import fit_ridge
from ossia.types import WIDTHS

STALE = (0, 2, 5)
SHARES = (0.01, 0.02, 0.05, 0.10, 0.20)
TAILS = (4, 8, 16)
TAIL_SHARES = (0.01, 0.015, 0.02, 0.05, 0.10)
ROW_BITS = 4
GROUPS = 512
BY_MEANS = " by k-means"
CASES = 6_000
CHUNK = 128
LEARN_FROM = 2  # events between a profile and the target that δ learns from, beside the target itself
LENGTHS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
LENGTH_SHARE = 0.02  # of the table's bytes, at which the length of δ is chosen


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


@dataclass(frozen=True, eq=False)
class Room:
    """What all holdings of one run are judged with; ranks of the same cases throughout.

    Attributes:
        material: the run.
        cases: the test cases that are read.
        beta: weight of log popularity.
        tails: product codes, by name: of so many bytes a row, the same by k-means alone, and those that the run carries.
        groups: the k-means group of each row.
        drift: coefficients of δ, its length included.
        features: of the profile, for δ.
    """

    material: Material
    cases: Cases
    beta: float
    tails: dict[str, Tail]
    groups: Int[Tensor, " rows"]
    drift: Float[Tensor, "features dim"]
    features: Cosines

    @classmethod
    @torch.no_grad()
    def prepare(cls, data: Dataset, run: Path, folder: Path, *, cases: int = CASES, seed: int = 0) -> "Room":
        """Publish a run, unless that is done; choose β, fit product codes, groups and δ, all without test events.

        Args:
            data: what the run was trained on.
            run: the run's folder.
            folder: where its part of the study goes.
            cases: how many test cases are read, at the most.
            seed: of everything random.

        Returns:
            the room.
        """
        material = Material.prepare(data, run, folder, seed=seed)
        frozen, test = material.frozen, material.test.cases
        chosen = np.sort(np.random.default_rng(seed).permutation(len(test))[:cases])
        beta = choose_beta(frozen, data.split().validation, seed=seed).beta
        means = {parts: fit_product_codes(frozen.vectors, material.learn.profiles, parts, seed=seed) for parts in TAILS}
        learned = {
            parts: learn_order(tail, frozen.vectors, material.learn.profiles, seed=seed) for parts, tail in means.items()
        }
        tails = {f"codes of {parts} bytes": tail for parts, tail in learned.items()}
        tails |= {f"codes of {parts} bytes{BY_MEANS}": tail for parts, tail in means.items()}
        if (trained := load_run(run).tail) is not None:
            tails[f"trained codes of {trained.codes.shape[1]} bytes"] = trained
        groups = k_means(frozen.vectors, GROUPS, seed=seed)
        features, drift = _learn_drift(material, beta)
        return cls(material, take_cases(test, chosen), beta, tails, groups, drift, features)

    @cached_property
    def prior(self) -> Float[Tensor, " rows"]:
        """β · log(count + 1) of each row."""
        return self.beta * torch.from_numpy(np.log1p(self.material.frozen.base.table.counts))

    @cached_property
    def profiles(self) -> dict[int, Float[Tensor, "cases dim"]]:
        """The profile that the cloud last saw, by staleness."""
        return {stale: self.material.frozen.events(earlier(self.cases, stale)).profiles for stale in STALE}

    def at(self, bits: int) -> Float[Tensor, "rows dim"]:
        """Read the table at a width.

        Args:
            bits: 8, 4 or 2.

        Returns:
            the rows.
        """
        grid = self.material.frozen.base.table.grid
        return torch.from_numpy(fold(grid, np.full(len(grid.q), WIDTHS.index(bits), np.uint8)).dequantize())


def row_bytes(base: Base, bits: int) -> int:
    """Count what one row costs that is held.

    Args:
        base: the base with its table.
        bits: at which width.

    Returns:
        bytes: planes, scale, id.
    """
    return plane_bytes(base.table.grid.q.shape[1], bits) + ROW_BYTES


def rows_within(base: Base, share: float) -> int:
    """Count the rows that fit into a share of the table's bytes, beside the device's own history.

    Args:
        base: the base with its table.
        share: of the whole table at 8 bits.

    Returns:
        rows; 0 where the history alone is more.
    """
    room = share * len(base.table) * row_bytes(base, 8) - fixed_table(base, True)
    return min(len(base.table), max(0, int(room // row_bytes(base, ROW_BITS))))


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


def _learn_drift(material: Material, beta: float) -> tuple[Cosines, Float[Tensor, "features dim"]]:
    """Learn δ on future targets, and choose its length."""
    frozen = material.frozen
    prior = beta * torch.from_numpy(np.log1p(frozen.base.table.counts))
    learn, select = (frozen.events(earlier(events.cases, LEARN_FROM)) for events in (material.learn, material.select))
    features = Cosines(learn.profiles.shape[1]).standardize(learn.profiles)

    def pulls() -> Iterator[tuple[Tensor, Tensor]]:
        for rows in np.array_split(np.random.default_rng(5).permutation(len(learn)), -(-len(learn) // CHUNK)):
            profiles, targets = learn.profiles[rows], learn.cases.targets[rows].astype(np.int64)
            shares = ((profiles @ frozen.vectors.T + prior) / frozen.temperature).softmax(dim=1)
            yield profiles, (frozen.vectors[targets] - shares @ frozen.vectors) / frozen.temperature

    direction = fit_ridge(features, frozen.vectors.shape[1], pulls()).coefficients
    quality = {length: _share_held(frozen, select, features, length * direction, prior) for length in LENGTHS}
    return features, max(quality, key=lambda length: quality[length]) * direction


def _share_held(frozen: FrozenBase, select: Events, features: Cosines, drift: Tensor, prior: Tensor) -> float:
    """Share of the targets that are among the rows that a device would hold."""
    count, found = max(10, rows_within(frozen.base, LENGTH_SHARE)), 0
    targets = torch.from_numpy(select.cases.targets.astype(np.int64))
    for mine, wanted in zip(torch.split(select.profiles, CHUNK), torch.split(targets, CHUNK), strict=True):
        scores = (mine + features(mine) @ drift) @ frozen.vectors.T + prior
        found += int(((scores >= scores.gather(1, wanted[:, None])).sum(dim=1) <= count).sum())
    return found / len(targets)


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
