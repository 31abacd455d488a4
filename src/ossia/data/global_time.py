"""One moment for everybody: training before it, questions after it.

Leave-one-out holds out each user's last events, whenever they were: a model may learn from June what it is asked about May.
Here two cuts in time are the same for all users, as they are for a service that trains tonight and recommends tomorrow:

    time           ──────────── t₁ ─────── t₂ ────────►
    train          everything up to t₁, t₁ included
    validation                     (t₁, t₂]   each user's last event in there, given everything before it
    test                                      (t₂, ∞)  the same

One question per user and window, as in leave-one-out, so that intervals over users mean the same. The history of a question
goes on past t₁: on a device the newest events are there, only the model is from yesterday. A user without an event in a window
gives no question there, nor does one whose first event it is. Targets that nobody met up to t₁ are asked for all the same: the
catalog grew, and a model that can't know them misses.

What it does not do: hide from `prepare` what came later. Who is kept, and which items there are, is decided on the whole log
(the k-core), as everywhere.
"""

import msgspec
import numpy as np
from jaxtyping import Int64, Shaped

from ossia.data.histories import Histories
from ossia.data.splits import Cases, Split, cases_at
from ossia.errors import DataError, UsageError


class Cuts(msgspec.Struct, frozen=True):
    """The two moments, in the log's own numbers (microseconds since 1970 for dates).

    Attributes:
        validation: the last moment of training.
        test: the last moment of validation.
    """

    validation: int | float
    test: int | float


def choose_cuts(times: Shaped[np.ndarray, " events"], held_out: float = 0.1) -> Cuts:
    """Cut so that about `held_out` of all events come after t₂, and as many between t₁ and t₂.

    Args:
        times: of all events, in any order.
        held_out: 0 … 0.5, both excluded; events at the very time of a cut go before it, which may leave fewer.

    Returns:
        t₁ < t₂ < the last time.

    Raises:
        UsageError: `held_out` leaves nothing to train on, or nothing to ask.
        DataError: so many events share a time that there is no such cut.

    Example:
        >>> choose_cuts(np.arange(100), 0.1)
        Cuts(validation=79, test=89)
    """
    if not 0 < held_out < 0.5:
        raise UsageError(f"held_out: expected a share above 0 and below 0.5, got {held_out:g}")
    ordered = np.sort(times)
    first, second = (ordered[max(0, round(len(times) * share) - 1)].item() for share in (1 - 2 * held_out, 1 - held_out))
    if not first < second < ordered[-1]:
        raise DataError(
            f"time: expected two cuts before {ordered[-1]}, the last time, with {held_out:.0%} of the events after each, got"
            f" {first} and {second}"
        )
    return Cuts(first, second)


def global_time(histories: Histories, times: Shaped[np.ndarray, " events"], cuts: Cuts) -> Split:
    """Split all users' events at the same two moments.

    Args:
        histories: all events, oldest first inside a user.
        times: of each event.
        cuts: t₁ and t₂.

    Returns:
        train (every user, in the same row, some perhaps empty), validation and test.

    Example:
        >>> histories = Histories.from_lists([[3, 1, 4, 1], [5, 9], [2, 6]])
        >>> split = global_time(histories, np.array([1, 2, 3, 4, 1, 4, 3, 3]), Cuts(2, 3))
        >>> [h.tolist() for h in split.train], split.validation.targets.tolist(), split.test.targets.tolist()
        ([[3, 1], [5], []], [4, 6], [1, 9])
    """
    train, known = (histories.where(times <= cut) for cut in (cuts.validation, cuts.test))
    windows = ((train.lengths, known.lengths), (known.lengths, histories.lengths))
    validation, test = (_last_between(histories, start, end) for start, end in windows)
    return Split(train, validation, test)


def check_no_leak(split: Split, histories: Histories, times: Shaped[np.ndarray, " events"], cuts: Cuts) -> None:
    """Refuse a split in which something is learned, or asked, on the wrong side of a cut; `global_time` can't make one.

    Nothing is taken from how the split was made: a user's training events must be the beginning of the history, and then the
    time of its last one is the latest that was learned from.

    Args:
        split: to check.
        histories: all events, oldest first inside a user.
        times: of each event.
        cuts: t₁ and t₂.

    Raises:
        DataError: a training event after t₁, a validation target outside (t₁, t₂], a test target not after t₂, a history
            that is not what came before its target, or times that fall; names the user's row.
    """
    falls = np.flatnonzero((np.diff(times) < 0) & (np.diff(histories.users) == 0))
    if len(falls):
        raise DataError(f"user {histories.users[falls[0]]}: expected times that rise, got {times[falls[0] : falls[0] + 2]}")
    everyone, seen = np.arange(len(histories)), split.train.lengths
    _check_beginnings("training", histories, split.train, everyone)
    last = (histories.offsets[:-1] + seen - 1)[seen > 0]
    _check_window("training", everyone[seen > 0], times[last], -np.inf, cuts.validation)
    windows = ((split.validation, cuts.validation, cuts.test), (split.test, cuts.test, np.inf))
    for name, (cases, after, until) in zip(("validation", "test"), windows, strict=True):
        _check_beginnings(name, histories, cases.histories, cases.users)
        targets = histories.offsets[cases.users] + cases.histories.lengths
        if (targets >= histories.offsets[cases.users + 1]).any() or (histories.items[targets] != cases.targets).any():
            raise DataError(f"{name}: expected targets that follow their histories, got others")
        _check_window(name, cases.users, times[targets], after, until)


def _last_between(histories: Histories, start: Int64[np.ndarray, " users"], end: Int64[np.ndarray, " users"]) -> Cases:
    """Ask for each user's last event among those numbered start … end − 1, given everything before it."""
    users = np.flatnonzero((end > start) & (end > 1))
    return cases_at(histories, users, (histories.offsets[:-1] + end - 1)[users])


def _check_beginnings(name: str, histories: Histories, parts: Histories, users: Shaped[np.ndarray, " parts"]) -> None:
    """Refuse parts that are not the first events of their users."""
    places = np.repeat(histories.offsets[users], parts.lengths) + parts.positions
    beyond = np.repeat(histories.offsets[users + 1], parts.lengths) <= places
    if beyond.any() or (histories.items[places] != parts.items).any():
        raise DataError(f"{name}: expected the beginnings of the users' histories, got other events")


def _check_window(
    name: str, users: Shaped[np.ndarray, " n"], times: Shaped[np.ndarray, " n"], after: int | float, until: int | float
) -> None:
    """Refuse times outside (after, until]."""
    wrong = np.flatnonzero((times <= after) | (times > until))
    if len(wrong):
        window = f"after {after}" if until == np.inf else f"up to {until}" if after == -np.inf else f"in ({after}, {until}]"
        raise DataError(f"{name}: expected events {window} only, got one of user {users[wrong[0]]} at {times[wrong[0]]}")
