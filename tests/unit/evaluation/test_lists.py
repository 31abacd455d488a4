"""Lists instead of the catalog: their laws, what must not be mixed, and what drawn negatives do to a figure."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossia.data.histories import Histories
from ossia.data.splits import Cases
from ossia.errors import UsageError
from ossia.evaluation import Judgement, Popularity, Provenance, compare, hr_at_k, make_row, ndcg_at_k, pool_seeds, target_ranks
from ossia.evaluation.lists import (
    MISS,
    GivenOrder,
    candidate_recall,
    draw_lists,
    list_ranks,
    sampled_hr_at_k,
    sampled_ndcg_at_k,
    sampled_protocol,
)
from ossia.evaluation.table import json_table, markdown_table, rich_table

ITEMS = 12
WHERE = Provenance("ossia evaluate", (0,), "here", {}, "data", "00", "2026-11-21")
lists_of = st.lists(st.integers(0, ITEMS - 1), max_size=8)
questions = st.lists(st.tuples(lists_of, st.integers(0, ITEMS - 1), lists_of), min_size=1, max_size=6)


class Fixed:
    """Scores of the catalog, the same for everybody; `many` as one call, or list by list."""

    def __init__(self, scores: np.ndarray, *, many: bool) -> None:
        self._scores = scores.astype(np.float32)
        if many:
            self.scores_many = lambda histories: np.tile(self._scores, (len(histories), 1))

    def scores(self, history, candidates):
        return self._scores[candidates.items]


def cases_of(asked: list[tuple[list[int], int, list[int]]]) -> tuple[Cases, Histories]:
    targets = np.array([target for _, target, _ in asked], np.int32)
    cases = Cases(Histories.from_lists([history for history, _, _ in asked]), targets, np.arange(len(asked), dtype=np.int32))
    return cases, Histories.from_lists([candidates for _, _, candidates in asked])


@given(questions, st.lists(st.integers(0, 3), min_size=ITEMS, max_size=ITEMS), st.booleans())
def test_a_rank_is_one_and_the_others_of_the_list_that_are_not_below(asked, scores: list[int], many: bool) -> None:
    cases, lists = cases_of(asked)
    ranks = list_ranks(Fixed(np.array(scores), many=many), cases, lists, ITEMS)
    for rank, (_, target, candidates) in zip(ranks, asked, strict=True):
        expected = sum(scores[item] >= scores[target] for item in set(candidates)) if target in candidates else MISS
        assert rank == expected


@given(questions, st.lists(st.integers(0, 3), min_size=ITEMS, max_size=ITEMS))
def test_no_ranker_scores_above_the_candidate_recall(asked, scores: list[int]) -> None:
    cases, lists = cases_of(asked)
    ranks = list_ranks(Fixed(np.array(scores), many=True), cases, lists, ITEMS)
    recall = candidate_recall(cases, lists)
    assert ndcg_at_k(ranks, 10) <= hr_at_k(ranks, 10) <= recall + 1e-12
    assert hr_at_k(ranks, ITEMS) == pytest.approx(recall)  # and whoever shows the whole list reaches it


@given(questions, st.lists(st.integers(0, 5), min_size=ITEMS, max_size=ITEMS))
def test_a_list_of_the_whole_catalog_is_full_ranking_with_seen_items_kept(asked, scores: list[int]) -> None:
    cases, _ = cases_of(asked)
    ranker = Fixed(np.array(scores), many=True)
    whole = Histories.from_lists([list(range(ITEMS))] * len(asked))
    full = target_ranks(ranker, cases, ITEMS, remove_seen=False)
    assert np.array_equal(list_ranks(ranker, cases, whole, ITEMS), full)


def test_the_order_given_ranks_by_first_place() -> None:
    cases, lists = cases_of([([], 4, [7, 7, 4]), ([], 4, [4]), ([], 4, [])])
    assert list_ranks(GivenOrder(), cases, lists, ITEMS).tolist() == [2, 1, MISS]


@given(questions, st.integers(0, 3), st.integers(0, 5))
def test_drawn_lists_hold_the_target_and_nothing_that_was_met(asked, negatives: int, seed: int) -> None:
    cases, _ = cases_of(asked)
    lists = draw_lists(cases, ITEMS, negatives, seed=seed)
    for (history, target, _), drawn in zip(asked, lists, strict=True):
        assert drawn[0] == target
        assert len(set(drawn.tolist())) == negatives + 1
        assert not set(drawn[1:].tolist()) & {*history, target}
    alone, _ = cases_of(asked[-1:])
    same_user = Cases(alone.histories, alone.targets, cases.users[-1:])
    assert np.array_equal(draw_lists(same_user, ITEMS, negatives, seed=seed)[0], lists[len(asked) - 1])


def test_random_scores_reach_what_chance_reaches_which_is_far_above_full_ranking() -> None:
    rng = np.random.default_rng(0)
    items, users = 1000, 3000
    cases = Cases(
        Histories.from_lists([[]] * users), rng.integers(items, size=users).astype(np.int32), np.arange(users, dtype=np.int32)
    )
    ranker = Popularity(rng.permutation(items))
    among = list_ranks(ranker, cases, draw_lists(cases, items, 49), items)
    assert sampled_hr_at_k(among, 10, negatives=49) == pytest.approx(10 / 50, abs=0.03)
    assert hr_at_k(target_ranks(ranker, cases, items), 10) == pytest.approx(10 / items, abs=0.01)


def test_ranks_of_a_full_ranking_are_no_sampled_figures() -> None:
    with pytest.raises(UsageError, match="at most 101 among 100 negatives, got 102"):
        sampled_ndcg_at_k(np.array([1, 102]), 10, negatives=100)


def test_too_few_items_to_draw_from_lists_that_fit_nothing_and_no_cases_are_refused() -> None:
    cases, lists = cases_of([([0, 1], 2, [3])])
    with pytest.raises(UsageError, match="expected at most 9 of 12 items, got 10"):
        draw_lists(cases, ITEMS, 10)
    with pytest.raises(UsageError, match="one for each of 1 cases, got 2"):
        list_ranks(GivenOrder(), cases, Histories.from_lists([[1], [2]]), ITEMS)
    with pytest.raises(UsageError, match=r"items 0 … 2, got 3 … 3"):
        list_ranks(GivenOrder(), cases, lists, 3)
    nobody = Cases(Histories.from_lists([]), np.empty(0, np.int32), np.empty(0, np.int32))
    with pytest.raises(UsageError, match="at least one case"):
        list_ranks(GivenOrder(), nobody, Histories.from_lists([]), ITEMS)


def test_figures_of_two_protocols_never_stand_together() -> None:
    ranks = np.array([1, 2, 30])
    full, sampled = Judgement("a", ranks, 0.0), Judgement("b", ranks, 0.0, sampled_protocol(100))
    rows = [make_row(each, "base") for each in (full, sampled)]
    for mix in (rich_table, lambda rows: markdown_table(rows, WHERE), lambda rows: json_table(rows, WHERE)):
        with pytest.raises(UsageError, match="one protocol together, got 100 sampled negatives and full ranking"):
            mix(rows)
    for two in (lambda: compare(full, sampled), lambda: pool_seeds([full, sampled])):
        with pytest.raises(UsageError, match="one protocol together"):
            two()


def test_sampled_figures_carry_their_name_into_every_form() -> None:
    row = make_row(Judgement("b", np.array([1, 2, 30]), 0.0, sampled_protocol(100)), "base")
    assert "NDCG@10 (100 sampled negatives)" in markdown_table([row], WHERE)
    assert [column.header for column in rich_table([row]).columns][1] == "NDCG@10 (100 sampled negatives)"
    written = json.loads(json_table([row], WHERE))["rows"][0]
    assert "sampled_ndcg_at_10" in written
    assert "ndcg_at_10" not in written
    assert written["protocol"] == "100 sampled negatives"
