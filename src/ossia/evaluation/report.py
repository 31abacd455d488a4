"""`report.html`: what a run found, in one file that a person would rather look at than at a log.

    Report (plain data)  →  render_report (a pure function)  →  write_report (one file, written whole)

The report holds everything it shows: no script, no font, no picture from elsewhere, and it opens from a disk without network.
Text that comes from data, such as a film's title, is escaped. The same `Report` gives the same bytes.

What it does not do: measure, choose, or round in its favor. A part that has nothing to show is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from ossia.evaluation.bootstrap import Interval
from ossia.evaluation.page import page, section
from ossia.evaluation.pictures import UserCodes, average_bits, draw_codes, draw_interval
from ossia.evaluation.plots import CatalogCurve, Curve, plot_catalog, plot_curves, plot_quality
from ossia.evaluation.protocol import FULL, check_protocols
from ossia.evaluation.results import Comparison, Provenance, Row
from ossia.evaluation.table import comparison_cells, likelihood_cell, measure, provenance_lines, show_bytes
from ossia.files import write_whole
from ossia.types import WIDTHS, Slot

_FAMILY_NAMES = {
    "baseline": "counts only",
    "base": "the same for everybody",
    "personal": "made for the user",
    "control": "what personal must beat",
}


@dataclass(frozen=True)
class Headline:
    """One figure at the top.

    Attributes:
        value: such as `368 B`.
        label: what it is, in a line.
    """

    value: str
    label: str


@dataclass(frozen=True)
class Ranking:
    """One list of recommendations.

    Attributes:
        name: such as `before` or `after, 48 kB`.
        note: such as the budget and the bytes of the payload.
        titles: best first.
        scores: one per title.
    """

    name: str
    note: str
    titles: tuple[str, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class UserRankings:
    """What one user is shown, before and after.

    Attributes:
        name: whose.
        history: titles of the last events, oldest first.
        rankings: the first is what the others are compared with.
        met: the title that the user really met next; None if it is not known.
    """

    name: str
    history: tuple[str, ...]
    rankings: tuple[Ranking, ...]
    met: str | None = None


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that the report shows.

    Attributes:
        title: of the page.
        promise: one or two sentences: what was done, and what to look at.
        headlines: a few figures.
        rows: the table of results.
        comparisons: paired differences.
        slots: in wire order, for the pictures of codes.
        users: codes of a few users.
        curves: trainings.
        rankings: lists of a few users.
        catalog: curves of the personal catalog against others.
        whole_table: NDCG@10 with the whole item table, which those curves reach at 100 %; None leaves the line out.
        provenance: what made all this.
    """

    title: str
    promise: str
    headlines: tuple[Headline, ...]
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]
    slots: tuple[Slot, ...]
    users: tuple[UserCodes, ...]
    curves: tuple[Curve, ...]
    rankings: tuple[UserRankings, ...]
    catalog: tuple[CatalogCurve, ...]
    whole_table: Interval | None
    provenance: Provenance


def write_report(path: Path, report: Report) -> None:
    """Write the report as one self-contained HTML file, in one step.

    Args:
        path: such as `report.html`.
        report: what to show.

    Raises:
        OSError: the disk refused; `path` is then what it was.
        UsageError: the report contradicts itself, such as codes of another length than its slots.
    """
    write_whole(path, render_report(report).encode())


def render_report(report: Report) -> str:
    """Turn a report into an HTML document.

    Args:
        report: what to show.

    Returns:
        the document; the same report gives the same text.

    Raises:
        UsageError: the report contradicts itself, such as codes of another length than its slots.
    """
    parts = [
        _head(report),
        _results(report.rows, report.comparisons) if report.rows else "",
        _quality(report.rows) if any(row.rest_bytes for row in report.rows) else "",
        _catalog(report) if report.catalog else "",
        _codes(report.slots, report.users) if report.users else "",
        _rankings(report.rankings) if report.rankings else "",
        _curves(report.curves) if report.curves else "",
        _provenance(report.provenance),
    ]
    return page(report.title, parts)


def _head(report: Report) -> str:
    """Title, promise and headline figures."""
    figures = "".join(f"<div><b>{escape(line.value)}</b><span>{escape(line.label)}</span></div>" for line in report.headlines)
    return (
        f'<header>\n<h1>{escape(report.title)}</h1>\n<p class="promise">{escape(report.promise)}</p>\n'
        f'<div class="headlines">{figures}</div>\n</header>'
    )


def _results(rows: Sequence[Row], comparisons: Sequence[Comparison]) -> str:
    """The table of results, bars in its cells, and the paired differences under it."""
    most = max(max(row.ndcg_at_10.high, row.ndcg_at_10.mean) for row in rows) or 1.0
    first, protocol = rows[0], check_protocols([row.protocol for row in rows])
    heads = (
        "",
        escape(measure("NDCG@10", protocol)),
        "",
        escape(measure("HR@10", protocol)),
        "bytes<br>at rest",
        "to the<br>device",
        "of<br>payload",
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    body = "\n".join(_result(number, row, most) for number, row in enumerate(rows, 1))
    key = "".join(f'<li><span class="dot {family}"></span>{name}</li>' for family, name in _FAMILY_NAMES.items())
    ranked = "Full ranking of the whole catalog" if protocol == FULL else f"Ranking among {escape(protocol)}"
    note = (
        f"{ranked} for {first.cases:,} held-out events; ties count against us; "
        f"{100 * first.repeat_share:.1f} % of the targets repeat an earlier item. Whiskers and ± are 95 % intervals over "
        "users, drawn again 10,000 times. A dash was not measured."
    )
    table = f'<table class="results"><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>'
    return section("Results", note, f'<ul class="key">{key}</ul>', table, _comparisons(comparisons))


def _result(number: int, row: Row, most: float) -> str:
    """One row of the table of results."""
    cells = (
        ("NDCG@10", _plus_minus(row.ndcg_at_10.mean, row.ndcg_at_10.half_width)),
        ("HR@10", _plus_minus(row.hr_at_10.mean, row.hr_at_10.half_width)),
        ("bytes at rest", show_bytes(row.rest_bytes)),
        ("to the device", show_bytes(row.device_bytes)),
        ("of payload", show_bytes(row.payload_bytes)),
    )
    texts = [f'<td data-label="{label}">{text}</td>' for label, text in cells]
    name = f'<span class="number">{number}</span><span class="dot {row.family}"></span>{escape(row.name)}'
    bar = f'<td class="bar">{draw_interval(row.ndcg_at_10, most, row.family)}</td>'
    return f'<tr class="{row.family}"><td>{name}</td>{texts[0]}{bar}{"".join(texts[1:])}</tr>'


def _plus_minus(mean: float, half_width: float) -> str:
    """A figure with its half-width, the latter small."""
    return f"{mean:.4f} <small>± {half_width:.4f}</small>"


def _comparisons(comparisons: Sequence[Comparison]) -> str:
    """Paired differences: the honest way to compare rows that share their users."""
    if not comparisons:
        return ""
    nats = any(each.log_likelihood for each in comparisons)
    lines = []
    for each in comparisons:
        name, versus, gap, between, p = (escape(cell) for cell in comparison_cells(each))
        sure = each.ndcg_at_10.low > 0 or each.ndcg_at_10.high < 0
        gap = f"<b>{gap}</b>" if sure else gap
        lines.append(
            f'<tr><td>{name} − {versus}</td><td data-label="mean">{gap}</td>'
            f'<td data-label="95 %">{between}</td><td data-label="p">{p}</td>'
            + (f'<td data-label="nats">{escape(likelihood_cell(each))}</td></tr>' if nats else "</tr>")
        )
    return (
        '<table class="compare"><thead><tr><th scope="col">Difference of NDCG@10, user by user</th>'
        '<th scope="col">mean</th><th scope="col">95 %</th><th scope="col">p</th>'
        + ('<th scope="col">log-likelihood, nats</th>' if nats else "")
        + "</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def _quality(rows: Sequence[Row]) -> str:
    """Quality against bytes at rest."""
    note = (
        "Up is better, left is smaller; whiskers are 95 % intervals. Points of nearly one size are moved sideways until they "
        "can be told apart; the ticks on the axis stand where they belong. Differences, paired by user, stand in the table."
    )
    key = "".join(
        f'<li><span class="badge {row.family}">{number}</span>{escape(row.name)}</li>'
        for number, row in enumerate(rows, 1)
        if row.rest_bytes
    )
    return section(
        "Quality against bytes", note, f'<div class="beside"><div>{plot_quality(rows)}</div><ul class="names">{key}</ul></div>'
    )


def _catalog(report: Report) -> str:
    """The personal catalog."""
    note = (
        "Most of a recommender's bytes are its item table. Here a device holds only a part of it: the rows that are worth most "
        "to its user, or the most popular ones at the same bytes. An item that is not held can't be recommended."
    )
    return section("The personal catalog", note, plot_catalog(report.catalog, report.whole_table))


def _codes(slots: Sequence[Slot], users: Sequence[UserCodes]) -> str:
    """The codes of a few users as pictures."""
    note = (
        "One cell is one output channel, 64 to a line; the number at the right is the layer's average width in bits. "
        "Channels that have the same width in all pictures are pale: full color is what differs between these users."
    )
    swatches = "".join(f'<li><i class="width-{width}"></i>{width} bits</li>' for width in WIDTHS)
    figures = "".join(
        f"<figure><figcaption><h3>{escape(user.name)}<small>{average_bits(slots, user.codes):.2f} bits on average</small></h3>"
        f"<span>{escape(user.note)}</span></figcaption>{picture}</figure>"
        for user, picture in zip(users, draw_codes(slots, users), strict=True)
    )
    swatches += '<li><i class="width-4 alike"></i>pale: the same for all</li>'
    return section("Codes", note, f'<ul class="key">{swatches}</ul>', f'<div class="pictures">{figures}</div>')


def _rankings(users: Sequence[UserRankings]) -> str:
    """Lists of a few users, before and after."""
    note = (
        "What each user is shown, with scores. Arrows say how far an item moved against the first list; "
        "★ is what the user really met next."
    )
    return section("Rankings", note, *(_user(user) for user in users))


def _user(user: UserRankings) -> str:
    """One user's lists."""
    recent = " · ".join(escape(title) for title in user.history)
    before = user.rankings[0].titles if user.rankings else ()
    lists = "".join(_ranking(ranking, before if place else None, user.met) for place, ranking in enumerate(user.rankings))
    return (
        f'<div class="user"><h3>{escape(user.name)}</h3><p class="note">lately: {recent}</p>'
        f'<div class="lists">{lists}</div></div>'
    )


def _ranking(ranking: Ranking, before: Sequence[str] | None, met: str | None) -> str:
    """One list; with `before`, arrows for what moved."""
    lines = []
    for place, (title, score) in enumerate(zip(ranking.titles, ranking.scores, strict=True)):
        star = "★ " if title == met else ""
        kind = ' class="met"' if title == met else ""
        move = "<small></small>" if before is None else _move(place, before.index(title) if title in before else None)
        lines.append(f"<li{kind}><span>{star}{escape(title)}</span>{move}<small>{score:.2f}</small></li>")
    return (
        f"<div><h4>{escape(ranking.name)}<span>{escape(ranking.note)}</span></h4>"
        f'<ol class="ranking">{"".join(lines)}</ol></div>'
    )


def _move(place: int, was: int | None) -> str:
    """How far an item came up or went down."""
    if was is None:
        return '<small class="new">new</small>'
    if place == was:
        return "<small></small>"
    return f'<small class="up">▲{was - place}</small>' if place < was else f"<small>▼{place - was}</small>"


def _curves(curves: Sequence[Curve]) -> str:
    """How the trainings went."""
    note = "The epoch that was kept is the best on validation; test events chose nothing."
    return section("Training", note, plot_curves(curves))


def _provenance(provenance: Provenance) -> str:
    """What one needs to get all this again."""
    lines = "".join(
        f"<dt>{escape(name)}</dt><dd>{f'<code>{escape(text)}</code>' if name == 'command' else escape(text)}</dd>"
        for name, text in provenance_lines(provenance)
    )
    return section("Where this comes from", "What to run, on what, to get all this again.", f"<dl>{lines}</dl>")
