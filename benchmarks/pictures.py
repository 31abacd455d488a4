"""The drawings of the docs, from what `ossia study … --json` said.

    ossia study chord beauty --run run0 --run run1 --run run2 --out study --json > beauty.json
    python benchmarks/pictures.py differences "Beauty=beauty.json" "Yelp=yelp.json" --out docs/chord-differences.svg
    python benchmarks/pictures.py ages "Beauty=beauty.json" "Yelp=yelp.json" --out docs/chord-ages.svg
    ossia study catalog beauty --run run0 --out study --json > catalog.json
    python benchmarks/pictures.py catalog catalog.json --out docs/chord-catalog.svg
    ossia study forward-ofa beauty --run run0 --run run1 --run run2 --cost-table costs.json --out study --json > ofa.json
    python benchmarks/pictures.py fronts "Beauty=ofa.json" --out docs/forward-ofa-fronts.svg

differences: own widths minus what they must beat, with intervals. ages: own widths minus float32, as a payload ages. catalog:
quality against bytes, fresh and stale. fronts: quality against the latency, by the cost table, of the structures that run. No
figure is typed by hand.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from ossia.evaluation.plots import FAMILY_COLORS, draw_file
from ossia.files import write_whole

OWN_WIDTHS = "own widths (ridge)"
RIVALS = {
    "another user's widths (ridge)": "another user's",
    "global widths": "the best for all",
    "float32": "float32",
    "static": "the static control",
}
AGES = {0: OWN_WIDTHS, 2: "own widths, 2 events old (ridge)", 5: "own widths, 5 events old (ridge)"}
LEVELS = {"another user's widths (ridge)": "control", "global widths": "baseline", "static": "base"}
CODES = "product codes of {} bytes"
HELD = {
    "popular rows": ("baseline", ["popular rows"]),
    "own rows": ("control", ["own rows"]),
    "learned rows": ("personal", ["learned rows"]),
    "codes of 4, 8, 16 bytes": ("base", [CODES.format(size) for size in (4, 8, 16)]),
    "learned rows over codes of 4": ("personal", ["learned rows over codes of 4 bytes"]),
}
FRONTS = {
    "own payload": ("personal", "own payload"),
    "uniform depth": ("base", "the base's first blocks"),
    "lookup table": ("baseline", "table of structures"),
    "another user's payload": ("control", "another user's payload"),
}
LABELS = {
    "differences": "Own widths less what they must beat, with intervals",
    "ages": "Own widths less float32, as a payload ages",
    "catalog": "Quality against bytes held, fresh and stale",
    "fronts": "NDCG@10 against latency",
}


def read(path: Path) -> list[dict[str, Any]]:
    """Read the verdicts of a study."""
    told = msgspec.json.decode(path.read_bytes())
    return told["verdicts"] if "verdicts" in told else [told["verdict"]]


def gaps(verdict: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Find own widths against each rival."""
    for comparison in verdict["comparisons"]:
        if comparison["name"] == OWN_WIDTHS and comparison["versus"] in RIVALS:
            yield comparison["versus"], comparison["ndcg_at_10"]


def draw_differences(sets: Sequence[tuple[str, Mapping[str, Any]]], figure: Any) -> None:
    """One panel for each rival, one line for each log."""
    panels = figure.subplots(1, len(RIVALS), sharey=True, sharex=True)
    for axes, (rival, title) in zip(panels, RIVALS.items(), strict=True):
        for place, (_, verdict) in enumerate(sets):
            spot = dict(gaps(verdict))[rival]
            color = FAMILY_COLORS["personal" if spot["low"] > 0 or spot["high"] < 0 else "baseline"]
            axes.plot([spot["low"], spot["high"]], [-place, -place], color=color, solid_capstyle="round")
            axes.plot(spot["mean"], -place, "o", color=color)
        axes.axvline(0, color=FAMILY_COLORS["base"], linewidth=1.0)
        axes.set_title(f"minus {title}", fontsize=9)
        axes.set_yticks([-place for place in range(len(sets))], [name for name, _ in sets])
        axes.margins(y=0.12)
    figure.supxlabel("NDCG@10 of own widths, less that; 95 %", fontsize=9)


def draw_ages(sets: Sequence[tuple[str, Mapping[str, Any]]], figure: Any) -> None:
    """One panel for each log: own widths minus float32, fresh and old; what does not age as a line across."""
    panels = figure.subplots(1, len(sets), sharey=True, squeeze=False)[0]
    for axes, (title, verdict) in zip(panels, sets, strict=True):
        minus = {each["name"]: each["ndcg_at_10"] for each in verdict["comparisons"] if each["versus"] == "float32"}
        quality = {row["name"]: row["ndcg_at_10"]["mean"] for row in verdict["rows"]}
        for name, family in LEVELS.items():
            label = RIVALS[name]
            axes.axhline(quality[name] - quality["float32"], color=FAMILY_COLORS[family], linestyle="--", lw=1.2, label=label)
        spots = [minus[name] for name in AGES.values()]
        low, high = ([spot[key] for spot in spots] for key in ("low", "high"))
        axes.fill_between(list(AGES), low, high, color=FAMILY_COLORS["personal"], alpha=0.15, lw=0)
        axes.plot(list(AGES), [spot["mean"] for spot in spots], "o-", color=FAMILY_COLORS["personal"], label="own widths")
        axes.axhline(0, color=FAMILY_COLORS["base"], linewidth=0.8)
        axes.set_xticks(list(AGES))
        axes.set_title(title)
    panels[0].set_ylabel("NDCG@10 less float32's")
    panels[-1].legend(loc="lower left", frameon=False, labelcolor="linecolor", fontsize=8)
    figure.supxlabel("events since the payload was made", fontsize=9)


def draw_catalog(verdict: Mapping[str, Any], figure: Any) -> None:
    """One panel for each staleness: share of the whole table's quality against bytes."""
    lines = verdict["lines"]
    ages = sorted({line["holding"]["stale"] for line in lines})
    panels = figure.subplots(1, len(ages), sharey=True)
    for axes, age in zip(panels, ages, strict=True):
        for name, (family, kinds) in HELD.items():
            mine = [line for line in lines if line["holding"]["kind"] in kinds and line["holding"]["stale"] in (age, 0)]
            aged = [line for line in mine if line["holding"]["stale"] == age] or mine
            points = sorted(
                (line["holding"]["share"], *(line["relative"][key] for key in ("mean", "low", "high"))) for line in aged
            )
            across, mean, low, high = zip(*points, strict=True)
            style = "--" if "over" in name else "-"
            axes.plot(across, mean, f"o{style}", color=FAMILY_COLORS[family], label=name, markersize=4)
            axes.fill_between(across, low, high, color=FAMILY_COLORS[family], alpha=0.12, lw=0)
        axes.set_xscale("log")
        axes.set_xticks([0.01, 0.02, 0.05, 0.1, 0.2], ["1 %", "2 %", "5 %", "10 %", "20 %"])
        axes.minorticks_off()
        axes.set_title("fresh" if not age else f"{age} events later")
        axes.set_ylim(0.3, 1.05)
    panels[0].set_ylabel("share of the whole table's NDCG@10")
    panels[-1].legend(loc="lower right", frameon=False, labelcolor="linecolor", fontsize=8)
    figure.supxlabel("bytes held, of the int8 table's (logarithmic)", fontsize=9)


def draw_fronts(sets: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], figure: Any) -> None:
    """One panel for each log: NDCG@10 against the latency of what runs, a point for each budget."""
    panels = figure.subplots(1, len(sets), squeeze=False)[0]
    for axes, (title, verdicts) in zip(panels, sets, strict=True):
        whole = max(spent["latency_us"] for verdict in verdicts for spent in verdict["spent"].values())
        for name, (family, label) in FRONTS.items():
            points = [front_point(verdict, name, whole) for verdict in verdicts]
            across, mean = zip(*sorted(points), strict=True)
            axes.plot(across, mean, "o-", color=FAMILY_COLORS[family], label=label, markersize=5)
        axes.set_title(title)
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    panels[0].set_ylabel("NDCG@10")
    panels[-1].legend(loc="lower right", frameon=False, labelcolor="linecolor", fontsize=8)
    figure.supxlabel("latency by the cost table, of the whole base's", fontsize=9)


def front_point(verdict: Mapping[str, Any], name: str, whole: float) -> tuple[float, float]:
    """Find where a row of one budget lies."""
    spent = verdict["spent"]["own payload" if "payload" in name else name]
    return spent["latency_us"] / whole, next(row["ndcg_at_10"]["mean"] for row in verdict["rows"] if row["name"] == name)


def main() -> None:
    """Draw one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=tuple(LABELS))
    parser.add_argument("studies", nargs="+", help="FILE, or NAME=FILE where each has a name in the drawing")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    named = [text.rpartition("=") for text in given.studies]
    sets = [(name, read(Path(file))) for name, _, file in named]
    if given.what == "differences":
        size, draw = (9.2, 1.1 + 0.36 * len(sets)), partial(draw_differences, [(name, found[0]) for name, found in sets])
    elif given.what == "ages":
        size, draw = (3.2 * len(sets), 3.4), partial(draw_ages, [(name, found[0]) for name, found in sets])
    elif given.what == "catalog":
        size, draw = (9.2, 3.6), partial(draw_catalog, sets[0][1][0])
    else:
        size, draw = (4.6 * len(sets), 3.6), partial(draw_fronts, sets)
    write_whole(given.out, draw_file(LABELS[given.what], size, draw).encode())


if __name__ == "__main__":
    main()
