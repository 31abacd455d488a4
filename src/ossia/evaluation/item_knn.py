"""Items that the same people met: nearest neighbors of the items in a history, by cosine.

Two items are alike if many of the users who met one met the other too (Sarwar et al., WWW 2001). Over the training part, with
U_i the users who met item i at least once,

    cosine(i, j) = |U_i ∩ U_j| / √(|U_i| · |U_j|)

    score(j | history) = Σ_i  decay^age(i) · cosine(i, j)        over the items i of the history and their k nearest

where age counts events back from the newest, which has age 0. With decay 1 a history is a bag; below it the last items speak
loudest, which is what makes the method sequential. It has no other parameter and nothing is trained, so it stands beside
popularity and the bigram in every table.

The matrix of all pairs is never held: items are taken in blocks whose pairs fit into memory (`PAIRS`), and of each item only
the k nearest are kept, ties by popularity. An event costs as many pairs as its user has items, so a log's cost is Σ n_u².

Scores are an order and not a quantity, as in `baselines`: what has a neighbor in the history lies above 0, from the weakest up,
ties by popularity; everything else follows by popularity.

What it does not do: weigh users by how much they met, shrink small counts, or use the order of the *training* histories.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32, Float64, Int, Int32, Int64

from ossia.data.histories import Histories, offsets_of
from ossia.data.splits import item_counts
from ossia.errors import UsageError
from ossia.evaluation.baselines import Popularity, pick
from ossia.types import Candidates, History

PAIRS = 4_000_000
"""Pairs that are counted at a time, about: 32 MB of keys, and a few times that while they are sorted."""

HEARD = 500
"""The most events of a history that are heard, the newest; with a decay the older ones would whisper anyway."""


class ItemKNN:
    """What lies nearest to the items of a history, the newest ones loudest; then everything else by popularity.

    Args:
        train: the training histories.
        items: how many items the catalog has.
        neighbors: how many of each item's nearest are kept.
        decay: what an item's voice is multiplied by for every event that came after it, above 0 and at most 1.

    Raises:
        UsageError: neighbors or decay out of range.

    Example:
        >>> knn = ItemKNN(Histories.from_lists([[0, 1], [1, 0], [0, 2], [3]]), items=4)
        >>> knn.scores(np.array([0]), Candidates(np.arange(4)))  # 1 was met by two of the three who met 0, 2 by one
        array([ 0.,  2.,  1., -3.], dtype=float32)
    """

    def __init__(self, train: Histories, items: int, *, neighbors: int = 200, decay: float = 0.8) -> None:
        if neighbors < 1 or not 0 < decay <= 1:
            raise UsageError(f"item-kNN: expected neighbors ≥ 1 and 0 < decay ≤ 1, got {neighbors} and {decay}")
        counts = item_counts(train, items)
        self._popularity, self._decay = Popularity(counts), decay
        # Inside, items are numbered by popularity, so that of two equal ones the smaller number is to win.
        self._ranked = np.argsort(-counts, kind="stable")
        self._rank = np.argsort(self._ranked)
        renamed = Histories(self._rank[train.items].astype(np.int32), train.offsets)
        self._starts, self._near, self._cosines = nearest_items(renamed, items, neighbors)

    def scores(self, history: History, candidates: Candidates) -> Float32[np.ndarray, " candidates"]:
        """Score candidates by their likeness to the history's items.

        Args:
            history: the user's items, oldest first; absent ones are skipped, an empty history ranks by popularity.
            candidates: what to score.

        Returns:
            one score per candidate, −inf for absent ones.
        """
        return pick(self.scores_many([history])[0], candidates)

    def scores_many(self, histories: Sequence[Int[np.ndarray, " _"]]) -> Float32[np.ndarray, "users items"]:
        """Score the whole catalog for many users.

        Args:
            histories: one per user.

        Returns:
            one row per user.
        """
        scores = self._popularity.scores_many(histories)
        for row, history in zip(scores, histories, strict=True):
            likeness = self._likeness(self._rank[history[history >= 0]][-HEARD:])
            reached = np.flatnonzero(likeness)
            order = np.lexsort((-reached, likeness[reached]))  # weakest first, of equal ones the less popular
            row[self._ranked[reached[order]]] = np.arange(1, len(reached) + 1)
        return scores

    def _likeness(self, heard: Int64[np.ndarray, " heard"]) -> Float64[np.ndarray, " items"]:
        """Add up the cosines to some items, oldest first, each by its age."""
        starts, lengths = self._starts[heard], self._starts[heard + 1] - self._starts[heard]
        places = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
        voices = np.repeat(self._decay ** np.arange(len(heard) - 1, -1, -1.0), lengths)
        summed = np.bincount(self._near[places], voices * self._cosines[places], minlength=len(self._rank))
        return summed.astype(np.float64, copy=False)  # without a neighbor bincount answers integers


def nearest_items(
    train: Histories, items: int, neighbors: int
) -> tuple[Int64[np.ndarray, " items_plus_one"], Int32[np.ndarray, " pairs"], Float32[np.ndarray, " pairs"]]:
    """Find every item's nearest by cosine over users, ties by row.

    Args:
        train: the training histories.
        items: how many items the catalog has.
        neighbors: how many to keep of each item's.

    Returns:
        where each item's neighbors begin (the last entry is their number), the neighbors nearest first, and their cosines. An
        item is none of its own neighbors.

    Example:
        >>> starts, near, _ = nearest_items(Histories.from_lists([[0, 1], [1, 0], [0, 2]]), items=3, neighbors=2)
        >>> starts, near
        (array([0, 2, 3, 4]), array([1, 2, 0, 0], dtype=int32))
    """
    met = _each_once(train, items)
    users = np.bincount(met.items, minlength=items)
    lengths, near, cosines = np.zeros(items, np.int64), [np.empty(0, np.int32)], [np.empty(0, np.float32)]
    for events in _blocks(met, users):
        one, other, both = _count_together(met, events, items)
        likeness = (both / np.sqrt(users[one] * users[other])).astype(np.float32)
        kept = _nearest_first(one, likeness)[_places(one) < neighbors]
        lengths += np.bincount(one[kept], minlength=items)
        near.append(other[kept].astype(np.int32))
        cosines.append(likeness[kept])
    return offsets_of(lengths), np.concatenate(near), np.concatenate(cosines)


def _each_once(train: Histories, items: int) -> Histories:
    """Keep of every user each item once, in row order."""
    keys = np.unique(train.users * items + train.items)
    return Histories((keys % items).astype(np.int32), offsets_of(np.bincount(keys // items, minlength=len(train))))


def _blocks(met: Histories, users: Int64[np.ndarray, " items"]) -> Iterator[Int64[np.ndarray, " events"]]:
    """Cut the events, ordered by item, between items, into blocks of about `PAIRS` pairs; one item is never cut."""
    by_item, ends = np.argsort(met.items, kind="stable"), np.cumsum(users)
    pairs = np.cumsum(met.lengths[met.users][by_item])  # each event pairs with all of its user's
    start = 0
    while start < len(by_item):
        full = np.searchsorted(pairs, (pairs[start - 1] if start else 0) + PAIRS, "right")
        fits = ends[np.searchsorted(ends, full, "right") - 1] if full >= ends[0] else 0
        end = int(fits) if fits > start else int(ends[np.searchsorted(ends, start, "right")])
        yield by_item[start:end]
        start = end


def _count_together(
    met: Histories, events: Int64[np.ndarray, " events"], items: int
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """Count for the events' items who met what else: the item, the other item, how many users met both."""
    users = met.users[events]
    lengths = met.lengths[users]
    firsts = np.repeat(met.offsets[users] - (np.cumsum(lengths) - lengths), lengths)
    others = met.items[firsts + np.arange(len(firsts))]
    ones = np.repeat(met.items[events].astype(np.int64), lengths)
    apart = ones != others
    keys, both = np.unique(ones[apart] * items + others[apart], return_counts=True)
    return keys // items, keys % items, both


def _nearest_first(ones: Int64[np.ndarray, " pairs"], likeness: Float32[np.ndarray, " pairs"]) -> Int64[np.ndarray, " pairs"]:
    """Order pairs by row, then from the nearest down, ties as they come.

    Positive floats are ordered like the integers of the same bits, so row and likeness make one integer to sort by; sorting by
    two keys takes six times as long.
    """
    bits = likeness.view(np.uint32).astype(np.int64)
    return np.argsort((ones - ones[:1] << 32) - bits, kind="stable")


def _places(rows: Int64[np.ndarray, " pairs"]) -> Int64[np.ndarray, " pairs"]:
    """Number the entries of each row from 0, in rows that lie together: `[4, 4, 7] → [0, 1, 0]`."""
    new = np.flatnonzero(np.diff(rows, prepend=-1))
    return np.arange(len(rows)) - np.repeat(new, np.diff(new, append=len(rows)))
