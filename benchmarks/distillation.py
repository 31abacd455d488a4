"""A teacher, a narrow student trained alone, and the same student taught: quality, and what an epoch costs.

    python benchmarks/distillation.py LOG [--dim 16] [--seeds 2] [--epochs 100] [--set weight=0.5 ...] [--out FOLDER]

For each seed three runs are trained by `train_backbone`, each until validation no longer improves, and judged on all validation
and all test cases: the whole catalog, seen items removed, ties against us. Students are compared user by user and seed by seed.
Runs lie in FOLDER and are resumable: interrupted, the same command goes on. Nothing is chosen on test events.

An epoch's price is measured apart from the runs, so that other work on the machine hits all sides alike: from one start the
student takes turns, an epoch alone, an epoch taught, training only, by processor time (the median of `--timed` epochs).

Writes `distillation.json`, and a row for a table in `distillation.md`.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import msgspec
import numpy as np
import torch

from ossia.data import Cases, Dataset, item_counts, prepare, read_log
from ossia.evaluation import ndcg_at_k, paired_bootstrap
from ossia.evaluation.metrics import gains_at_k
from ossia.training import BackboneRecipe, Run, load_run, train_backbone
from ossia.training.backbone import make_batches, make_loss, make_optimizer, train_epoch
from ossia.training.batches import cut_windows
from ossia.training.losses import Proposal
from ossia.training.memory import keep_freed_memory
from ossia.training.recipes import Distillation
from ossia.training.run import build
from ossia.training.teacher import teacher_lists
from ossia.training.validation import choose_cases, validation_ranks

CONTESTANTS = ("teacher", "alone", "taught")


def train_all(data: Dataset, asked: argparse.Namespace, distillation: Distillation) -> list[dict[str, Run]]:
    """Train, or load, every run."""
    seeds = []
    for seed in range(asked.seeds):
        teacher = BackboneRecipe(seed=seed, epochs=asked.epochs)
        alone = msgspec.structs.replace(teacher, dim=asked.dim)
        taught = msgspec.structs.replace(alone, distillation=distillation)
        runs: dict[str, Run] = {}
        for name, recipe in zip(CONTESTANTS, (teacher, alone, taught), strict=True):
            folder = asked.out / f"{name}-{seed}"
            for epoch in train_backbone(data, recipe, folder, teacher=runs["teacher"] if name == "taught" else None):
                say(f"seed {seed}, {name}: {epoch}")
            runs[name] = load_run(folder)
        seeds.append(runs)
    return seeds


def time_epochs(data: Dataset, runs: dict[str, Run], epochs: int) -> dict[str, float]:
    """Train epochs of the student by turns, alone and taught; return the processor's seconds of each, and of the lists."""
    keep_freed_memory()
    split = data.split()
    proposal = Proposal.from_counts(torch.from_numpy(item_counts(split.train, data.items)), runs["alone"].recipe.alpha)
    seconds: dict[str, list[float]] = {"alone": [], "taught": []}
    models = {name: build(runs[name].recipe, data.items) for name in seconds}
    optimizers = {name: make_optimizer(model, runs[name].recipe) for name, model in models.items()}
    windows, recipe = cut_windows(split.train, runs["taught"].recipe.length), runs["taught"].recipe
    assert recipe.distillation is not None, "the taught student has one"
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        lists = teacher_lists(runs["teacher"].backbone, windows, recipe.distillation.top, Path(folder))
        listing = time.process_time() - started
        for epoch in range(epochs + 1):
            for name in seconds if epoch % 2 else reversed(seconds):
                batches = make_batches(windows, runs[name].recipe, lists if name == "taught" else None, epoch)
                loss, model = make_loss(runs[name].recipe, proposal), models[name]
                started = time.process_time()
                train_epoch(model, model, loss, batches, optimizers[name], runs[name].recipe, ())
                seconds[name].append(time.process_time() - started)
    alone, taught = (median(seconds[name][1:]) for name in ("alone", "taught"))  # an epoch to warm up is not timed
    return {"epoch_alone": alone, "epoch_taught": taught, "ratio": taught / alone, "lists": listing}


def judge(seeds: list[dict[str, Run]], cases: Cases) -> dict[str, object]:
    """Rank all cases with all runs."""
    cases = choose_cases(cases, len(cases), 0)
    ranks = {name: np.stack([validation_ranks(runs[name].backbone, cases) for runs in seeds]) for name in CONTESTANTS}
    gains = {name: gains_at_k(rank, 10) for name, rank in ranks.items()}
    answer: dict[str, object] = {
        name: {"ndcg": ndcg_at_k(rank, 10), "by_seed": [ndcg_at_k(one, 10) for one in rank]} for name, rank in ranks.items()
    }
    for other in ("alone", "teacher"):
        difference = paired_bootstrap(gains["taught"], gains[other], seed=0)
        answer[f"taught_minus_{other}"] = [difference.mean, difference.low, difference.high]
        answer[f"taught_over_{other}"] = float(gains["taught"].mean() / gains[other].mean())
    return answer


def row(result: dict, log: Path) -> str:
    """Write the row for docs/results.md."""
    test, price = result["test"], result["price"]
    difference, low, high = test["taught_minus_alone"]
    figures = [test[name]["ndcg"] for name in CONTESTANTS]
    return (
        f"| {log.parent.name} | {result['distillation']['loss']} | {' | '.join(f'{figure:.4f}' for figure in figures)} "
        f"| **{test['taught_over_teacher']:.1%}** | {difference:+.4f} ({low:+.4f} … {high:+.4f}) "
        f"| {price['ratio']:.2f} × | {result['seeds']} | `{result['command']}` |\n"
    )


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path, help="any log that `ossia prepare` reads")
    parser.add_argument("--dim", type=int, default=16, help="the student's width")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=100, help="the most, for each run")
    parser.add_argument("--timed", type=int, default=5, help="epochs of each kind that are timed")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the distillation")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "ossia-distillation")
    asked = parser.parse_args()
    settings = dict(setting.split("=", 1) for setting in asked.set)
    distillation = msgspec.convert(settings, Distillation, strict=False)
    data = prepare(read_log(asked.log), source={"path": str(asked.log)})
    seeds, split = train_all(data, asked, distillation), data.split()
    result = {
        "validation": judge(seeds, split.validation),
        "test": judge(seeds, split.test),
        "price": time_epochs(data, seeds[0], asked.timed),
        "epochs": {name: [len(runs[name].epochs) for runs in seeds] for name in CONTESTANTS},
        "distillation": msgspec.to_builtins(seeds[0]["taught"].recipe.distillation),
        "dims": [seeds[0][name].recipe.dim for name in CONTESTANTS],
        "seeds": asked.seeds,
        "data": data.hash,
        "machine": f"{platform.machine()} {platform.system()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "command": f"python {' '.join(sys.argv)}",
        "date": datetime.now(UTC).date().isoformat(),
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "distillation.json").write_text(json.dumps(result, indent=2) + "\n")
    (asked.out / "distillation.md").write_text(row(result, asked.log))
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
