"""Kill −9 in the middle of keeping: a child writes states one after the other and is killed at any moment.

    lost   a state that the child had acknowledged is not there, nor the one after it
    torn   what is there can't be read

`write_naively` is the control: it writes in place, and a kill tears it.
"""

import os
import select
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from ossia.device.home import FILE, Home
from ossia.device.kept import Kept, encode_kept
from ossia.errors import ArtifactError
from ossia.simulation.cuts import Verdict

LONGEST_S = 0.02


def kill_often(
    folder: Path, values: Sequence[Kept], write: Callable[[Path, Kept], None], *, kills: int, seed: int = 0
) -> Verdict:
    """Let a child write, kill it, and look at what it left; so often.

    Args:
        folder: of the device.
        values: states, each another one.
        write: writes one.
        kills: how often.
        seed: of the moments.

    Returns:
        what was found.
    """
    random, places = Random(seed), {encode_kept(kept): place for place, kept in enumerate(values)}
    torn = lost = 0
    for _ in range(kills):
        acknowledged = _kill_one(folder, values, write, random.uniform(0, LONGEST_S))
        try:
            kept = Home(folder).load()
        except ArtifactError:
            torn += 1
            continue
        place = -1 if kept is None else places[encode_kept(kept)]
        lost += acknowledged > 0 and place not in (acknowledged - 1, acknowledged)
    return Verdict(kills, torn, lost)


def write_naively(folder: Path, kept: Kept) -> None:
    """Write in place, as one should not.

    Args:
        folder: of the device.
        kept: what to write.
    """
    (folder / FILE).write_bytes(encode_kept(kept))


def _kill_one(folder: Path, values: Sequence[Kept], write: Callable[[Path, Kept], None], after_s: float) -> int:
    """Let a child write, kill it some time after its first acknowledgment, and count these."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        for kept in values:
            write(folder, kept)
            os.write(writing, b".")
        os._exit(0)
    os.close(writing)
    first = os.read(reading, 1)
    select.select([], [], [], after_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        return len(first + pipe.read())
