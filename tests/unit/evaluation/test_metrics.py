"""Metrics against numbers worked out by hand, and ranks against a slow reference written another way."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ossia.errors import UsageError
from ossia.evaluation.metrics import (
    gains_at_k,
    hits_at_k,
    hr_at_k,
    mrr_at_k,
    ndcg_at_k,
    reciprocals_at_k,
    target_rank,
    target_ranks_in,
)

few_scores = st.sampled_from([-math.inf, -1.0, 0.0, 0.0, 0.5, 2.0, math.inf, math.nan])


def slow_rank(scores: list[float], target: int) -> int:
    """Walk through the items; whoever is not provably worse than the target stands before it."""
    if math.isnan(scores[target]) or scores[target] == -math.inf:
        return len(scores)
    rank = 1
    for item, score in enumerate(scores):
        if item != target and (math.isnan(score) or score >= scores[target]):
            rank += 1
    return rank


def slow_ndcg(ranks: list[int], k: int) -> float:
    """DCG of the list as it was shown, over DCG of the best list there is."""
    total = 0.0
    for rank in ranks:
        relevance = [1.0 if place == rank else 0.0 for place in range(1, k + 1)]
        total += sum(r / math.log2(place + 1) for place, r in enumerate(relevance, 1)) / (1 / math.log2(2))
    return total / len(ranks)


def test_figures_worked_out_by_hand() -> None:
    ranks = np.array([1, 3, 10, 11])
    assert hr_at_k(ranks, 10) == 0.75
    assert ndcg_at_k(ranks, 10) == pytest.approx((1 + 0.5 + 1 / math.log2(11)) / 4)
    assert mrr_at_k(ranks, 10) == pytest.approx((1 + 1 / 3 + 1 / 10) / 4)
    assert hr_at_k(ranks, 2) == 0.25
    assert ndcg_at_k(ranks, 3) == pytest.approx(1.5 / 4)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 25))
def test_metrics_agree_with_their_definitions_over_whole_lists(ranks: list[int], k: int) -> None:
    assert ndcg_at_k(np.array(ranks), k) == pytest.approx(slow_ndcg(ranks, k))
    assert hr_at_k(np.array(ranks), k) == pytest.approx(sum(rank in range(1, k + 1) for rank in ranks) / len(ranks))
    assert mrr_at_k(np.array(ranks), k) == pytest.approx(sum(1 / rank if rank <= k else 0 for rank in ranks) / len(ranks))


@given(st.data())
def test_ranks_agree_with_a_slow_reference_also_for_ties_and_broken_scores(data: st.DataObject) -> None:
    users, items = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 8))
    scores = data.draw(arrays(np.float32, (users, items), elements=few_scores.map(np.float32)))
    targets = data.draw(arrays(np.int64, users, elements=st.integers(0, items - 1)))
    expected = [slow_rank(row.tolist(), int(target)) for row, target in zip(scores, targets, strict=True)]
    assert target_ranks_in(scores, targets).tolist() == expected


def test_a_ranker_that_says_the_same_of_everything_is_last() -> None:
    assert [target_rank(np.zeros(7, np.float32), target) for target in range(7)] == [7] * 7


@pytest.mark.parametrize("worthless", [math.nan, -math.inf])
def test_a_target_without_a_score_is_a_miss_even_if_nothing_else_has_one(worthless: float) -> None:
    assert target_rank(np.full(50, worthless), 3) == 50


def test_a_competitor_that_scores_nan_counts_against_us() -> None:
    assert target_rank(np.array([5.0, math.nan, 4.0]), 0) == 2


def test_an_absent_target_is_a_miss_and_not_the_last_item() -> None:
    assert target_ranks_in(np.array([[0.0, 1.0, 9.0]]), np.array([-1])).tolist() == [3]


@given(arrays(np.float32, 12, elements=st.floats(-5, 5, width=32)), st.permutations(range(12)))
def test_ranks_do_not_depend_on_how_items_are_numbered(scores: np.ndarray, order: list[int]) -> None:
    places = {item: place for place, item in enumerate(order)}
    assert all(target_rank(scores, item) == target_rank(scores[order], places[item]) for item in range(12))


@given(arrays(np.int64, 15, elements=st.integers(1, 40)), st.integers(1, 40))
def test_values_per_user_average_to_the_metric_and_keep_their_order(ranks: np.ndarray, k: int) -> None:
    hits, gains, reciprocals = hits_at_k(ranks, k), gains_at_k(ranks, k), reciprocals_at_k(ranks, k)
    assert (hits.mean(), gains.mean(), reciprocals.mean()) == (hr_at_k(ranks, k), ndcg_at_k(ranks, k), mrr_at_k(ranks, k))
    assert np.all(hits >= gains)
    assert np.all(gains >= reciprocals)


def test_ranks_by_seed_and_user_are_averaged_over_both() -> None:
    assert hr_at_k(np.array([[1, 20], [2, 3]]), 10) == 0.75


def test_nobody_to_judge_is_an_error_and_not_nan() -> None:
    with pytest.raises(UsageError, match="at least one user"):
        ndcg_at_k(np.empty(0, np.int64), 10)


def test_a_target_outside_the_catalog_is_an_error() -> None:
    with pytest.raises(UsageError, match="below 3, got 3"):
        target_rank(np.zeros(3), 3)
