"""The study of Forward-OFA: do a structure and weights of one's own rank better, and which part of it does?

For each run (the seeds of the study) and each share of the blocks' cost that a device can afford the rows are

    uniform depth                  the base itself, its first blocks
    lookup table                   the base itself; of all structures that fit the budget the likeliest on validation
    own payload                    Forward-OFA
    another user's … · average user's payload      the same answers for the wrong person, or for the mean profile
    own payload, N events old      what Forward-OFA answered before the user's last N events
    lookup table, own weights      the table's structure, weights generated for it
    controller at every budget     Forward-OFA, its controller not held to levels (`personalizers/levels.py`)
    without …, …                   Forward-OFA without one of its parts, trained alike (`forward_ofa_variants.py`)
    static model of the same size  no payload: an adapter behind the user state, learned from the same events

All are judged on every test event: rank in the whole catalog, and log-likelihood. `fine-tuned on the device` (all blocks, some
users) is the slow comparison: a delta of the same slots, learned by gradient steps on the user's own history. What is chosen
at all (epochs, the table, steps and step size of fine-tuning) the fifth of the users with other validation events chose. Each
row is written down when it is judged, each variant when it is trained, so that an interrupted study goes on.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from ossia.adaptation import CostTable
from ossia.data import Dataset
from ossia.errors import UsageError
from ossia.evaluation.controls import another_user
from ossia.files import write_whole
from ossia.studies.fine_tuning import fine_tune
from ossia.studies.forward_ofa_conflict import measure_conflict
from ossia.studies.forward_ofa_desk import Desk, levels_path
from ossia.studies.forward_ofa_variants import VARIANTS
from ossia.studies.judged_rows import AGES, Done, write_row
from ossia.studies.runs import names_of
from ossia.training.events import Events, earlier, take_cases
from ossia.training.frozen import Judged
from ossia.training.generator_recipe import GeneratorRecipe

OWN = "own payload"
FINE_TUNED = "fine-tuned on the device"
FINE_TUNED_USERS = 1_000


def study(
    data: Dataset,
    runs: Sequence[Path],
    shares: Sequence[float],
    folder: Path,
    recipe: GeneratorRecipe,
    *,
    cases: int | None = None,
    variants: Sequence[str] = tuple(VARIANTS),
    prices: CostTable | None = None,
) -> Iterator[Done]:
    """Judge every row of every run at every share, or those that are missing; iterate to watch.

    Args:
        data: the prepared log.
        runs: trained on it; the seeds of the study.
        shares: of the blocks' cost that devices can afford, 0 … 1.
        folder: where everything goes.
        recipe: of every variant; its personalizer is `forward-ofa`.
        cases: test events to draw, for a quick look; None: all.
        variants: what to train, of `VARIANTS`; gradients and fine-tuning are measured where all of them are.
        prices: what each block costs where it runs; None: what it weighs.

    Yields:
        each row, when it is written down.

    Raises:
        UsageError: two runs of one name, none, a share out of range, an unknown variant, other settings than the study
            began with, or a study from before controllers were held to levels.
        ArtifactError: a run was trained on other data.
    """
    names = names_of(runs)
    if wrong := [share for share in shares if not 0 <= share <= 1]:
        raise UsageError(f"study: expected shares of 0 … 1, got {wrong[0]:g}")
    if unknown := sorted(set(variants) - set(VARIANTS)):
        raise UsageError(f"study: expected variants among {', '.join(VARIANTS)}, got {unknown[0]!r}")
    _keep_settings(folder / "study.json", {"recipe": recipe.resolve(), "cases": cases, "prices": prices})
    for name, path in zip(names, runs, strict=True):
        refuse_older(folder / name)
        desk = Desk.prepare(data, path, folder / name, recipe.resolve(), cases=cases, prices=prices)
        for place, make in _rows(desk, shares, variants):
            if not place.exists():
                make(place)
                yield Done(name, place.parent.name, place.stem)


def _keep_settings(path: Path, made_with: Mapping[str, object]) -> None:
    """Write down what the rows were made with, or refuse to mix them with others."""
    settings = msgspec.json.encode(made_with)
    if path.exists() and path.read_bytes() != settings:
        raise UsageError(f"{path}: expected the settings that this study began with, got others; choose another folder")
    write_whole(path, settings)


def refuse_older(folder: Path) -> None:
    """Refuse rows from before controllers were held to levels: they are of controllers that were asked at every budget.

    Args:
        folder: of one run of the study.

    Raises:
        UsageError: it has such rows.
    """
    levels = levels_path(folder, OWN)
    if not levels.exists() and any(folder.glob(f"rows/*/{OWN}.npz")):
        raise UsageError(
            f"{levels}: expected the levels that its rows were judged with, found none; the study is older: begin a new folder"
        )


def _rows(desk: Desk, shares: Sequence[float], variants: Sequence[str]) -> Iterator[tuple[Path, Callable[[Path], None]]]:
    """Name every file of a run's results, and say how it is made. Cheap ones first: what is expensive comes last."""
    for share in shares:
        place = desk.folder / "rows" / f"{share:g}"
        yield place / "uniform depth.npz", partial(_judge, desk, "without controller", share, trained=False)
        yield place / "uniform depth.json", partial(_write_spent, desk, "without controller", share, trained=False)
        yield place / "lookup table.npz", partial(_judge_table, desk, OWN, share, trained=False)
        yield place / "lookup table.json", partial(_write_looked_up, desk, share)
    for name in variants:
        for share in shares:
            place = desk.folder / "rows" / f"{share:g}"
            yield place / f"{name}.npz", partial(_judge, desk, name, share)
            yield place / f"{name}.json", partial(_write_spent, desk, name, share)
            if name == OWN:
                yield place / "another user's payload.npz", partial(_judge, desk, name, share, whose="another")
                yield place / "average user's payload.npz", partial(_judge, desk, name, share, whose="average")
                for age in AGES:
                    yield place / f"{OWN}, {age} events old.npz", partial(_judge, desk, name, share, age=age)
                yield place / "lookup table, own weights.npz", partial(_judge_table, desk, name, share)
                yield place / "controller at every budget.npz", partial(_judge, desk, name, share, held=False)
                yield place / "controller at every budget.json", partial(_write_spent, desk, name, share, held=False)
    if set(variants) == set(VARIANTS):
        yield desk.folder / "conflict.json", partial(_write_conflict, desk)
        yield desk.folder / "rows" / "1" / f"{FINE_TUNED}.npz", partial(_judge_fine_tuned, desk)


def _judge(
    desk: Desk,
    name: str,
    share: float,
    path: Path,
    *,
    trained: bool = True,
    held: bool = True,
    whose: str = "own",
    age: int = 0,
) -> None:
    """Judge a variant; untrained, it is the base with that variant's structure."""
    network = desk.trained(name, held=held) if trained else desk.make(name)
    own = desk.frozen.events(earlier(desk.test.cases, age)).profiles if age else desk.test.profiles
    asked = {
        "own": lambda: own,
        "another": lambda: own[another_user(len(own), seed=desk.recipe.seed)],
        "average": lambda: desk.learn.profiles.mean(dim=0).expand_as(own),
    }[whose]()
    write_row(path, desk.judge(network, desk.test, asked, share=share))


def _judge_table(desk: Desk, name: str, share: float, path: Path, *, trained: bool = True) -> None:
    """Judge the table's structure, with generated weights or with the base's."""
    network = desk.trained(name) if trained else desk.untrained
    write_row(path, desk.judge(network, desk.test, desk.test.profiles, kept=desk.looked_up(share)))


def _write_spent(desk: Desk, name: str, share: float, path: Path, *, trained: bool = True, held: bool = True) -> None:
    """Write down what a variant's structures cost."""
    network = desk.trained(name, held=held) if trained else desk.make(name)
    write_whole(path, msgspec.json.encode(desk.spent(network, share)))


def _write_looked_up(desk: Desk, share: float, path: Path) -> None:
    """Write down what the table's structure costs."""
    write_whole(path, msgspec.json.encode(desk.spent(desk.untrained, share, desk.looked_up(share))))


def _write_conflict(desk: Desk, path: Path) -> None:
    """Write down the cosines between gradients of different structures."""
    nets = {name: desk.trained(name) for name in (OWN, "shared weights, no mapper")}
    write_whole(path, msgspec.json.encode(measure_conflict(desk.frozen, nets, desk.learn, seed=desk.recipe.seed)))


def _judge_fine_tuned(desk: Desk, path: Path) -> None:
    """Fine-tune some test users' own deltas; the rows of the others are left at −1."""
    chosen = np.sort(np.random.default_rng(desk.recipe.seed).permutation(len(desk.test))[:FINE_TUNED_USERS])
    some = Events(take_cases(desk.test.cases, chosen), desk.test.profiles[chosen], desk.test.length)
    judged = fine_tune(desk.frozen, desk.untrained.layout, desk.select, some, seed=desk.recipe.seed)
    likelihood, ranks = np.full(len(desk.test), np.nan, np.float32), np.full(len(desk.test), -1, np.int64)
    likelihood[chosen], ranks[chosen] = judged.log_likelihood, judged.ranks
    write_row(path, Judged(likelihood, ranks))
