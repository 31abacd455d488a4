"""Nearest neighbors against counting users by hand, and what they must find where there is something to find."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossia.data.histories import Histories
from ossia.data.splits import leave_one_out
from ossia.errors import UsageError
from ossia.evaluation import ItemKNN, hr_at_k, item_knn, target_ranks
from ossia.evaluation.item_knn import nearest_items
from ossia.types import Candidates

ITEMS = 6
logs = st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=8), min_size=1, max_size=8)


def cosine(log: list[list[int]], one: int, other: int) -> float:
    met = [{user for user, history in enumerate(log) if item in history} for item in (one, other)]
    return len(met[0] & met[1]) / max(1.0, np.sqrt(len(met[0]) * len(met[1])))


@given(logs, st.integers(1, ITEMS))
def test_the_nearest_are_those_of_the_largest_cosine_ties_by_row(log: list[list[int]], neighbors: int) -> None:
    starts, near, cosines = nearest_items(Histories.from_lists(log), ITEMS, neighbors)
    for item in range(ITEMS):
        others = [other for other in range(ITEMS) if other != item and cosine(log, item, other) > 0]
        expected = sorted(others, key=lambda other: (-np.float32(cosine(log, item, other)), other))[:neighbors]
        place = slice(starts[item], starts[item + 1])
        assert near[place].tolist() == expected
        assert cosines[place] == pytest.approx([cosine(log, item, other) for other in expected], rel=1e-6)


@given(logs, st.integers(1, 40))
def test_blocks_of_any_size_give_the_same_neighbors(log: list[list[int]], pairs: int) -> None:
    train = Histories.from_lists(log)
    whole = nearest_items(train, ITEMS, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(item_knn, "PAIRS", pairs)
        for one, other in zip(nearest_items(train, ITEMS, 3), whole, strict=True):
            assert np.array_equal(one, other)


@given(logs, st.lists(st.integers(-1, ITEMS - 1), max_size=5), st.sampled_from([1.0, 0.5]))
def test_the_order_is_by_cosines_summed_with_age_then_by_popularity(
    log: list[list[int]], history: list[int], decay: float
) -> None:
    knn = ItemKNN(Histories.from_lists(log), ITEMS, decay=decay)
    known = [item for item in history if item >= 0]
    sums = [
        sum(decay**age * cosine(log, met, item) for age, met in enumerate(reversed(known)) if met != item)
        for item in range(ITEMS)
    ]
    counts = [sum(history.count(item) for history in log) for item in range(ITEMS)]
    scores = knn.scores(np.array(history, np.int32), Candidates(np.arange(ITEMS)))
    assert len(set(scores.tolist())) == ITEMS, "the order must be total"
    for one in range(ITEMS):
        for other in range(ITEMS):
            untouched = sums[one] == sums[other] == 0
            if sums[one] > sums[other] + 1e-6 or (untouched and (counts[one], -one) > (counts[other], -other)):
                assert scores[one] > scores[other]


@given(logs, st.lists(st.lists(st.integers(-1, ITEMS - 1), max_size=4), min_size=1, max_size=5))
def test_many_at_once_is_one_at_a_time(log: list[list[int]], asked: list[list[int]]) -> None:
    knn = ItemKNN(Histories.from_lists(log), ITEMS)
    histories = [np.array(history, np.int32) for history in asked]
    for row, history in zip(knn.scores_many(histories), histories, strict=True):
        assert np.array_equal(row, knn.scores(history, Candidates(np.arange(ITEMS))))


@pytest.mark.parametrize(("alike", "expected"), [(True, 1.0), (False, None)])
def test_it_finds_groups_of_taste_where_there_are_some_and_none_where_there_are_none(
    alike: bool, expected: float | None
) -> None:
    rng = np.random.default_rng(0)
    items, size = 60, 6
    pools = [np.arange(size) + size * (user % 10) if alike else np.arange(items) for user in range(300)]
    split = leave_one_out(Histories.from_lists([rng.permutation(pool)[:size].tolist() for pool in pools]))
    ranks = target_ranks(ItemKNN(split.train, items), split.test, items)
    if expected is not None:
        assert hr_at_k(ranks, 1) == expected  # five of the group's six are seen, the sixth is next
    else:
        assert hr_at_k(ranks, 5) == pytest.approx(5 / (items - size + 1), abs=0.06)


def test_settings_out_of_range_are_refused() -> None:
    train = Histories.from_lists([[0, 1]])
    for wrong in ({"neighbors": 0}, {"decay": 0.0}, {"decay": 1.1}):
        with pytest.raises(UsageError, match="neighbors ≥ 1 and 0 < decay ≤ 1"):
            ItemKNN(train, 2, **wrong)
