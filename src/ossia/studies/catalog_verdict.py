"""What the study of the personal catalog found: quality against bytes at each staleness, seeds pooled, as curves and as rows.

    relative quality = NDCG@10 of the holding / NDCG@10 of the whole float32 table, the same cases

Its interval is that of the paired difference to the whole table, drawn over users, divided by the whole table's mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from jaxtyping import Float

from ossia.evaluation import Interval, Provenance, bootstrap_mean, paired_bootstrap
from ossia.evaluation.metrics import gains_at_k
from ossia.evaluation.page import page, section
from ossia.evaluation.plots import CatalogCurve, plot_catalog
from ossia.evaluation.table import Family, provenance_lines
from ossia.files import write_whole
from ossia.studies.catalog import STALE, Holding, read_holdings
from ossia.studies.catalog_refresh import EVENTS, Refresh
from ossia.studies.catalog_study import HOLDINGS, REFRESHES

WHOLE = "float32 table"
LEARNT, OWN = "learnt rows", "own rows"
MEASURED = ("sent", "fresh", "stale")
DRAWN: dict[str, Family] = {
    "own rows": "personal",
    "own rows over codes of 8 bytes": "base",
    "own groups": "control",
    "popular rows": "baseline",
}
"""The curves that are drawn, with their colors; the table has all."""


@dataclass(frozen=True)
class Line:
    """One holding.

    Attributes:
        holding: what is held, how many bytes, how stale.
        ndcg_at_10: mean over users and runs.
        relative: to the whole float32 table, with interval.
    """

    holding: Holding
    ndcg_at_10: Interval
    relative: Interval


@dataclass(frozen=True)
class CatalogVerdict:
    """What the study found.

    Attributes:
        runs: whose seeds are pooled.
        lines: every holding.
        learnt: learnt rows − own rows at the same bytes, NDCG@10.
        refreshes: what it costs to refresh own rows every two events; means over runs.
    """

    runs: tuple[str, ...]
    lines: tuple[Line, ...]
    learnt: tuple[tuple[Holding, Interval], ...]
    refreshes: tuple[Refresh, ...]


def conclude(folder: Path, runs: Sequence[str], *, seed: int = 0) -> CatalogVerdict:
    """Pool the runs.

    Args:
        folder: the study's.
        runs: names of the runs that are through.
        seed: of the intervals.

    Returns:
        the verdict.
    """
    found = [read_holdings(folder / run / HOLDINGS) for run in runs]
    gains = {each: np.stack([gains_at_k(one[each], 10) for one in found]) for each in found[0]}
    whole = gains[next(each for each in gains if each.kind == WHOLE)]
    lines = tuple(
        Line(each, bootstrap_mean(gain, seed=seed, draws=2_000), _relative(gain, whole, seed)) for each, gain in gains.items()
    )
    pairs = [(each, Holding(each.kind.replace(LEARNT, OWN), each.share, each.stale)) for each in gains if LEARNT in each.kind]
    learnt = tuple((one, paired_bootstrap(gains[one], gains[other], seed=seed, draws=2_000)) for one, other in pairs)
    return CatalogVerdict(tuple(runs), lines, learnt, _pool_refreshes(folder, runs))


def _pool_refreshes(folder: Path, runs: Sequence[str]) -> tuple[Refresh, ...]:
    """Average each rule's figures over runs."""
    found = [msgspec.json.decode((folder / run / REFRESHES).read_bytes(), type=list[Refresh]) for run in runs]
    return tuple(
        msgspec.structs.replace(rule[0], **{name: float(np.mean([getattr(one, name) for one in rule])) for name in MEASURED})
        for rule in zip(*found, strict=True)
    )


def _relative(gain: Float[np.ndarray, "seeds users"], whole: Float[np.ndarray, "seeds users"], seed: int) -> Interval:
    """Divide a paired difference by the whole table's mean, and add 1."""
    gap, mean = paired_bootstrap(gain, whole, seed=seed, draws=2_000), float(whole.mean())
    return Interval(1 + gap.mean / mean, 1 + gap.low / mean, 1 + gap.high / mean)


def write_page(path: Path, verdict: CatalogVerdict, data: str, provenance: Provenance) -> None:
    """Write curves and table as a page.

    Args:
        path: such as `catalog.html`.
        verdict: what was found.
        data: name of the data set.
        provenance: what made it.
    """
    whole = next(line.ndcg_at_10 for line in verdict.lines if line.holding.kind == WHOLE)
    plots = [
        section(f"{stale} events stale", "NDCG@10 against all bytes that are held of the table.", _plot(verdict, stale, whole))
        for stale in STALE
    ]
    note = "Of the whole int8 table's bytes; of the float32 table's NDCG@10, with a paired 95 % interval."
    table = section("All holdings", note, _table(HEADS, [cells(line) for line in verdict.lines]))
    note = f"Own rows, refreshed every {EVENTS} events. Sent: the list and the rows not held, of the bytes of all rows held."
    kept = section("Refreshes", note, _table(REFRESH_HEADS, [refresh_cells(each) for each in verdict.refreshes]))
    made = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in provenance_lines(provenance))
    title = f"The personal catalog on {data}"
    source = section("Where this comes from", "What to run to get this again.", f"<dl>{made}</dl>")
    write_whole(path, page(title, [f"<h1>{title}</h1>", *plots, table, kept, source]).encode())


HEADS = ("what is held", "bytes", "events stale", "NDCG@10", "of the whole", "95 %")


def cells(line: Line) -> tuple[str, ...]:
    """Write a line as text.

    Args:
        line: one holding.

    Returns:
        a text for each of `HEADS`.
    """
    held, part = line.holding, line.relative
    between = f"{part.low:.3f}–{part.high:.3f}"
    return held.kind, f"{held.share:.1%}", str(held.stale), f"{line.ndcg_at_10.mean:.4f}", f"{part.mean:.3f}", between


REFRESH_HEADS = ("rows", "a row stays while among", "sent", "an event", "fresh", f"{EVENTS} events stale")


def refresh_cells(refresh: Refresh) -> tuple[str, ...]:
    """Write a rule as text.

    Args:
        refresh: what it does.

    Returns:
        a text for each of `REFRESH_HEADS`.
    """
    stays = "the best" if refresh.keep == 1 else f"the best {refresh.keep} ×"
    sent = f"{refresh.sent:.0%}", f"{refresh.sent / EVENTS:.0%}"
    return f"{refresh.share:.0%} of the table", stays, *sent, f"{refresh.fresh:.3f}", f"{refresh.stale:.3f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table in HTML."""
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _plot(verdict: CatalogVerdict, stale: int, whole: Interval) -> str:
    """Draw the curves of one staleness; what does not age is drawn in all."""
    curves = []
    for kind, family in DRAWN.items():
        lines = [line for line in verdict.lines if line.holding.kind == kind and line.holding.stale in (stale, 0)]
        aged = [line for line in lines if line.holding.stale == stale] or lines
        points = sorted(((line.holding.share, line.ndcg_at_10) for line in aged), key=lambda point: point[0])
        if points:
            curves.append(CatalogCurve(kind, family, tuple(points)))
    return plot_catalog(curves, whole, name=f"catalog-{stale}")
