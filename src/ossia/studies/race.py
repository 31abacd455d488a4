"""Time to a validation NDCG@10: ours and a peer's SASRec, epoch by epoch in turns, in one run.

    time to q  =  Σ seconds of training until the first epoch whose validation NDCG@10 is at least q

q is the peer's best, unless one is given. Training alone is timed, on the wall; validating, exporting and saving are not, for
either. Both read the same training histories, have the same width, length, blocks, heads, dropout and threads, and are judged
by the same protocol on the same cases: all validation events after every epoch, test events once, with the weights that were
best on validation. Each stops after its own `patience`. Turns alternate, so that whatever else the machine does hits both; the
peer's process sleeps while ours trains.

What is not the same, because it is what is being compared: batches, the negatives (RecTools draws its own for every event,
uniformly, and needs few; ours are shared by a batch and drawn by popularity, and cost little), step sizes, our running mean of
the weights, and the inner width of the feed-forward networks, which RecTools' SASRec fixes at the width of the model.

Every epoch is written down before the next one begins (`laps.jsonl`), both trainings keep checkpoints, and a race that is
called again with the same settings goes on where it stopped.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from msgspec import Struct

from ossia.backbones.ranker import TorchRanker
from ossia.data import Dataset, Split
from ossia.errors import UsageError
from ossia.evaluation import Comparison, Row, compare, judge, make_row, ndcg_at_k, target_ranks
from ossia.files import write_whole
from ossia.studies.peer import Peer, VectorRanker, write_task
from ossia.training import BackboneRecipe, load_run, train_backbone
from ossia.training.backbone import finished
from ossia.training.checkpoint import Epoch
from ossia.training.run import HISTORY, read_history

OURS, THEIRS = "ossia", "rectools"
LAPS = "laps.jsonl"


class Lap(Struct, frozen=True, forbid_unknown_fields=True):
    """One epoch of one contestant.

    Attributes:
        who: `ossia` or `rectools`.
        index: 0 for its first epoch.
        seconds: of training, on the wall.
        total_seconds: of training, this epoch and all before it.
        loss: mean training loss; the two losses are not the same thing.
        validation_ndcg: NDCG@10 on all validation cases, by our protocol.
    """

    who: str
    index: int
    seconds: float
    total_seconds: float
    loss: float
    validation_ndcg: float

    def __str__(self) -> str:
        """Say it in a line, for people."""
        return (
            f"{self.who} epoch {self.index}: {self.seconds:.1f} s ({self.total_seconds:.1f} s so far), "
            f"validation NDCG@10 {self.validation_ndcg:.4f}"
        )


@dataclass(frozen=True)
class Settings:
    """How to race.

    Attributes:
        recipe: ours; shape, dropout, epochs, patience and seed are the peer's too.
        peer_lr: Adam's step size of the peer.
        peer_batch: sequences per step of the peer.
        peer_negatives: negatives of the peer, for every event.
        threads: for both.
    """

    recipe: BackboneRecipe
    peer_lr: float = 1e-3
    peer_batch: int = 128
    peer_negatives: int = 128
    threads: int = 1


@dataclass(frozen=True)
class Verdict:
    """What came out.

    Attributes:
        target: the validation NDCG@10 that both had to reach.
        seconds: training time to it, by contestant; None: never reached.
        ratio: the peer's time over ours; None where one never got there.
        best: the lap with the best validation NDCG@10, by contestant.
        rows: test quality of the weights that were best on validation.
        comparison: ours − the peer's on test, paired by user.
    """

    target: float
    seconds: dict[str, float | None]
    ratio: float | None
    best: dict[str, Lap]
    rows: tuple[Row, ...]
    comparison: Comparison


def race(data: Dataset, settings: Settings, folder: Path, open_peer: Callable[[Path], Peer]) -> Iterator[Lap]:
    """Train both by turns, or go on with a race that was interrupted; iterate to watch.

    Args:
        data: the prepared log.
        settings: of both.
        folder: where everything goes.
        open_peer: starts the peer's process in its folder.

    Yields:
        each lap, when it is written down.

    Raises:
        UsageError: the folder holds a race with other settings, or the peer ended.
    """
    split, theirs = data.split(), folder / THEIRS
    recipe = msgspec.structs.replace(settings.recipe, validation_users=len(split.validation)).resolve(data.items)
    _check_same(folder, data, settings, recipe)
    write_task(theirs, split, _peer_settings(data, recipe, settings))
    torch.set_num_threads(settings.threads)
    steps = train_backbone(data, recipe, folder / OURS)
    laps = _keep(folder, [lap for lap in read_laps(folder) if lap.who == THEIRS] + _our_laps(folder))
    with open_peer(theirs) as peer:
        if len(peer.hello["laps"]) > len(_of(laps, THEIRS)):  # killed after an epoch and before its validation
            laps = _keep(folder, [*laps, _judged(peer, peer.hello["laps"][-1], laps, split, data.items, theirs)])
            yield laps[-1]
        while not (_over(laps, OURS, recipe) and _over(laps, THEIRS, recipe)):
            if not _over(laps, OURS, recipe):
                next(steps)
                laps = _keep(folder, [*laps, _our_laps(folder)[-1]])
                yield laps[-1]
            if not _over(laps, THEIRS, recipe):
                laps = _keep(folder, [*laps, _judged(peer, peer.ask("epoch"), laps, split, data.items, theirs)])
                yield laps[-1]


def conclude(data: Dataset, folder: Path, *, target: float | None = None, seed: int = 0) -> Verdict:
    """Judge a race that is over, or what there is of one.

    Args:
        data: the prepared log.
        folder: the race's.
        target: a validation NDCG@10; None: the peer's best.
        seed: of the intervals.

    Returns:
        times and qualities.

    Raises:
        UsageError: one of the two has no lap yet.
    """
    laps, split = read_laps(folder), data.split()
    best = {who: max(_of(laps, who), key=lambda lap: lap.validation_ndcg) for who in (OURS, THEIRS) if _of(laps, who)}
    if len(best) < 2:
        raise UsageError(f"{folder}: expected laps of both, got none of {THEIRS if OURS in best else OURS}")
    target = best[THEIRS].validation_ndcg if target is None else target
    seconds = {who: time_to(target, _of(laps, who)) for who in (OURS, THEIRS)}
    mine, other = seconds[OURS], seconds[THEIRS]
    judged = [
        judge(OURS, TorchRanker(load_run(folder / OURS).backbone), split.test, data.items),
        judge(THEIRS, VectorRanker.load(folder / THEIRS / "best-test.npz").of, split.test, data.items),
    ]
    rows = tuple(make_row(each, "base", seed=seed) for each in judged)
    ratio = other / mine if mine and other else None
    return Verdict(target, seconds, ratio, best, rows, compare(judged[0], judged[1], seed=seed))


def time_to(target: float, laps: Sequence[Lap]) -> float | None:
    """Find how long a contestant trained until it first was as good as a target.

    Args:
        target: a validation NDCG@10.
        laps: of one contestant, oldest first.

    Returns:
        seconds of training; None: never.
    """
    return next((lap.total_seconds for lap in laps if lap.validation_ndcg >= target), None)


def read_laps(folder: Path) -> list[Lap]:
    """Read what was written down.

    Args:
        folder: the race's.

    Returns:
        the laps, oldest first; none of a race that has not begun.
    """
    path = folder / LAPS
    return [msgspec.json.decode(line, type=Lap) for line in path.read_bytes().splitlines()] if path.exists() else []


def _keep(folder: Path, laps: Sequence[Lap]) -> list[Lap]:
    """Write the laps down, the whole file at once."""
    write_whole(folder / LAPS, b"".join(msgspec.json.encode(lap) + b"\n" for lap in laps))
    return list(laps)


def _of(laps: Sequence[Lap], who: str) -> list[Lap]:
    """Pick one contestant's laps."""
    return [lap for lap in laps if lap.who == who]


def _over(laps: Sequence[Lap], who: str, recipe: BackboneRecipe) -> bool:
    """Tell whether a contestant is through, by the rule of every training here."""
    epochs: list[Epoch] = []
    for lap in _of(laps, who):
        best = lap.validation_ndcg > max((epoch.validation_ndcg or 0.0 for epoch in epochs), default=-1.0)
        epochs.append(Epoch(lap.index, 0, lap.loss, lap.validation_ndcg, best, lap.seconds))
    return finished(tuple(epochs), recipe)


def _our_laps(folder: Path) -> list[Lap]:
    """Read our laps out of the run, which remembers them itself."""
    path = folder / OURS / HISTORY
    laps: list[Lap] = []
    for epoch in read_history(path) if path.exists() else ():
        seconds = epoch.training_seconds or epoch.seconds
        total = seconds + (laps[-1].total_seconds if laps else 0.0)
        assert epoch.validation_ndcg is not None, "a race is no refit"
        laps.append(Lap(OURS, epoch.index, seconds, total, epoch.loss, epoch.validation_ndcg))
    return laps


def _judged(peer: Peer, answer: dict[str, float], laps: Sequence[Lap], split: Split, items: int, folder: Path) -> Lap:
    """Judge the peer's latest epoch; if it is its best, keep what its test figures are made of."""
    before = _of(laps, THEIRS)
    peer.ask("validation")
    ndcg = ndcg_at_k(target_ranks(VectorRanker.load(folder / "validation.npz").of, split.validation, items), 10)
    if ndcg > max((lap.validation_ndcg for lap in before), default=-1.0):
        peer.ask("test")
        (folder / "test.npz").replace(folder / "best-test.npz")
    total = answer["seconds"] + (before[-1].total_seconds if before else 0.0)
    return Lap(THEIRS, len(before), answer["seconds"], total, answer["loss"], ndcg)


def _peer_settings(data: Dataset, recipe: BackboneRecipe, settings: Settings) -> dict[str, int | float | str]:
    """Give the peer what both share, and its own step size, batches and negatives."""
    losses = {"full_softmax": "softmax", "sampled_softmax": "sampled_softmax", "bce": "BCE", "gbce": "gBCE"}
    shared = {name: getattr(recipe, name) for name in ("dim", "length", "blocks", "heads", "dropout", "seed")}
    own = {"lr": settings.peer_lr, "batch": settings.peer_batch, "negatives": settings.peer_negatives}
    return shared | own | {"threads": settings.threads, "items": data.items, "loss": losses[recipe.loss]}


def _check_same(folder: Path, data: Dataset, settings: Settings, recipe: BackboneRecipe) -> None:
    """Refuse to go on with another race: half of each would be no figure at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "race.json"
    now = msgspec.json.format(
        msgspec.json.encode({"data": data.hash, "recipe": recipe, "peer": _peer_settings(data, recipe, settings)}), indent=2
    )
    if path.exists() and path.read_bytes() != now:
        raise UsageError(f"{path}: expected the settings and the data of the race so far, got others; choose another --out")
    write_whole(path, now)
