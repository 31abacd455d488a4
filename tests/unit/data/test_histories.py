import numpy as np
import pytest

from ossia.data.histories import Histories
from ossia.errors import UsageError

LISTS = [[3, 1, 4, 1], [], [5, 9]]


@pytest.fixture
def histories() -> Histories:
    return Histories.from_lists(LISTS)


def test_every_user_gets_back_what_was_laid_end_to_end(histories: Histories) -> None:
    assert [history.tolist() for history in histories] == LISTS
    assert histories.lengths.tolist() == [4, 0, 2]
    assert len(histories) == 3


def test_a_history_is_a_view_that_copies_nothing(histories: Histories) -> None:
    assert np.shares_memory(histories[0], histories.items)


def test_a_negative_number_counts_from_the_last_user(histories: Histories) -> None:
    assert histories[-1].tolist() == [5, 9]


@pytest.mark.parametrize("user", [3, -4])
def test_a_user_who_is_not_there_is_an_index_error(histories: Histories, user: int) -> None:
    with pytest.raises(IndexError, match="expected one of 3 users"):
        histories[user]


def test_users_and_positions_name_every_event(histories: Histories) -> None:
    assert histories.users.tolist() == [0, 0, 0, 0, 2, 2]
    assert histories.positions.tolist() == [0, 1, 2, 3, 0, 1]


def test_where_keeps_every_user_and_the_order(histories: Histories) -> None:
    kept = histories.where(np.array([True, False, True, False, False, True]))
    assert [history.tolist() for history in kept] == [[3, 4], [], [9]]


@pytest.mark.parametrize("offsets", [[], [1, 2], [0, 1], [0, 2, 1, 2], [0, 3]])
def test_offsets_that_do_not_cut_the_events_into_users_are_refused(offsets: list[int]) -> None:
    with pytest.raises(UsageError, match="offsets: expected them to rise from 0 to 2"):
        Histories(np.array([7, 8], np.int32), np.array(offsets, np.int64))
