"""Is a deeper base worth its blocks? Runs of several depths on validation events, user by user.

    python benchmarks/depth.py DATA --runs one-0,one-1 --runs two-0,two-1 --runs four-0,four-1

Each `--runs` is one depth, its seeds joined by commas. Every validation case is ranked in the whole catalog; a user's gain is
the mean over seeds, and each depth is held against the first with a paired interval. These cases chose each run's epoch too,
which favors no depth. Test events are not read.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from ossia.data import Cases, Dataset
from ossia.evaluation.bootstrap import Interval, bootstrap_mean, paired_bootstrap
from ossia.evaluation.metrics import gains_at_k
from ossia.training.run import load_run
from ossia.training.validation import choose_cases, validation_ranks


def main() -> None:
    """Judge every depth, and the first against the others."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", action="append", required=True, help="runs of one depth, joined by commas")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    split = Dataset.load(asked.data).split()
    cases = choose_cases(split.validation, len(split.validation), 0)
    first = None
    for runs in asked.runs:
        gains = np.stack([judge(Path(run), cases) for run in runs.split(",")])
        first = gains if first is None else first
        print(f"{runs}: {show(bootstrap_mean(gains, seed=0), '')}")
        if gains is not first:
            print(f"  over the first: {show(paired_bootstrap(gains, first, seed=0), '+')}", flush=True)


def judge(run: Path, cases: Cases) -> np.ndarray:
    """Give each case's gain at 10."""
    with torch.no_grad():
        return gains_at_k(validation_ranks(load_run(run).backbone, cases), 10)


def show(interval: Interval, sign: str) -> str:
    """Write a mean and its interval."""
    return f"NDCG@10 {interval.mean:{sign}.4f} ({interval.low:{sign}.4f} … {interval.high:{sign}.4f})"


if __name__ == "__main__":
    main()
