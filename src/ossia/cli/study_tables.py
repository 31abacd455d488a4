"""What the commands under `study` say to people: each study's verdict as tables and lines of text."""

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rich.table

    import ossia.evaluation
    import ossia.studies.catalog_verdict
    import ossia.studies.chord_verdict
    import ossia.studies.forward_ofa_verdict
    import ossia.studies.widths


def catalog_lines(verdict: "ossia.studies.catalog_verdict.CatalogVerdict", data: str) -> "list[str | rich.table.Table]":
    """Say what the study of the catalog found.

    Args:
        verdict: of the study.
        data: name of the data set.

    Returns:
        the holdings, the differences, how bytes were split, and what refreshes send.
    """
    from ossia.studies.catalog_verdict import GAIN_HEADS, HEADS, REFRESH_HEADS, cells, gain_cells, refresh_cells

    table = _table(f"{data}, {len(verdict.runs)} run(s)", HEADS, [cells(line) for line in verdict.lines])
    kept = _table("own rows, refreshed every two events", REFRESH_HEADS, [refresh_cells(each) for each in verdict.refreshes])
    gaps = _table("differences, user by user", GAIN_HEADS, [gain_cells(each) for each in verdict.gains], words=(0, 3))
    splits = [f"{run}, {share:.0%} of the table: {split}" for run, share, split in verdict.splits]
    return [table, gaps, *splits, kept]


def widths_table(verdict: "ossia.studies.widths.Verdict", data: str) -> "rich.table.Table":
    """Lay out what the study of widths found.

    Args:
        verdict: of the study.
        data: name of the data set.

    Returns:
        a row a slice, with its share of what it is held against.
    """
    rows: list[Sequence[str]] = []
    for row in verdict.rows:
        ndcg = row.ndcg_at_10
        cells = (row.name, f"{ndcg.mean:.4f}", f"{ndcg.low:.4f}–{ndcg.high:.4f}", f"{row.hr_at_10.mean:.4f}")
        shares = [_share_cells(each) for each in verdict.comparisons if each.difference.name == row.name]
        rows.append([*cells, *(shares[0] if shares else ())])
        rows += [["", "", "", "", *each] for each in shares[1:]]
    heads = ("", "NDCG@10", "95 %", "HR@10", "of", "share", "95 %")
    return _table(f"{data}, {len(verdict.runs)} run(s)", heads, rows, words=(0, 4))


def _share_cells(against: "ossia.studies.widths.Against") -> tuple[str, str, str]:
    """Write what a row is held against, its share of that, and the interval."""
    share = against.share
    return against.difference.versus, f"{share.mean:.1%}", f"{share.low:.1%}–{share.high:.1%}"


def chord_lines(verdict: "ossia.studies.chord_verdict.Verdict") -> "list[str | rich.table.Table]":
    """Say what the study of CHORD found at one point.

    Args:
        verdict: of the point.

    Returns:
        the rows, the differences, the shares of float32, and how much codes differ.
    """
    spreads = [
        f"{name}: entropy {spread.entropy:.3f} bits a channel, {spread.distance:.1%} of channels differ between users, "
        f"{spread.churn:.1%} change with an event"
        for name, spread in verdict.spreads.items()
    ]
    return [*_tables(verdict, f"{verdict.point} bits"), _shares_table(verdict), *spreads]


def _shares_table(verdict: "ossia.studies.chord_verdict.Verdict") -> "rich.table.Table":
    """Lay out what part of each float32 row every row has: a column a float32 row."""
    shares = verdict.shares
    rows = [[row.name, *(_share_cell(found.get(row.name)) for found in shares.values())] for row in verdict.rows]
    return _table("share of NDCG@10, user by user", ("", *(f"of {whole}" for whole in shares)), rows)


def _share_cell(share: "ossia.evaluation.Interval | None") -> str:
    """Write a share with its interval; nothing for a row against itself."""
    return "" if share is None else f"{share.mean:.1%} ({share.low:.1%} … {share.high:.1%})"


def forward_ofa_lines(verdict: "ossia.studies.forward_ofa_verdict.Verdict") -> "list[str | rich.table.Table]":
    """Say what the study of Forward-OFA found at one budget.

    Args:
        verdict: of the budget.

    Returns:
        the rows, what own payloads gain, what structures cost, and how gradients agree.
    """
    spent = [
        f"{name}: {each.share:.0%} of the cost runs, {each.structures} structures"
        + ("" if each.latency_us is None else f", {each.latency_us:.1f} µs")
        for name, each in verdict.spent.items()
    ]
    conflict = [
        f"{each.layer}, {each.network}: cosine {each.cosine:.2f}, {each.opposed:.0%} below 0" for each in verdict.conflict
    ]
    return [*_tables(verdict, f"{verdict.share:.0%} of the cost"), *spent, *conflict]


def _tables(
    verdict: "ossia.studies.chord_verdict.Verdict | ossia.studies.forward_ofa_verdict.Verdict", title: str
) -> "list[str | rich.table.Table]":
    """Tabulate rows and differences."""
    from ossia.evaluation.table import comparison_cells, likelihood_cell

    rows = []
    for row in verdict.rows:
        ndcg, likelihood = row.ndcg_at_10, verdict.log_likelihood[row.name]
        between = f"{ndcg.low:.4f}–{ndcg.high:.4f}"
        rows.append((row.name, f"{ndcg.mean:.4f}", between, f"{row.hr_at_10.mean:.4f}", f"{likelihood:.4f}"))
    gaps = [(*comparison_cells(each), likelihood_cell(each)) for each in verdict.comparisons]
    heads, gap_heads = ("", "NDCG@10", "95 %", "HR@10", "log-likelihood"), ("", "minus", "NDCG@10", "95 %", "p", "nats")
    return [
        _table(f"{title}, {len(verdict.runs)} run(s)", heads, rows),
        _table("differences, user by user", gap_heads, gaps, words=(0, 1)),
    ]


def _table(
    title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], words: Collection[int] = (0,)
) -> "rich.table.Table":
    """Lay out a table for people; the columns `words` are text, the others numbers."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold")
    for place, head in enumerate(heads):
        table.add_column(head, justify="left" if place in words else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table
