"""The command `bench engine`: the device engine beside what a user would pick instead, on this machine."""

import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from ossia.adaptation.base import Base
from ossia.cli.options import BaseArgument, JsonOption
from ossia.cli.output import answer, say, watch
from ossia.files import write_whole

if TYPE_CHECKING:
    import rich.table

    from ossia.studies.engine_bench import Measured


def engine(
    base: BaseArgument,
    repeats: Annotated[int, typer.Option("--repeats", min=20, help="Calls of each contender.")] = 400,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="A contender, such as engine; more than one is fine.")
    ] = None,
    cost_table: Annotated[
        Path | None, typer.Option("--cost-table", metavar="F", help="Measure the cost table for latency budgets instead.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Time 100 candidates and the ten best of the table: engine, numpy, torch, onnxruntime; one thread, a process each.

    Example: ossia bench engine base --repeats 1000
    """
    from ossia.studies.engine_bench import measure_costs

    loaded = Base.load(base)
    if cost_table is None:
        _compare(loaded, repeats, only, as_json=as_json)
        return
    costs = measure_costs(loaded, platform.processor() or platform.machine(), repeats)
    write_whole(cost_table, msgspec.json.format(msgspec.json.encode(costs), indent=1) + b"\n")
    lines = [f"{cost_table}: {costs.fixed_us:.1f} µs, {costs.row_us * 1e3:.2f} ns a row, and for each gate and channel its own"]
    answer({"cost_table": cost_table, **msgspec.to_builtins(costs)}, lines, as_json=as_json)


def _compare(base: Base, repeats: int, only: list[str] | None, *, as_json: bool) -> None:
    """Measure every contender that is here, and say it."""
    from ossia.device import engine as native
    from ossia.errors import UsageError
    from ossia.studies.engine_bench import CONTENDERS, NEEDS, export_graphs, make_task, measure_apart

    names = only or list(CONTENDERS)
    if unknown := [name for name in names if name not in CONTENDERS]:
        raise UsageError(f"only: expected some of {', '.join(CONTENDERS)}, got {unknown[0]!r}")
    missing = [name for name in names if not _is_installed(NEEDS.get(name))]
    for name in missing:
        say(f"bench engine: {name} is left out: {NEEDS[name]} is not installed")
    with tempfile.TemporaryDirectory() as folder:
        here = [name for name in names if name not in missing]
        if any(name.startswith("onnxruntime") for name in here):
            say("bench engine: exporting for onnxruntime, which takes a minute or two")
            export_graphs(make_task(base), Path(folder))
        steps: Iterator[Measured] = (measure_apart(name, base.path, Path(folder), repeats) for name in here)
        rows = list(watch(steps, len(here), "bench engine", lambda row: f"{row.name}: {row.candidates_us:,.0f} µs"))
    result = {"rows": rows, "missing": missing, "items": len(base.table), "path": native.path() if native.library() else None}
    answer(result, [_table(rows, len(base.table))], as_json=as_json)


def _is_installed(module: str | None) -> bool:
    """Tell whether a module could be imported."""
    import importlib.util

    return module is None or importlib.util.find_spec(module) is not None


def _table(rows: "list[Measured]", items: int) -> "rich.table.Table":
    """Write one line a contender; ratios are of the least times, to the first line."""
    from rich.table import Table

    table = Table(
        title=f"One thread, the least (and the 95th percentile) in µs; {items:,} items",
        title_justify="left",
        header_style="bold",
    )
    for place, head in enumerate(("", "100 candidates", "×", "10 best of all", "×", "load ms", "file MB", "memory MB")):
        table.add_column(head, justify="right" if place else "left")
    for row in rows:
        first = rows[0]
        table.add_row(
            row.name,
            f"{row.candidates_us:,.0f} ({row.candidates_p95_us:,.0f})",
            f"{row.candidates_us / first.candidates_us:.1f}",
            f"{row.table_us:,.0f} ({row.table_p95_us:,.0f})",
            f"{row.table_us / first.table_us:.1f}",
            f"{row.load_ms:,.1f}",
            f"{row.file_bytes / 1e6:.1f}",
            f"{row.memory_mb:.1f}",
        )
    return table
