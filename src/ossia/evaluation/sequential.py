"""How sequential a log looks: what its order is worth to a ranker that knows nothing but order.

The Markov bigram looks at the last item only. Judged on the validation events it shows what order gives; judged on a copy in
which each user's events are shuffled it shows what is left without: items that are popular, and items that go together in
whatever order. The difference is the order's.

    log        3  1  4 → 1        train on 3 1 4 … of everybody, asked for 1
    copy       1  4  1 → 3        the same events of the same user, in an order that says nothing

Copies hold each user's events up to the validation event; test events take no part. Three copies are averaged, users are drawn
again for the interval, and the difference is paired user by user. A log in which ties stand in the order of item ids looks
sequential for that alone: compare both tie rules before you believe it (`data.ties`).

What it does not do: see structure longer than one step, or repeats: items in the history are not offered, as everywhere.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from ossia.data.histories import Histories
from ossia.data.splits import Cases, Split, item_counts
from ossia.errors import DataError
from ossia.evaluation.baselines import MarkovBigram, Popularity
from ossia.evaluation.bootstrap import Interval, bootstrap_mean, paired_bootstrap
from ossia.evaluation.metrics import gains_at_k, hits_at_k
from ossia.evaluation.protocol import target_ranks
from ossia.types import Ranker

COPIES = 3
MOST_CASES = 5_000


@dataclass(frozen=True)
class Judged:
    """One ranker on one order.

    Attributes:
        name: such as `bigram, shuffled`.
        ndcg_at_10: mean and interval.
        hr_at_10: mean and interval.
    """

    name: str
    ndcg_at_10: Interval
    hr_at_10: Interval


@dataclass(frozen=True)
class Sequentiality:
    """What order is worth.

    Attributes:
        cases: validation events that were judged.
        rows: popularity, the bigram, the bigram on shuffled copies.
        difference: NDCG@10 of the bigram minus that on shuffled copies, paired by user.
    """

    cases: int
    rows: tuple[Judged, ...]
    difference: Interval


def measure_order(split: Split, items: int, *, seed: int = 0, most: int = MOST_CASES) -> Sequentiality:
    """Judge the bigram on the log and on shuffled copies of it.

    Args:
        split: train and validation are read; test is not.
        items: size of the catalog.
        seed: of the shuffles, of the draw of cases and of the intervals.
        most: draw this many validation cases, if there are more.

    Returns:
        the figures.

    Raises:
        DataError: there is no validation case.
    """
    if not len(split.validation):
        raise DataError("data: expected an event to validate with, found none")
    rng = np.random.default_rng(seed)
    users = np.sort(rng.permutation(len(split.validation))[:most])
    popularity = _ranks(Popularity(item_counts(split.train, items)), split.validation, users, items)[None]
    real = _ranks(MarkovBigram(split.train, items), split.validation, users, items)[None]
    copies = [shuffle_within_users(split, np.random.default_rng((seed, copy))) for copy in range(COPIES)]
    shuffled = np.stack([_ranks(MarkovBigram(train, items), cases, users, items) for train, cases in copies])
    rows = (("popularity", popularity), ("bigram", real), ("bigram, shuffled", shuffled))
    difference = paired_bootstrap(gains_at_k(np.repeat(real, COPIES, axis=0), 10), gains_at_k(shuffled, 10), seed=seed)
    return Sequentiality(len(users), tuple(_judged(name, ranks, seed) for name, ranks in rows), difference)


def shuffle_within_users(split: Split, rng: np.random.Generator) -> tuple[Histories, Cases]:
    """Shuffle each user's events up to the validation event; lengths, users and items stay what they are.

    Args:
        split: train and validation are read.
        rng: the randomness.

    Returns:
        the training part and the validation cases of the shuffled copy: a user's case has a history and a target of other
        events of the same user, and training is the beginning of the same new order.
    """
    train, cases = split.train, split.validation
    lengths = train.lengths.copy()
    lengths[cases.users] = cases.histories.lengths + 1  # what is known of a user with a case reaches up to the target
    asked = np.zeros(len(train), bool)
    asked[cases.users] = True
    known = _end_to_end(train, cases, asked, lengths)
    owner = np.repeat(np.arange(len(train)), lengths)
    mixed = Histories(known.items[np.lexsort([rng.random(len(owner)), owner])], known.offsets)
    places, sizes = mixed.positions, lengths - asked
    history = mixed.where((places < sizes[owner]) & asked[owner])
    offsets = np.append(history.offsets[cases.users], len(history.items))
    targets = mixed.items[mixed.offsets[1:][cases.users] - 1]
    return mixed.where(places < train.lengths[owner]), Cases(Histories(history.items, offsets), targets, cases.users)


def _end_to_end(
    train: Histories, cases: Cases, asked: Bool[np.ndarray, " users"], lengths: Int[np.ndarray, " users"]
) -> Histories:
    """Lay everybody's known events end to end: history and target of who is asked, else what is in training."""
    offsets = np.append(0, np.cumsum(lengths))
    items = np.empty(offsets[-1], np.int32)
    last = offsets[1:][cases.users] - 1
    of_cases = np.repeat(asked, lengths)
    is_target = np.zeros(len(items), bool)
    is_target[last] = True
    items[is_target] = cases.targets
    items[of_cases & ~is_target] = cases.histories.items
    items[~of_cases] = train.items[np.repeat(~asked, train.lengths)]
    return Histories(items, offsets)


def _ranks(ranker: Ranker, cases: Cases, chosen: Int[np.ndarray, " n"], items: int) -> Int[np.ndarray, " n"]:
    """Rank the targets of some cases."""
    keep = np.zeros(len(cases), bool)
    keep[chosen] = True
    events = np.repeat(keep, cases.histories.lengths)
    lengths = cases.histories.lengths[chosen]
    few = Histories(cases.histories.items[events], np.append(0, np.cumsum(lengths)))
    return target_ranks(ranker, Cases(few, cases.targets[chosen], cases.users[chosen]), items)


def _judged(name: str, ranks: Int[np.ndarray, "copies users"], seed: int) -> Judged:
    """Average copies, draw users again."""
    gains, hits = (bootstrap_mean(metric(ranks, 10), seed=seed) for metric in (gains_at_k, hits_at_k))
    return Judged(name, gains, hits)
