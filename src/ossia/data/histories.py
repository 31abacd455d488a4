"""What every user did, as two arrays.

A list of arrays, one per user, costs a Python object each and a loop for everything. Here all events lie end to end, user
after user, oldest first, and a second array says where each user begins:

    items    [3, 1, 4,   1, 5,   9]        three users: 3 1 4, then 1 5, then 9
    offsets  [0,         3,      5, 6]     user u is items[offsets[u] : offsets[u + 1]]

So a user's history is a view that copies nothing, and whatever is done to all events is one numpy call. An item is a row
number of the item table; ids and times stay outside (`dataset`, `interactions`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from jaxtyping import Bool, Int32, Int64

from ossia.errors import UsageError


@dataclass(frozen=True, eq=False)
class Histories:
    """All users' events, oldest first inside a user.

    Attributes:
        items: item rows, all users end to end.
        offsets: where each user begins; the last entry is the number of events.

    Raises:
        UsageError: the offsets don't start at 0, fall, or don't end at the number of events.

    Example:
        >>> histories = Histories.from_lists([[3, 1, 4], [1, 5], []])
        >>> len(histories), histories[1], histories.lengths
        (3, array([1, 5], dtype=int32), array([3, 2, 0]))
    """

    items: Int32[np.ndarray, " events"]
    offsets: Int64[np.ndarray, " users_plus_one"]

    def __post_init__(self) -> None:
        """Refuse offsets that don't cut the events into users."""
        ends = (int(self.offsets[0]), int(self.offsets[-1])) if len(self.offsets) else None
        if ends != (0, len(self.items)) or np.any(np.diff(self.offsets) < 0):
            raise UsageError(f"offsets: expected them to rise from 0 to {len(self.items):,} events, got {self.offsets}")

    @classmethod
    def from_lists(cls, lists: Sequence[Sequence[int]]) -> "Histories":
        """Lay one list per user end to end.

        Args:
            lists: item rows of each user, oldest first.

        Returns:
            the histories.
        """
        lengths = np.array([len(history) for history in lists], np.int64)
        items = np.fromiter(chain.from_iterable(lists), np.int32, count=int(lengths.sum()))
        return cls(items, offsets_of(lengths))

    def __len__(self) -> int:
        """Return how many users there are."""
        return len(self.offsets) - 1

    def __getitem__(self, user: int) -> Int32[np.ndarray, " history"]:
        """View one user's events, oldest first; a negative number counts from the last user.

        Args:
            user: the user's row.

        Returns:
            a view into `items`: writing to it would change everybody's data.

        Raises:
            IndexError: there is no such user.
        """
        row = user + len(self) if user < 0 else user
        if not 0 <= row < len(self):
            raise IndexError(f"user: expected one of {len(self):,} users, got {user}")
        return self.items[self.offsets[row] : self.offsets[row + 1]]

    def __iter__(self) -> Iterator[Int32[np.ndarray, " history"]]:
        """Go through the users in order."""
        return (self[user] for user in range(len(self)))

    @property
    def lengths(self) -> Int64[np.ndarray, " users"]:
        """How many events each user has."""
        return np.diff(self.offsets)

    @property
    def users(self) -> Int64[np.ndarray, " events"]:
        """The user of every event, in the order of `items`."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    @property
    def positions(self) -> Int64[np.ndarray, " events"]:
        """The place of every event in its user's history, from 0, the oldest.

        >>> Histories.from_lists([[3, 1, 4], [1, 5]]).positions
        array([0, 1, 2, 0, 1])
        """
        places: Int64[np.ndarray, " events"] = np.arange(len(self.items)) - np.repeat(self.offsets[:-1], self.lengths)
        return places

    def where(self, keep: Bool[np.ndarray, " events"]) -> "Histories":
        """Keep some events and every user.

        Args:
            keep: one flag per event.

        Returns:
            the same users with fewer events, in the same order.
        """
        before = np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])
        return Histories(self.items[keep], before[self.offsets])


def offsets_of(lengths: Int64[np.ndarray, " users"]) -> Int64[np.ndarray, " users_plus_one"]:
    """Turn each user's number of events into where each user begins.

    Args:
        lengths: events per user.

    Returns:
        the running sum, with a 0 before it.

    Example:
        >>> offsets_of(np.array([3, 2, 0]))
        array([0, 3, 5, 5])
    """
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
