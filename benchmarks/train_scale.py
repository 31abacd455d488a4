"""What training costs as the catalog grows: seconds per million events and peak memory, for made-up logs.

    python benchmarks/train_scale.py [--items 10000 100000 1000000] [--dim 64] [--events 500000] [--optimizers auto]

Every size is a process of its own, so that its peak memory is its own. A log has as many events whatever its items: users of 20
events, items drawn by 1 / rank. Two epochs are trained by `train_backbone` as it is, with validation (1,000 users) and
checkpoints; timed is the second: its training alone, by the wall and by the processor (other work on the machine moves the
first, hardly the second), and all of it. Another process takes the run up for one more epoch, for a resumed training reads its
checkpoint while its own tables are there: its peak is reported too. `--optimizers dense rows` compares both.

Writes `train_scale.json`, and the rows of a table in `train_scale.md`.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from ossia.data import Dataset, Histories
from ossia.data.dataset import Counts, DataInfo
from ossia.training import BackboneRecipe, backbone, train_backbone

LENGTH = 20
RECIPE = {"validation_users": 1_000, "patience": 100}


def made_up(items: int, events: int) -> Dataset:
    """Draw users of equal length and items by 1 / rank; row 0 is the most popular."""
    rng, users = np.random.default_rng(0), events // LENGTH
    ranks = np.exp(rng.random(users * LENGTH) * np.log(items)).astype(np.int32) - 1
    histories = Histories(ranks, np.arange(users + 1, dtype=np.int64) * LENGTH)
    size = Counts(users, items, users * LENGTH)
    info = DataInfo(
        source={"name": "made up"}, before=size, after=size, duplicates=0, min_user=1, min_item=1, ties="file", seed=0,
        tie_share=None, repeat_share=0.0, titled=None, versions={}, hash=f"{items:064x}",
    )  # fmt: skip
    return Dataset(histories, [str(user) for user in range(users)], [str(item) for item in range(items)], None, info)


class Clock:
    """Times what is called through it, by the wall and by the processor."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function, self.wall, self.processor = function, 0.0, 0.0

    def __call__(self, *arguments: object, **named: object) -> object:
        """Call the function, and keep what the call took."""
        wall, processor = time.perf_counter(), time.process_time()
        answer = self.function(*arguments, **named)
        self.wall, self.processor = time.perf_counter() - wall, time.process_time() - processor
        return answer


def train_here(items: int, dim: int, events: int, optimizer: str, epochs: int, out: Path) -> dict[str, object]:
    """Train in this process, and say what it took."""
    data = made_up(items, events)
    recipe = BackboneRecipe(dim=dim, epochs=3, item_optimizer=optimizer, **RECIPE)
    done, backbone.train_epoch = [], (clock := Clock(backbone.train_epoch))
    for epoch in train_backbone(data, recipe, out):
        done.append(epoch)
        say(f"{items:,} items, {optimizer}: {epoch}, {epoch.seconds:.1f} s")
        if len(done) == epochs:
            break
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    trained = data.histories.items.size - 3 * data.users  # the first event of a user is no target, the last two are held out
    recipe = recipe.resolve(items)
    return {
        "steps": done[-1].steps,
        "epoch_seconds": done[-1].seconds,
        "training_seconds_per_million": clock.wall / trained * 1e6,
        "training_processor_seconds_per_million": clock.processor / trained * 1e6,
        "peak_bytes": peak,
        "optimizer": recipe.item_optimizer,
        "loss": recipe.loss,
        "negatives": recipe.negatives,
    }


def measure(items: int, dim: int, events: int, optimizer: str) -> dict[str, object]:
    """Train two epochs in a process of its own, and a third in another."""
    with tempfile.TemporaryDirectory() as folder:
        parts = []
        for epochs in (2, 1):
            asked = json.dumps([items, dim, events, optimizer, epochs, f"{folder}/RUN"])
            child = subprocess.run([sys.executable, __file__, "--one", asked], stdout=subprocess.PIPE, check=True)
            parts.append(json.loads(child.stdout))
        row = {"items": items, **parts[0], "peak_resumed_bytes": parts[1]["peak_bytes"]}
        say(json.dumps(row))
        return row


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--optimizers", nargs="+", default=["auto"], choices=["auto", "dense", "rows"])
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "ossia-train-scale")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        *settings, out = json.loads(asked.one)
        print(json.dumps(train_here(*settings, Path(out))))
        return
    rows = [measure(items, asked.dim, asked.events, name) for items in asked.items for name in asked.optimizers]
    about = {
        "machine": f"{platform.machine()} {platform.system()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "command": f"python {' '.join(sys.argv)}",
        "date": datetime.now(UTC).date().isoformat(),
        "dim": asked.dim,
        "events": asked.events,
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "train_scale.json").write_text(json.dumps({"rows": rows, **about}, indent=2) + "\n")
    lines = []
    for row in rows:
        seconds = [row[f"training_{clock}seconds_per_million"] for clock in ("", "processor_")] + [row["epoch_seconds"]]
        memory = [row[peak] / 2**30 for peak in ("peak_bytes", "peak_resumed_bytes")]
        cells = [*(f"{value:.1f}" for value in seconds), *(f"{value:.2f}" for value in memory)]
        lines.append(f"| {row['items']:,} × {asked.dim} | {row['optimizer']} | {' | '.join(cells)} |\n")
    (asked.out / "train_scale.md").write_text("".join(lines))
    print(json.dumps({"rows": rows, **about}, indent=2))


if __name__ == "__main__":
    main()
