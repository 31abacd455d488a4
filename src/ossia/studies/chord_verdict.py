"""What the study of CHORD found: seeds pooled, users drawn again, every row beside what it must beat.

Each run gives one rank and one log-likelihood to each test event. They are averaged per event over the runs, and then users are
drawn (`ossia.evaluation.bootstrap`), so that an interval speaks of other users under these trained bases.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from ossia.data import Dataset
from ossia.errors import UsageError
from ossia.evaluation import (
    Comparison,
    Interval,
    Judgement,
    Provenance,
    Row,
    as_share,
    compare,
    make_row,
    paired_bootstrap,
    repeat_share,
)
from ossia.evaluation.report import Headline, Report, write_report
from ossia.evaluation.results import Family
from ossia.studies.chord import BEFORE, COMMON, OTHERS, SAME_TEACHER
from ossia.studies.chord_desk import Spread
from ossia.studies.chord_point import Point
from ossia.studies.judged_rows import AGES, read_row
from ossia.training.frozen import Judged

RIVALS = (
    "another user's widths ({})",
    "average user's widths ({})",
    "random widths (ridge)",
    *(f"own widths, {age} events old (ridge)" for age in AGES),
    "global widths",
    "post-training mixed precision",
    "magnitude",
    "float32",
    *OTHERS,
    "8 bits for all",
    "8 bits for all, item rows too",
    "8 bits for all, activations too",
    "8 bits for all, item rows and activations too",
    "static",
)
"""What own widths are held against, by name; the recipe stands in the braces."""

FAMILIES: dict[str, Family] = {
    "own": "personal",
    "another": "control",
    "average": "control",
    "random": "control",
    "static": "control",
}
"""What kind of thing a row is, by the first word of its name; everything else is the same for everybody."""

WHOLES = ("float32", BEFORE, SAME_TEACHER)
"""What shares are of."""


@dataclass(frozen=True)
class Verdict:
    """What one operating point gave.

    Attributes:
        point: the widths and the average.
        runs: whose seeds are pooled.
        rows: quality of each row.
        log_likelihood: of each row, nats, mean over events and runs.
        comparisons: own widths − each rival.
        shares: for each float32 row that is there (as trained, before, with the same teacher) what part of its NDCG@10 each
            other row has.
        spreads: how much a recipe's codes differ, mean over runs.
    """

    point: str
    runs: tuple[str, ...]
    rows: tuple[Row, ...]
    log_likelihood: dict[str, float]
    comparisons: tuple[Comparison, ...]
    shares: dict[str, dict[str, Interval]]
    spreads: dict[str, Spread]


def conclude(data: Dataset, folder: Path, runs: Sequence[str], point: Point, *, seed: int = 0) -> Verdict:
    """Pool the runs of one operating point.

    Args:
        data: the prepared log.
        folder: the study's.
        runs: names of the runs that are through.
        point: which.
        seed: of the intervals.

    Returns:
        the verdict.

    Raises:
        UsageError: a row is not there yet.
    """
    judged = {name: [_read(folder / run / "rows", point, name) for run in runs] for name in _names(folder / runs[0], point)}
    repeats = repeat_share(data.split().test)
    judgements = {name: Judgement(name, np.stack([each.ranks for each in found]), repeats) for name, found in judged.items()}
    family = {name: FAMILIES.get(name.replace("'s", "").split()[0], "base") for name in judged}
    pairs = [(name, rival) for name in judged if family[name] == "personal" for rival in _rivals(name)]
    comparisons = [
        compare_judged(judgements[name], judgements[rival], judged[name], judged[rival], seed)
        for name, rival in pairs
        if rival in judged
    ]
    return Verdict(
        str(point),
        tuple(runs),
        tuple(make_row(judgements[name], family[name], seed=seed) for name in judged),
        {name: float(np.mean([each.mean_likelihood for each in found])) for name, found in judged.items()},
        tuple(comparisons),
        {whole: _shares_of(judgements[whole], judgements, seed) for whole in WHOLES if whole in judgements},
        _spreads(folder, runs, point),
    )


def _shares_of(whole: Judgement, judgements: Mapping[str, Judgement], seed: int) -> dict[str, Interval]:
    """Say every other row's NDCG@10 as a share of one row's."""
    others = (each for each in judgements.values() if each is not whole)
    return {each.name: as_share(compare(each, whole, seed=seed).ndcg_at_10, whole.ndcg()) for each in others}


def write_page(path: Path, verdict: Verdict, data: str, provenance: Provenance) -> None:
    """Write one verdict as a page.

    Args:
        path: such as `chord.html`.
        verdict: what came out.
        data: name of the data set.
        provenance: what made it.
    """
    against = {each.versus: each for each in verdict.comparisons if each.name == "own widths (ridge)"}
    shown = {"another user's widths (ridge)": "another user's", "global widths": "the best for everybody", "float32": "float32"}
    headlines = [
        Headline(
            f"{against[name].ndcg_at_10.mean:+.4f}",
            f"NDCG@10 of own widths over {what} (± {against[name].ndcg_at_10.half_width:.4f})",
        )
        for name, what in shown.items()
        if name in against
    ]
    if spread := verdict.spreads.get("ridge"):
        said = f"of the channels differ between two users; {spread.churn:.0%} change with an event"
        headlines.append(Headline(f"{spread.distance:.0%}", said))
    promise = (
        f"Personal precision on {data}: widths {verdict.point}, {len(verdict.runs)} base(s) pooled. If another user's widths "
        "rank as well, nothing is personal; if float32 does, nothing is gained; if the static control does, it did not take "
        "precision."
    )
    write_report(
        path,
        Report(
            title=f"CHORD on {data}, {verdict.point} bits", promise=promise, headlines=tuple(headlines), rows=verdict.rows,
            comparisons=verdict.comparisons, slots=(), users=(), curves=(), rankings=(), catalog=(), whole_table=None,
            provenance=provenance,
        ),
    )  # fmt: skip


def _rivals(name: str) -> list[str]:
    """Name what a personal row is held against."""
    recipe = name[name.index("(") + 1 : -1]
    whole, without, _ = recipe.partition(" without ")
    if without:
        return [f"own widths ({whole})"]
    fresher = name != f"own widths ({recipe})"
    return [text.format(recipe) for text in RIVALS if not (fresher and text.startswith("own"))]


def _names(folder: Path, point: Point) -> list[str]:
    """List the rows of a run: what no point changes first; in the order in which they were judged."""
    found = [path for place in (COMMON, str(point)) for path in sorted(_times(folder / "rows" / place))]
    if not found:
        raise UsageError(f"{folder}: expected judged rows at {point}, found none")
    return [name for _, name in found]


def _times(folder: Path) -> list[tuple[int, str]]:
    """Name the rows of a folder with the time at which each was judged."""
    return [(path.stat().st_mtime_ns, path.stem) for path in folder.glob("*.npz")]


def _read(rows: Path, point: Point, name: str) -> Judged:
    """Read one row, wherever it lies."""
    for place in (COMMON, str(point)):
        if (path := rows / place / f"{name}.npz").exists():
            return read_row(path)
    raise UsageError(f"{rows}: expected a row {name!r} at {point}; run the study again to judge what is missing")


def compare_judged(a: Judgement, b: Judgement, of_a: Sequence[Judged], of_b: Sequence[Judged], seed: int) -> Comparison:
    """Compare ranks and log-likelihoods, both paired by user.

    Args:
        a: one row's ranks.
        b: the other's.
        of_a: what the one row did, for each run.
        of_b: likewise the other.
        seed: of the intervals.

    Returns:
        a − b.
    """
    mine, other = (np.stack([each.log_likelihood for each in found]) for found in (of_a, of_b))
    return replace(compare(a, b, seed=seed), log_likelihood=paired_bootstrap(mine, other, seed=seed, draws=2_000))


def _spreads(folder: Path, runs: Sequence[str], point: Point) -> dict[str, Spread]:
    """Average the spreads of each recipe's codes over the runs."""
    places = [folder / run / "rows" / str(point) for run in runs]
    recipes = [path.stem.removeprefix("spread-") for path in sorted(places[0].glob("spread-*.json"))]
    found = {}
    for recipe in recipes:
        each = [_spread(place / f"spread-{recipe}.json") for place in places]
        found[recipe] = Spread(*(float(np.mean([getattr(one, name) for one in each])) for name in Spread.__struct_fields__))
    return found


def _spread(path: Path) -> Spread:
    """Read one spread."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Spread)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"{path}: expected a spread with its length ({error}); the study is older: begin a new folder"
        ) from None
