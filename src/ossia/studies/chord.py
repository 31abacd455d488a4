"""The study of CHORD: is a choice of precision personal, is it better than full precision, and what else would do as well?

For each run (the seeds of the study) and each operating point (an alphabet of widths, an average number of bits) the rows are

    float32                   as trained
    float32, random encoder   the paper's backbone: another run, of which training moved nothing but the item table
    float32, before           where the run is a master for every width: the float32 run that it was started from …
    float32, same teacher     … and that run trained on likewise, but without any width: what the teacher does alone
    8, 4, 3, 2 bits           the same width for every channel (3 bits: the nested grid's slice, which no format carries)
    post-training             mixed precision by the mean squared sensitivity (empirical Fisher), the same for all
    global                    one learned allocation: the mean sensitivity, which is the ridge without its personal part
    magnitude                 one allocation by mean |W|
    own … (RECIPE)            this user's widths, by the ridge or by a hypernetwork that learned to say what the ridge says
    own …, N events old       what the ridge said before the user's last N events: a payload that has aged
    another user's … · average user's …     the same answers for the wrong person, or the mean importance for everybody
    random …                  the user's own widths dealt out anew among channels of one size
    without LEVEL             CHORD without its filter, element or layer level
    static                    no widths at all: one boosting step on the user state, from the same events and features

All are judged on every test event: the rank of the next item in the whole catalog, and its log-likelihood, which sees small
effects that NDCG@10 can't. A row is judged once and written down (`rows/POINT/ROW.npz`), so that an interrupted study goes on
where it stopped. Averages of bits are met by `cut`; `adaptation.allocate` would also fill the few bytes that this leaves.

A point may round more: activations, which is what every slot reads, event by event, onto a grid of so many bits; and the item
table, whose rows are then scored *and* read from histories at that width, calibrated anew. All of its rows are judged so, and
one more, 8 bits for all channels; sensitivities are those that were observed without, profiles those of the base at 8 bits.
The rows that no point changes are judged without.

Nothing is chosen on test events: what is chosen at all (penalties, temperature, the length of the personal part, that of the
static step) the fifth of the users with other validation events chose. `chord_verdict.py` pools the seeds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import torch

from ossia.data import Dataset
from ossia.errors import UsageError
from ossia.files import sha256_file, write_whole
from ossia.quantization.grid import slice_bits, slice_scale
from ossia.studies.chord_desk import Desk, Row
from ossia.studies.chord_material import Material
from ossia.studies.chord_point import Point
from ossia.studies.judged_rows import Done, write_row
from ossia.studies.runs import names_of
from ossia.training.events import Events
from ossia.training.frozen import FrozenBase, Judged, fit_temperature
from ossia.training.run import BEST, Run, load_run

PERSONALIZERS = ("ridge", "chord")
LEVELS = ("filter", "element", "layer")
UNIFORM = (8, 4, 3, 2)
COMMON = "same-for-every-point"
RANDOM_ENCODER, BEFORE, SAME_TEACHER = "float32, random encoder", "float32, before", "float32, same teacher"
OTHERS = {
    RANDOM_ENCODER: "a run on these data with `--set moving=items`",
    BEFORE: "the run that this one was started from",
    SAME_TEACHER: "a run with the start, the teacher and every setting of this one, and without widths",
}
"""Rows of another run, and which run that must be."""


def study(
    data: Dataset, runs: Sequence[Path], points: Sequence[Point], folder: Path, personalizers: Sequence[str] = PERSONALIZERS
) -> Iterator[Done]:
    """Judge every row of every run at every point, or those that are missing; iterate to watch.

    Args:
        data: the prepared log.
        runs: trained on it; the seeds of the study.
        points: the operating points.
        folder: where everything goes.
        personalizers: whose own widths are judged: `ridge`, which is quick, `chord`, or both.

    Yields:
        each row, when it is written down.

    Raises:
        UsageError: two runs of one name, or a personalizer that is not of this study.
        ArtifactError: a run was trained on other data.
    """
    names = names_of(runs)
    if not personalizers or not set(personalizers) <= set(PERSONALIZERS):
        raise UsageError(f"personalizer: expected {' or '.join(PERSONALIZERS)}, got {', '.join(personalizers) or 'none'}")
    for name, run in zip(names, runs, strict=True):
        marks = {point: [folder / name / "rows" / str(point) / f"{each}.done" for each in personalizers] for point in points}
        missing = [point for point in points if not all(mark.exists() for mark in marks[point])]
        if not missing:
            continue
        material = Material.prepare(data, run, folder / name)
        yield from _judge(name, COMMON, folder, common_rows(material, points[0]))
        for point in missing:
            yield from _judge(name, str(point), folder, point_rows(material, point, personalizers))
            for mark in marks[point]:
                write_whole(mark, b"")


def study_others(data: Dataset, runs: Sequence[Path], others: Sequence[Path], folder: Path, row: str) -> Iterator[Done]:
    """Judge a row of another run, in float32, for every run that does not have it yet; iterate to watch.

    Args:
        data: the prepared log.
        runs: those of the study.
        others: a run for each.
        folder: the study's.
        row: one of `OTHERS`.

    Yields:
        each row, when it is written down.

    Raises:
        UsageError: not as many runs as there are in the study, or one that is not what the row says.
    """
    if len(others) != len(runs):
        raise UsageError(f"{row}: expected {len(runs)} runs, one for each of the study, got {len(others)}")
    for path, other_path in zip(runs, others, strict=True):
        other = load_run(other_path)
        if other.data_hash != data.hash or not _is_that(row, load_run(path), other):
            raise UsageError(f"{other_path}: expected {OTHERS[row]}, got another")
        name = path.resolve().name
        if not (folder / name / "rows" / COMMON / f"{row}.npz").exists():
            material = Material.prepare(data, path, folder / name)
            yield from _judge(name, COMMON, folder, iter([_row_of(other, row, material)]))


def _is_that(row: str, run: Run, other: Run) -> bool:
    """Tell whether another run is what a row says that it is."""
    mine, its = run.recipe, other.recipe
    if row == RANDOM_ENCODER:
        return its.moving == "items"
    if row == BEFORE:
        return mine.start == sha256_file(other.path / BEST)
    return bool(mine.start and mine.distillation) and its == msgspec.structs.replace(mine, widths=None, seed=its.seed)


def _row_of(other: Run, row: str, material: Material) -> Row:
    """Make the row of another run, calibrated like the others."""
    frozen = replace(material.frozen, backbone=other.backbone)
    fitted = replace(frozen, temperature=fit_temperature(frozen, material.select))
    return Row(row, "base", lambda: fitted.judge(material.test))


def _judge(run: str, point: str, folder: Path, rows: Iterator[Row]) -> Iterator[Done]:
    """Judge the rows that have not been judged."""
    for row in rows:
        path = folder / run / "rows" / point / f"{row.name}.npz"
        if not path.exists():
            write_row(path, row.judge())
            yield Done(run, point, row.name)


def common_rows(material: Material, point: Point) -> Iterator[Row]:
    """Make the rows that no operating point changes.

    Args:
        material: of one run.
        point: whose sensitivities give the features of the static control.

    Yields:
        float32, uniform widths, static.
    """
    frozen, test = material.frozen, material.test
    yield Row("float32", "base", lambda: replace(frozen, backbone=material.backbone).judge(test))
    for bits in UNIFORM:
        yield Row(f"{bits} bits for all", "base", partial(_judge_uniform, frozen, test, bits))
    observed = material.observed(point.alphabet[0], point.alphabet[-1])
    yield Row("static", "control", lambda: frozen.judge(test, shift=material.static_shift(observed, test)))


def point_rows(material: Material, point: Point, personalizers: Sequence[str] = PERSONALIZERS) -> Iterator[Row]:
    """Make the rows of one operating point.

    Args:
        material: of one run.
        point: the widths.
        personalizers: whose own widths are judged.

    Yields:
        allocations that are the same for all, then for each recipe the user's own and its controls, then CHORD's levels.
    """
    desk = Desk(material, point)
    yield desk.same("post-training mixed precision", "base", desk.observed.square)
    yield desk.same("global widths", "base", desk.learned)
    yield desk.same("magnitude", "base", desk.untrained.importance(material.learn.profiles[:1])[0])
    if point.rounds:
        yield Row(f"8 bits for all, {point.rounds} too", "base", lambda: desk.frozen.judge(material.test))
    if "ridge" in personalizers:
        yield from desk.personal("ridge", lambda: desk.ridge[0])
    if "chord" in personalizers:
        yield from desk.personal("chord", desk.hypernetwork)
    for level in LEVELS if "chord" in personalizers else ():
        yield Row(f"own widths (chord without {level} level)", "personal", partial(desk.judge_level, level))


def _judge_uniform(frozen: FrozenBase, events: Events, bits: int) -> Judged:
    """Judge one width for every channel, 3 bits included: a slice of the nested grid like the others."""
    if bits == 8:
        return frozen.judge(events)
    weights = {}
    for name, grid in frozen.base.grids.items():
        scale = slice_scale(grid.q, grid.scales[-1], bits)
        weights[name] = torch.from_numpy(slice_bits(grid.q, bits).astype(np.float32) * scale[:, None])[None]
    steps = torch.ones(1, 1, frozen.base.channels).expand(len(events), -1, -1)
    return replace(frozen, weights=weights).judge(events, steps)
