"""Fast validation gives the judge's own ranks."""

import numpy as np
import pytest
import torch

from ossia.backbones import SASRec, TorchRanker
from ossia.data import Cases, Histories
from ossia.evaluation import target_ranks
from ossia.training.validation import choose_cases, validation_ranks

ITEMS = 60


def make(seed: int = 0) -> SASRec:
    torch.manual_seed(seed)
    return SASRec(ITEMS, dim=8, length=6, blocks=1, heads=2, hidden=16)


def random_cases(users: int, seed: int = 0) -> Cases:
    rng = np.random.default_rng(seed)
    histories = [rng.integers(0, ITEMS, rng.integers(0, 15)).tolist() for _ in range(users)]
    return Cases(
        Histories.from_lists(histories), rng.integers(0, ITEMS, users).astype(np.int32), np.arange(users, dtype=np.int32)
    )


@pytest.mark.parametrize("users", [1, 40, 300])
def test_ranks_are_those_of_the_judge_also_for_repeats_and_empty_histories(users: int) -> None:
    model, cases = make(), random_cases(users)
    assert validation_ranks(model, cases).tolist() == target_ranks(TorchRanker(model), cases, ITEMS).tolist()


def test_a_catalog_too_large_for_many_users_at_once_is_ranked_few_by_few(monkeypatch: pytest.MonkeyPatch) -> None:
    import ossia.training.validation as module

    model, cases = make(), random_cases(40)
    at_once = validation_ranks(model, cases).tolist()
    monkeypatch.setattr(module, "SCORES", 3 * ITEMS)
    assert validation_ranks(model, cases).tolist() == at_once


def test_ties_and_scores_that_are_no_numbers_count_against_us() -> None:
    model, cases = make(), random_cases(20)
    torch.nn.init.zeros_(model.items.weight)
    ranks = validation_ranks(model, cases)
    seen = np.array(
        [len(set(history.tolist()) - {target}) for history, target in zip(cases.histories, cases.targets, strict=True)]
    )
    repeats = np.array([target in history for history, target in zip(cases.histories, cases.targets, strict=True)])
    assert ranks.tolist() == np.where(repeats, ITEMS, ITEMS - seen).tolist()
    torch.nn.init.constant_(model.items.weight, torch.nan)
    assert (validation_ranks(model, cases) == ITEMS).all()


def test_the_sample_is_fixed_by_its_seed_and_in_order_of_length() -> None:
    cases = random_cases(100)
    chosen, again, other = (choose_cases(cases, 30, seed) for seed in (1, 1, 2))
    assert chosen.users.tolist() == again.users.tolist() != other.users.tolist()
    assert len(set(chosen.users.tolist())) == 30
    assert (np.diff(chosen.histories.lengths) >= 0).all()
    for user, history, target in zip(chosen.users, chosen.histories, chosen.targets, strict=True):
        assert history.tolist() == cases.histories[int(user)].tolist()
        assert target == cases.targets[user]


def test_a_small_log_is_read_whole() -> None:
    assert sorted(choose_cases(random_cases(10), 10_000, 0).users.tolist()) == list(range(10))
