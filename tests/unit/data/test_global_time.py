from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossia.data.dataset import Dataset
from ossia.data.global_time import Cuts, check_no_leak, choose_cuts, global_time
from ossia.data.histories import Histories
from ossia.data.prepare import prepare
from ossia.data.splits import Cases, Split, leave_one_out, with_validation
from ossia.errors import DataError, UsageError

HISTORIES = Histories.from_lists([[3, 1, 4, 1], [5, 9], [2, 6], [7, 8]])
TIMES = np.array([1, 2, 3, 4, 1, 4, 3, 3, 9, 10])
CUTS = Cuts(2, 3)


LOGS = st.lists(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), max_size=8), min_size=1, max_size=8)


def log(users: int = 12, events: int = 8, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user": [f"u{u}" for u in range(users) for _ in range(events)],
            "item": [f"i{i}" for i in rng.integers(0, 9, users * events)],
            "time": rng.permutation(users * events),
        }
    )


def split_log(**options: Any) -> Dataset:
    data = prepare(log(), min_user=1, min_item=1, split="global-time", **options)
    assert isinstance(data, Dataset)
    return data


@given(users=LOGS, cuts=st.tuples(st.integers(0, 30), st.integers(0, 30)))
def test_no_split_by_time_leaks_wherever_the_cuts_are(users: list[list[tuple[int, int]]], cuts: tuple[int, int]) -> None:
    events = [sorted(user) for user in users]
    histories = Histories.from_lists([[item for _, item in user] for user in events])
    times = np.array([time for user in events for time, _ in user], np.int64)
    cuts = (min(cuts), max(cuts))
    split = global_time(histories, times, Cuts(*cuts))
    check_no_leak(split, histories, times, Cuts(*cuts))
    assert len(split.train.items) == np.count_nonzero(times <= cuts[0])  # and nothing up to the cut is wasted
    again = with_validation(split)  # a refit sees everything up to the second cut of whom validation asked, and nothing later
    up_to = histories.where(times <= cuts[1])
    for user in range(len(histories)):
        expected = up_to if user in split.validation.users else split.train
        assert again[user].tolist() == expected[user].tolist()
    asked = {user for user, time in zip(histories.users, times, strict=True) if time > cuts[1]}
    assert set(split.test.users.tolist()) == {user for user in asked if histories.lengths[user] > 1}


def test_every_user_is_asked_once_a_window_given_everything_before() -> None:
    split = global_time(HISTORIES, TIMES, CUTS)
    assert [history.tolist() for history in split.train] == [[3, 1], [5], [], []]
    assert split.validation.users.tolist() == [0, 2]
    assert [history.tolist() for history in split.validation.histories] == [[3, 1], [2]]
    assert split.test.users.tolist() == [0, 1, 3]
    assert [history.tolist() for history in split.test.histories] == [[3, 1, 4], [5], [7]]
    assert split.test.targets.tolist() == [1, 9, 8]


def test_leave_one_out_learns_from_later_than_it_asks_and_the_check_says_so() -> None:
    histories, times = Histories.from_lists([[1, 2, 3, 4], [1, 2, 3, 4]]), np.array([1, 2, 3, 4, 11, 12, 13, 14])
    with pytest.raises(DataError, match="training: expected events up to 5 only, got one of user 1 at 12"):
        check_no_leak(leave_one_out(histories), histories, times, Cuts(5, 9))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: Split(HISTORIES.where(TIMES == 3), s.validation, s.test), "training: expected the beginnings"),
        (lambda s: Split(s.train, s.test, s.test), r"validation: expected events in \(2, 3\] only, got one of user 0 at 4"),
        (lambda s: Split(s.train, s.validation, s.validation), "test: expected events after 3 only, got one of user 0 at 3"),
        (
            lambda s: Split(s.train, s.validation, Cases(s.test.histories, s.test.targets[::-1].copy(), s.test.users)),
            "test: expected targets that follow their histories",
        ),
    ],
)
def test_every_kind_of_leak_is_found(change: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_no_leak(change(global_time(HISTORIES, TIMES, CUTS)), HISTORIES, TIMES, CUTS)


def test_times_that_fall_can_not_be_split() -> None:
    with pytest.raises(DataError, match=r"user 0: expected times that rise, got \[2 1\]"):
        check_no_leak(global_time(HISTORIES, TIMES, CUTS), HISTORIES, np.array([2, 1, 3, 4, 1, 4, 3, 3, 9, 10]), CUTS)


@given(times=st.lists(st.integers(0, 40), min_size=20, max_size=200), share=st.sampled_from([0.1, 0.2, 0.05]))
def test_cuts_hold_out_no_more_than_asked_and_something(times: list[int], share: float) -> None:
    array = np.array(times)
    try:
        cuts = choose_cuts(array, share)
    except DataError:
        return
    late, middle = (array > cuts.test).mean(), ((array > cuts.validation) & (array <= cuts.test)).mean()
    assert 0 < late <= share + 1 / len(times)
    assert middle > 0
    assert middle + late <= 2 * share + 1 / len(times)


@pytest.mark.parametrize("share", [0.0, 0.5, -1.0, float("nan")])
def test_shares_that_leave_nothing_are_refused(share: float) -> None:
    with pytest.raises(UsageError, match=r"held_out: expected a share above 0 and below 0.5"):
        choose_cuts(np.arange(100), share)


def test_times_that_are_all_alike_can_not_be_cut() -> None:
    with pytest.raises(DataError, match="time: expected two cuts before 7, the last time, with 10% of the events after each"):
        choose_cuts(np.full(100, 7))


def test_a_dataset_remembers_its_split_and_is_another_dataset_for_it(tmp_path: Any) -> None:
    data, other = split_log(), prepare(log(), min_user=1, min_item=1)
    data.save(tmp_path / "DATA")
    loaded = Dataset.load(tmp_path / "DATA")
    assert loaded.info == data.info
    assert loaded.info.cuts == Cuts(76, 85)
    assert np.array_equal(loaded.split().test.targets, data.split().test.targets)
    assert data.info.hash not in (other.hash, split_log(held_out=0.2).hash)
    assert np.array_equal(other.split().train.items, leave_one_out(other.histories).train.items)


def test_items_are_numbered_by_popularity_before_the_first_cut() -> None:
    data = split_log()
    counts = np.bincount(data.split().train.items, minlength=data.items)
    assert (np.diff(counts) <= 0).all()
    assert counts.sum() == 77


def test_changed_times_are_another_dataset_if_the_split_goes_by_them() -> None:
    later = log().with_columns(pl.col("time") + 1)
    assert prepare(later, min_user=1, min_item=1, split="global-time").hash != split_log().hash
    assert prepare(later, min_user=1, min_item=1).hash == prepare(log(), min_user=1, min_item=1).hash


def test_a_log_without_times_can_not_be_cut() -> None:
    with pytest.raises(UsageError, match="split: expected 'leave-one-out' for log, which has no times"):
        prepare(log().drop("time"), split="global-time")
    with pytest.raises(UsageError, match="split: expected one of leave-one-out, global-time, got 'random'"):
        prepare(log(), split="random")
