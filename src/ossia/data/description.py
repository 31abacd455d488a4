"""What a log is like, in figures, before anybody learns from it.

Three things decide what a recommender can do with a log and what its score will mean: how long the histories are, how much of
everything falls on a few items, and what the order of events is worth. The first two are counted here; the third in part,
because ties tell how much of the order is the file's own: where times are days, neighbors are tied, and a file that stores
ties by item id puts an order there that nobody lived (`ties`). What the order is worth to a ranker is measured by
`evaluation.sequential`.

Popularity is told by the share of events on the top 1 % and 10 % of the items, and by Gini's coefficient of the counts
x₁ ≤ … ≤ xₙ: 0 if all items are equally popular, near 1 if one has everything:

    G = (2 Σ i xᵢ) / (n Σ xᵢ) − (n + 1) / n
"""

import msgspec
import numpy as np
from jaxtyping import Float64, Int, Int64, Shaped

from ossia.data.dataset import Dataset
from ossia.data.splits import item_counts
from ossia.data.times import to_date

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
CURVE_POINTS = 50
PERIODS = 24


class Lengths(msgspec.Struct, frozen=True):
    """How many events users have.

    Attributes:
        mean: events per user.
        quantiles: 5, 25, 50, 75 and 95 %.
        least: of the shortest history.
        most: of the longest.
        bins: fewest events, most events, users; bins grow by doubling.
    """

    mean: float
    quantiles: tuple[float, ...]
    least: int
    most: int
    bins: tuple[tuple[int, int, int], ...]


class Concentration(msgspec.Struct, frozen=True):
    """How events fall on items.

    Attributes:
        top_1_percent: share of events on the most popular 1 % of the items (at least one item).
        top_10_percent: the same for 10 %.
        gini: 0 (all alike) … 1.
        items_for_half: how many of the most popular items have half of the events.
        median: events of the item in the middle.
        curve: share of events on the most popular 2 %, 4 %, … 100 % of the items.
    """

    top_1_percent: float
    top_10_percent: float
    gini: float
    items_for_half: int
    median: float
    curve: tuple[float, ...]


class Span(msgspec.Struct, frozen=True):
    """When the events were.

    Attributes:
        first: the first time, in the log's own numbers.
        last: the last one.
        first_date: the same as a date; None if the numbers don't look like seconds, milliseconds or microseconds since 1970.
        last_date: the same.
        per_period: events in each of 24 equal periods.
    """

    first: int | float
    last: int | float
    first_date: str | None
    last_date: str | None
    per_period: tuple[int, ...]


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """A prepared log in figures.

    Attributes:
        users: how many.
        items: how many.
        events: how many.
        density: of all pairs of user and item, the share with an event.
        lengths: of the histories.
        popularity: how events fall on items.
        tie_share: of neighboring events of a user, the share with equal time; None without times.
        ties: the rule that ordered them.
        ascending_ties: of those neighbors, the share in ascending order of item id; about 0.5 if the order says nothing,
            None without ties.
        repeat_share: of all events, the share whose item the user had met before.
        span: when; None without times.
        split: `leave-one-out` or `global-time`.
        training_events: events to learn from.
        validation_cases: questions for choosing.
        test_cases: questions for reporting.
        cold_share: of the test questions, the share after an item that is not in training.
        hash: the data's identity.
    """

    users: int
    items: int
    events: int
    density: float
    lengths: Lengths
    popularity: Concentration
    tie_share: float | None
    ties: str
    ascending_ties: float | None
    repeat_share: float
    span: Span | None
    split: str
    training_events: int
    validation_cases: int
    test_cases: int
    cold_share: float
    hash: str


def describe(dataset: Dataset) -> Description:
    """Count what there is to know about a prepared log.

    Args:
        dataset: from `prepare`.

    Returns:
        the figures; those of popularity are of all events, held out or not: they describe, nothing learns from them.
    """
    histories, split, info = dataset.histories, dataset.split(), dataset.info
    known = item_counts(split.train, dataset.items)
    pairs = (1 - info.repeat_share) * len(histories.items)
    return Description(
        users=dataset.users,
        items=dataset.items,
        events=len(histories.items),
        density=pairs / (dataset.users * dataset.items),
        lengths=describe_lengths(histories.lengths),
        popularity=describe_popularity(item_counts(histories, dataset.items)),
        tie_share=info.tie_share,
        ties=info.ties,
        ascending_ties=None if dataset.times is None else _ascending_ties(dataset, dataset.times),
        repeat_share=info.repeat_share,
        span=None if dataset.times is None else describe_times(dataset.times),
        split=info.split,
        training_events=len(split.train.items),
        validation_cases=len(split.validation),
        test_cases=len(split.test),
        cold_share=float((known[split.test.targets] == 0).mean()) if len(split.test) else 0.0,
        hash=dataset.hash,
    )


def describe_lengths(lengths: Int[np.ndarray, " users"]) -> Lengths:
    """Describe how many events users have.

    Args:
        lengths: events per user, at least one user.

    Returns:
        mean, quantiles, extremes, and users by bins 1, 2–3, 4–7, ….

    Example:
        >>> describe_lengths(np.array([1, 3, 3, 6])).bins
        ((1, 1, 1), (2, 3, 2), (4, 7, 1))
    """
    doubling = np.bincount(np.log2(np.maximum(lengths, 1)).astype(np.int64))
    bins = tuple((2**k, 2 ** (k + 1) - 1, int(users)) for k, users in enumerate(doubling))
    first = int(np.flatnonzero(doubling)[0])
    quantiles = tuple(float(value) for value in np.quantile(lengths, QUANTILES))
    return Lengths(float(lengths.mean()), quantiles, int(lengths.min()), int(lengths.max()), bins[first:])


def describe_popularity(counts: Int[np.ndarray, " items"]) -> Concentration:
    """Describe how events fall on items.

    Args:
        counts: events per item, in any order; at least one item and one event.

    Returns:
        shares of the top, Gini's coefficient, the curve.

    Example:
        >>> found = describe_popularity(np.array([1, 1, 2, 6]))
        >>> found.top_10_percent, found.items_for_half, round(found.gini, 3)
        (0.6, 1, 0.4)
    """
    ordered = np.sort(counts)[::-1]
    share: Float64[np.ndarray, " items"] = np.cumsum(ordered) / ordered.sum()
    places = [_top(share, (point + 1) / CURVE_POINTS) for point in range(CURVE_POINTS)]
    return Concentration(
        top_1_percent=_top(share, 0.01),
        top_10_percent=_top(share, 0.1),
        gini=gini(counts),
        items_for_half=int(np.searchsorted(share, 0.5)) + 1,
        median=float(np.median(counts)),
        curve=tuple(places),
    )


def gini(counts: Int[np.ndarray, " items"]) -> float:
    """Compute Gini's coefficient of the counts.

    Args:
        counts: events per item, at least one event.

    Returns:
        0 if all are equal; 1 − 1/n if one of n has everything.

    Example:
        >>> gini(np.array([5, 5, 5])), gini(np.array([0, 0, 0, 8]))
        (0.0, 0.75)
    """
    ordered, n = np.sort(counts).astype(np.float64), len(counts)
    return float(2 * (np.arange(1, n + 1) * ordered).sum() / (n * ordered.sum()) - (n + 1) / n)


def describe_times(times: Shaped[np.ndarray, " events"]) -> Span:
    """Describe when the events were.

    Args:
        times: of all events, at least one.

    Returns:
        first and last, as dates if they look like such, and the events of each period.
    """
    first, last = times.min().item(), times.max().item()
    periods, _ = np.histogram(times, bins=PERIODS, range=(first, max(last, first + 1)))
    return Span(first, last, to_date(first), to_date(last), tuple(periods.tolist()))


def _top(share: Float64[np.ndarray, " items"], part: float) -> float:
    """Read the share of events on the first `part` of the items, one at least."""
    return float(share[max(1, round(part * len(share))) - 1])


def _ascending_ties(dataset: Dataset, times: Shaped[np.ndarray, " events"]) -> float | None:
    """Compute how many tied neighbors stand in ascending order of item id: as numbers if all ids are, else as words."""
    users, items = dataset.histories.users, dataset.histories.items
    tied = (users[1:] == users[:-1]) & (times[1:] == times[:-1]) & (items[1:] != items[:-1])
    if not tied.any():
        return None
    ids = dataset.item_ids
    order = sorted(range(len(ids)), key=(lambda row: int(ids[row])) if all(map(str.isdecimal, ids)) else ids.__getitem__)
    place: Int64[np.ndarray, " items"] = np.empty(len(ids), np.int64)
    place[order] = np.arange(len(ids))
    return float((place[items[1:]] > place[items[:-1]])[tied].mean())
