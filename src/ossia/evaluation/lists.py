"""Judging on lists instead of the whole catalog: candidates that somebody gives, or items that are drawn.

    given lists          re-ranking: another system proposes items for each user, and the ranker orders them. A target that is
                         not in its list is a miss for everybody, so the share of targets that are, the *candidate recall*,
                         stands beside every figure: no ranker can score above it. Lists are ranked as they are given, seen
                         items included; whoever makes a list decides what is in it.
    n sampled negatives  the target among n items drawn from those that the user has not met. The figures are many times those
                         of a full ranking and can order methods differently (Krichene and Rendle, KDD 2020). They exist to be
                         held against papers that report them, never to choose by: their functions are called `sampled_…`, their
                         column says how many negatives, and no table takes them beside full ranking.

The rank is the protocol's, within the list: 1 + the number of others that are not strictly below the target. An item that is in
a list twice is ranked once.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float32, Int, Int32, Int64
from threadpoolctl import threadpool_limits

from ossia.data.histories import Histories
from ossia.data.splits import Cases
from ossia.errors import UsageError
from ossia.evaluation.metrics import hr_at_k, ndcg_at_k
from ossia.evaluation.protocol import ranker_of, score_catalog
from ossia.types import Candidates, History, Ranker

GIVEN = "given lists"
"""The protocol's name in tables."""

MISS = 2**31 - 1
"""The rank of a target that is not in its list: below the end of any list that is shown."""


class GivenOrder:
    """The order in which the lists came, which re-ranking has to beat."""

    def scores(
        self,
        history: History,  # noqa: ARG002 part of every ranker's signature
        candidates: Candidates,
    ) -> Float32[np.ndarray, " candidates"]:
        """Score candidates by their place.

        Args:
            history: does not matter.
            candidates: the list.

        Returns:
            0, −1, −2, …
        """
        return np.arange(0, -len(candidates), -1, dtype=np.float32)


def list_rank_batches(
    ranker: Ranker | Callable[[int], Ranker], cases: Cases, lists: Histories, items: int, *, batch: int = 256
) -> Iterator[Int64[np.ndarray, " batch"]]:
    """Rank every case's target within its list, batch by batch.

    Args:
        ranker: a ranker for everybody, or a function from the number of a case to that case's own ranker.
        cases: histories and the items that came next.
        lists: the candidates of each case, in the order given; row c belongs to case c.
        items: size of the catalog.
        batch: how many cases at a time.

    Yields:
        the 1-based ranks of the next cases, ties against us; `MISS` where the list does not hold the target.

    Raises:
        UsageError: not one list a case, or a list names an item that is not in the catalog.
    """
    if len(lists) != len(cases):
        raise UsageError(f"lists: expected one for each of {len(cases):,} cases, got {len(lists):,}")
    if lists.items.size and not 0 <= lists.items.min() <= lists.items.max() < items:
        raise UsageError(f"lists: expected items 0 … {items - 1:,}, got {lists.items.min()} … {lists.items.max()}")
    for start in range(0, len(cases), batch):
        numbers = range(start, min(start + batch, len(cases)))
        with threadpool_limits(limits=1, user_api="blas"):  # as `score_catalog` does, and why
            scored = _score_lists(ranker, numbers, cases, [_without_repeats(lists[number]) for number in numbers], items)
            ranks = [_rank(each, int(cases.targets[number])) for number, each in zip(numbers, scored, strict=True)]
        yield np.array(ranks, np.int64)


def list_ranks(
    ranker: Ranker | Callable[[int], Ranker], cases: Cases, lists: Histories, items: int
) -> Int64[np.ndarray, " cases"]:
    """Rank every case's target within its list.

    Args:
        ranker: a ranker for everybody, or a function from the number of a case to that case's own ranker.
        cases: histories and the items that came next.
        lists: the candidates of each case.
        items: size of the catalog.

    Returns:
        1-based ranks, ties against us; `MISS` where the list does not hold the target.

    Raises:
        UsageError: as for `list_rank_batches`, or there is no case.

    Example:
        >>> cases = Cases(Histories.from_lists([[0], [0]]), np.array([2, 1], np.int32), np.array([0, 1], np.int32))
        >>> list_ranks(GivenOrder(), cases, Histories.from_lists([[3, 2, 3], [2, 3]]), items=4)  # the second list lacks item 1
        array([         2, 2147483647])
    """
    if not len(cases):
        raise UsageError("evaluation: expected at least one case, got none")
    return np.concatenate(list(list_rank_batches(ranker, cases, lists, items)))


def candidate_recall(cases: Cases, lists: Histories) -> float:
    """Share of cases whose list holds the target: what a perfect ranker would reach.

    Args:
        cases: histories and the items that came next.
        lists: the candidates of each case.

    Returns:
        0 … 1; 0 if there is no case.

    Example:
        >>> cases = Cases(Histories.from_lists([[0], [0]]), np.array([2, 1], np.int32), np.array([0, 1], np.int32))
        >>> candidate_recall(cases, Histories.from_lists([[3, 2], [2, 3]]))
        0.5
    """
    held = [target in candidates for target, candidates in zip(cases.targets, lists, strict=True)]
    return float(np.mean(held)) if held else 0.0


def sampled_protocol(negatives: int) -> str:
    """Name the protocol of drawn items.

    Args:
        negatives: how many are drawn for each case.

    Returns:
        as it stands in a column, such as `100 sampled negatives`.
    """
    return f"{negatives:,} sampled negatives"


def draw_lists(cases: Cases, items: int, negatives: int, *, seed: int = 0) -> Histories:
    """Draw each case's list: its target, and items that the user has not met, uniformly and none twice.

    Args:
        cases: histories and the items that came next.
        items: size of the catalog.
        negatives: how many to draw for each case.
        seed: of the draws; a user's list does not depend on who else is judged.

    Returns:
        the lists, target first: who ranks by the order given is told the answer.

    Raises:
        UsageError: somebody has met so much that too few items are left.
    """
    lists = []
    for number in range(len(cases)):
        met = np.union1d(cases.histories[number], cases.targets[number])
        left = np.setdiff1d(np.arange(items, dtype=np.int32), met, assume_unique=True)
        if len(left) < negatives:
            raise UsageError(f"sampled negatives: expected at most {len(left):,} of {items:,} items, got {negatives:,}")
        rng = np.random.default_rng((seed, int(cases.users[number])))
        lists.append([int(cases.targets[number]), *rng.choice(left, negatives, replace=False, shuffle=False).tolist()])
    return Histories.from_lists(lists)


def sampled_ndcg_at_k(ranks: Int[np.ndarray, "*users"], k: int, *, negatives: int) -> float:
    """Mean NDCG@k among sampled negatives: not the NDCG@k of a full ranking, and not to be compared with it.

    Args:
        ranks: 1-based ranks within lists of the target and `negatives` drawn items.
        k: the length of the list that is shown.
        negatives: how many were drawn.

    Returns:
        the mean gain, 0 … 1.

    Raises:
        UsageError: there is no user, or a rank is too large for such a list.

    Example:
        >>> round(sampled_ndcg_at_k(np.array([1, 2, 101]), k=10, negatives=100), 4)
        0.5436
    """
    return ndcg_at_k(_within(ranks, negatives), k)


def sampled_hr_at_k(ranks: Int[np.ndarray, "*users"], k: int, *, negatives: int) -> float:
    """Share of users whose target is among the first k of sampled negatives: not the HR@k of a full ranking.

    Args:
        ranks: 1-based ranks within lists of the target and `negatives` drawn items.
        k: the length of the list that is shown.
        negatives: how many were drawn.

    Returns:
        the hit ratio, 0 … 1.

    Raises:
        UsageError: there is no user, or a rank is too large for such a list.
    """
    return hr_at_k(_within(ranks, negatives), k)


def _within(ranks: Int[np.ndarray, "*users"], negatives: int) -> Int[np.ndarray, "*users"]:
    """Refuse ranks of another protocol, as far as they can be told."""
    if ranks.size and ranks.max() > negatives + 1:
        raise UsageError(f"ranks: expected at most {negatives + 1:,} among {negatives:,} negatives, got {ranks.max():,}")
    return ranks


def _without_repeats(candidates: Int32[np.ndarray, " candidates"]) -> Int32[np.ndarray, " once"]:
    """Keep each item where it comes first."""
    return candidates[np.sort(np.unique(candidates, return_index=True)[1])]


def _score_lists(
    ranker: Ranker | Callable[[int], Ranker],
    numbers: range,
    cases: Cases,
    lists: list[Int32[np.ndarray, "_"]],
    items: int,
) -> Iterator[tuple[Int32[np.ndarray, "_"], Float32[np.ndarray, "_"]]]:
    """Score each list: out of the whole catalog's scores where many users come at once, by itself elsewhere."""
    histories = [cases.histories[number] for number in numbers]
    if hasattr(ranker, "scores_many"):
        rows = score_catalog(ranker, numbers, histories, items)
        return ((each, row[each]) for each, row in zip(lists, rows, strict=True))
    asked = zip(numbers, histories, lists, strict=True)
    return ((each, ranker_of(ranker, number).scores(history, Candidates(each))) for number, history, each in asked)


def _rank(scored: tuple[Int32[np.ndarray, "_"], Float32[np.ndarray, "_"]], target: int) -> int:
    """Rank a target among the scored items of its list."""
    candidates, scores = scored
    place = np.flatnonzero(candidates == target)
    return int(np.count_nonzero(~(scores < scores[place[0]]))) if len(place) else MISS
