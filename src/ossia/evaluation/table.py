"""The table of results, shown: in the terminal, in the documents, as JSON. What stands in it is in `results.py`.

A figure that was not measured is None in Python, null in JSON, and a dash for people; it is never 0.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from ossia.evaluation.bootstrap import Interval
from ossia.evaluation.protocol import FULL, check_protocols
from ossia.evaluation.results import Comparison, Provenance, Row

if TYPE_CHECKING:
    import rich.table

DASH = "–"
_BYTES = ("bytes at rest", "bytes to the device", "bytes of payload")


def rich_table(rows: Sequence[Row], *, title: str = "") -> "rich.table.Table":
    """Lay the rows out for the terminal.

    Args:
        rows: in the order in which they are to stand.
        title: above the table.

    Returns:
        what `rich` prints.

    Raises:
        UsageError: the rows are of different protocols.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", header_style="bold")
    for place, column in enumerate(_columns(rows)):
        table.add_column(column, justify="left" if place == 0 else "right", no_wrap=place == 0)
    for row in rows:  # Text, not str: a name may hold the square brackets of rich's markup
        table.add_row(*(Text(cell) for cell in _cells(row)), style="bold" if row.family == "personal" else None)
    return table


def markdown_table(rows: Sequence[Row], provenance: Provenance, comparisons: Sequence[Comparison] = ()) -> str:
    """Write the rows for `docs/results.md`, followed by the comparisons and by what made them.

    Args:
        rows: in the order in which they are to stand.
        provenance: command, seeds, machine, versions, data, date.
        comparisons: paired differences; none leaves that table out.

    Returns:
        Markdown, ending in a newline.

    Raises:
        UsageError: the rows are of different protocols.
    """
    columns = _columns(rows)
    lines = ["| " + " | ".join(columns) + " |", "|---" + "|--:" * (len(columns) - 1) + "|"]
    lines += ["| " + " | ".join(_escape(cell) for cell in _cells(row)) + " |" for row in rows]
    if comparisons:
        nats = any(each.log_likelihood for each in comparisons)
        lines += ["", f"| NDCG@10 of | minus that of | difference | 95 % | p |{' nats |' if nats else ''}"]
        lines += [f"|---|---|--:|--:|--:|{'--:|' if nats else ''}"]
        for each in comparisons:
            cells = (*comparison_cells(each), likelihood_cell(each)) if nats else comparison_cells(each)
            lines += ["| " + " | ".join(_escape(cell) for cell in cells) + " |"]
    return "\n".join([*lines, "", *(f"- {name}: {text}" for name, text in provenance_lines(provenance, ticks=True))]) + "\n"


def json_table(rows: Sequence[Row], provenance: Provenance, comparisons: Sequence[Comparison] = ()) -> bytes:
    """Write rows, comparisons and provenance as one JSON object, under the names that they have in Python.

    Figures among sampled negatives are called so here too: `sampled_ndcg_at_10`, `sampled_hr_at_10`.

    Args:
        rows: in order.
        provenance: command, seeds, machine, versions, data, date.
        comparisons: paired differences.

    Returns:
        UTF-8 JSON, indented.

    Raises:
        UsageError: the rows are of different protocols.
    """
    sampled = "sampled" in check_protocols([row.protocol for row in rows])
    whole = {
        "rows": [_with_honest_names(row) if sampled else row for row in rows],
        "comparisons": [_with_honest_names(each) if sampled else each for each in comparisons],
        "provenance": provenance,
    }
    return msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n"


def show_bytes(count: float | int | None) -> str:
    """Write a number of bytes with separators, `1,234`; a dash if it was not measured.

    Args:
        count: bytes, perhaps a mean over users.

    Returns:
        the text.

    Example:
        >>> show_bytes(81234.4), show_bytes(None)
        ('81,234', '–')
    """
    return DASH if count is None else f"{count:,.0f}"


def comparison_cells(comparison: Comparison) -> tuple[str, str, str, str, str]:
    """Write a comparison as text: name, versus, difference, interval, p.

    Args:
        comparison: the paired difference.

    Returns:
        five texts.
    """
    gap = comparison.ndcg_at_10
    p = DASH if gap.p is None else "< 0.001" if gap.p < 0.001 else f"{gap.p:.3f}"
    between = f"{_signed(gap.low)} … {_signed(gap.high)}"
    return comparison.name, comparison.versus, _signed(gap.mean), between, p


def likelihood_cell(comparison: Comparison) -> str:
    """Write the difference in log-likelihood as text.

    Args:
        comparison: the paired difference.

    Returns:
        mean and half-width in nats, or a dash.

    Example:
        >>> likelihood_cell(Comparison("a", "b", Interval(0.0, 0.0, 0.0), Interval(0.05, 0.04, 0.06)))
        '+0.0500 ± 0.0100'
    """
    nats = comparison.log_likelihood
    return DASH if nats is None else f"{_signed(nats.mean)} ± {nats.half_width:.4f}"


def provenance_lines(provenance: Provenance, *, ticks: bool = False) -> list[tuple[str, str]]:
    """Write what made a table as pairs of name and text.

    Args:
        provenance: what made it.
        ticks: put Markdown's back ticks around the command and the hash.

    Returns:
        the pairs, in the order in which they are shown.
    """
    tick = "`" if ticks else ""
    return [
        ("command", f"{tick}{provenance.command}{tick}"),
        ("seeds", ", ".join(map(str, provenance.seeds))),
        ("data", f"{provenance.data}, {tick}{provenance.data_hash}{tick}"),
        ("machine", provenance.machine),
        ("versions", ", ".join(f"{name} {version}" for name, version in sorted(provenance.versions.items()))),
        ("date", provenance.date),
    ]


def measure(name: str, protocol: str) -> str:
    """Name a figure so that nobody takes it for another protocol's.

    Args:
        name: such as `NDCG@10`.
        protocol: what was ranked.

    Returns:
        the heading of its column.

    Example:
        >>> measure("NDCG@10", "full ranking"), measure("NDCG@10", "100 sampled negatives")
        ('NDCG@10', 'NDCG@10 (100 sampled negatives)')
    """
    return name if protocol == FULL else f"{name} ({protocol})"


def _columns(rows: Sequence[Row]) -> tuple[str, ...]:
    """Head the columns for rows of one protocol."""
    protocol = check_protocols([row.protocol for row in rows])
    return ("", measure("NDCG@10", protocol), "95 %", measure("HR@10", protocol), "95 %", *_BYTES)


def _with_honest_names(figures: Row | Comparison) -> dict[str, object]:
    """Rename figures that were made among sampled negatives."""
    fields: dict[str, object] = msgspec.to_builtins(figures)
    return {f"sampled_{name}" if name.endswith("_at_10") else name: value for name, value in fields.items()}


def _cells(row: Row) -> tuple[str, ...]:
    """One row as text, in the order of the columns."""
    return (
        row.name,
        f"{row.ndcg_at_10.mean:.4f}",
        _show_range(row.ndcg_at_10),
        f"{row.hr_at_10.mean:.4f}",
        _show_range(row.hr_at_10),
        show_bytes(row.rest_bytes),
        show_bytes(row.device_bytes),
        show_bytes(row.payload_bytes),
    )


def _signed(value: float) -> str:
    """A difference with its sign, a real minus."""
    return f"{value:+.4f}".replace("-", "−")


def _show_range(interval: Interval) -> str:
    """An interval as text."""
    return f"{interval.low:.4f}–{interval.high:.4f}"


def _escape(cell: str) -> str:
    """Keep a text inside its cell of a Markdown table."""
    return cell.replace("|", "\\|").replace("\n", " ")
