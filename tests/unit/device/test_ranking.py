"""Orders: stable, complete, and the same however many are asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossia.device.ranking import rerank, top_k
from ossia.errors import UsageError
from ossia.types import ABSENT, Candidates, History

# Few distinct values, so that ties are the rule, not the exception.
SCORES = st.lists(st.sampled_from([-np.inf, -2.5, -0.0, 0.0, 1.0, 3.0]) | st.floats(-4, 4, width=32), max_size=40)


class Fixed:
    """A ranker that was told what to say."""

    def __init__(self, scores: list[float]) -> None:
        self.told = np.array(scores, np.float32)

    def scores(self, history: History, candidates: Candidates) -> np.ndarray:
        return self.told


def test_best_first_ties_as_given_absent_last() -> None:
    candidates = Candidates(np.array([4, -1, 5, 6, -1, 7]))
    ranking = rerank(Fixed([0.5, -np.inf, 2.0, 0.5, -np.inf, 0.75]), np.array([1]), candidates)
    assert ranking.positions.tolist() == [2, 5, 0, 3, 1, 4]
    assert ranking.items.tolist() == [5, 7, 4, 6, -1, -1]
    assert ranking.scores.tolist() == [2.0, 0.75, 0.5, 0.5, -np.inf, -np.inf]


@given(scores=SCORES, k=st.integers(0, 45))
def test_the_first_k_are_the_beginning_of_the_full_stable_sort(scores: list[float], k: int) -> None:
    by_hand = sorted(range(len(scores)), key=lambda position: -scores[position])  # Python's sort is stable
    assert top_k(np.array(scores, np.float32), k).tolist() == by_hand[:k]


@pytest.mark.parametrize("k", [10, 3000])
def test_a_few_of_fifty_thousand_are_those_of_the_full_sort(k: int) -> None:
    scores = np.random.default_rng(0).integers(0, 500, 50_000).astype(np.float32)  # a hundred ties at every score
    assert (top_k(scores, k) == np.argsort(-scores, kind="stable")[:k]).all()


def test_all_absent_candidates_stay_in_the_order_given() -> None:
    ranking = rerank(Fixed([-np.inf] * 4), np.array([1]), Candidates(np.array([9, 3, 3, 5])), k=3)
    assert ranking.items.tolist() == [9, 3, 3]


def test_what_is_not_a_number_ranks_with_the_absent() -> None:
    ranking = rerank(Fixed([np.nan, 1.0, -np.inf, np.nan]), np.array([1]), Candidates(np.array([9, 3, 4, 5])))
    assert ranking.items.tolist() == [3, 9, 4, 5]
    assert ranking.scores.tolist() == [1.0, -np.inf, -np.inf, -np.inf]


@pytest.mark.parametrize(("k", "shown"), [(None, 3), (0, 0), (2, 2), (3, 3), (99, 3)])
def test_k_is_a_limit_not_a_demand(k: int | None, shown: int) -> None:
    assert len(rerank(Fixed([1, 2, 3]), np.array([1]), Candidates(np.array([7, 8, 9])), k)) == shown


def test_no_candidates_make_an_empty_ranking() -> None:
    assert len(rerank(Fixed([]), np.array([1]), Candidates(np.zeros(0, np.int32)), k=10)) == 0


def test_a_negative_k_is_the_callers_mistake() -> None:
    with pytest.raises(UsageError, match="k: expected 0 or more, got -1"):
        rerank(Fixed([1.0]), np.array([1]), Candidates(np.array([7])), k=-1)


class ByRow:
    """Scores that depend on the row alone, with ties; counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def scores(self, history: History, candidates: Candidates) -> np.ndarray:
        self.asked += candidates.items.tolist()
        return np.where(candidates.items < 0, -np.inf, candidates.items % 4).astype(np.float32)


ROWS = st.lists(st.integers(-1, 9), max_size=12)


def rows_of(rows: list[int] | None) -> np.ndarray | None:
    return None if rows is None else np.array(rows, np.int64)


@given(rows=ROWS, block=st.none() | ROWS, allow=st.none() | ROWS, k=st.none() | st.integers(0, 12))
def test_lists_show_what_an_unrestricted_ranking_shows_without_the_forbidden(
    rows: list[int], block: list[int] | None, allow: list[int] | None, k: int | None
) -> None:
    def may_show(row: int) -> bool:
        if row == ABSENT:
            return allow is None
        return (allow is None or row in allow) and row not in (block or [])

    candidates, history = Candidates(np.array(rows, np.int64)), np.array([1])
    free = rerank(ByRow(), history, candidates)
    expected = [place for place in free.positions.tolist() if may_show(rows[place])][:k]
    ranker = ByRow()
    ranking = rerank(ranker, history, candidates, k, block=rows_of(block), allow=rows_of(allow))
    assert ranking.positions.tolist() == expected
    assert ranking.items.tolist() == [rows[place] for place in expected]
    assert all(map(may_show, ranker.asked))  # what is not offered is not even scored


@given(rows=ROWS, block=ROWS, k=st.integers(0, 12))
def test_blocking_never_costs_a_place_while_others_are_left(rows: list[int], block: list[int], k: int) -> None:
    ranking = rerank(ByRow(), np.array([1]), Candidates(np.array(rows, np.int64)), k, block=rows_of(block))
    assert len(ranking) == min(k, sum(row == ABSENT or row not in block for row in rows))


@given(rows=ROWS, block=ROWS)
def test_an_empty_allow_list_allows_nothing_and_an_empty_block_list_blocks_nothing(rows: list[int], block: list[int]) -> None:
    candidates, history = Candidates(np.array(rows, np.int64)), np.array([1])
    nothing = np.empty(0, np.int64)
    assert len(rerank(ByRow(), history, candidates, allow=nothing)) == 0
    assert len(rerank(ByRow(), history, candidates, block=rows_of(block), allow=rows_of(block))) == 0  # block wins
    assert (
        rerank(ByRow(), history, candidates, block=nothing).items.tolist()
        == rerank(ByRow(), history, candidates).items.tolist()
    )


def test_vectors_stay_with_their_candidates() -> None:
    class Vectors:
        def scores(self, history: History, candidates: Candidates) -> np.ndarray:
            assert candidates.vectors is not None
            return candidates.vectors[:, 0]

    vectors = np.array([[1.0], [5.0], [3.0], [4.0]], np.float32)
    ranking = rerank(Vectors(), np.array([1]), Candidates(np.array([2, 7, -1, 8]), vectors), block=np.array([7]))
    assert ranking.positions.tolist() == [3, 2, 0]
    assert ranking.scores.tolist() == [4.0, 3.0, 1.0]
