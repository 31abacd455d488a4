"""The device engine beside what a user would pick instead: one run, one machine, one thread, each in a process of its own.

    us of a contender  =  min and 95th percentile over `repeats` calls, after warming up
    ratio              =  min of the contender / min of the engine

Who is asked, and what, is in `engine_contenders.py`. A process of its own makes load time, memory and the thread count
honest: memory is what the process grew by between having imported its libraries and having answered.
"""

import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from msgspec import Struct

from ossia.adaptation import Base
from ossia.studies.engine_contenders import CONTENDERS, MODULES, make_task

LIMIT_S = 900
"""Seconds for one contender; an export of a large table takes a while."""


class Measured(Struct, frozen=True):
    """What one contender did; microseconds, milliseconds, bytes, MiB."""

    name: str
    candidates_us: float
    candidates_p95_us: float
    table_us: float
    table_p95_us: float
    load_ms: float
    file_bytes: int
    memory_mb: float
    fold_us: float | None = None
    """Folding one payload with a code for each channel; of the engine only."""


def measure(name: str, base: Path, folder: Path, repeats: int) -> Measured:
    """Load one contender and time it, in this process.

    Args:
        name: in `CONTENDERS`.
        base: the base's folder.
        folder: where exported graphs are.
        repeats: calls of each task.

    Returns:
        what it did.
    """
    task = make_task(Base.load(base))
    if module := MODULES.get(name.split()[0]):
        importlib.import_module(module)
    before, started = _resident_mb(), time.perf_counter()
    contender = CONTENDERS[name](task, folder)
    contender.score()
    load_ms = (time.perf_counter() - started) * 1e3
    memory_mb = _resident_mb() - before
    score, top = least_and_late(contender.score, repeats), least_and_late(contender.top, max(20, repeats // 4))
    fold = None if contender.fold is None else least_and_late(contender.fold, repeats)[0]
    return Measured(name, *score, *top, load_ms, contender.file_bytes, memory_mb, fold)


def measure_apart(name: str, base: Path, folder: Path, repeats: int) -> Measured:
    """Do the same in a process of its own, on one thread.

    Args:
        name: in `CONTENDERS`.
        base: the base's folder.
        folder: where exported graphs are.
        repeats: calls of each task.

    Returns:
        what it did.

    Raises:
        RuntimeError: it failed, with the last line that it said.
    """
    one = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ossia.studies.engine_bench", name, str(base), str(folder), str(repeats)]
    done = subprocess.run(command, env=os.environ | one, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1])
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def least_and_late(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Time a call.

    Args:
        call: what is timed, after five calls that are not.
        repeats: how often.

    Returns:
        the least and the 95th percentile, in microseconds.
    """
    for _ in range(5):
        call()
    took = np.empty(repeats)
    for index in range(repeats):
        started = time.perf_counter_ns()
        call()
        took[index] = time.perf_counter_ns() - started
    return float(took.min() / 1e3), float(np.percentile(took, 95) / 1e3)


def _resident_mb() -> float:
    """Return the memory that this process has now, in MiB; 0 where the system does not tell."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20 if statm.exists() else 0.0


if __name__ == "__main__":
    import msgspec

    print(msgspec.json.encode(measure(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))).decode())
