"""How good a ranking is, told from one number a user: the rank of the item that came next.

Every ranking of the whole catalog is judged by where it puts the one item that the user really met next, its *target*.

    rank = |{ i : not score_i < score_target }|        1 is best; the target counts itself

The negated comparison is on purpose. A tie counts against us, so a ranker that gives everything the same score earns
nothing; so does a competitor that scores NaN; and a target that scores NaN or −inf gets the last rank, because nothing is
below it. With one target a user the usual metrics are functions of the rank r:

    hit = 1[r ≤ k]        gain = 1[r ≤ k] / log2(r + 1)        reciprocal = 1[r ≤ k] / r

and HR@k (which is also recall@k), NDCG@k and MRR@k are their means over users. The per-user values are public too: intervals
are made from them (`bootstrap`).

What this does not do: sampled negatives. Figures against a hundred drawn items are another protocol (Krichene and Rendle,
KDD 2020), under other names (`lists`), and never share a table with these.
"""

import numpy as np
from jaxtyping import Float, Float64, Int, Int64

from ossia.errors import UsageError


def target_rank(scores: Float[np.ndarray, " items"], target: int) -> int:
    """Rank of one target among all items, 1-based and pessimistic.

    Args:
        scores: one score per item of the catalog, higher is better; −inf for an item that is not to be ranked.
        target: the item that came next, 0 … items − 1; `ABSENT` is a miss.

    Returns:
        1 + how many other items are not strictly below the target; the number of items if the target scores NaN or −inf.

    Raises:
        UsageError: the target is not an item of this catalog.

    Example:
        >>> target_rank(np.array([0.9, 0.5, 0.5, 0.1]), 1)  # the tie counts against us
        3
        >>> target_rank(np.array([0.9, np.nan, 0.5, 0.1]), 1)
        4
    """
    return int(target_ranks_in(scores[None], np.array([target]))[0])


def target_ranks_in(
    scores: Float[np.ndarray, "users items"], targets: Int[np.ndarray, " users"]
) -> Int64[np.ndarray, " users"]:
    """Rank every user's target in the user's own row of scores; `target_rank` for many users at once.

    Args:
        scores: one row per user, higher is better.
        targets: one item per user; `ABSENT` is a miss.

    Returns:
        1-based ranks.

    Raises:
        UsageError: a target is not an item of this catalog.
    """
    items = scores.shape[1]
    if targets.size and int(targets.max()) >= items:
        raise UsageError(f"targets: expected items below {items:,}, got {int(targets.max()):,}")
    reached = scores[np.arange(len(targets)), np.maximum(targets, 0)]
    ranks = np.count_nonzero(~(scores < reached[:, None]), axis=1)
    return np.where(targets < 0, items, ranks)


def hits_at_k(ranks: Int[np.ndarray, "*users"], k: int) -> Float64[np.ndarray, "*users"]:
    """1 for every user whose target is among the first k, else 0.

    Args:
        ranks: 1-based ranks of the targets.
        k: the length of the list that is shown.

    Returns:
        one value per rank.
    """
    return (ranks <= k).astype(np.float64)


def gains_at_k(ranks: Int[np.ndarray, "*users"], k: int) -> Float64[np.ndarray, "*users"]:
    """Every user's NDCG@k: 1 / log2(rank + 1) if rank ≤ k, else 0; the ideal list has the target first, and gain 1.

    Args:
        ranks: 1-based ranks of the targets.
        k: the length of the list that is shown.

    Returns:
        one value per rank.
    """
    return np.where(ranks <= k, 1 / np.log2(ranks + 1.0), 0.0)


def reciprocals_at_k(ranks: Int[np.ndarray, "*users"], k: int) -> Float64[np.ndarray, "*users"]:
    """Every user's reciprocal rank: 1 / rank if rank ≤ k, else 0.

    Args:
        ranks: 1-based ranks of the targets.
        k: the length of the list that is shown.

    Returns:
        one value per rank.
    """
    return np.where(ranks <= k, 1.0 / ranks, 0.0)


def hr_at_k(ranks: Int[np.ndarray, "*users"], k: int) -> float:
    """Share of users whose target is among the first k; with one target a user this is also recall@k.

    Args:
        ranks: 1-based ranks of the targets.
        k: the length of the list that is shown.

    Returns:
        the hit ratio, 0 … 1.

    Raises:
        UsageError: there is no user.

    Example:
        >>> hr_at_k(np.array([1, 2, 11, 40]), k=10)
        0.5
    """
    return _mean(hits_at_k(ranks, k))


def ndcg_at_k(ranks: Int[np.ndarray, "*users"], k: int) -> float:
    """Mean NDCG@k with one relevant item per user: 1 / log2(rank + 1) if rank ≤ k, else 0.

    Args:
        ranks: 1-based ranks of the targets.
        k: the length of the list that is shown.

    Returns:
        the mean gain, 0 … 1.

    Raises:
        UsageError: there is no user.

    Example:
        >>> round(ndcg_at_k(np.array([1, 2, 11]), k=10), 4)
        0.5436
    """
    return _mean(gains_at_k(ranks, k))


def mrr_at_k(ranks: Int[np.ndarray, "*users"], k: int) -> float:
    """Mean reciprocal rank, cut at k: 1 / rank if rank ≤ k, else 0.

    Args:
        ranks: 1-based ranks of the targets.
        k: the length of the list that is shown.

    Returns:
        the mean reciprocal rank, 0 … 1.

    Raises:
        UsageError: there is no user.

    Example:
        >>> mrr_at_k(np.array([1, 4, 11, 2]), k=10)
        0.4375
    """
    return _mean(reciprocals_at_k(ranks, k))


def _mean(values: Float64[np.ndarray, "*users"]) -> float:
    """Average over users; the mean over nobody is a mistake, not NaN."""
    if not values.size:
        raise UsageError("ranks: expected at least one user to judge, got none")
    return float(values.mean())
