"""Filling several hard limits at once: the greedy climb on concave ladders.

Many things (channels, rows) each stand on the lowest rung of a ladder of widths. A *step* to the next rung is worth something
and costs something of every limit. Steps are taken in the order of

    worth / price,      price = Σ over finite limits of  cost / slack

first the longest run that fits, then, pass by pass, whatever still fits. With one limit and ladders whose steps are worth less
and less per byte (ours are), this is the greedy rule for the multiple-choice knapsack: at most one step from the optimum of
its continuous form. It knows nothing of bits or bases.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64


@dataclass(frozen=True, eq=False)
class Ladder:
    """Things of one kind, each with the same number of rungs; values at a rung, not differences.

    Attributes:
        worth: not falling along the rungs.
        cost: of each limit, not falling along the rungs.
    """

    worth: Float64[np.ndarray, "things rungs"]
    cost: Float64[np.ndarray, "things rungs limits"]


def climb(ladders: Sequence[Ladder], slack: Float64[np.ndarray, " limits"]) -> list[Int64[np.ndarray, " things"]]:
    """Choose a rung for every thing, so that what lies above the lowest rungs costs at most `slack`.

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
    first = np.cumsum([0, *(len(ladder.worth) for ladder in ladders)])
    steps = [_steps(ladder, start, slack) for ladder, start in zip(ladders, first.tolist()[:-1], strict=True)]
    thing, rung, cost, ratio = (np.concatenate(column) for column in zip(*steps, strict=True))
    order = np.argsort(-ratio, kind="stable")  # rung-major within a thing, so that ties keep the ladder's order
    reached, left = np.zeros(first[-1], np.int64), slack.copy()
    run = _run(cost[order], left)
    while True:
        taken = order[run]
        reached += np.bincount(thing[taken], minlength=first[-1])
        left -= cost[taken].sum(axis=0)
        order = np.delete(order, run)
        ready = np.flatnonzero((rung[order] == reached[thing[order]] + 1) & (cost[order] <= left).all(axis=1))
        if not len(ready):
            return np.split(reached, first[1:-1])
        run = ready[_run(cost[order[ready]], left)]


def _steps(
    ladder: Ladder, first: int, slack: Float64[np.ndarray, " limits"]
) -> tuple[
    Int64[np.ndarray, " steps"], Int64[np.ndarray, " steps"], Float64[np.ndarray, "steps limits"], Float64[np.ndarray, " steps"]
]:
    """List a ladder's steps rung by rung: which thing, to which rung, cost, worth per price."""
    things, rungs = ladder.worth.shape
    cost = np.diff(ladder.cost, axis=1)
    worth = np.diff(ladder.worth, axis=1)
    limited = np.isfinite(slack)
    price = (cost[:, :, limited] / np.maximum(slack[limited], 1e-9)).sum(axis=2)
    ratio = np.divide(worth, price, out=np.full_like(worth, np.inf), where=price > 0)
    ratio = np.minimum.accumulate(ratio, axis=1)  # a step can't come before the one below it
    thing = np.tile(np.arange(first, first + things), rungs - 1)
    rung = np.repeat(np.arange(1, rungs), things)
    return thing, rung, cost.swapaxes(0, 1).reshape(-1, cost.shape[2]), ratio.T.ravel()


def _run(cost: Float64[np.ndarray, "steps limits"], left: Float64[np.ndarray, " limits"]) -> Int64[np.ndarray, " run"]:
    """Return the longest run of steps, from the first, that fits into what is left."""
    fails = np.flatnonzero((np.cumsum(cost, axis=0) > left).any(axis=1))
    return np.arange(fails[0] if len(fails) else len(cost))
