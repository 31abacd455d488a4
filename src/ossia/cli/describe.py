"""The command `describe`: what a prepared log is like, before anybody learns from it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ossia.cli.options import DataArgument, JsonOption
from ossia.cli.output import answer, count, say

if TYPE_CHECKING:
    import rich.table

    import ossia.data.description
    import ossia.evaluation
    import ossia.evaluation.sequential


def describe(
    data: DataArgument,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the page as one HTML file too.")] = None,
    cases: Annotated[int, typer.Option("--cases", min=1, help="Judge order on at most this many validation events.")] = 5000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of shuffles, draws and intervals.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Describe a log: lengths, popularity, ties, time, and what the order of events is worth against a shuffled copy.

    Example: ossia describe data --html log.html
    """
    from ossia.data import Dataset
    from ossia.data.description import describe as count_all
    from ossia.evaluation.log_page import render_log_page, verdict, warning
    from ossia.evaluation.sequential import measure_order
    from ossia.files import write_whole

    dataset = Dataset.load(data)
    description = count_all(dataset)
    say(f"describe: judging a bigram on {data} and on shuffled copies")
    order = measure_order(dataset.split(), dataset.items, seed=seed, most=cases)
    if html is not None:
        name = dataset.info.source.get("name") or data.name
        write_whole(html, render_log_page(name, description, order, dataset.info).encode())
    alarm = warning(description)
    lines: list[rich.table.Table | str] = [*_tell(data, description), "", _table(order), verdict(order)]
    lines += [alarm] if alarm else []
    answer({"data": data, "html": html, "log": description, "order": order}, lines, as_json=as_json)


def _tell(data: Path, log: "ossia.data.description.Description") -> list[str]:
    """Say what was counted, a line each."""
    lengths, popular, span = log.lengths, log.popularity, log.span
    low, _, middle, _, high = lengths.quantiles
    ties = (
        "–" if log.tie_share is None else f"{log.tie_share:.1%} of neighboring events have equal times, ordered by {log.ties}"
    )
    ties += "" if log.ascending_ties is None else f"; {log.ascending_ties:.1%} of them in ascending order of item id"
    when = "–" if span is None else f"{span.first_date or span.first} … {span.last_date or span.last}"
    return [
        f"{data}: {count(log.users, 'user')}, {count(log.items, 'item')}, {count(log.events, 'event')}",
        f"  density  {log.density:.3%} of all pairs of user and item",
        f"  lengths  {lengths.mean:.1f} on average; {low:g}, {middle:g}, {high:g} at 5, 50, 95 %;"
        f" {lengths.least:,} … {lengths.most:,}",
        f"  popular  {popular.top_1_percent:.1%} of events on 1 % of items, {popular.top_10_percent:.1%} on 10 %;"
        f" Gini {popular.gini:.3f}; {count(popular.items_for_half, 'item')} for half",
        f"  ties     {ties}",
        f"  repeats  {log.repeat_share:.1%} of events are items that the user had met before",
        f"  time     {when}",
        f"  split    {log.split}: {log.training_events:,} events to learn from, {log.validation_cases:,} questions for"
        f" validation, {log.test_cases:,} for test ({log.cold_share:.1%} of them after items that training never met)",
        f"  hash     {log.hash}",
    ]


def _table(order: "ossia.evaluation.sequential.Sequentiality") -> "rich.table.Table":
    """Lay out what a bigram makes of the order."""
    from rich.table import Table

    title = f"{order.cases:,} validation events"
    table = Table(title=title, title_justify="left", header_style="bold")
    for place, column in enumerate(("", "NDCG@10", "95 %", "HR@10", "95 %")):
        table.add_column(column, justify="left" if place == 0 else "right")
    for row in order.rows:
        cells = (f(each) for each in (row.ndcg_at_10, row.hr_at_10) for f in (_mean, _range))
        table.add_row(row.name, *cells)
    return table


def _mean(interval: "ossia.evaluation.Interval") -> str:
    """Write a mean."""
    return f"{interval.mean:.4f}"


def _range(interval: "ossia.evaluation.Interval") -> str:
    """Write an interval."""
    return f"{interval.low:.4f}–{interval.high:.4f}"
