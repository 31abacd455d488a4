"""Fleets on a virtual clock, on the command line: simulate."""

import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from ossia.cli.options import JsonOption
from ossia.cli.output import answer, watch
from ossia.errors import OssiaError

if TYPE_CHECKING:
    from ossia.adaptation.base import Base
    from ossia.simulation.world import Report

LEAST_FOUND = 0.9


def simulate(
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many worlds.")] = 3,
    first: Annotated[int, typer.Option("--first", min=0, help="The first seed.")] = 0,
    devices: Annotated[int, typer.Option("--devices", min=4, help="Of each world.")] = 100,
    days: Annotated[float, typer.Option("--days", min=3, max=400, help="Of each world, on its own clock.")] = 3.0,
    cloudless: Annotated[bool, typer.Option("--cloudless", help="There is no cloud at all.")] = False,
    theft: Annotated[
        bool, typer.Option("--theft", help="The key that signs payloads is stolen, and used; six hours later it is rotated.")
    ] = False,
    planted: Annotated[bool, typer.Option("--planted", help="Take rules out one by one, and see what is noticed.")] = False,
    outage: Annotated[
        int,
        typer.Option("--outage", metavar="DEVICES", min=0, help="Only this: so many devices after six hours without a cloud."),
    ] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="F", help="Add a line a seed to this file, and leave out seeds that it has.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Let fleets of devices live with a cloud, with the real rules of both and everything that goes wrong, and hold laws.

    One seed is one world, and gives the same digest each time. The first law that is broken is an error.

    Example: ossia simulate --seeds 200 --devices 1000 --days 7 --out worlds.jsonl

    Example: ossia simulate --theft --seeds 20

    Example: ossia simulate --planted

    Example: ossia simulate --outage 100000
    """
    if outage:
        _outage(outage, first, as_json=as_json)
    elif planted:
        _planted(range(first, first + seeds), devices, days, as_json=as_json)
    else:
        _worlds(range(first, first + seeds), devices, days, {"cloudless": cloudless, "theft": theft}, out, as_json=as_json)


def _worlds(seeds: range, devices: int, days: float, what: dict[str, bool], out: Path | None, *, as_json: bool) -> None:
    """Run worlds, and sum up."""
    done = set() if out is None or not out.exists() else {_seed_of(line) for line in out.read_text().splitlines()}
    left = [seed for seed in seeds if seed not in done]
    counts, broken, seconds, digests = Counter[str](), [], 0.0, {}
    for report, spent in watch(_run(left, devices, days, what), len(left), "simulate", lambda done: _line(*done)):
        counts.update(report.counts)
        seconds += spent
        digests[str(report.seed)] = report.digest
        broken += [f"seed {report.seed}: {report.broken}"] if report.broken else []
        if out is not None:
            with out.open("ab") as file:
                file.write(msgspec.json.encode(vars(report) | {"devices": devices, "days": days, "seconds": spent}) + b"\n")
    result = {
        "worlds": len(left), "devices": devices, "days": days, "events": counts.total(), "counts": dict(counts),
        "seconds_per_world": seconds / len(left) if left else None, "digests": digests, "broken": broken,
    }  # fmt: skip
    text = (
        f"{len(left)} worlds of {devices:,} devices, {days:g} days: {counts.total():,} events, {len(broken)} with a broken law"
    )
    answer(result, [text, *broken], as_json=as_json)
    if broken:
        raise OssiaError(f"simulate: expected every law to hold, {len(broken)} worlds broke one")


def _planted(seeds: range, devices: int, days: float, *, as_json: bool) -> None:
    """Plant each fault, and say what was noticed."""
    from ossia.simulation.planted import PLANTED, find

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        bases = _bases(Path(folder))
        for name in watch(iter(PLANTED), len(PLANTED), "simulate", lambda name: name):
            found[name] = find(name, bases, seeds, devices=devices, days=days).broken
    caught = sum(map(bool, found.values()))
    lines = [f"{name:45s} {how[:100] or 'NOT NOTICED'}" for name, how in found.items()]
    answer({"planted": found, "found": caught}, [*lines, f"{caught} of {len(found)} planted faults noticed"], as_json=as_json)
    if caught < LEAST_FOUND * len(found):
        raise OssiaError(f"simulate: expected nine of ten planted faults to be noticed, got {caught} of {len(found)}")


def _outage(devices: int, seed: int, *, as_json: bool) -> None:
    """Let a cloud die and come back, with jitter and without."""
    from ossia.simulation.outage import run_outage

    told = {"with jitter": run_outage(devices, seed=seed), "without": run_outage(devices, seed=seed, jitter=False)}
    lines = [
        f"{name:12s} steady {each.steady:,.0f} a minute; first minute {each.ratio:.2f} ×, "
        f"worst {each.peak_minute / each.steady:.2f} ×; last back after {each.last_back_s / 60:.1f} min"
        for name, each in told.items()
    ]
    answer({name: asdict(each) | {"ratio": each.ratio} for name, each in told.items()}, lines, as_json=as_json)


def _run(seeds: list[int], devices: int, days: float, what: dict[str, bool]) -> Iterator[tuple["Report", float]]:
    """Run one world after the other."""
    from ossia.simulation.world import World

    with tempfile.TemporaryDirectory() as folder:
        bases = _bases(Path(folder))
        for seed in seeds:
            begun = time.process_time()
            report = World(bases, seed, devices=devices, days=days, **what).run()
            yield report, time.process_time() - begun


def _bases(folder: Path) -> list["Base"]:
    """Publish the two bases of a world."""
    from ossia.simulation.stand_in import LEAST_ITEMS, make_base

    return [make_base(folder / str(items), items) for items in (LEAST_ITEMS, LEAST_ITEMS + 4)]


def _line(report: "Report", seconds: float) -> str:
    """Say in a line how a world went."""
    fate = report.broken or "every law held"
    return f"seed {report.seed}: {report.events:,} events in {seconds:.1f} s, {report.digest[:12]}, {fate}"


def _seed_of(line: str) -> int:
    """Read a seed out of a line of `--out`."""
    return int(msgspec.json.decode(line)["seed"])
