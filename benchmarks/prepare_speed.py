"""How long `ossia prepare` takes, and what memory it needs, on a made-up log of millions of rows.

    python benchmarks/prepare_speed.py                     ten million rows as CSV and as Parquet

Ids are strings such as `u481516` and `i23`, items are drawn by a Zipf law, times are seconds over four years, and rows stand in
no order: nothing in the file helps. Each file is prepared by the command line in a process of its own; seconds are those of
the wall and of the processor (which another process on the same cores does not stretch), memory is the peak resident set,
reading, hashing and writing included.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

YEARS_S = 4 * 365 * 86_400


@dataclass(frozen=True)
class Spent:
    """What one command took."""

    wall_s: float
    processor_s: float
    peak_gb: float


def make_log(events: int, users: int, items: int, seed: int) -> pl.DataFrame:
    """Make a log up: users alike, items by a Zipf law with exponent 0.9, five ratings, times in no order."""
    rng = np.random.default_rng(seed)
    weights = np.arange(1, items + 1) ** -0.9
    numbers = pl.DataFrame(
        {
            "user_id": rng.integers(0, users, events),
            "item_id": rng.choice(items, events, p=weights / weights.sum()),
            "rating": rng.integers(1, 6, events),
            "timestamp": 1_600_000_000 + rng.integers(0, YEARS_S, events),
        }
    )
    return numbers.with_columns(pl.format("u{}", "user_id").alias("user_id"), pl.format("i{}", "item_id").alias("item_id"))


def measure(command: list[str]) -> Spent:
    """Run a command to its end, and ask the system what it took."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: expected exit code 0, got {os.waitstatus_to_exitcode(status)}")
    kilobyte = 1 if sys.platform == "darwin" else 1024
    return Spent(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * kilobyte / 1e9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=500_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ossia-") as temporary:
        folder = Path(temporary)
        files = {"CSV": folder / "log.csv", "Parquet": folder / "log.parquet"}
        log = make_log(options.events, options.users, options.items, options.seed)
        log.write_csv(files["CSV"])
        log.write_parquet(files["Parquet"])
        del log
        print(f"{options.events:,} rows; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {platform.platform()}")
        print("| file | MB | wall, s | processor, s | peak memory, GB |\n|---|--:|--:|--:|--:|")
        for name, path in files.items():
            program = "import sys; from ossia.cli import main; main(sys.argv[1:])"
            spent = measure([sys.executable, "-c", program, "prepare", str(path), "--out", str(folder / f"data-{name}")])
            size = path.stat().st_size / 1e6
            print(f"| {name} | {size:.0f} | {spent.wall_s:.1f} | {spent.processor_s:.1f} | {spent.peak_gb:.2f} |", flush=True)


if __name__ == "__main__":
    main()
