"""Every write point of a device's store, cut: what is found afterwards is what was there before or what was to be there.

    before ── commit, cut at step s ──► crash ──► load   ∈ {before, after}
    before ── commit, step s fails  ──► load             ∈ {before, after}
    before ── commit ──► crash ──► load                  = after: what was acknowledged is there

Each cut is drawn several times, for what survives of unflushed bytes and names is chance.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import TypeAlias

from ossia.device.home import Home
from ossia.device.kept import Kept, encode_kept
from ossia.errors import ArtifactError
from ossia.simulation.disk import PowerCut, VirtualDisk

FOLDER = Path("/device")

MakeDisk: TypeAlias = Callable[..., VirtualDisk]


@dataclass(frozen=True)
class Verdict:
    """What was found after all those cuts.

    Attributes:
        cuts: how often the power was cut, or a call failed.
        torn: states that are neither the one before nor the one after, or can't be read.
        lost: commits that were acknowledged and are not there.
    """

    cuts: int
    torn: int
    lost: int


def cut_everywhere(values: Sequence[Kept], seeds: Iterable[int], make_disk: MakeDisk = VirtualDisk) -> Verdict:
    """Cut each commit at each of its steps, fail each of them, and cut after it.

    Args:
        values: states of a device, one after the other.
        seeds: one drawing of chance each.
        make_disk: makes a disk, as `VirtualDisk` does.

    Returns:
        what was found.
    """
    found = [
        verdict
        for seed in seeds
        for before, after in pairwise(values)
        for verdict in _cut_commit(before, after, Random(seed), make_disk)
    ]
    return Verdict(len(found), found.count("torn"), found.count("lost"))


def _cut_commit(before: Kept, after: Kept, random: Random, make_disk: MakeDisk) -> list[str]:
    """Try every fault on one commit."""
    steps, verdicts = _steps(before, after, make_disk), []
    for step in range(1, steps + 2):  # the last one is after the end
        for fault in ("cut_at", "fail_at"):
            disk = make_disk(Random(random.random()))
            home = _prepare(disk, before)
            disk.steps = 0
            setattr(disk, fault, step)
            told = _attempt(home, after)
            if fault == "cut_at":
                disk.crash()
            disk.fail_at = 0
            verdicts.append(_judge(home, before, after, told))
    return verdicts


def _prepare(disk: VirtualDisk, before: Kept) -> Home:
    """Make a home that holds a state for certain."""
    home = Home(FOLDER, disk)
    home.commit(before)
    disk.flush_folder(FOLDER)
    return home


def _steps(before: Kept, after: Kept, make_disk: MakeDisk) -> int:
    """Count the steps of a commit."""
    disk = make_disk(Random(0))
    home = _prepare(disk, before)
    disk.steps = 0
    home.commit(after)
    return disk.steps


def _attempt(home: Home, after: Kept) -> str:
    """Commit, and say what the caller was told."""
    try:
        home.commit(after)
    except PowerCut:
        return "nothing"
    except OSError:
        return "no"
    return "yes"


def _judge(home: Home, before: Kept, after: Kept, told: str) -> str:
    """Say what is found: old, new, torn, or lost."""
    try:
        found = home.load()
    except ArtifactError:
        return "torn"
    data = None if found is None else encode_kept(found)
    state = {encode_kept(before): "old", encode_kept(after): "new"}.get(data or b"", "torn")
    return "lost" if (told, state) == ("yes", "old") else state
