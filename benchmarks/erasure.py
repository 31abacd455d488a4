"""What an erasure costs, and what it leaves: seconds among many devices, and their bytes in database, log and index of the log.

    python benchmarks/erasure.py --devices 100000 --events 2 --erase 20

Each erased device is looked for in every file when its answer comes: its id, its key, what it told. The unit is a commit on the
same disk. The control does the same in a smaller store without writing the database anew: SQLite's `secure_delete` alone leaves
copies of rows where it moved them from page to page, and must be caught at it. Prints one line of JSON for each.
"""

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from ossia.service import store as module
from ossia.service.store import Store

TOGETHER = 5_000


def bytes_of(index: int, events: int) -> list[bytes]:
    """Make what is kept of a device: its key, whose hash its id is, and what it told."""
    key = hashlib.sha256(b"key %d" % index).digest()
    return [key, hashlib.sha256(key).digest()[:16], *(hashlib.sha256(key + b"%d" % each).digest() for each in range(events))]


def fill(store: Store, devices: int, events: int, seed: int) -> None:
    """Enroll devices in the order of chance, as they come in life, with what they told and how often they asked."""
    random, order = Random(seed), list(range(devices))
    for begin in range(0, devices, TOGETHER):
        kept = [bytes_of(index, events) for index in order[begin : begin + TOGETHER]]
        last = [store.enroll(device, key, 0) for key, device, *_ in kept][-1]
        for _, device, *told in kept:
            last = store.add_feedback(device, 0, told) if told else last  # type: ignore[assignment]
        last.result()
        store.advance([device for _, device, *_ in kept for _ in range(random.randint(0, 3))]).result()


def left_in(folder: Path, needles: list[bytes]) -> dict[str, int]:
    """Count the needles that are in each file."""
    contents = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    return {name: sum(needle in content for needle in needles) for name, content in contents.items()}


def erase(store: Store, folder: Path, indices: list[int], events: int) -> tuple[list[float], int]:
    """Erase devices one after the other; returns seconds of each, and how many left a byte."""
    seconds, left = [], 0
    for index in indices:
        needles = bytes_of(index, events)
        assert sum(left_in(folder, needles).values()) >= len(needles), "the search must find what is there"
        begun = time.perf_counter()
        store.erase(needles[1]).result()
        seconds.append(time.perf_counter() - begun)
        left += any(left_in(folder, needles).values())
    return seconds, left


def commits(store: Store, count: int) -> list[float]:
    """Commit so often, one after the other."""
    seconds = []
    for number in range(count):
        begun = time.perf_counter()
        store.set("benchmark", b"%d" % number).result()
        seconds.append(time.perf_counter() - begun)
    return seconds


def truncate_only(connection: object) -> None:
    """Cut the log and leave the database as it is."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()  # type: ignore[attr-defined]


def measure(folder: Path, devices: int, events: int, erased: int, seed: int) -> dict[str, object]:
    """Fill a store, and erase from it."""
    store = Store(folder)
    fill(store, devices, events, seed)
    unit = statistics.median(commits(store, 50))
    seconds, left = erase(store, folder, Random(seed + 1).sample(range(devices), erased), events)
    size = sum(path.stat().st_size for path in folder.iterdir())
    store.close()
    median, worst = statistics.median(seconds), max(seconds)
    told = {"devices": devices, "events": events, "megabytes": round(size / 1e6, 1), "erased": erased, "left_a_byte": left}
    return told | {"median_s": round(median, 4), "worst_s": round(worst, 4), "median_commits": round(median / unit, 1)}


def main() -> int:
    """Read the command line and measure; an error where an erased device left a byte, or the control left none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=2, help="of feedback, for each device")
    parser.add_argument("--erase", type=int, default=20)
    parser.add_argument("--control", type=int, default=500, help="erasures among 3,000 devices without writing anew")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to be measured")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        found = measure(Path(name), options.devices, options.events, options.erase, options.seed)
    print(json.dumps({"what": "erasure"} | found), flush=True)
    module._write_anew = truncate_only  # type: ignore[assignment]
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        control = measure(Path(name), 3_000, 20, options.control, options.seed)
    print(json.dumps({"what": "control: the database is not written anew"} | control), flush=True)
    return int(bool(found["left_a_byte"]) or not control["left_a_byte"])


if __name__ == "__main__":
    sys.exit(main())
