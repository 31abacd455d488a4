import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ossia.data.histories import Histories
from ossia.data.splits import in_training, item_counts, leave_one_out, with_validation


def test_short_users_train_and_give_no_case() -> None:
    split = leave_one_out(Histories.from_lists([[1, 2], [3, 4, 5], [], [6], [7, 8, 9, 7]]))
    assert [history.tolist() for history in split.train] == [[1, 2], [3], [], [6], [7, 8]]
    assert split.validation.users.tolist() == split.test.users.tolist() == [1, 4]
    assert [history.tolist() for history in split.validation.histories] == [[3], [7, 8]]
    assert split.validation.targets.tolist() == [4, 9]
    assert [history.tolist() for history in split.test.histories] == [[3, 4], [7, 8, 9]]
    assert split.test.targets.tolist() == [5, 7]


def test_no_user_long_enough_gives_no_case() -> None:
    split = leave_one_out(Histories.from_lists([[1], [2, 3]]))
    assert len(split.validation) == len(split.test) == len(split.test.histories) == 0


def test_the_training_mask_marks_what_train_holds() -> None:
    histories = Histories.from_lists([[1, 2], [3, 4, 5, 6]])
    assert histories.items[in_training(histories)].tolist() == leave_one_out(histories).train.items.tolist() == [1, 2, 3, 4]


def test_items_nobody_met_are_counted_zero_times() -> None:
    counts = item_counts(Histories.from_lists([[1, 1], [3]]), items=5)
    assert counts.tolist() == [0, 2, 0, 1, 0]
    assert counts.dtype == np.int64


@given(lists=st.lists(st.lists(st.integers(0, 9), max_size=7), max_size=6))
def test_validation_given_back_is_all_that_came_before_the_test_event(lists: list[list[int]]) -> None:
    histories = Histories.from_lists(lists)
    given_back = with_validation(leave_one_out(histories))
    assert [history.tolist() for history in given_back] == [own[:-1] if len(own) >= 3 else own for own in lists]
