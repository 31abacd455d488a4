"""The study of CHORD: is a choice of precision personal, is it better than full precision, and what else would do as well?

For each run (the seeds of the study) and each operating point (an alphabet of widths, an average number of bits) the rows are

    float32                   as trained
    float32, random encoder   the paper's backbone: another run, of which training moved nothing but the item table
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

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path

import msgspec
import numpy as np
import torch
from jaxtyping import Float, UInt8
from msgspec import Struct
from safetensors.torch import load_file
from torch import Tensor

from ossia.data import Dataset
from ossia.errors import UsageError
from ossia.evaluation.controls import another_user, code_entropy, mean_distance, shuffle_codes
from ossia.evaluation.table import Family
from ossia.files import write_whole
from ossia.personalizers import AbstractPersonalizer, Ridge
from ossia.quantization.grid import slice_bits, slice_scale
from ossia.studies.chord_material import Material, Observed
from ossia.studies.chord_point import Point
from ossia.training.checkpoint import tensor_bytes
from ossia.training.frozen import Events, FrozenBase, Judged, earlier, fit_temperature
from ossia.training.personalizer import make_personalizer
from ossia.training.personalizer_recipe import PersonalizerRecipe
from ossia.training.run import Run, load_run
from ossia.training.sensitivities import choose_length, imitate, with_length

PERSONALIZERS = ("ridge", "chord")
LEVELS = ("filter", "element", "layer")
UNIFORM = (8, 4, 3, 2)
COMMON = "same-for-every-point"
RANDOM_ENCODER = "float32, random encoder"
AGES = (2, 5)
LESSONS = 600
CHUNK = 1024


class Spread(Struct, frozen=True):
    """How much a recipe's codes differ.

    Attributes:
        length: of the personal part beside the mean, as validation chose it.
        entropy: of a channel's code over users, bits, mean over channels.
        distance: share of channels in which two users' codes differ.
        churn: share of channels whose code changes with a user's next event.
    """

    length: float
    entropy: float
    distance: float
    churn: float


class Done(Struct, frozen=True):
    """One row that was judged, for who watches."""

    run: str
    point: str
    row: str

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.run}, {self.point}: {self.row}"


@dataclass(frozen=True, eq=False)
class Row:
    """A row to judge: made when its turn comes."""

    name: str
    family: Family
    judge: Callable[[], Judged]


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
    names = [run.resolve().name for run in runs]
    if len(set(names)) != len(names) or not names:
        raise UsageError(f"study: expected runs in folders of different names, got {', '.join(names) or 'none'}")
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


def study_random_encoders(data: Dataset, runs: Sequence[Path], others: Sequence[Path], folder: Path) -> Iterator[Done]:
    """Judge the row of the paper's backbone, in float32, for every run that does not have it yet; iterate to watch.

    Args:
        data: the prepared log.
        runs: those of the study.
        others: a run for each, trained with `--set moving=items`.
        folder: the study's.

    Yields:
        each row, when it is written down.

    Raises:
        UsageError: not as many runs as there are in the study, or one whose encoder was trained.
    """
    if len(others) != len(runs):
        raise UsageError(f"random encoders: expected {len(runs)}, one for each run, got {len(others)}")
    for run, path in zip(runs, others, strict=True):
        other = load_run(path)
        if other.recipe.moving != "items" or other.data_hash != data.hash:
            raise UsageError(f"{path}: expected a run on these data with `--set moving=items`, got another")
        name = run.resolve().name
        if not (folder / name / "rows" / COMMON / f"{RANDOM_ENCODER}.npz").exists():
            yield from _judge(name, COMMON, folder, iter([_random_row(Material.prepare(data, run, folder / name), other)]))


def _random_row(material: Material, other: Run) -> Row:
    """Make the row of a run with a random encoder, calibrated like the others."""
    frozen = replace(material.frozen, backbone=other.backbone)
    fitted = replace(frozen, temperature=fit_temperature(frozen, material.select))
    return Row(RANDOM_ENCODER, "base", lambda: fitted.judge(material.test))


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
    table = _Desk(material, point)
    yield table.same("post-training mixed precision", "base", table.observed.square)
    yield table.same("global widths", "base", table.learned)
    yield table.same("magnitude", "base", table.untrained.importance(material.learn.profiles[:1])[0])
    if point.rounds:
        yield Row(f"8 bits for all, {point.rounds} too", "base", lambda: table.frozen.judge(material.test))
    if "ridge" in personalizers:
        yield from table.personal("ridge", lambda: table.ridge[0])
    if "chord" in personalizers:
        yield from table.personal("chord", table.hypernetwork)
    for level in LEVELS if "chord" in personalizers else ():
        yield Row(f"own widths (chord without {level} level)", "personal", partial(table.judge_level, level))


@dataclass(frozen=True, eq=False)
class _Desk:
    """What all rows of a point are made with."""

    material: Material
    point: Point

    @cached_property
    def frozen(self) -> FrozenBase:
        """The base as the point rounds it."""
        return replace(self.material.at(self.point.alphabet, self.point.table), activations=self.point.activations)

    @cached_property
    def observed(self) -> Observed:
        """What one pass over unseen events taught."""
        return self.material.observed(self.point.alphabet[0], self.point.alphabet[-1])

    @cached_property
    def ridge(self) -> tuple[Ridge, float]:
        """The ridge, its personal part as long as validation likes it best at this point, and that length."""

        def quality(ridge: AbstractPersonalizer) -> float:
            return self.frozen.judge(self.material.select, self._own(ridge, self.material.select)).mean_likelihood

        return choose_length(self.observed.ridge, self.material.learn.profiles, quality)

    @property
    def learned(self) -> Float[Tensor, " channels"]:
        """The importance that the ridge sees for everybody: without its personal part."""
        profiles = self.material.learn.profiles
        return with_length(self.observed.ridge, profiles, 0.0).importance(profiles[:1])[0].detach()

    @property
    def untrained(self) -> AbstractPersonalizer:
        """A CHORD that knows nothing but magnitudes, and how to cut."""
        return self._make(PersonalizerRecipe(alphabet=self.point.alphabet))

    def same(self, name: str, family: Family, importance: Float[Tensor, " channels"]) -> Row:
        """Make a row of one allocation for everybody."""

        def judge() -> Judged:
            return self.frozen.judge(self.material.test, self._cut(importance[None]).expand(len(self.material.test), -1, -1))

        return Row(name, family, judge)

    def personal(self, recipe: str, make: Callable[[], AbstractPersonalizer]) -> Iterator[Row]:
        """Make the rows of a recipe: own widths, and their controls; the spread of its codes is written beside them."""
        test, seed = self.material.test, self.material.seed
        personalizer = cache(make)

        @cache
        def own() -> Tensor:
            return self._own(personalizer(), test)

        def average() -> Tensor:
            mean = torch.cat(
                [personalizer().importance(chunk) for chunk in torch.split(self.material.learn.profiles[:4096], CHUNK)]
            )
            return self._cut(mean.mean(dim=0, keepdim=True)).expand(len(test), -1, -1)

        def random() -> Tensor:
            codes = own().sum(dim=1).to(torch.uint8).numpy()
            return _steps(shuffle_codes(codes, self.material.inputs.numpy().astype(np.int64), seed=seed), self.point)

        def judge_own() -> Judged:
            self._write_spread(recipe, own(), self._own(personalizer(), self.material.before))
            return self.frozen.judge(test, own())

        swapped = torch.from_numpy(another_user(len(test), seed=seed))
        yield Row(f"own widths ({recipe})", "personal", judge_own)
        yield Row(f"another user's widths ({recipe})", "control", lambda: self.frozen.judge(test, own()[swapped]))
        yield Row(f"average user's widths ({recipe})", "control", lambda: self.frozen.judge(test, average()))
        if recipe == "ridge":
            yield Row(f"random widths ({recipe})", "control", lambda: self.frozen.judge(test, random()))
            for age in AGES:
                yield Row(f"own widths, {age} events old ({recipe})", "personal", partial(self._judge_aged, personalizer, age))

    def hypernetwork(self, without: str = "") -> AbstractPersonalizer:
        """Teach a CHORD what the ridge says, or read what it learned from the same ridge at another point."""
        levels = {f"{without}_level": False} if without else {}
        made = self._make(msgspec.structs.replace(PersonalizerRecipe(alphabet=self.point.alphabet), **levels))
        low, high, (ridge, length) = self.point.alphabet[0], self.point.alphabet[-1], self.ridge
        path = self.material.folder / f"chord{'-without-' if without else ''}{without}-{low}-{high}-{length:g}.safetensors"
        if not path.exists():
            for _ in imitate(made, ridge, self.material.learn, steps=LESSONS, seed=self.material.seed):
                pass
            write_whole(path, tensor_bytes({name: tensor.detach() for name, tensor in made.named_parameters()}))
        made.load_state_dict(load_file(path), strict=False)  # buffers are the base's and the alphabet's
        return made.eval().requires_grad_(False)

    def judge_level(self, without: str) -> Judged:
        """Judge every user with their own widths by a CHORD that lacks a level."""
        return self.frozen.judge(self.material.test, self._own(self.hypernetwork(without), self.material.test))

    def _make(self, recipe: PersonalizerRecipe) -> AbstractPersonalizer:
        weights = {name: every[-1] for name, every in self.material.at((2, 8)).weights.items()}
        return make_personalizer(self.frozen.base, recipe, weights)

    def _judge_aged(self, make: Callable[[], AbstractPersonalizer], age: int) -> Judged:
        """Judge widths that were answered to the profile of some events ago."""
        asked = self.material.frozen.events(earlier(self.material.test.cases, age))
        return self.frozen.judge(self.material.test, self._own(make(), asked))

    def _cut(self, importance: Float[Tensor, "users channels"]) -> Float[Tensor, "users steps channels"]:
        return self.untrained.cut(importance, self.point.bits)

    @torch.no_grad()
    def _own(self, personalizer: AbstractPersonalizer, events: Events) -> Float[Tensor, "users steps channels"]:
        untrained = self.untrained
        chunks = torch.split(events.profiles, CHUNK)
        return torch.cat([untrained.cut(personalizer.importance(chunk), self.point.bits) for chunk in chunks])

    def _write_spread(self, recipe: str, now: Tensor, then: Tensor) -> None:
        codes, earlier = (steps.sum(dim=1).to(torch.uint8).numpy() for steps in (now, then))
        assert np.array_equal(self.material.test.cases.users, self.material.before.cases.users), (
            "one test and one validation case"
        )
        spread = Spread(self.ridge[1], code_entropy(codes), mean_distance(codes), float((codes != earlier).mean()))
        write_whole(self.material.folder / "rows" / str(self.point) / f"spread-{recipe}.json", msgspec.json.encode(spread))


def _steps(codes: UInt8[np.ndarray, "users channels"], point: Point) -> Float[Tensor, "users steps channels"]:
    """Undo counting steps: step s is taken where more than s are."""
    taken = torch.from_numpy(codes)
    return torch.stack([(taken > step).float() for step in range(len(point.alphabet) - 1)], dim=1)


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


def write_row(path: Path, judged: Judged) -> None:
    """Write down what a row did to each event.

    Args:
        path: `ROW.npz`.
        judged: ranks and log-likelihoods.
    """
    out = io.BytesIO()
    np.savez_compressed(out, ranks=judged.ranks.astype(np.int32), log_likelihood=judged.log_likelihood)
    write_whole(path, out.getvalue())


def read_row(path: Path) -> Judged:
    """Read what a row did to each event.

    Args:
        path: `ROW.npz`.

    Returns:
        ranks and log-likelihoods.
    """
    with np.load(path, allow_pickle=False) as found:
        return Judged(found["log_likelihood"], found["ranks"].astype(np.int64))
