"""Plots as inline SVG that takes its colors from the page, so that one drawing serves light and dark.

matplotlib draws with stand-in colors, `#f0000n`, that nobody would choose; afterwards each becomes a CSS variable, and
text stays text, in the page's own font. Every plot is drawn twice, for a wide page and for a telephone, because a drawing that
is merely scaled down can't be read; the page's style shows one of the two. Drawing is deterministic: the same figures give the
same bytes.

matplotlib is imported only when something is drawn.
"""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

from ossia.evaluation.bootstrap import Interval
from ossia.evaluation.page import COLORS
from ossia.evaluation.results import Family, Row

_INK, _SOFT, _LINE, _PAPER = "#f00000", "#f00001", "#f00002", "#f00003"
FAMILY_COLORS: dict[Family, str] = {"baseline": "#f00010", "base": "#f00011", "personal": "#f00012", "control": "#f00013"}
_FAMILY_MARKERS: dict[Family, str] = {"baseline": "s", "base": "o", "personal": "D", "control": "^"}
_VARIABLES = {_INK: "ink", _SOFT: "soft", _LINE: "line", _PAPER: "card"} | {c: f"family-{f}" for f, c in FAMILY_COLORS.items()}

_RADIUS = 6.5  # of a numbered point, in points of the drawing

_STYLE = {
    "svg.fonttype": "none",  # text stays text: the page's font, searchable, and a third of the bytes
    "text.parse_math": False,  # a dollar in a name is a dollar
    "font.size": 9.5,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _SOFT,
    "axes.titlecolor": _INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "figure.facecolor": "none",
    "text.color": _INK,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
}


@dataclass(frozen=True)
class Curve:
    """How one training went.

    Attributes:
        name: such as `backbone`.
        loss: mean training loss, per epoch.
        validation_ndcg: NDCG@10 on validation, per epoch.
        best: the epoch that was kept, counted from 0.
    """

    name: str
    loss: tuple[float, ...]
    validation_ndcg: tuple[float, ...]
    best: int


@dataclass(frozen=True)
class CatalogCurve:
    """Quality against how much of the item table a device holds.

    Attributes:
        name: whose rows are held, such as `rows of the user's own`.
        family: gives the color.
        points: (share of the whole table's bytes, 0 … 1; NDCG@10), in rising order of share.
    """

    name: str
    family: Family
    points: tuple[tuple[float, Interval], ...]


def plot_quality(rows: Sequence[Row]) -> str:
    """Draw NDCG@10 with intervals against bytes at rest; rows without bytes become horizontal lines.

    Rows of nearly one size would cover one another, so points are moved sideways, by as little as it takes; small ticks on the
    axis stand where they belong.

    Args:
        rows: the table of results, at least one row with bytes; a point bears its row's number, from 1.

    Returns:
        two SVG elements, wide and narrow.
    """
    return _draw_twice(
        "NDCG@10 against bytes at rest", "quality", (8.4, 5.2), (5.0, 5.2), lambda figure, _: _quality(figure, rows)
    )


def plot_curves(curves: Sequence[Curve]) -> str:
    """Draw loss and validation NDCG@10 per epoch, one training beside the other.

    Args:
        curves: the trainings.

    Returns:
        two SVG elements, wide and narrow.
    """
    narrow = (5.0, 4.4 * len(curves))
    return _draw_twice("Training curves", "curves", (10.0, 5.0), narrow, lambda figure, wide: _curves(figure, curves, wide))


def plot_catalog(curves: Sequence[CatalogCurve], whole: Interval | None, *, name: str = "catalog") -> str:
    """Draw NDCG@10 against the share of the table's bytes that a device holds.

    Args:
        curves: personal rows, most popular rows, …
        whole: NDCG@10 with the whole table, a horizontal line; None leaves it out.
        name: of the drawing's ids; each of several on a page needs its own.

    Returns:
        two SVG elements, wide and narrow.
    """
    return _draw_twice(
        "NDCG@10 against the share of the item table that is held",
        name,
        (10.0, 4.4),
        (5.0, 4.6),
        lambda figure, _: _catalog(figure, curves, whole),
    )


def draw_file(label: str, size: tuple[float, float], draw: Callable[[Any], None]) -> str:
    """Draw one figure as an SVG file of its own, which brings the page's colors along, light and dark.

    Args:
        label: what a screen reader says of it.
        size: width and height in inches.
        draw: puts axes into a matplotlib figure, with colors of `FAMILY_COLORS`.

    Returns:
        the file's text; the same figures give the same bytes.
    """
    svg = _svg(label, "drawing", "file", size, lambda figure, _: draw(figure), wide=True)
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" font-family="system-ui, sans-serif"'
    start, rest = svg.replace("<svg", f"<svg {names}", 1).split(">", 1)
    return f"{start}><style>{COLORS}</style>{rest}"


def _quality(figure: Any, rows: Sequence[Row]) -> None:
    """Numbered points with whiskers on a logarithmic axis of bytes, and lines for what has no bytes."""
    axes = figure.subplots()
    axes.set_xscale("log")
    sized = [(number, row, row.rest_bytes) for number, row in enumerate(rows, 1) if row.rest_bytes]
    for row in rows:
        if not row.rest_bytes:
            _level(axes, row.ndcg_at_10.mean, row.name, FAMILY_COLORS[row.family], side="right")
    axes.set_ylim(*_room([edge for row in rows for edge in (row.ndcg_at_10.low, row.ndcg_at_10.high)]))
    axes.set_xlim(min(size for *_, size in sized) / 1.5, max(size for *_, size in sized) * 1.6)
    axes.set_ylabel("NDCG@10")
    axes.set_xlabel("bytes at rest: encoder and item table (logarithmic)")
    _byte_ticks(axes)
    figure.canvas.draw()  # settles the scale that distances are measured in
    scale = axes.transData
    across = _apart([float(scale.transform((size, 0))[0]) for *_, size in sized], step=2 * _RADIUS)
    for (number, row, size), x in zip(sized, across, strict=True):
        _point(axes, number, row, size, float(scale.inverted().transform((x, 0))[0]))


def _point(axes: Any, number: int, row: Row, size: float, place: float) -> None:
    """One numbered point with its whisker, drawn at `place`, and a tick on the axis where it really is."""
    color, spot = FAMILY_COLORS[row.family], row.ndcg_at_10
    circle = {"markersize": 2 * _RADIUS, "markeredgecolor": _PAPER, "markeredgewidth": 0.8, "zorder": 3}
    axes.plot([place, place], [spot.low, spot.high], color=color, linewidth=1.4, alpha=0.6)
    axes.plot(place, spot.mean, "o", color=color, **circle)
    axes.annotate(str(number), (place, spot.mean), ha="center", va="center_baseline", color=_PAPER, fontsize=8, zorder=4)
    axes.plot([size], [0.004], "|", color=color, markersize=9, transform=axes.get_xaxis_transform())


def _curves(figure: Any, curves: Sequence[Curve], wide: bool) -> None:
    """Loss above, validation below; side by side on a wide page, all in one column on a narrow one."""
    grid = figure.subplots(2, len(curves), squeeze=False) if wide else figure.subplots(2 * len(curves), 1, squeeze=False)
    for number, curve in enumerate(curves):
        above, below = (grid[0][number], grid[1][number]) if wide else (grid[2 * number][0], grid[2 * number + 1][0])
        epochs = range(1, len(curve.loss) + 1)
        color = FAMILY_COLORS["personal" if number else "base"]
        above.plot(epochs, curve.loss, color=color)
        above.set_title(f"{curve.name}: training loss")
        below.plot(range(1, len(curve.validation_ndcg) + 1), curve.validation_ndcg, color=color)
        kept = curve.validation_ndcg[curve.best]
        below.plot(curve.best + 1, kept, "o", markersize=8, markerfacecolor=_PAPER, markeredgecolor=color, markeredgewidth=1.8)
        below.set_title(f"{curve.name}: NDCG@10 on validation")
        below.set_xlabel(f"epoch (kept: epoch {curve.best + 1}, {kept:.4f})")
        for axes in (above, below):
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.margins(x=0.04, y=0.12)


def _catalog(figure: Any, curves: Sequence[CatalogCurve], whole: Interval | None) -> None:
    """Lines with bands on a logarithmic axis of shares, named in a legend."""
    axes = figure.subplots()
    axes.set_xscale("log")
    chains = [[(share, spot.mean) for share, spot in curve.points] for curve in curves]
    for curve, chain in zip(curves, chains, strict=True):
        color, across = FAMILY_COLORS[curve.family], [share for share, _ in curve.points]
        axes.plot(across, [mean for _, mean in chain], _FAMILY_MARKERS[curve.family] + "-", color=color, label=curve.name)
        low, high = [spot.low for _, spot in curve.points], [spot.high for _, spot in curve.points]
        axes.fill_between(across, low, high, color=color, alpha=0.14, lw=0)
    if whole is not None:
        _level(axes, whole.mean, "the whole table", FAMILY_COLORS["base"], side="left")
    shares = sorted({share for curve in curves for share, _ in curve.points})
    axes.set_xticks(shares, [f"{100 * share:.3g} %" for share in shares])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("share of the item table's bytes that the device holds (logarithmic)")
    axes.set_ylabel("NDCG@10")
    axes.legend(loc="lower right", frameon=False, labelcolor="linecolor")


def _level(axes: Any, height: float, label: str, color: str, *, side: Literal["left", "right"]) -> None:
    """A dashed horizontal line with its name on it, at one side."""
    axes.axhline(height, color=color, linewidth=1.2, linestyle=(0, (5, 4)))
    where = {"xycoords": ("axes fraction", "data"), "xytext": (0, 3), "textcoords": "offset points", "ha": side}
    axes.annotate(label, (float(side == "right"), height), color=color, **where)


def _room(edges: Sequence[float]) -> tuple[float, float]:
    """Limits with a little room around what is drawn."""
    air = 0.07 * (max(edges) - min(edges)) or 0.01
    return min(edges) - air, max(edges) + air


def _apart(places: Sequence[float], step: float) -> list[float]:
    """Move places on a line at least `step` apart, keeping their order, with the least sum of squared moves.

    Subtracting i · step from the i-th place turns the task into isotonic regression, which pools neighbors that are in the
    wrong order into their mean (Barlow et al. 1972).
    """
    order = sorted(range(len(places)), key=lambda number: places[number])
    pools: list[tuple[float, int]] = []
    for i, number in enumerate(order):
        mean, count = places[number] - i * step, 1
        while pools and pools[-1][0] > mean:
            other, size = pools.pop()
            mean, count = (other * size + mean * count) / (size + count), size + count
        pools.append((mean, count))
    flat = [mean for mean, count in pools for _ in range(count)]
    moved = {number: flat[i] + i * step for i, number in enumerate(order)}
    return [moved[number] for number in range(len(places))]


def _byte_ticks(axes: Any) -> None:
    """Ticks at 1, 2 and 5 times powers of ten, in kB and MB."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: show_size(count)))


def show_size(count: float | int) -> str:
    """Write a size with its unit, 1 kB = 1,000 bytes.

    Args:
        count: bytes.

    Returns:
        the text.

    Example:
        >>> show_size(368), show_size(97_800), show_size(3_100_000)
        ('368 B', '97.8 kB', '3.1 MB')
    """
    for unit, size in (("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def _draw_twice(label: str, name: str, wide: tuple[float, float], narrow: tuple[float, float], draw: Any) -> str:
    """Draw for a wide page and for a narrow one."""
    parts = [(wide, "wide", True), (narrow, "narrow", False)]
    return "".join(_svg(label, f"{name}-{kind}", kind, size, draw, flag) for size, kind, flag in parts)


def _svg(label: str, name: str, kind: str, size: tuple[float, float], draw: Any, wide: bool) -> str:
    """Draw one figure, `size` in inches, and make it fit into a page: own ids, the page's colors, no reference outside."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    out = io.BytesIO()
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure, wide)
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue().decode()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'\s(id|xmlns|xmlns:xlink|version)="[^"#]*"', lambda m: _own_id(m, name), text[text.index("<svg") :])
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var(--{variable})")
    text = re.sub(r'\b(width|height)="[\d.]+pt"', "", text, count=2)
    return text.replace("<svg", f'<svg class="plot {kind}" role="img" aria-label="{escape(label)}"', 1)


def _own_id(match: re.Match[str], name: str) -> str:
    """Prefix ids by the figure's name, since all figures share one page; namespaces are the page's business."""
    return match[0].replace('id="', f'id="{name}-') if match[1] == "id" else ""
