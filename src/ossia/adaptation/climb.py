"""Filling several hard limits at once: the greedy climb on concave ladders.

Many things (channels, rows) each stand on the lowest rung of a ladder of widths. A *step* to the next rung is worth something
and costs something of every limit. Steps are taken in the order of

    importance · worth / price,      price = Σ over finite limits of  cost / slack

first the longest run that fits, then, pass by pass, whatever still fits. With one limit and ladders whose steps are worth less
and less per byte (ours are), this is the greedy rule for the multiple-choice knapsack: at most one step from the optimum of
its continuous form. It knows nothing of bits or bases.

Ladders and slack are the same for every user with one budget; only importance differs. So the steps are laid out and priced
once (`Stairs`), and a climb is one product, one sort and one running sum.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float64, Int64


@dataclass(frozen=True, eq=False)
class Ladder:
    """Things of one kind, each with the same number of rungs; values at a rung, not differences.

    Attributes:
        worth: of a thing of importance 1; not falling along the rungs.
        cost: of each limit, not falling along the rungs.
    """

    worth: Float64[np.ndarray, "things rungs"]
    cost: Float64[np.ndarray, "things rungs limits"]


@dataclass(frozen=True, eq=False)
class Stairs:
    """The steps of several ladders under one slack, laid out rung by rung and priced; made once, climbed by many.

    Attributes:
        first: where each ladder's things begin, and the end.
        free: how many rungs each thing climbs at no price.
        thing: of each step that has a price.
        rung: that the step leads to.
        cost: of each step, for the finite limits.
        ratio: worth by price of each step for importance 1; never rising along a thing's rungs.
        slack: of the finite limits.
        least: the cheapest step of each finite limit.
    """

    first: Int64[np.ndarray, " ends"]
    free: Int64[np.ndarray, " things"]
    thing: Int64[np.ndarray, " steps"]
    rung: Int64[np.ndarray, " steps"]
    cost: Float64[np.ndarray, "finite steps"]
    ratio: Float64[np.ndarray, " steps"]
    slack: Float64[np.ndarray, " finite"]
    least: Float64[np.ndarray, " finite"]

    def climb(self, importance: Float64[np.ndarray, " things"]) -> list[Int64[np.ndarray, " _"]]:
        """Choose a rung for every thing.

        Args:
            importance: of each thing, ladder after ladder; at least 0.

        Returns:
            one rung per thing, for each ladder; no further single step fits.
        """
        waiting = ready = _falling(self.ratio * importance[self.thing])
        reached, left = self.free.copy(), self.slack.copy()
        while len(ready):  # every pass takes a step, or drops the first, which doesn't fit
            total = np.cumsum(self.cost[:, ready], axis=1)
            if run := _run(total, left):
                reached += np.bincount(self.thing[ready[:run]], minlength=len(reached))
                left -= total[:, run - 1]
                waiting = waiting[run:] if waiting is ready else waiting
            if (left < self.least).any():
                break  # not even the cheapest step fits
            for cost, most in zip(self.cost, left.tolist(), strict=True):
                waiting = waiting[cost[waiting] <= most]  # what doesn't fit now never will: less is left each time
            ahead = self.rung[waiting] - reached[self.thing[waiting]]
            ready, waiting = waiting[ahead == 1], waiting[ahead > 0]
        return [reached[start:end] for start, end in pairwise(self.first.tolist())]


def lay_out(ladders: Sequence[Ladder], slack: Float64[np.ndarray, " limits"]) -> Stairs:
    """Price the steps of some ladders.

    Args:
        ladders: the kinds of things that share the limits.
        slack: what is left of each limit above the lowest rungs; inf: no limit.

    Returns:
        the stairs.
    """
    first = np.cumsum([0, *(len(ladder.worth) for ladder in ladders)])
    finite = np.isfinite(slack)
    steps = [_steps(ladder, start, slack, finite) for ladder, start in zip(ladders, first.tolist()[:-1], strict=True)]
    thing, rung, cost, ratio = (np.concatenate(column, axis=-1) for column in zip(*steps, strict=True))
    free = np.bincount(thing[np.isinf(ratio)], minlength=first[-1])
    priced = np.isfinite(ratio)
    least = cost[:, priced].min(axis=1, initial=np.inf)
    return Stairs(first, free, thing[priced], rung[priced], cost[:, priced], ratio[priced], slack[finite], least)


def climb(ladders: Sequence[Ladder], slack: Float64[np.ndarray, " limits"]) -> list[Int64[np.ndarray, " _"]]:
    """Choose a rung for every thing, all of importance 1, so that what lies above the lowest rungs costs at most `slack`.

    Args:
        ladders: the kinds of things that share the limits.
        slack: what is left of each limit above the lowest rungs; inf: no limit.

    Returns:
        one rung per thing, for each ladder; no further single step fits.

    Example:
        >>> worth = np.array([[0.0, 3.0], [0.0, 2.0], [0.0, 1.0]])
        >>> cost = np.array([[[0.0], [5.0]], [[0.0], [1.0]], [[0.0], [1.0]]])
        >>> climb([Ladder(worth, cost)], np.array([5.0]))
        [array([0, 1, 1])]
    """
    stairs = lay_out(ladders, slack)
    return stairs.climb(np.ones(stairs.first[-1]))


def _steps(
    ladder: Ladder, first: int, slack: Float64[np.ndarray, " limits"], finite: np.ndarray
) -> tuple[
    Int64[np.ndarray, " steps"], Int64[np.ndarray, " steps"], Float64[np.ndarray, "finite steps"], Float64[np.ndarray, " steps"]
]:
    """List a ladder's steps rung by rung: which thing, to which rung, cost, worth per price; inf for a step without a price."""
    things, rungs = ladder.worth.shape
    cost = np.diff(ladder.cost, axis=1)[:, :, finite]
    worth = np.diff(ladder.worth, axis=1)
    price = (cost / np.maximum(slack[finite], 1e-9)).sum(axis=2)
    ratio = np.divide(worth, price, out=np.full_like(worth, np.inf), where=price > 0)
    ratio = np.minimum.accumulate(ratio, axis=1)  # a step can't come before the one below it
    thing = np.tile(np.arange(first, first + things), rungs - 1)
    rung = np.repeat(np.arange(1, rungs), things)
    return thing, rung, cost.T.reshape(cost.shape[2], things * (rungs - 1)), ratio.T.ravel()


def _falling(ratio: Float64[np.ndarray, " steps"]) -> Int64[np.ndarray, " steps"]:
    """Order steps by falling ratio; equal ones keep the order of the rungs, so that no step comes before the one below it.

    A float64 ≥ 0 sorts like its bits. The lowest of them, beyond what an importance in float32 can tell, make room for the
    step's number: so one plain sort of integers, several times faster than an indirect one, gives order and ties.
    """
    room = (1 << max(len(ratio) - 1, 1).bit_length()) - 1
    keys = ~(ratio.view(np.int64) | room) + np.arange(len(ratio))
    keys.sort()
    return keys & room


def _run(total: Float64[np.ndarray, "finite steps"], left: Float64[np.ndarray, " finite"]) -> int:
    """Count the steps, from the first, whose running totals fit into what is left."""
    counts = [int(np.searchsorted(costs, most, side="right")) for costs, most in zip(total, left.tolist(), strict=True)]
    return min(counts, default=total.shape[1])
