"""The command `bench engine`: the device engine beside what a user would pick instead, on this machine."""

import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterator
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
    large: Annotated[
        bool, typer.Option("--large", help="The engine on 500,000 x 128 made-up rows too, at 8 and at 4 bits; takes minutes.")
    ] = False,
    cost_table: Annotated[
        Path | None, typer.Option("--cost-table", metavar="F", help="Measure the cost table for latency budgets instead.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Time 100 candidates and the ten best of the table: engine, numpy, torch, onnxruntime, LiteRT; one thread, a process each.

    Example: ossia bench engine base --repeats 1000
    """
    loaded = Base.load(base)
    if cost_table is None:
        _compare(loaded, repeats, only, large=large, as_json=as_json)
        return
    from ossia.studies.engine_costs import measure_costs

    costs = measure_costs(loaded, platform.processor() or platform.machine(), repeats)
    write_whole(cost_table, msgspec.json.format(msgspec.json.encode(costs), indent=1) + b"\n")
    lines = [f"{cost_table}: {costs.fixed_us:.1f} µs, {costs.row_us * 1e3:.2f} ns a row, and for each gate and channel its own"]
    answer({"cost_table": cost_table, **msgspec.to_builtins(costs)}, lines, as_json=as_json)


def _compare(base: Base, repeats: int, only: list[str] | None, *, large: bool, as_json: bool) -> None:
    """Measure every contender that is here, and say it."""
    from ossia.device import engine as native
    from ossia.errors import UsageError
    from ossia.studies.engine_contenders import CONTENDERS, left_out

    names = only or list(CONTENDERS)
    if unknown := [name for name in names if name not in CONTENDERS]:
        raise UsageError(f"only: expected some of {', '.join(CONTENDERS)}, got {unknown[0]!r}")
    missing = {name: reason for name in names if (reason := left_out(name))}
    with tempfile.TemporaryDirectory() as folder:
        here = _export([name for name in names if name not in missing], base, Path(folder), missing)
        steps = _measure(here, base, Path(folder), repeats, missing)
        rows = list(watch(steps, len(here), "bench engine", lambda row: f"{row.name}: {row.candidates_us:,.0f} µs"))
        more = _measure_large(Path(folder), repeats, missing) if large else []
    for name, reason in missing.items():
        say(f"bench engine: {name} is left out: {reason}")
    if not rows:
        raise UsageError("bench engine: expected a contender that runs here, got none")
    result = {"rows": rows, "missing": missing, "items": len(base.table), "path": native.path() if native.library() else None}
    folds = [row.fold_us for row in rows if row.name == "engine" and row.fold_us]
    lines = [f"engine ({result['path']}): {us:,.1f} µs to fold a payload of {base.channels:,} codes" for us in folds]
    tables = [_table(rows, len(base.table)), *([_table(more, 500_000)] if more else [])]
    answer(result | {"large": more}, [*tables, *lines], as_json=as_json)


def _export(names: list[str], base: Base, folder: Path, missing: dict[str, str]) -> list[str]:
    """Write the graphs that contenders need; without its graphs a contender is left out."""
    from ossia.studies.engine_contenders import CANDIDATES, TOP, export_graphs, make_task
    from ossia.studies.engine_litert import export_litert

    exports: dict[str, tuple[str, Callable[[], None]]] = {
        "onnxruntime": ("a minute or two", lambda: export_graphs(make_task(base), folder)),
        "litert": ("a moment", lambda: export_litert(base, CANDIDATES, TOP, folder)),
    }
    for runtime, (duration, write) in exports.items():
        waiting = [name for name in names if name.startswith(runtime)]
        if not waiting:
            continue
        say(f"bench engine: exporting for {runtime}, which takes {duration}")
        try:
            write()
        except Exception as error:  # whatever an exporter raises, the other contenders are still worth a table
            missing |= dict.fromkeys(waiting, f"its graph could not be written: {error}".splitlines()[0])
    return [name for name in names if name not in missing]


def _measure_large(folder: Path, repeats: int, missing: dict[str, str]) -> "list[Measured]":
    """Measure the engine where the table is larger than any cache."""
    from ossia.studies.engine_costs import write_large_base

    say("bench engine: writing a base of 500,000 x 128 rows, which takes a minute or two")
    base = write_large_base(folder / "LARGE")
    return list(_measure(["engine", "engine, rows of 4 bits"], base, folder, repeats, missing))


def _measure(names: list[str], base: Base, folder: Path, repeats: int, missing: dict[str, str]) -> "Iterator[Measured]":
    """Measure one contender after another; one that fails is left out."""
    from ossia.studies.engine_bench import measure_apart

    for name in names:
        try:
            yield measure_apart(name, base.path, folder, repeats)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            missing[name] = str(error)


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
