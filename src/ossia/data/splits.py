"""What is learned from, what choices are made on, and what is reported: leave-one-out.

Of every user with at least three events the last is the test case, the one before it the validation case, and the rest is
training (the protocol of SASRec and of nearly every table since, full ranking or not):

    history            3  1  4  1  5
    train              3  1  4
    validation case    3  1  4  →  1
    test case          3  1  4  1  →  5

A user with one or two events stays whole in training and gives no case. Histories are whole: a model crops to what it can
read. Nothing here removes items that were seen; that is the evaluation's business. The other split, by time, is in
`global_time`; which of the two a dataset has is settled when it is prepared, and `Dataset.split` gives it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int32, Int64

from ossia.data.histories import Histories, offsets_of

SPLITS = ("leave-one-out", "global-time")
"""The ways to split."""
FEWEST_EVENTS = 3
"""With fewer, a user would give a case whose training history is empty."""


@dataclass(frozen=True, eq=False)
class Cases:
    """Questions with their answers: given this history, what came next?

    Attributes:
        histories: everything before the target, whole, oldest first; row c belongs to case c.
        targets: the item that came next.
        users: the user of each case, a row of the whole histories.
    """

    histories: Histories
    targets: Int32[np.ndarray, " cases"]
    users: Int32[np.ndarray, " cases"]

    def __len__(self) -> int:
        """Return how many cases there are."""
        return len(self.targets)


@dataclass(frozen=True, eq=False)
class Split:
    """A log cut in three.

    Attributes:
        train: every user, in the same row, without the events of the cases.
        validation: cases for choosing (epochs, thresholds, widths).
        test: cases for reporting; nothing is chosen on them.
    """

    train: Histories
    validation: Cases
    test: Cases


def leave_one_out(histories: Histories) -> Split:
    """Hold out each user's last two events.

    Args:
        histories: all events, oldest first inside a user.

    Returns:
        train, validation and test; users with fewer than three events are only in train.

    Example:
        >>> split = leave_one_out(Histories.from_lists([[3, 1, 4, 1, 5], [9, 2]]))
        >>> [h.tolist() for h in split.train], split.test.histories[0].tolist(), split.test.targets.tolist()
        ([[3, 1, 4], [9, 2]], [3, 1, 4, 1], [5])
    """
    return Split(histories.where(in_training(histories)), _cases(histories, back=2), _cases(histories, back=1))


def in_training(histories: Histories) -> Bool[np.ndarray, " events"]:
    """Mark the events that leave-one-out trains on.

    Args:
        histories: all events, oldest first inside a user.

    Returns:
        one flag per event: false for the last two events of users with at least three.
    """
    lengths = np.repeat(histories.lengths, histories.lengths)
    return (lengths < FEWEST_EVENTS) | (histories.positions < lengths - 2)


def with_validation(split: Split) -> Histories:
    """Give the validation events back to training: for a last training, when nothing is left to choose.

    Args:
        split: any.

    Returns:
        every user, in the same row, with all that came before the test case.

    Example:
        >>> [h.tolist() for h in with_validation(leave_one_out(Histories.from_lists([[3, 1, 4, 1, 5], [9, 2]])))]
        [[3, 1, 4, 1], [9, 2]]
    """
    rows = list(split.train)
    for case, user in enumerate(split.validation.users):
        rows[user] = np.append(split.validation.histories[case], split.validation.targets[case])
    return Histories(np.concatenate([np.empty(0, np.int32), *rows]), offsets_of(np.array([len(row) for row in rows], np.int64)))


def item_counts(histories: Histories, items: int) -> Int64[np.ndarray, " items"]:
    """Count how often each item occurs.

    Args:
        histories: the events to count, such as `split.train`.
        items: rows of the item table.

    Returns:
        events per item.

    Example:
        >>> item_counts(Histories.from_lists([[0, 2, 0]]), items=4)
        array([2, 0, 1, 0])
    """
    return np.bincount(histories.items, minlength=items).astype(np.int64)


def cases_at(histories: Histories, users: Int64[np.ndarray, " cases"], targets: Int64[np.ndarray, " cases"]) -> Cases:
    """Ask for certain events, given everything before each in its user's history.

    Args:
        histories: all events, oldest first inside a user.
        users: rows of users, rising; one question each.
        targets: of each the event that is asked for, a place in `histories.items`.

    Returns:
        the cases.
    """
    before = histories.where(_before(histories, users, targets))
    # Users without a case have no events left in `before`, so dropping their offsets drops them.
    return Cases(
        Histories(before.items, np.append(before.offsets[users], len(before.items))),
        histories.items[targets],
        users.astype(np.int32),
    )


def _cases(histories: Histories, *, back: int) -> Cases:
    """Ask for each user's event `back` places from the end."""
    users = np.flatnonzero(histories.lengths >= FEWEST_EVENTS)
    return cases_at(histories, users, histories.offsets[users + 1] - back)


def _before(
    histories: Histories, users: Int64[np.ndarray, " cases"], targets: Int64[np.ndarray, " cases"]
) -> Bool[np.ndarray, " events"]:
    """Mark the events that come before their user's target; users without one have none."""
    ends = histories.offsets[:-1].copy()
    ends[users] = targets
    return np.arange(len(histories.items)) < np.repeat(ends, histories.lengths)
