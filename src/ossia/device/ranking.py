"""From scores to the list that is shown, the same for every ranker.

Best first; candidates with equal scores stay in the order given; what can't be scored (−inf: its row is not here) comes
last, in the order given. Whoever shows ten of fifty thousand wants no full sort: a partition finds the k-th best score,
what lies above it is sorted, and of those that equal it the first ones fill the list. That is exactly how the full stable
sort begins.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int, Int64, Shaped

from ossia.errors import UsageError
from ossia.types import ABSENT, Candidates, History, Ranker


@dataclass(frozen=True, eq=False)
class Ranking:
    """Candidates in the order to show them, best first.

    Attributes:
        positions: where each stood in the list of candidates; tells apart several that the table does not know.
        items: their rows.
        scores: their scores, never rising; −inf last.
    """

    positions: Int64[np.ndarray, " shown"]
    items: Int[np.ndarray, " shown"]
    scores: Float32[np.ndarray, " shown"]

    def __len__(self) -> int:
        """Return how many are shown."""
        return len(self.items)


def rerank(
    ranker: Ranker,
    history: History,
    candidates: Candidates,
    k: int | None = None,
    *,
    block: Int[np.ndarray, " blocked"] | None = None,
    allow: Int[np.ndarray, " allowed"] | None = None,
) -> Ranking:
    """Order candidates by score: best first, ties in the order given, −inf and NaN last in the order given.

    Args:
        ranker: any ranker.
        history: item rows, oldest first.
        candidates: what to order.
        k: how many to show; None: all of them.
        block: rows never to show; None: none.
        allow: the only rows to show; None: all.

    Returns:
        the ranking, of min(k, offered candidates) items; positions are those in the list given.

    Raises:
        UsageError: k below 0.

    Example:
        >>> class Constant:
        ...     def scores(self, history, candidates):
        ...         return np.array([0.5, -np.inf, 2.0, 0.5], np.float32)
        >>> rerank(Constant(), np.array([3]), Candidates(np.array([7, -1, 8, 9])), k=3).items
        array([8, 7, 9])
    """
    if k is not None and k < 0:
        raise UsageError(f"k: expected 0 or more, got {k}")
    may = np.where(candidates.items == ABSENT, allow is None, offered(candidates.items, block, allow))
    places = np.flatnonzero(may)
    vectors = None if candidates.vectors is None else candidates.vectors[places]
    scores = ranker.scores(history, Candidates(candidates.items[places], vectors))
    scores = np.where(np.isnan(scores), np.float32(-np.inf), scores)
    best = top_k(scores, len(scores) if k is None else k)
    return Ranking(places[best], candidates.items[places[best]], scores[best])


def offered(
    names: Shaped[np.ndarray, " candidates"],
    block: Shaped[np.ndarray, " blocked"] | None,
    allow: Shaped[np.ndarray, " allowed"] | None,
) -> Bool[np.ndarray, " candidates"]:
    """Tell which candidates may be shown: those allowed and not blocked.

    Args:
        names: what the candidates are called, rows or ids.
        block: names never to show; None: none.
        allow: the only names to show; None: all.

    Returns:
        one flag per candidate.

    Example:
        >>> offered(np.array([4, 7, 9]), block=np.array([7]), allow=np.array([7, 9, 11]))
        array([False, False,  True])
    """
    may = np.ones(len(names), bool) if allow is None else np.isin(names, allow)
    return may if block is None else may & ~np.isin(names, block)


def top_k(scores: Float32[np.ndarray, " candidates"], k: int) -> Int64[np.ndarray, " shown"]:
    """Find the k best scores, best first and ties in order, without sorting the rest.

    Args:
        scores: without NaN.
        k: how many, at least 0.

    Returns:
        their positions: the first min(k, candidates) of a stable descending sort.

    Example:
        >>> top_k(np.array([1.0, 3.0, 1.0, 2.0], np.float32), 3)
        array([1, 3, 0])
    """
    if k >= len(scores):
        return np.argsort(-scores, kind="stable")
    if k == 0:
        return np.zeros(0, np.int64)
    threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
    above = np.flatnonzero(scores > threshold)  # fewer than k, and every one of them is shown
    ties = np.flatnonzero(scores == threshold)[: k - len(above)]
    return np.concatenate([above[np.argsort(-scores[above], kind="stable")], ties])
