"""Rankers that only count, which belong into every table.

**Popularity** gives everybody the same list; **recent popularity** counts only what users met last (`recent_counts`), and is
the better of the two where taste moves on. **The Markov bigram** looks at the last item only: what followed it in other
people's histories, most often first. On the Amazon sets the bigram beats most published neural models, so a method that
can't beat it has learned less than a count of pairs.

    score(next | last) = #{ last → next in the training histories },  ties by popularity

Everything is counted in the **training** part alone: the two held-out events of a user shape neither counts nor pairs, also
when the test events are ranked. Ties are broken, by popularity and then by row number, into a total order, because most
counts are 0 or 1 and a pessimistic tie would judge the tie and not the ranker. Under this convention the figures of the
literature come out (full ranking, seen items removed, HR@10 / NDCG@10 of the bigram): .1442 / .0766 on ML-100K, .0668 / .0439
on s3rec-beauty. Adding the validation events would give .0755 / .0502 on the latter: another protocol.

Nearest neighbors by cosine, the fourth, has a module of its own (`item_knn`).

Scores here are an order, not a quantity: popularity gives 0, −1, −2, … from the most popular item down, and the successors
of the last item lie above, at 1, 2, 3, … from the weakest up. Both are exact in float32 up to 16 million items.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int, Int64

from ossia.data.histories import Histories
from ossia.data.splits import item_counts
from ossia.types import Candidates, History

LAST = 2
"""Events of each user that recent popularity counts: 1, 2, 3 and 5 differ little on the validation events of three logs."""


def recent_counts(train: Histories, items: int, last: int = LAST) -> Int64[np.ndarray, " items"]:
    """Count how often each item is among the last events of a user's training history; `Popularity` of it is recent popularity.

    Recent is meant on each user's own clock: histories keep an order and no times.

    Args:
        train: the training histories.
        items: how many items the catalog has.
        last: how many events of each user count.

    Returns:
        events per item.

    Example:
        >>> recent_counts(Histories.from_lists([[0, 0, 0, 1, 2], [2]]), items=4, last=2)
        array([0, 1, 2, 0])
    """
    back = np.repeat(train.lengths, train.lengths) - train.positions  # 1 for a user's last event
    return item_counts(train.where(back <= last), items)


class Popularity:
    """The same list for everybody: items by how often they were met, ties by row number.

    Args:
        counts: how often each item occurs in the training histories.

    Example:
        >>> Popularity(np.array([3, 9, 3])).scores(np.array([1]), Candidates(np.array([0, 1, 2])))
        array([-1.,  0., -2.], dtype=float32)
    """

    def __init__(self, counts: Int[np.ndarray, " items"]) -> None:
        self._scores = np.empty(len(counts), np.float32)
        self._scores[np.argsort(-counts, kind="stable")] = np.arange(0, -len(counts), -1, dtype=np.float32)

    def scores(
        self,
        history: History,  # noqa: ARG002 part of every ranker's signature
        candidates: Candidates,
    ) -> Float32[np.ndarray, " candidates"]:
        """Score candidates by popularity; the history does not matter.

        Args:
            history: the user's items, oldest first.
            candidates: what to score.

        Returns:
            one score per candidate, −inf for absent ones.
        """
        return pick(self._scores, candidates)

    def scores_many(self, histories: Sequence[Int[np.ndarray, " _"]]) -> Float32[np.ndarray, "users items"]:
        """Score the whole catalog for many users.

        Args:
            histories: one per user.

        Returns:
            one row per user.
        """
        return np.tile(self._scores, (len(histories), 1))


class MarkovBigram:
    """What followed the last item in the training histories, most often first; then everything else by popularity.

    Args:
        train: the training histories.
        items: how many items the catalog has.

    Example:
        >>> bigram = MarkovBigram(Histories.from_lists([[0, 1, 0, 1], [0, 2], [1, 2, 2]]), items=4)
        >>> bigram.scores(np.array([3, 0]), Candidates(np.arange(4)))  # 0 → 1 twice, 0 → 2 once
        array([ 0.,  2.,  1., -3.], dtype=float32)
    """

    def __init__(self, train: Histories, items: int) -> None:
        self._popularity = Popularity(item_counts(train, items))
        everyone = self._popularity.scores_many([np.empty(0, np.int32)])[0]
        before, after, times = _count_pairs(train, items)
        order = np.lexsort((everyone[after], times, before))  # within one `before`: weakest first
        self._starts = np.searchsorted(before[order], np.arange(items + 1))
        self._successors = after[order]

    def scores(self, history: History, candidates: Candidates) -> Float32[np.ndarray, " candidates"]:
        """Score candidates by how often they followed the last known item of the history.

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
            known = history[history >= 0]
            if known.size:
                successors = self._successors[self._starts[known[-1]] : self._starts[known[-1] + 1]]
                row[successors] = np.arange(1, len(successors) + 1)
        return scores


def pick(scores: Float32[np.ndarray, " items"], candidates: Candidates) -> Float32[np.ndarray, " candidates"]:
    """Take the candidates' scores out of the whole catalog's.

    Args:
        scores: one per item.
        candidates: what was asked for.

    Returns:
        one score per candidate, −inf for absent ones.
    """
    return np.where(candidates.items >= 0, scores[np.maximum(candidates.items, 0)], np.float32(-np.inf))


def _count_pairs(
    train: Histories, items: int
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """Count neighboring events of one user: the earlier item, the later item, how often."""
    later = np.flatnonzero(train.positions > 0)  # a user's first event follows nothing
    keys, times = np.unique(train.items[later - 1].astype(np.int64) * items + train.items[later], return_counts=True)
    return keys // items, keys % items, times
