"""Makes `tests/golden/metrics.json`: what two other libraries say of the same scores. The tests only read it.

    python -m venv /tmp/metrics && /tmp/metrics/bin/pip install ranx==0.3.21 rectools==0.19.0 numpy==1.26.4
    /tmp/metrics/bin/python benchmarks/metrics_by_others.py

Nothing of ossia is imported. Scores are whole numbers without ties, because ties are a convention (ours is pessimistic, theirs
is whatever sorting does). Seen items are taken out by dropping them before ranking; so is whatever is not in a given list.
RecTools divides by the gain of k relevant items unless it is told `divide_by_achievable`: with one relevant item a user, that
is the NDCG that everybody means.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from ranx import Qrels, Run, evaluate
from rectools import Columns
from rectools.metrics import MRR, NDCG, HitRate

USERS, ITEMS, CUTS = 48, 40, (1, 5, 10, 20)
GOLDEN = Path(__file__).parents[1] / "tests/golden/metrics.json"


def make_questions(rng: np.random.Generator) -> dict[str, list]:
    """Draw scores, histories, targets (some of which repeat the history) and lists (some of which lack the target)."""
    scores = [rng.permutation(ITEMS).tolist() for _ in range(USERS)]
    histories = [rng.integers(ITEMS, size=rng.integers(0, 12)).tolist() for _ in range(USERS)]
    targets = [history[0] if history and user % 8 == 0 else int(rng.integers(ITEMS)) for user, history in enumerate(histories)]
    lists = [rng.choice(ITEMS, size=rng.integers(1, 15), replace=False).tolist() for _ in range(USERS)]
    for user in range(0, USERS, 2):
        lists[user] = [*(set(lists[user]) - {targets[user]}), targets[user]]
    return {"scores": scores, "histories": histories, "targets": targets, "lists": lists}


def ask_ranx(offered: list[dict[int, int]], targets: list[int]) -> dict[str, list[float]]:
    """Ask ranx; a run is items with scores, by user."""
    run = Run(
        {f"u{user:02}": {str(item): float(score + 1) for item, score in each.items()} for user, each in enumerate(offered)}
    )
    qrels = Qrels({f"u{user:02}": {str(target): 1} for user, target in enumerate(targets)})
    names = {"hr": "hit_rate", "ndcg": "ndcg", "mrr": "mrr"}
    return {
        f"{ours}@{cut}": evaluate(qrels, run, f"{theirs}@{cut}", return_mean=False).tolist()
        for ours, theirs in names.items()
        for cut in CUTS
    }


def ask_rectools(offered: list[dict[int, int]], targets: list[int]) -> dict[str, list[float]]:
    """Ask RecTools; a recommendation is a row of a frame."""
    rows = [
        (user, item, rank)
        for user, each in enumerate(offered)
        for rank, item in enumerate(sorted(each, key=lambda item: -each[item]), start=1)
    ]
    reco = pd.DataFrame(rows, columns=[Columns.User, Columns.Item, Columns.Rank])
    met = pd.DataFrame({Columns.User: range(USERS), Columns.Item: targets})
    answers = {}
    for cut in CUTS:
        metrics = {"hr": HitRate(k=cut), "ndcg": NDCG(k=cut, divide_by_achievable=True), "mrr": MRR(k=cut)}
        for name, metric in metrics.items():
            answers[f"{name}@{cut}"] = metric.calc_per_user(reco, met).reindex(range(USERS)).tolist()
    return answers


def main() -> None:
    """Ask both about full ranking and about given lists, and write everything down."""
    asked = make_questions(np.random.default_rng(20261121))
    whole = [
        {item: score for item, score in enumerate(row) if item not in set(history)}
        for row, history in zip(asked["scores"], asked["histories"], strict=True)
    ]
    given = [{item: row[item] for item in each} for row, each in zip(asked["scores"], asked["lists"], strict=True)]
    answers = {
        protocol: {
            "ranx 0.3.21": ask_ranx(offered, asked["targets"]),
            "rectools 0.19.0": ask_rectools(offered, asked["targets"]),
        }
        for protocol, offered in {"full ranking": whole, "given lists": given}.items()
    }
    GOLDEN.write_text(json.dumps({"asked": asked, "answers": answers}) + "\n")


if __name__ == "__main__":
    main()
