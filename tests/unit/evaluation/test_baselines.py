"""Counts of items and pairs against counting by hand, and what they must do on users whose rule is known."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossia.data.histories import Histories
from ossia.data.splits import leave_one_out
from ossia.evaluation.baselines import MarkovBigram, Popularity, recent_counts
from ossia.evaluation.metrics import hr_at_k
from ossia.evaluation.protocol import target_ranks
from ossia.types import Candidates

ITEMS = 6
logs = st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=8), min_size=1, max_size=8)


def best_first(scores: np.ndarray) -> list[int]:
    assert len(set(scores.tolist())) == len(scores), "the order must be total"
    return np.argsort(-scores).tolist()


@given(logs, st.integers(0, ITEMS - 1))
def test_the_bigram_orders_by_pairs_then_popularity_then_row(log: list[list[int]], last: int) -> None:
    counts = Counter(item for history in log for item in history)
    pairs = Counter(pair for history in log for pair in pairwise(history))
    expected = sorted(range(ITEMS), key=lambda item: (-pairs[last, item], -counts[item], item))
    bigram = MarkovBigram(Histories.from_lists(log), ITEMS)
    assert best_first(bigram.scores(np.array([3, last]), Candidates(np.arange(ITEMS)))) == expected


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_popularity_orders_by_counts_then_row(counts: list[int]) -> None:
    expected = sorted(range(len(counts)), key=lambda item: (-counts[item], item))
    scores = Popularity(np.array(counts)).scores(np.array([0]), Candidates(np.arange(len(counts))))
    assert best_first(scores) == expected


@given(logs, st.integers(1, 10))
def test_recent_counts_are_of_each_users_last_events_and_in_the_end_of_all(log: list[list[int]], last: int) -> None:
    expected = Counter(item for history in log for item in history[-last:])
    counts = recent_counts(Histories.from_lists(log), ITEMS, last)
    assert counts.tolist() == [expected[item] for item in range(ITEMS)]


def test_a_pair_never_spans_two_users() -> None:
    apart = MarkovBigram(Histories.from_lists([[0, 1], [], [2, 3]]), items=4)
    scores = apart.scores(np.array([1]), Candidates(np.arange(4)))
    assert np.all(scores <= 0)  # nothing follows 1, though 2 is the next event in the log


@given(logs, st.lists(st.lists(st.integers(-1, ITEMS - 1), max_size=4), min_size=1, max_size=5))
def test_many_at_once_is_one_at_a_time(log: list[list[int]], asked: list[list[int]]) -> None:
    bigram = MarkovBigram(Histories.from_lists(log), ITEMS)
    histories = [np.array(history, np.int32) for history in asked]
    rows = bigram.scores_many(histories)
    for row, history in zip(rows, histories, strict=True):
        assert np.array_equal(row, bigram.scores(history, Candidates(np.arange(ITEMS))))


def test_a_history_without_a_known_item_ranks_by_popularity() -> None:
    log = Histories.from_lists([[0, 1, 1, 2], [1, 0]])
    everything = Candidates(np.arange(3))
    popular = Popularity(np.array([2, 3, 1])).scores(np.array([0]), everything)
    bigram = MarkovBigram(log, items=3)
    for history in ([], [-1], [-1, -1]):
        assert np.array_equal(bigram.scores(np.array(history, np.int32), everything), popular)
    known = bigram.scores(np.array([0, -1]), everything)  # an absent last item is skipped
    assert np.array_equal(known, bigram.scores(np.array([0]), everything))


def test_absent_candidates_come_last_and_order_does_not_matter() -> None:
    candidates = np.array([2, -1, 0])
    for ranker in (Popularity(np.array([1, 2, 3])), MarkovBigram(Histories.from_lists([[0, 2]]), items=3)):
        scores = ranker.scores(np.array([0]), Candidates(candidates))
        assert scores[1] == -np.inf
        assert np.array_equal(ranker.scores(np.array([0]), Candidates(candidates[::-1])), scores[::-1])


@pytest.mark.parametrize(("follows_a_rule", "expected"), [(True, 1.0), (False, None)])
def test_the_bigram_finds_a_rule_where_there_is_one_and_none_where_there_is_none(
    follows_a_rule: bool, expected: float | None
) -> None:
    rng = np.random.default_rng(0)
    items, users = 50, 300
    successor = np.roll(np.arange(items), 1)
    log = []
    for _ in range(users):
        walk = [int(rng.integers(items))]
        for _ in range(9):
            walk.append(int(successor[walk[-1]]) if follows_a_rule else int(rng.integers(items)))
        log.append(walk)
    split = leave_one_out(Histories.from_lists(log))
    ranks = target_ranks(MarkovBigram(split.train, items), split.test, items, remove_seen=False)
    if expected is not None:
        assert hr_at_k(ranks, 1) == expected
    else:
        assert hr_at_k(ranks, 5) == pytest.approx(5 / items, abs=0.06)
