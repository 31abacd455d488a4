"""The protocol against a slow reference, its rule about repeats, and its three ways to be given a ranker."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossia.data.histories import Histories
from ossia.data.splits import Cases
from ossia.errors import UsageError
from ossia.evaluation.protocol import Judgement, judge, pool_seeds, rank_batches, repeat_share, target_ranks
from ossia.types import Candidates, History, Ranker

ITEMS = 9


class ByLast:
    """Scores that depend on the last item, with ties; an item's own score is in row `last`."""

    def __init__(self, seed: int) -> None:
        self.table = np.random.default_rng(seed).integers(0, 5, (ITEMS + 1, ITEMS)).astype(np.float32)

    def scores(self, history: History, candidates: Candidates) -> np.ndarray:
        last = history[-1] if len(history) else ITEMS
        return self.table[last, candidates.items]


class ByLastMany(ByLast):
    """The same, with a fast way."""

    def scores_many(self, histories: Sequence[History]) -> np.ndarray:
        return np.stack([self.table[history[-1] if len(history) else ITEMS] for history in histories])


def cases_of(histories: list[list[int]], targets: list[int]) -> Cases:
    return Cases(Histories.from_lists(histories), np.array(targets, np.int32), np.arange(len(targets), dtype=np.int32))


def slow_ranks(ranker: Ranker, cases: Cases, *, remove_seen: bool) -> list[int]:
    """Sort by hand what may be shown, with the target behind its ties, and look where it stands."""
    ranks = []
    for history, target in zip(cases.histories, cases.targets.tolist(), strict=True):
        shown = [item for item in range(ITEMS) if not (remove_seen and item in history)]
        if target not in shown:
            ranks.append(ITEMS)
            continue
        scores = dict(zip(shown, ranker.scores(history, Candidates(np.array(shown))).tolist(), strict=True))
        order = sorted(shown, key=lambda item: (-scores[item], item == target))
        ranks.append(order.index(target) + 1)
    return ranks


a_case = st.tuples(st.lists(st.integers(0, ITEMS - 1), max_size=6), st.integers(0, ITEMS - 1))


@given(st.lists(a_case, min_size=1, max_size=12), st.integers(0, 50), st.booleans())
def test_ranks_agree_with_sorting_by_hand(drawn: list[tuple[list[int], int]], seed: int, remove_seen: bool) -> None:
    cases = cases_of([history for history, _ in drawn], [target for _, target in drawn])
    ranks = target_ranks(ByLast(seed), cases, ITEMS, remove_seen=remove_seen)
    assert ranks.tolist() == slow_ranks(ByLast(seed), cases, remove_seen=remove_seen)


def test_one_at_a_time_many_at_once_and_one_per_case_are_the_same() -> None:
    rng = np.random.default_rng(0)
    cases = cases_of(
        [rng.integers(0, ITEMS, rng.integers(0, 5)).tolist() for _ in range(40)], rng.integers(0, ITEMS, 40).tolist()
    )
    slow = target_ranks(ByLast(3), cases, ITEMS)
    assert np.array_equal(target_ranks(ByLastMany(3), cases, ITEMS), slow)
    assert np.array_equal(target_ranks(lambda case: ByLast(3), cases, ITEMS), slow)
    batches = list(rank_batches(ByLastMany(3), cases, ITEMS, batch=7))
    assert [len(batch) for batch in batches] == [7] * 5 + [5]
    assert np.array_equal(np.concatenate(batches), slow)


def test_every_case_is_judged_by_its_own_ranker() -> None:
    cases = cases_of([[0], [0], [0]], [4, 4, 4])
    expected = [int(target_ranks(ByLast(seed), cases, ITEMS)[0]) for seed in range(3)]
    assert len(set(expected)) > 1
    assert target_ranks(lambda case: ByLast(case), cases, ITEMS).tolist() == expected


class Oracle:
    """Knows that the answer is item 2."""

    def scores(self, history: History, candidates: Candidates) -> np.ndarray:
        return (candidates.items == 2).astype(np.float32)


def test_a_repeated_target_is_a_miss_when_seen_items_are_removed_and_a_hit_when_they_are_kept() -> None:
    cases = cases_of([[2, 5], [5, 6]], [2, 2])
    assert target_ranks(Oracle(), cases, ITEMS).tolist() == [ITEMS, 1]
    assert target_ranks(Oracle(), cases, ITEMS, remove_seen=False).tolist() == [1, 1]
    assert repeat_share(cases) == 0.5


class SeenFirst:
    """Ranks what was seen before everything else."""

    def scores(self, history: History, candidates: Candidates) -> np.ndarray:
        return np.isin(candidates.items, history).astype(np.float32) * 10 + (candidates.items == 4)


def test_removing_what_was_seen_lets_the_rest_move_up() -> None:
    cases = cases_of([[0, 1, 2]], [4])
    assert target_ranks(SeenFirst(), cases, ITEMS).tolist() == [1]
    assert target_ranks(SeenFirst(), cases, ITEMS, remove_seen=False).tolist() == [4]


def test_absent_items_in_a_history_remove_nothing() -> None:
    cases = cases_of([[-1, 3]], [ITEMS - 1])  # -1 as an index would remove the last item, the target
    assert target_ranks(SeenFirst(), cases, ITEMS)[0] < ITEMS


def test_judging_does_not_write_into_the_scores_of_the_ranker() -> None:
    ranker = ByLastMany(1)
    everything = ranker.table.copy()
    ranker.scores_many = lambda histories: ranker.table[: len(histories)]  # type: ignore[method-assign]
    target_ranks(ranker, cases_of([[1, 2], [3]], [4, 5]), ITEMS)
    assert np.array_equal(ranker.table, everything)


class TooFew(ByLast):
    """Forgets an item."""

    def scores(self, history: History, candidates: Candidates) -> np.ndarray:
        return super().scores(history, candidates)[:-1]


def test_too_few_scores_no_cases_and_unknown_targets_are_errors() -> None:
    with pytest.raises(UsageError, match=r"expected scores shaped \(1, 9\), got \(1, 8\)"):
        target_ranks(TooFew(0), cases_of([[1]], [2]), ITEMS)
    with pytest.raises(UsageError, match="at least one case"):
        target_ranks(ByLast(0), cases_of([], []), ITEMS)
    with pytest.raises(UsageError, match="below 9, got 9"):
        target_ranks(ByLast(0), cases_of([[1]], [9]), ITEMS)


def test_a_judgement_has_the_metrics_of_its_ranks() -> None:
    judgement = judge("oracle", Oracle(), cases_of([[2, 5], [5, 6]], [2, 2]), items=ITEMS)
    assert (judgement.name, judgement.repeat_share) == ("oracle", 0.5)
    assert (judgement.hr(5), judgement.ndcg(5), judgement.mrr(5)) == (0.5, 0.5, 0.5)


def test_pooling_keeps_a_row_per_seed() -> None:
    pooled = pool_seeds([Judgement("a", np.array([1, 2]), 0.1), Judgement("a, again", np.array([3, 4]), 0.1)])
    assert pooled.ranks.tolist() == [[1, 2], [3, 4]]
    assert pooled.name == "a"
    with pytest.raises(UsageError, match="same cases"):
        pool_seeds([Judgement("a", np.array([1, 2]), 0.0), Judgement("b", np.array([1]), 0.0)])


def test_no_case_repeats_nothing() -> None:
    assert repeat_share(cases_of([], [])) == 0.0
