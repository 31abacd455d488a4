"""Do generated weights rank better than the base, and is it the person? Installed generators on every test event.

    python benchmarks/generated_rows.py BASE DATA --personalizer duet --personalizer duet-frozen

Each is asked through the graph that the service runs, with the user's own profile, with another user's, and with the average
profile over training users; all blocks run. NDCG@10 of the full ranking, and the log-likelihood of the next item in nats;
differences are paired by user.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from onnxruntime import InferenceSession

from ossia.adaptation import Base
from ossia.adaptation.personalizer_manifest import MODEL, personalizer_folder
from ossia.data import Dataset
from ossia.evaluation import Judgement, ndcg_at_k, repeat_share
from ossia.evaluation.controls import another_user
from ossia.personalizers.generator import delta_joint
from ossia.service.generator import Generator
from ossia.studies.chord_verdict import compare_judged
from ossia.training.events import EventBatch, Events
from ossia.training.frozen import FrozenBase, Judged, fit_temperature
from ossia.training.generator_recipe import GeneratorRecipe
from ossia.training.personalizer_events import choose_events


def main() -> None:
    """Judge the base, and each personalizer three times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--personalizer", action="append", required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    base, data = Base.load(asked.base), Dataset.load(asked.data)
    frozen = FrozenBase.load(base, (8,), torch.device("cpu"))
    frozen = replace(frozen, temperature=fit_temperature(frozen, frozen.events(choose_events(data, GeneratorRecipe())[1])))
    test, repeats = frozen.events(data.split().test), repeat_share(data.split().test)
    plain = frozen.judge(test)
    print(f"base: NDCG@10 {ndcg_at_k(plain.ranks, 10):.4f}, {plain.mean_likelihood:.4f} nats", flush=True)
    for name in asked.personalizer:
        served, own = Generator.load(base, name), test.profiles
        swapped, average = own[another_user(len(own), seed=0)], torch.from_numpy(served.average).expand_as(own)
        profiles = {"own": own, "another user's": swapped, "average user's": average}
        graph = InferenceSession(personalizer_folder(base.path, name) / MODEL)
        judged = {who: judge(frozen, served, graph, test, each) for who, each in profiles.items()}
        for who, row in judged.items():
            print(f"{name}, {who}: NDCG@10 {ndcg_at_k(row.ranks, 10):.4f}, {row.mean_likelihood:.4f} nats", flush=True)
        for who, row in {**judged, "base": plain}.items():
            if who != "own":
                compare(judged["own"], row, who, repeats)


def judge(frozen: FrozenBase, served: Generator, graph: InferenceSession, test: Events, asked: torch.Tensor) -> Judged:
    """Judge every event with the answer to some profile."""
    chooses, gates = len(graph.get_inputs()) == 2, len(served.base.manifest.gates)

    def states(batch: EventBatch) -> torch.Tensor:
        asks = {"profiles": asked[batch.rows].numpy()} | (
            {"kept": np.ones((len(batch.rows), gates), np.float32)} if chooses else {}
        )
        numbers = torch.from_numpy(graph.run(None, asks)[0])
        return frozen.backbone(batch.histories, slot=delta_joint(served.layout, numbers, frozen.basis))[:, -1]

    return frozen.judge_states(test, states)


def compare(mine: Judged, theirs: Judged, who: str, repeats: float) -> None:
    """Print the difference, user by user."""
    rows = [Judgement(name, each.ranks[None], repeats) for name, each in (("own", mine), (who, theirs))]
    gap = compare_judged(rows[0], rows[1], [mine], [theirs], 0)
    ndcg, nats = gap.ndcg_at_10, gap.log_likelihood
    print(
        f"  own − {who}: {ndcg.mean:+.4f} ({ndcg.low:+.4f} … {ndcg.high:+.4f}), {nats.mean:+.4f} ± {nats.half_width:.4f} nats"
    )


if __name__ == "__main__":
    main()
