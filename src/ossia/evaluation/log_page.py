"""A page about a prepared log: what `describe` and `measure_order` found, in one file for people.

    Description, Sequentiality, DataInfo (plain data)  →  render_log_page (a pure function)  →  HTML

The frame and the style are the report's (`page`); drawings are plain SVG and CSS, so nothing here needs matplotlib. All text
that comes from data is escaped. What it does not do: measure.
"""

from collections.abc import Sequence
from html import escape

from ossia.data.dataset import DataInfo
from ossia.data.description import QUANTILES, Description
from ossia.evaluation.bootstrap import Interval
from ossia.evaluation.page import page, section
from ossia.evaluation.pictures import draw_interval
from ossia.evaluation.sequential import Judged, Sequentiality

WIDE, HIGH = 560, 240  # of a drawing, in its own units
SUSPECT_ASCENDING, SUSPECT_TIES = 0.6, 0.05


def render_log_page(name: str, description: Description, order: Sequentiality, info: DataInfo) -> str:
    """Turn the figures of a log into an HTML document.

    Args:
        name: what to call the log, such as its folder.
        description: what was counted.
        order: what order is worth.
        info: how the data came to be.

    Returns:
        the document; the same figures give the same text.
    """
    parts = [
        _head(name, description, order),
        _order(description, order),
        _lengths(description),
        _popularity(description),
        _times(description),
        _origin(description, info),
    ]
    return page(name, parts)


def verdict(order: Sequentiality) -> str:
    """Say in a sentence what the order of events is worth.

    Args:
        order: what was measured.

    Returns:
        a sentence with the difference and its interval.
    """
    gap = order.difference
    figures = f"NDCG@10 {gap.mean:+.4f} ({gap.low:+.4f} … {gap.high:+.4f}) against shuffled copies"
    if gap.low > 0:
        return f"Order matters: a bigram gains {figures}."
    return f"No sign that order matters to a bigram: {figures}."


def warning(description: Description) -> str | None:
    """Say if the order of ties looks made by the file and not by people.

    Args:
        description: what was counted.

    Returns:
        a sentence; None if there is nothing to warn of.
    """
    ascending, tied = description.ascending_ties, description.tie_share
    if ascending is None or tied is None or tied < SUSPECT_TIES or abs(ascending - 0.5) < SUSPECT_ASCENDING - 0.5:
        return None
    return (
        f"{tied:.1%} of neighboring events have equal times, and {ascending:.1%} of those stand in ascending order of item id:"
        " an order that a model can learn and that nobody lived. Compare with --ties hash."
    )


def _head(name: str, description: Description, order: Sequentiality) -> str:
    """Title, verdict, headline figures."""
    figures = (
        (f"{description.users:,}", "users"),
        (f"{description.items:,}", "items"),
        (f"{description.events:,}", "events"),
        (f"{description.lengths.quantiles[2]:.0f}", "events of the user in the middle"),
        (f"{description.popularity.top_10_percent:.0%}", "of the events are on 10 % of the items"),
        (f"{order.difference.mean:+.4f}", "NDCG@10 that order is worth to a bigram"),
    )
    shown = "".join(f"<div><b>{value}</b><span>{label}</span></div>" for value, label in figures)
    alarm = warning(description)
    return (
        f'<header>\n<h1>{escape(name)}</h1>\n<p class="promise">{escape(verdict(order))}</p>\n'
        + (f"<p><b>{escape(alarm)}</b></p>\n" if alarm else "")
        + f'<div class="headlines">{shown}</div>\n</header>'
    )


def _order(description: Description, order: Sequentiality) -> str:
    """How sequential the log looks."""
    note = (
        f"Full ranking of the catalog for {order.cases:,} validation events; test events take no part. The bigram looks at the "
        "last item only; in the shuffled copies each user's events stand in an order that says nothing. Whiskers and ± are "
        "95 % intervals over users."
    )
    most = max(row.ndcg_at_10.high for row in order.rows) or 1.0
    lines = "".join(_judged(row, most) for row in order.rows)
    head = "".join(f'<th scope="col">{title}</th>' for title in ("", "NDCG@10", "", "HR@10"))
    ties = [] if description.tie_share is None else [f"{description.tie_share:.1%} of neighboring events have equal times"]
    ties += [] if description.ascending_ties is None else [f"{description.ascending_ties:.1%} of them in order of item id"]
    rest = f"Ties are ordered by the rule {description.ties}; {description.repeat_share:.1%} of the events are repeats."
    return section(
        "What order is worth",
        note,
        f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>",
        f'<p class="note">{escape(". ".join([", ".join(ties), rest]) if ties else rest)}</p>',
    )


def _judged(row: Judged, most: float) -> str:
    """One row of the table."""
    family = "control" if "shuffled" in row.name else "baseline" if row.name == "popularity" else "base"
    bar = draw_interval(row.ndcg_at_10, most, family)
    return (
        f'<tr><td><span class="dot {family}"></span>{escape(row.name)}</td>'
        f'<td data-label="NDCG@10">{_plus(row.ndcg_at_10)}</td><td class="bar">{bar}</td>'
        f'<td data-label="HR@10">{_plus(row.hr_at_10)}</td></tr>'
    )


def _plus(interval: Interval) -> str:
    """A figure with its half-width, the latter small."""
    return f"{interval.mean:.4f} <small>± {interval.half_width:.4f}</small>"


def _lengths(description: Description) -> str:
    """How long histories are."""
    lengths = description.lengths
    shares = ", ".join(f"{part:.0%}: {value:g}" for part, value in zip(QUANTILES, lengths.quantiles, strict=True))
    note = f"Events per user: {lengths.mean:.1f} on average, {lengths.least:,} to {lengths.most:,}. Quantiles: {shares}."
    most = max(users for *_, users in lengths.bins)
    lines = "".join(_bar(f"{low:,}–{high:,}", users, most) for low, high, users in lengths.bins)
    head = '<th scope="col">events</th><th scope="col">users</th><th scope="col"></th>'
    return section("Lengths", note, f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>")


def _bar(label: str, value: int, most: int) -> str:
    """One row with a bar in it."""
    bar = f'<span class="track base" aria-hidden="true"><i style="width:{100 * value / most:.2f}%"></i></span>'
    return f'<tr><td>{label}</td><td data-label="users">{value:,}</td><td class="bar">{bar}</td></tr>'


def _popularity(description: Description) -> str:
    """How events fall on items."""
    found = description.popularity
    note = (
        f"The most popular 1 % of the items have {found.top_1_percent:.1%} of the events, 10 % have "
        f"{found.top_10_percent:.1%}; {found.items_for_half:,} items have half. Gini's coefficient is {found.gini:.3f}; the "
        f"item in the middle has {found.median:g} events. The line shows the share of events (up) on the most popular items "
        "(right)."
    )
    return section("Popularity", note, _draw_curve(found.curve))


def _draw_curve(curve: Sequence[float]) -> str:
    """Draw the share of events on the most popular items, with the line of equal items under it."""
    points = [(0.0, 0.0), *((place / len(curve), share) for place, share in enumerate(curve, 1))]
    line = " ".join(f"{x * WIDE:.1f},{(1 - y) * HIGH:.1f}" for x, y in points)
    label = "share of events on the most popular items"
    return (
        f'<svg class="plot" style="max-width:{WIDE}px" viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{label}">'
        f'<path d="M0 {HIGH}H{WIDE}M0 0V{HIGH}M0 {HIGH}L{WIDE} 0" style="stroke:var(--line);fill:none"/>'
        f'<polyline points="{line}" style="stroke:var(--family-base);fill:none;stroke-width:2"/></svg>'
    )


def _times(description: Description) -> str:
    """When the events were."""
    span = description.span
    if span is None:
        return ""
    most, step = max(span.per_period), WIDE / len(span.per_period)
    bars = "".join(
        f'<rect x="{place * step:.1f}" y="{HIGH - HIGH * events / most:.1f}" width="{step - 2:.1f}" '
        f'height="{HIGH * events / most:.1f}" style="fill:var(--family-base)"><title>{events:,}</title></rect>'
        for place, events in enumerate(span.per_period)
    )
    first, last = span.first_date or span.first, span.last_date or span.last
    note = f"Events from {first} to {last}, in {len(span.per_period)} equal periods."
    frame = f'<svg class="plot" style="max-width:{WIDE}px" viewBox="0 0 {WIDE} {HIGH}" role="img"'
    return section("Time", note, f'{frame} aria-label="events per period">{bars}</svg>')


def _origin(description: Description, info: DataInfo) -> str:
    """How the data came to be."""
    lines = {
        **info.source,
        "read": f"{info.before.users:,} users, {info.before.items:,} items, {info.before.events:,} events",
        "kept": f"{info.min_user} events a user, {info.min_item} an item; {info.duplicates:,} duplicates dropped",
        "values": "all" if info.min_value is None else f"{info.min_value:g} or more; {info.below_value:,} events dropped",
        "repeats": info.repeats,
        "split": f"{description.split}: {description.training_events:,} events in training, {description.validation_cases:,} "
        f"questions for validation, {description.test_cases:,} for test, {description.cold_share:.1%} of them after new items",
        "hash": info.hash,
    }
    shown = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in lines.items())
    return section("Where this comes from", "What was read, and what was kept of it.", f"<dl>{shown}</dl>")
