"""What the study of Forward-OFA found: seeds pooled, users drawn again, the user's own payload beside what it must beat.

Pooled as in `chord_verdict.py`. Fine-tuning was tried on some users only: its comparison is over those.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from ossia.data import Dataset
from ossia.errors import UsageError
from ossia.evaluation import Comparison, Judgement, Provenance, Row, make_row, repeat_share
from ossia.evaluation.report import Headline, Report, write_report
from ossia.evaluation.results import Family
from ossia.studies.chord_verdict import compare_judged
from ossia.studies.forward_ofa import FINE_TUNED, OWN, refuse_older
from ossia.studies.forward_ofa_conflict import Conflict
from ossia.studies.forward_ofa_desk import Spent
from ossia.studies.judged_rows import read_row
from ossia.training.frozen import Judged

WHOLE = "the whole base"
FAMILIES: Mapping[str, Family] = {
    OWN: "personal",
    "another user's payload": "control",
    "average user's payload": "control",
    "static model of the same size": "control",
    "uniform depth": "base",
    "lookup table": "base",
    WHOLE: "base",
}
"""What kind of thing a row is; everything else is personal with a part missing."""


@dataclass(frozen=True)
class Verdict:
    """What one share of the blocks' cost gave.

    Attributes:
        share: what devices can afford.
        runs: whose seeds are pooled.
        rows: quality of each row; below a share of 1 the whole base's too, which is uniform depth at 1.
        log_likelihood: of each row, nats, mean over events and runs.
        comparisons: own payload − each other row.
        spent: what each variant's structures cost, mean over runs.
        conflict: cosines between gradients of structures, of all runs.
    """

    share: float
    runs: tuple[str, ...]
    rows: tuple[Row, ...]
    log_likelihood: dict[str, float]
    comparisons: tuple[Comparison, ...]
    spent: dict[str, Spent]
    conflict: tuple[Conflict, ...]


def conclude(data: Dataset, folder: Path, runs: Sequence[str], share: float, *, seed: int = 0) -> Verdict:
    """Pool the runs at one share.

    Args:
        data: the prepared log.
        folder: the study's.
        runs: names of the runs that are through.
        share: which.
        seed: of the intervals.

    Returns:
        the verdict.

    Raises:
        UsageError: there are no rows, or they are from before controllers were held to levels.
    """
    for run in runs:
        refuse_older(folder / run)
    places = [folder / run / "rows" / f"{share:g}" for run in runs]
    made = sorted(places[0].glob("*.npz"), key=lambda path: path.stat().st_mtime_ns)
    names = [path.stem for path in made if all((place / path.name).exists() for place in places)]
    if OWN not in names:
        raise UsageError(f"{places[0]}: expected judged rows, found none")
    judged = {name: [read_row(place / f"{name}.npz") for place in places] for name in names}
    whole = [folder / run / "rows" / "1" / "uniform depth.npz" for run in runs]
    if share < 1 and all(path.exists() for path in whole):
        judged[WHOLE] = [read_row(path) for path in whole]
    repeats = repeat_share(data.split().test)
    rows, comparisons = [], []
    for name, found in judged.items():
        there = np.all([each.ranks >= 0 for each in found], axis=0)
        theirs, of_theirs = _pool(name, found, there, repeats)
        if there.all():
            rows.append(make_row(of_theirs, FAMILIES.get(name, "personal"), seed=seed))
        if name != OWN:
            mine, of_mine = _pool(OWN, judged[OWN], there, repeats)
            comparisons.append(compare_judged(of_mine, of_theirs, mine, theirs, seed))
    return Verdict(
        share,
        tuple(runs),
        tuple(rows),
        {name: float(np.mean([np.nanmean(each.log_likelihood) for each in found])) for name, found in judged.items()},
        tuple(comparisons),
        _spent(places),
        tuple(line for run in runs for line in _conflict(folder / run / "conflict.json")),
    )


def write_page(path: Path, verdict: Verdict, data: str, provenance: Provenance) -> None:
    """Write one verdict as a page.

    Args:
        path: such as `forward-ofa.html`.
        verdict: what came out.
        data: name of the data set.
        provenance: what made it.
    """
    shown = {
        "another user's payload": "another user's",
        "uniform depth": "the base's first blocks",
        "lookup table": "the table",
    }
    headlines = [
        Headline(
            f"{each.ndcg_at_10.mean:+.4f}", f"NDCG@10 of own over {shown[each.versus]} (± {each.ndcg_at_10.half_width:.4f})"
        )
        for each in verdict.comparisons
        if each.versus in shown
    ]
    if own := verdict.spent.get(OWN):
        headlines.append(Headline(f"{own.share:.0%}", f"of the blocks' cost runs, in {own.structures} structures"))
    promise = (
        f"Structure and weights of one's own on {data}: devices that can afford {verdict.share:.0%} of the blocks' cost, "
        f"{len(verdict.runs)} base(s) pooled. If another user's payload ranks as well, nothing is personal; if the lookup "
        f"table does, no controller is needed; if the static model does, it was not the payload. {FINE_TUNED}: some users only."
    )
    write_report(
        path,
        Report(
            title=f"Forward-OFA on {data}, {verdict.share:.0%} of the cost", promise=promise, headlines=tuple(headlines),
            rows=verdict.rows, comparisons=verdict.comparisons, slots=(), users=(), curves=(), rankings=(), catalog=(),
            whole_table=None, provenance=provenance,
        ),
    )  # fmt: skip


def _pool(name: str, found: Sequence[Judged], there: np.ndarray, repeats: float) -> tuple[list[Judged], Judgement]:
    """Put a row's runs side by side, for the events that were judged."""
    some = [Judged(each.log_likelihood[there], each.ranks[there]) for each in found]
    return some, Judgement(name, np.stack([each.ranks for each in some]), repeats)


def _spent(places: Sequence[Path]) -> dict[str, Spent]:
    """Average what structures cost over the runs."""
    found = {}
    for path in sorted(places[0].glob("*.json")):
        each = [msgspec.json.decode(p.read_bytes(), type=Spent) for place in places if (p := place / path.name).exists()]
        kept = {gate: float(np.mean([one.kept[gate] for one in each])) for gate in each[0].kept}
        latency = None if each[0].latency_us is None else float(np.mean([one.latency_us for one in each]))
        share, structures = float(np.mean([one.share for one in each])), max(one.structures for one in each)
        found[path.stem] = Spent(share, structures, kept, latency)
    return found


def _conflict(path: Path) -> list[Conflict]:
    """Read a run's cosines; none, where they are not measured yet."""
    return msgspec.json.decode(path.read_bytes(), type=list[Conflict]) if path.exists() else []
