import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossia.data.global_time import Cuts, global_time
from ossia.data.histories import Histories
from ossia.data.splits import Split, leave_one_out
from ossia.data.synthetic import synthetic
from ossia.errors import DataError
from ossia.evaluation.sequential import measure_order, shuffle_within_users


def test_users_who_follow_a_rule_look_sequential() -> None:
    data = synthetic(300, 40, 12, predictability=0.8, seed=0)
    found = measure_order(data.split(), data.items)
    assert found.difference.low > 0.1
    assert found.cases == 300


def test_users_who_walk_at_random_do_not() -> None:
    data = synthetic(300, 40, 12, predictability=0.0, seed=0)
    found = measure_order(data.split(), data.items)
    assert found.difference.low < 0 < found.difference.high


def known(split: Split) -> dict[int, list[int]]:
    """Each user's events up to the validation event."""
    events = {user: history.tolist() for user, history in enumerate(split.train)}
    cases = zip(split.validation.users.tolist(), split.validation.histories, split.validation.targets.tolist(), strict=True)
    return events | {user: [*history.tolist(), target] for user, history, target in cases}


@given(
    lists=st.lists(st.lists(st.integers(0, 9), max_size=9), min_size=1, max_size=8),
    seed=st.integers(0, 99),
    timed=st.booleans(),
)
def test_a_shuffled_copy_holds_the_same_events_of_the_same_users(lists: list[list[int]], seed: int, timed: bool) -> None:
    histories = Histories.from_lists(lists)
    split = global_time(histories, histories.positions, Cuts(2, 5)) if timed else leave_one_out(histories)
    train, cases = shuffle_within_users(split, np.random.default_rng(seed))
    copy = Split(train, cases, split.test)
    before, after = known(split), known(copy)
    assert {user: sorted(items) for user, items in after.items()} == {user: sorted(items) for user, items in before.items()}
    assert train.lengths.tolist() == split.train.lengths.tolist()
    assert cases.histories.lengths.tolist() == split.validation.histories.lengths.tolist()
    for user, history in enumerate(train):  # training is the beginning of the same new order
        assert after[user][: len(history)] == history.tolist()


def test_every_order_of_three_events_comes_up() -> None:
    split = leave_one_out(Histories.from_lists([[1, 2, 3, 4]]))
    seen = {tuple(known(Split(*shuffle_within_users(split, np.random.default_rng(s)), split.test))[0]) for s in range(100)}
    assert len(seen) == 6


def test_test_events_change_nothing() -> None:
    data = synthetic(50, 20, 8, predictability=0.5, seed=1)
    split = data.split()
    blind = Split(split.train, split.validation, split.validation)
    assert measure_order(split, data.items, seed=3) == measure_order(blind, data.items, seed=3)


def test_a_draw_of_cases_is_a_part_of_them_and_the_same_for_all_rows() -> None:
    data = synthetic(200, 20, 8, predictability=0.9, seed=1)
    few = measure_order(data.split(), data.items, most=50)
    assert few.cases == 50
    assert few.difference.mean == pytest.approx(few.rows[1].ndcg_at_10.mean - few.rows[2].ndcg_at_10.mean)


def test_nobody_to_ask_is_an_error() -> None:
    with pytest.raises(DataError, match="expected an event to validate with, found none"):
        measure_order(leave_one_out(Histories.from_lists([[1], [2, 3]])), 5)
