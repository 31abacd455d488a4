"""Our figures against ranx and RecTools, for each user, on the same scores; see `benchmarks/metrics_by_others.py`."""

import json
from pathlib import Path

import numpy as np
import pytest

from ossia.data.histories import Histories
from ossia.data.splits import Cases
from ossia.evaluation import hr_at_k, list_ranks, mrr_at_k, ndcg_at_k, target_ranks
from ossia.evaluation.metrics import gains_at_k, hits_at_k, reciprocals_at_k

KEPT = json.loads(Path(__file__).with_name("metrics.json").read_text())
PER_USER = {"hr": hits_at_k, "ndcg": gains_at_k, "mrr": reciprocals_at_k}
MEANS = {"hr": hr_at_k, "ndcg": ndcg_at_k, "mrr": mrr_at_k}


class Kept:
    """Scores out of the file, for one user."""

    def __init__(self, scores: list[int]) -> None:
        self._scores = np.array(scores, np.float32)

    def scores(self, history, candidates):
        return self._scores[candidates.items]


def our_ranks(protocol: str) -> np.ndarray:
    asked = KEPT["asked"]
    users = len(asked["targets"])
    cases = Cases(
        Histories.from_lists(asked["histories"]), np.array(asked["targets"], np.int32), np.arange(users, dtype=np.int32)
    )
    items = len(asked["scores"][0])

    def of(number: int) -> Kept:
        return Kept(asked["scores"][number])

    if protocol == "full ranking":
        return target_ranks(of, cases, items)
    return list_ranks(of, cases, Histories.from_lists(asked["lists"]), items)


@pytest.mark.parametrize("protocol", ["full ranking", "given lists"])
@pytest.mark.parametrize("library", ["ranx 0.3.21", "rectools 0.19.0"])
def test_every_users_figures_are_those_of_another_library(protocol: str, library: str) -> None:
    ranks = our_ranks(protocol)
    answers = KEPT["answers"][protocol][library]
    assert len(answers) == 12
    for name, theirs in answers.items():
        metric, _, cut = name.partition("@")
        assert PER_USER[metric](ranks, int(cut)) == pytest.approx(theirs, abs=1e-12), name
        assert MEANS[metric](ranks, int(cut)) == pytest.approx(float(np.mean(theirs)), abs=1e-12)


def test_the_file_asks_hard_enough_questions() -> None:
    """Hits, misses, repeats and lists without the target are all among them; else agreement would say little."""
    asked, full, given = KEPT["asked"], our_ranks("full ranking"), our_ranks("given lists")
    repeats = [target in history for target, history in zip(asked["targets"], asked["histories"], strict=True)]
    held = [target in candidates for target, candidates in zip(asked["targets"], asked["lists"], strict=True)]
    assert 0 < sum(repeats) < len(repeats)
    assert 0 < sum(held) < len(held)
    for ranks in (full, given):
        assert len(set(ranks.tolist())) > 8
        assert 0.1 < hr_at_k(ranks, 10) < 0.9
