"""The study of widths: one master for every width, against a model trained for one.

Each run (a seed of the study) was trained in float32. From its weights each *lesson* trains for a few epochs more:

    2 bits alone      for 2 bits and nothing else: what a slice is held against
    2 bits, taught    … and from the run's own rankings, too: the strongest model for 2 bits alone that we have
    by step           8, 4 and 2 bits, one drawn for all at every step
    by channel        a width for every channel and every row, at every step
    search            one for all, by what is left to gain
    all at once       the mean loss of 8, 4 and 2 bits at every step, which costs three
    delayed           by step; four gradients at 2 bits make one step
    shared exponent   by step, on a grid whose scales are powers of two
    …, taught         by step or all at once, and the run itself in float32 is the teacher (`ossia.training.distill`)

and then its slices are judged on every test event: the rank of the next item in the whole catalog, rows and slots at the width,
the history's rows at 8 bits, arithmetic in float32. So are the slices of the run itself: post-training quantization.

All lessons have the same epochs and step size; which epoch is best, each lesson's own widths say on validation events, and a
lesson that has not been better for three epochs is over. A run is trained once, an epoch is taken up where it stopped, a slice
is judged once and written down (`SEED/rows/ROW.npz`).
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from jaxtyping import Int64
from msgspec import Struct

from ossia.backbones import Backbone
from ossia.data import Cases, Dataset
from ossia.errors import UsageError
from ossia.evaluation import Comparison, Interval, Judgement, Row, as_share, compare, make_row, repeat_share
from ossia.files import write_whole
from ossia.quantization.fake import Scales
from ossia.studies.runs import names_of
from ossia.training import BackboneRecipe, Run, load_run, train_backbone
from ossia.training.recipes import Widths
from ossia.training.validation import choose_cases, validation_ranks
from ossia.training.widths import at_one_width

FLOAT, AFTER, ALONE, ALONE_TAUGHT = "float32", "post-training", "2 bits alone", "2 bits, taught"
PATIENCE = 3
"""Epochs without a better one before a lesson is over."""


class Lesson(NamedTuple):
    """What is trained from each run.

    Attributes:
        widths: which, and how they are drawn.
        taught: whether the run, in float32, is the teacher.
    """

    widths: Widths
    taught: bool = False


LESSONS: dict[str, Lesson] = {
    ALONE: Lesson(Widths(alphabet=(2,))),
    ALONE_TAUGHT: Lesson(Widths(alphabet=(2,)), taught=True),
    "by step": Lesson(Widths(draw="step")),
    "by step, taught": Lesson(Widths(draw="step"), taught=True),
    "all at once": Lesson(Widths(draw="all")),
    "all at once, taught": Lesson(Widths(draw="all"), taught=True),
    "by channel": Lesson(Widths(draw="channel")),
    "search": Lesson(Widths(draw="search")),
    "delayed": Lesson(Widths(draw="step", delay=4)),
    "shared exponent": Lesson(Widths(draw="step", scales="exponent")),
}
"""The lessons, by the name that their rows bear."""


@dataclass(frozen=True)
class Settings:
    """What all lessons have in common.

    Attributes:
        lessons: which of `LESSONS`.
        epochs: how long each trains, at the most.
        lr: Adam's step size.
    """

    lessons: tuple[str, ...] = (ALONE, ALONE_TAUGHT, "all at once, taught")
    epochs: int = 10
    lr: float = 1e-3

    def check(self) -> None:
        """Refuse a lesson that there is not.

        Raises:
            UsageError: names it.
        """
        for lesson in self.lessons:
            if lesson not in LESSONS:
                raise UsageError(f"lesson: expected one of {', '.join(map(repr, LESSONS))}; got {lesson!r}")

    def recipe(self, run: Run, lesson: str) -> BackboneRecipe:
        """Say how a lesson trains: as its run did, but for widths, epochs, step size and who taught it.

        Args:
            run: at whose weights it begins.
            lesson: its name.

        Returns:
            the recipe.
        """
        return msgspec.structs.replace(
            run.recipe,
            widths=LESSONS[lesson].widths,
            epochs=self.epochs,
            patience=PATIENCE,
            lr=self.lr,
            distillation=None,
            refit=False,
        )


class Done(Struct, frozen=True):
    """A step of the study, for who watches."""

    run: str
    what: str

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.run}, {self.what}"


@dataclass(frozen=True)
class Against:
    """How far a row is from another.

    Attributes:
        difference: NDCG@10, paired by user and pooled over runs.
        share: the row's NDCG@10, of the other's.
    """

    difference: Comparison
    share: Interval


@dataclass(frozen=True)
class Verdict:
    """What came out.

    Attributes:
        runs: whose seeds are pooled.
        rows: quality of each row.
        comparisons: each 2-bit slice against the trainings for 2 bits alone; those, and other slices, against float32.
    """

    runs: tuple[str, ...]
    rows: tuple[Row, ...]
    comparisons: tuple[Against, ...]


def study(data: Dataset, runs: Sequence[Path], settings: Settings, folder: Path) -> Iterator[Done]:
    """Train every lesson of every run and judge every slice, or what is missing of it; iterate to watch.

    Args:
        data: the prepared log.
        runs: trained on it in float32; the seeds of the study.
        settings: of the lessons.
        folder: where everything goes.

    Yields:
        each epoch, and each row when it is written down.

    Raises:
        UsageError: no such lesson, two runs of one name, or the folder holds a study with other settings.
    """
    settings.check()
    names = names_of(runs)
    test = data.split().test
    cases = choose_cases(test, len(test), 0)
    for name, path in zip(names, runs, strict=True):
        run = load_run(path)
        if run.data_hash != data.hash:
            raise UsageError(f"{path}: expected a run on data {data.hash[:12]}…, got one on {run.data_hash[:12]}…")
        yield from _judge(folder / name, name, run.backbone, AFTER, (FLOAT, 8, 4, 2), cases)
        for lesson in settings.lessons:
            place, (widths, taught) = folder / name / lesson.replace(",", "").replace(" ", "-"), LESSONS[lesson]
            recipe = settings.recipe(run, lesson)
            for epoch in train_backbone(data, recipe, place, start=run, teacher=run if taught else None):
                yield Done(name, f"{lesson}: {epoch}")
            trained = load_run(place).backbone
            yield from _judge(folder / name, name, trained, lesson, widths.alphabet[::-1], cases, widths.scales)


def conclude(data: Dataset, folder: Path, runs: Sequence[str], settings: Settings, *, seed: int = 0) -> Verdict:
    """Pool the runs, and draw the users again.

    Args:
        data: the prepared log.
        folder: the study's.
        runs: names of the runs that are through.
        settings: of the lessons.
        seed: of the intervals.

    Returns:
        the verdict.
    """
    repeats = repeat_share(data.split().test)
    found = {name: Judgement(name, np.stack([_read(folder / run, name) for run in runs]), repeats) for name in _names(settings)}
    pairs = [(name, rival) for name in found if name != FLOAT for rival in _rivals(name, settings)]
    comparisons = [compare(found[name], found[rival], seed=seed) for name, rival in pairs]
    return Verdict(
        tuple(runs),
        tuple(make_row(judgement, "base", seed=seed) for judgement in found.values()),
        tuple(Against(each, as_share(each.ndcg_at_10, found[each.versus].ndcg())) for each in comparisons),
    )


def _names(settings: Settings) -> list[str]:
    """Name all rows, in the order in which they are shown."""
    slices = [_row(lesson, bits) for lesson in settings.lessons for bits in LESSONS[lesson].widths.alphabet[::-1]]
    return [FLOAT, *(_row(AFTER, bits) for bits in (8, 4, 2)), *slices]


def _row(lesson: str, bits: int | str) -> str:
    """Name a row."""
    if bits == FLOAT or lesson in (ALONE, ALONE_TAUGHT):
        return str(bits) if bits == FLOAT else lesson
    return f"{lesson}, {bits} bits"


def _rivals(name: str, settings: Settings) -> list[str]:
    """Name what a row is held against: 2 bits against the trainings for 2 bits alone, if there are any; all else float32."""
    alone = [lesson for lesson in (ALONE, ALONE_TAUGHT) if lesson in settings.lessons]
    return alone if alone and name.endswith(", 2 bits") else [FLOAT]


def _judge(
    folder: Path, run: str, backbone: Backbone, lesson: str, widths: Sequence[int | str], cases: Cases, scales: Scales = "free"
) -> Iterator[Done]:
    """Judge a backbone at some widths, unless that is done."""
    for bits in widths:
        path = folder / "rows" / f"{_row(lesson, bits)}.npz"
        if path.exists():
            continue
        if isinstance(bits, str):
            ranks = validation_ranks(backbone, cases)
        else:
            each = at_one_width(backbone, bits, scales)
            ranks = validation_ranks(each.backbone, cases, each.rows)
        out = io.BytesIO()
        np.savez_compressed(out, ranks=ranks.astype(np.int32))
        write_whole(path, out.getvalue())
        yield Done(run, f"{path.stem}: judged")


def _read(folder: Path, name: str) -> Int64[np.ndarray, " cases"]:
    """Read the ranks of a row."""
    path = folder / "rows" / f"{name}.npz"
    if not path.exists():
        raise UsageError(f"{path}: expected a judged row; run the study again to judge what is missing")
    with np.load(path, allow_pickle=False) as held:
        return held["ranks"].astype(np.int64)
