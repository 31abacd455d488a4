"""What batches without padding are worth: an epoch of ours against the same model padded to `length`, in one run.

    python benchmarks/train_speed.py LOG [--epochs 8] [--seeds 2] [--dropout 0.2] [--out FOLDER]

Two copies of one model start from the same weights and train by turns, an epoch of one, an epoch of the other, so that
whatever else the machine does hits both. They share everything but how a batch is made:

    ours      windows packed end to end into rows, each seeing only itself
    padded    a row for each window, padded on the left to `length` columns

Batches hold the same windows in both, so they take the same steps but for dropout, with as many negatives; the loss is computed
at real events alone in both (computing it at padding too, as many codes do, would make the padded epoch slower still). Timed is
training alone. After the last epoch both are validated by the protocol, per user, and compared over users and seeds. That
interval knows nothing of the luck of dropout, which an epoch early in training multiplies; with `--dropout 0` nothing but
rounding is left between the two.

Writes `train_speed.json`, and a row for a table in `train_speed.md`.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import numpy as np
import torch

from ossia.data import Cases, item_counts, prepare, read_log
from ossia.evaluation import ndcg_at_k, paired_bootstrap
from ossia.evaluation.metrics import gains_at_k
from ossia.training import BackboneRecipe
from ossia.training.backbone import make_optimizer, train_epoch
from ossia.training.batches import Batch, Windows, cut_windows, epoch_batches, group_at_random
from ossia.training.checkpoint import Epoch
from ossia.training.losses import NextItemLoss, Proposal, next_item_loss
from ossia.training.memory import keep_freed_memory
from ossia.training.run import build
from ossia.training.validation import choose_cases, validation_ranks

MakeBatches = Callable[[Windows, BackboneRecipe, np.random.Generator], Iterable[Batch]]


def ours(windows: Windows, recipe: BackboneRecipe, rng: np.random.Generator) -> Iterable[Batch]:
    return epoch_batches(windows, recipe.batch, rng)


def padded(windows: Windows, recipe: BackboneRecipe, rng: np.random.Generator) -> Iterable[Batch]:
    return (windows.padded(group, recipe.window) for group in group_at_random(windows.sizes, recipe.batch, rng))


@dataclass
class Contestant:
    """One way to make batches, its training, and what it took."""

    make: MakeBatches
    recipe: BackboneRecipe
    items: int
    epochs: tuple[Epoch, ...] = ()
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model, self.average = (build(self.recipe, self.items).to(self.recipe.device) for _ in range(2))
        self.optimizer = make_optimizer(self.model, self.recipe)

    def run_epoch(self, windows: Windows, loss: NextItemLoss) -> None:
        """Train one epoch, and note how long it took."""
        batches = self.make(windows, self.recipe, np.random.default_rng((self.recipe.seed, len(self.epochs))))
        started = time.perf_counter()
        losses = train_epoch(self.model, self.average, loss, batches, self.optimizer, self.recipe, self.epochs)
        self.seconds.append(time.perf_counter() - started)
        self.epochs = (*self.epochs, Epoch(len(self.epochs), len(losses), float(np.mean(losses)), 0.0, False, 0.0))


def race(log: Path, epochs: int, seeds: int, dropout: float) -> dict[str, object]:
    """Train both, by turns, for every seed; return what to report."""
    keep_freed_memory()
    data = prepare(read_log(log), source={"path": str(log)})
    split = data.split()
    recipes = [BackboneRecipe(seed=seed, dropout=dropout).resolve(data.items) for seed in range(seeds)]
    windows, cases = cut_windows(split.train, recipes[0].window), choose_cases(split.validation, len(split.validation), 0)
    proposal = Proposal.from_counts(torch.from_numpy(item_counts(split.train, data.items)), recipes[0].alpha)
    loss = next_item_loss(recipes[0].loss, proposal=proposal, negatives=recipes[0].negatives)
    pairs = [(Contestant(ours, recipe, data.items), Contestant(padded, recipe, data.items)) for recipe in recipes]
    for seed, pair in enumerate(pairs):
        for epoch in range(epochs):
            for contestant in pair if epoch % 2 else reversed(pair):
                contestant.run_epoch(windows, loss)
            say(f"seed {seed}, epoch {epoch}: ours {pair[0].seconds[-1]:.1f} s, padded {pair[1].seconds[-1]:.1f} s")
    return _report(data.hash, recipes[0], pairs, cases)


def _report(
    data_hash: str, recipe: BackboneRecipe, pairs: list[tuple[Contestant, Contestant]], cases: Cases
) -> dict[str, object]:
    ranks = [[validation_ranks(one.average, cases) for one in pair] for pair in pairs]
    ours_ranks, padded_ranks = (np.stack([pair[which] for pair in ranks]) for which in (0, 1))
    both = [[s for pair in pairs for s in pair[which].seconds[1:]] for which in (0, 1)]  # an epoch to warm up is not timed
    difference = paired_bootstrap(gains_at_k(ours_ranks, 10), gains_at_k(padded_ranks, 10), seed=0)
    return {
        "ratio": median(both[1]) / median(both[0]),
        "ratio_by_seed": [median(pair[1].seconds[1:]) / median(pair[0].seconds[1:]) for pair in pairs],
        "seconds_ours": median(both[0]),
        "seconds_padded": median(both[1]),
        "ndcg_ours": ndcg_at_k(ours_ranks, 10),
        "ndcg_padded": ndcg_at_k(padded_ranks, 10),
        "ndcg_by_seed": [[ndcg_at_k(rank, 10) for rank in pair] for pair in ranks],
        "difference": {"mean": difference.mean, "low": difference.low, "high": difference.high},
        "epochs": len(pairs[0][0].epochs),
        "steps_per_epoch": [contestant.epochs[0].steps for contestant in pairs[0]],
        "users": len(cases),
        "loss": recipe.loss,
        "negatives": recipe.negatives,
        "batch": recipe.batch,
        "dropout": recipe.dropout,
        "data": data_hash,
        "machine": f"{platform.machine()} {platform.system()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "command": f"python {' '.join(sys.argv)}",
        "date": datetime.now(UTC).date().isoformat(),
    }


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path, help="any log that `ossia prepare` reads")
    parser.add_argument("--epochs", type=int, default=8, help="epochs for each contestant and seed; at least 2")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--dropout", type=float, default=BackboneRecipe().dropout)
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "ossia-train-speed")
    asked = parser.parse_args()
    if asked.epochs < 2 or asked.seeds < 1:
        parser.error("expected at least 2 epochs and 1 seed")
    result = race(asked.log, asked.epochs, asked.seeds, asked.dropout)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "train_speed.json").write_text(json.dumps(result, indent=2) + "\n")
    row = (
        f"| {asked.log.name} | {result['seconds_ours']:.2f} | {result['seconds_padded']:.2f} | **{result['ratio']:.2f} ×** "
        f"| {result['ndcg_ours']:.4f} | {result['ndcg_padded']:.4f} | `{result['command']}` | {result['machine']} "
        f"| {result['date']} |\n"
    )
    (asked.out / "train_speed.md").write_text(row)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
