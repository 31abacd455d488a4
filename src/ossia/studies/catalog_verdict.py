"""What the study of the personal catalog found: quality against bytes at each staleness, seeds pooled, as curves and as rows.

    relative quality = NDCG@10 of the holding / NDCG@10 of the whole float32 table, the same cases

Its interval is that of the paired difference to the whole table, drawn over users, divided by the whole table's mean.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from ossia.evaluation import Interval, Provenance, as_share, bootstrap_mean, paired_bootstrap
from ossia.evaluation.metrics import gains_at_k
from ossia.evaluation.page import page, section
from ossia.evaluation.plots import CatalogCurve, plot_catalog
from ossia.evaluation.results import Family
from ossia.evaluation.table import provenance_lines
from ossia.files import write_whole
from ossia.studies.catalog import Holding, read_holdings
from ossia.studies.catalog_mixed import MIXED, Split
from ossia.studies.catalog_refresh import EVENTS, Refresh
from ossia.studies.catalog_room import BY_MEANS, STALE
from ossia.studies.catalog_study import HOLDINGS, MIXTURES, REFRESHES, SPLITS

WHOLE = "float32 table"
LEARNED, OWN = "learned rows", "own rows"
JUDGED = (HOLDINGS, MIXTURES)
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
class Gain:
    """One holding against another.

    Attributes:
        holding: what is held.
        versus: the other kind, of the same staleness and as nearly as can be of the same bytes.
        ndcg_at_10: the difference, paired by user.
    """

    holding: Holding
    versus: str
    ndcg_at_10: Interval


@dataclass(frozen=True)
class CatalogVerdict:
    """What the study found.

    Attributes:
        runs: whose seeds are pooled.
        lines: every holding.
        gains: what was learned or chosen − what it is held against at the same bytes, NDCG@10.
        splits: how validation split the bytes of rows at mixed widths, for each run and share.
        refreshes: what it costs to refresh own rows every two events; means over runs.
    """

    runs: tuple[str, ...]
    lines: tuple[Line, ...]
    gains: tuple[Gain, ...]
    splits: tuple[tuple[str, float, str], ...]
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
    found = [{each: ranks for name in JUDGED for each, ranks in read_holdings(folder / run / name).items()} for run in runs]
    gains = {each: np.stack([gains_at_k(one[each], 10) for one in found]) for each in found[0]}
    whole = gains[next(each for each in gains if each.kind == WHOLE)]
    lines = tuple(
        Line(
            each,
            bootstrap_mean(gain, seed=seed, draws=2_000),
            as_share(paired_bootstrap(gain, whole, seed=seed, draws=2_000), float(whole.mean())),
        )
        for each, gain in gains.items()
    )
    gaps = tuple(
        Gain(each, rival.kind, paired_bootstrap(gains[each], gains[rival], seed=seed, draws=2_000))
        for each in gains
        if (rival := _rival(each, gains))
    )
    return CatalogVerdict(tuple(runs), lines, gaps, _splits(folder, runs), _pool_refreshes(folder, runs))


def _rival(holding: Holding, others: Collection[Holding]) -> Holding | None:
    """Find what a holding is held against, if anything, nearest in bytes: own rows at 4 bits, or codes by k-means alone."""
    kind = next((holding.kind.replace(name, OWN) for name in (LEARNED, MIXED) if name in holding.kind), holding.kind + BY_MEANS)
    alike = [each for each in others if (each.kind, each.stale) == (kind, holding.stale)]
    return min(alike, key=lambda each: abs(each.share - holding.share), default=None)


def _splits(folder: Path, runs: Sequence[str]) -> tuple[tuple[str, float, str], ...]:
    """Read how each run's bytes were split."""
    found = {run: msgspec.json.decode((folder / run / SPLITS).read_bytes(), type=list[tuple[float, Split]]) for run in runs}
    return tuple((run, share, str(split)) for run, splits in found.items() for share, split in splits)


def _pool_refreshes(folder: Path, runs: Sequence[str]) -> tuple[Refresh, ...]:
    """Average each rule's figures over runs."""
    found = [msgspec.json.decode((folder / run / REFRESHES).read_bytes(), type=list[Refresh]) for run in runs]
    return tuple(
        msgspec.structs.replace(rule[0], **{name: float(np.mean([getattr(one, name) for one in rule])) for name in MEASURED})
        for rule in zip(*found, strict=True)
    )


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
    note = "At the same bytes, user by user."
    gaps = section("What is gained", note, _table(GAIN_HEADS, [gain_cells(each) for each in verdict.gains]))
    note = f"Own rows, refreshed every {EVENTS} events. Sent: the list and the rows not held, of the bytes of all rows held."
    kept = section("Refreshes", note, _table(REFRESH_HEADS, [refresh_cells(each) for each in verdict.refreshes]))
    made = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in provenance_lines(provenance))
    title = f"The personal catalog on {data}"
    source = section("Where this comes from", "What to run to get this again.", f"<dl>{made}</dl>")
    write_whole(path, page(title, [f"<h1>{title}</h1>", *plots, table, gaps, kept, source]).encode())


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


GAIN_HEADS = ("what is held", "bytes", "events stale", "minus", "NDCG@10", "95 %")


def gain_cells(gain: Gain) -> tuple[str, ...]:
    """Write a difference as text.

    Args:
        gain: one holding against another.

    Returns:
        a text for each of `GAIN_HEADS`.
    """
    held, gap = gain.holding, gain.ndcg_at_10
    return held.kind, f"{held.share:.1%}", str(held.stale), gain.versus, f"{gap.mean:+.4f}", f"{gap.low:+.4f} … {gap.high:+.4f}"


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
