"""The protocol: full ranking over the whole catalog, one held-out event a user.

For every case the ranker scores all items for the history, and the target's rank among them is what counts (`metrics`). No
item is drawn, none is left out, but for one rule with a switch:

    seen items removed (the usual)   what is in the history is not offered again. A target that repeats an earlier item is
                                     then not offered either: it is a miss, with the last rank. `repeat_share` says how many.
    seen items kept                  everything competes, repeats can be hit.

Leaving such repeats in as candidates while other seen items are removed would be a third protocol, and a kind one: it tells
the ranker that the one seen item which is still there must be the answer.

The judge knows nothing of models. It takes any `Ranker`; one that can score the whole catalog for many users at once
(`scores_many`) is asked in batches. Where every user has a version of their own, pass a function from the number of the case
to its ranker instead.

    validation and test   which cases are judged is the caller's business; nothing may be chosen on test cases.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from jaxtyping import Float32, Int, Int64
from threadpoolctl import threadpool_limits

from ossia.data.splits import Cases
from ossia.errors import UsageError
from ossia.evaluation.metrics import hr_at_k, mrr_at_k, ndcg_at_k, target_ranks_in
from ossia.types import Candidates, Ranker

FULL = "full ranking"
"""The protocol of this module; those on lists are in `lists`."""


@dataclass(frozen=True, eq=False)
class Judgement:
    """What the protocol says of one ranker.

    Attributes:
        name: the ranker's, as it will stand in the table.
        ranks: 1-based rank of the target; one value per case, or a row of cases per seed.
        repeat_share: share of the cases whose target is in its own history.
        protocol: what was ranked; figures of different protocols are never compared.
        candidate_recall: share of the cases whose given list holds the target; None where no list was given.
    """

    name: str
    ranks: Int[np.ndarray, "*seeds cases"]
    repeat_share: float
    protocol: str = FULL
    candidate_recall: float | None = None

    def hr(self, k: int = 10) -> float:
        """Share of cases with the target among the first k.

        Args:
            k: the length of the list that is shown.

        Returns:
            the mean over cases and seeds, 0 … 1.
        """
        return hr_at_k(self.ranks, k)

    def ndcg(self, k: int = 10) -> float:
        """Mean gain of the target's place in the first k.

        Args:
            k: the length of the list that is shown.

        Returns:
            the mean over cases and seeds, 0 … 1.
        """
        return ndcg_at_k(self.ranks, k)

    def mrr(self, k: int = 10) -> float:
        """Mean reciprocal rank of the target, cut at k.

        Args:
            k: the length of the list that is shown.

        Returns:
            the mean over cases and seeds, 0 … 1.
        """
        return mrr_at_k(self.ranks, k)


def judge(
    name: str, ranker: Ranker | Callable[[int], Ranker], cases: Cases, items: int, *, remove_seen: bool = True
) -> Judgement:
    """Judge one ranker on held-out events.

    Args:
        name: as it will stand in the table.
        ranker: a ranker for everybody, or a function from the number of a case to that case's own ranker.
        cases: histories and the items that came next.
        items: size of the catalog.
        remove_seen: do not offer what is in the history.

    Returns:
        the ranks, and the share of repeats.

    Raises:
        UsageError: there is no case, a target is not in the catalog, or the ranker returns too few scores.
    """
    return Judgement(name, target_ranks(ranker, cases, items, remove_seen=remove_seen), repeat_share(cases))


def pool_seeds(judgements: Sequence[Judgement]) -> Judgement:
    """Put the judgements of one method under several seeds together, for intervals over users.

    Args:
        judgements: one per seed, about the same cases in the same order; the first one gives the name.

    Returns:
        one judgement with a row of ranks per seed.

    Raises:
        UsageError: none given, they are not about equally many cases, or of different protocols.
    """
    check_protocols([judgement.protocol for judgement in judgements])
    lengths = {judgement.ranks.shape[-1] for judgement in judgements}
    if len(lengths) != 1:
        raise UsageError(f"pool seeds: expected judgements of the same cases, got {sorted(lengths)} cases")
    ranks = np.concatenate([np.atleast_2d(judgement.ranks) for judgement in judgements])
    return replace(judgements[0], ranks=ranks)


def check_protocols(protocols: Sequence[str]) -> str:
    """Refuse to put figures of different protocols side by side.

    Args:
        protocols: of what is to stand together.

    Returns:
        the one that all share; `FULL` if there is none.

    Raises:
        UsageError: there are several.
    """
    if len(set(protocols)) > 1:
        raise UsageError(f"protocol: expected figures of one protocol together, got {' and '.join(sorted(set(protocols)))}")
    return protocols[0] if protocols else FULL


def target_ranks(
    ranker: Ranker | Callable[[int], Ranker], cases: Cases, items: int, *, remove_seen: bool = True
) -> Int64[np.ndarray, " cases"]:
    """Rank of every case's target in the whole catalog, ties against us.

    Args:
        ranker: a ranker for everybody, or a function from the number of a case to that case's own ranker.
        cases: histories and the items that came next.
        items: size of the catalog.
        remove_seen: do not offer what is in the history; a target that repeats is then a miss, of rank `items`.

    Returns:
        1-based ranks, in the order of the cases.

    Raises:
        UsageError: there is no case, a target is not in the catalog, or the ranker returns too few scores.
    """
    if not len(cases.targets):
        raise UsageError("evaluation: expected at least one case, got none (every user has fewer than three events?)")
    return np.concatenate(list(rank_batches(ranker, cases, items, remove_seen=remove_seen)))


def rank_batches(
    ranker: Ranker | Callable[[int], Ranker], cases: Cases, items: int, *, remove_seen: bool = True, batch: int = 256
) -> Iterator[Int64[np.ndarray, " batch"]]:
    """Like `target_ranks`, batch by batch: iterate to watch the progress, stop iterating to stop.

    Args:
        ranker: a ranker for everybody, or a function from the number of a case to that case's own ranker.
        cases: histories and the items that came next.
        items: size of the catalog.
        remove_seen: do not offer what is in the history.
        batch: how many cases at a time; `batch * items` scores are held in memory.

    Yields:
        the ranks of the next cases.

    Raises:
        UsageError: a target is not in the catalog, or the ranker returns too few scores.
    """
    for start in range(0, len(cases.targets), batch):
        numbers = range(start, min(start + batch, len(cases.targets)))
        histories = [cases.histories[number] for number in numbers]
        scores = score_catalog(ranker, numbers, histories, items)
        if remove_seen:
            for row, history in zip(scores, histories, strict=True):
                row[history[history >= 0]] = -np.inf
        yield target_ranks_in(scores, cases.targets[start : start + batch])


def repeat_share(cases: Cases) -> float:
    """Share of cases whose target occurs in its own history; with seen items removed they are misses by rule.

    Args:
        cases: histories and the items that came next.

    Returns:
        0 … 1; 0 if there is no case.
    """
    repeats = [target in history for history, target in zip(cases.histories, cases.targets, strict=True)]
    return float(np.mean(repeats)) if repeats else 0.0


def score_catalog(
    ranker: Ranker | Callable[[int], Ranker], numbers: range, histories: Sequence[Int[np.ndarray, " _"]], items: int
) -> Float32[np.ndarray, "batch items"]:
    """Score all items for some cases.

    BLAS gets one thread: a device's matrices are so small that threads only wait for one another, and beside a single busy
    neighbor on two cores they made the device path ten times slower.

    Args:
        ranker: a ranker for everybody, or a function from the number of a case to that case's own ranker.
        numbers: of the cases.
        histories: of the same cases.
        items: size of the catalog.

    Returns:
        one row per case, which may be written to.

    Raises:
        UsageError: the ranker returns too few scores.
    """
    with threadpool_limits(limits=1, user_api="blas"):
        return _scored(ranker, numbers, histories, items)


def _scored(
    ranker: Ranker | Callable[[int], Ranker], numbers: range, histories: Sequence[Int[np.ndarray, " _"]], items: int
) -> Float32[np.ndarray, "batch items"]:
    """Ask the ranker."""
    if hasattr(ranker, "scores_many"):
        scores = np.array(cast(Any, ranker).scores_many(histories), np.float32)
    else:
        catalog = Candidates(np.arange(items))
        own = (ranker_of(ranker, number) for number in numbers)
        scores = np.array([each.scores(history, catalog) for each, history in zip(own, histories, strict=True)], np.float32)
    if scores.shape != (len(histories), items):
        raise UsageError(f"evaluation: expected scores shaped {(len(histories), items)}, got {scores.shape}")
    return scores


def ranker_of(ranker: Ranker | Callable[[int], Ranker], number: int) -> Ranker:
    """Find the ranker of one case.

    Args:
        ranker: one for everybody, or a function from the number of a case to that case's own.
        number: of the case.

    Returns:
        the ranker.
    """
    if hasattr(ranker, "scores"):
        return cast(Ranker, ranker)
    return ranker(number)
