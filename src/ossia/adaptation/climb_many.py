"""One limit, one kind of thing, many users: the greedy climb for a whole batch at once.

The usual request: a budget of weight bytes, channels to choose. Prices are the same for every user; importance and slack are
not. A step s of channel c is worth I_uc · G_sc per byte, with G the gain per byte that only prices know; so G is made monotone
along a ladder once (a step can't come before the one below it), and what is left for each user is to sort:

    key = number of the step − bits(I · G)      as integers: one sort orders by falling worth, ties by number

Positive numbers order like their bits, a float32 written as a float64 leaves the lowest 29 bits to the number, and equal keys
don't exist: so the order is the same on every machine and in every batch. numpy sorts 64-bit integers with vector instructions.
`climb.c` comes to the same answers without a sort, in a quarter of the time, where it could be compiled.
The longest run that fits is taken; then, from the best downward, whatever still fits. For that a step counts as wide as the
widest below it: so the one below was always met first, and taken. Where a wider step lies below a narrower one (a channel that
was dropped also brings its scale), such steps are then looked at once more as they are (`_top_up`).

Few things are a knapsack that greed fills badly (60 % below the best for eight channels, once), and cheap to solve: up to 64 of
them the optimum is found by dynamic programming over bytes. With one more, greed was .1 % below it on average and 7 % at worst,
where a few per cent of the bytes were to be dealt out among very unequal things.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64, UInt8

from ossia.adaptation.climb_library import climb_compiled, library

NUMBER = 2**29 - 1  # the bits of a float64 that a float32 leaves zero
NOTHING = -(2**63)  # below every key
NEVER = 2**62  # bytes: more than anybody has
FREE = 1e-6  # bytes: what costs nothing comes first, in its own order
BLOCK_BYTES = 150_000
"""Of keys at a time: more would leave the processor's cache, and memory that malloc must ask for anew each time costs as much
as the sort."""
EXACT_THINGS, EXACT_BYTES = 64, 16_384
"""The largest knapsack that is solved exactly."""


@dataclass(frozen=True, eq=False)
class Steps:
    """What the steps of a kind of thing gain and cost, before any user is known.

    Attributes:
        gain: share of the importance that each step adds.
        per_byte: gain per byte, not rising along a ladder; as large as can be where a step is free.
        cost: whole bytes.
        widest: the largest cost up to a step along its ladder.
        number: 0, 1, 2, … over all steps, the narrowest rung's first.
        cheapest: the least cost of any.
    """

    gain: Float64[np.ndarray, " steps"]
    per_byte: Float32[np.ndarray, "steps things"]
    cost: Int64[np.ndarray, "steps things"]
    widest: Int64[np.ndarray, "steps things"]
    number: Int64[np.ndarray, " steps_things"]
    cheapest: int

    @classmethod
    def of(cls, gain: Float64[np.ndarray, " rungs"], cost: Int64[np.ndarray, "things rungs"]) -> "Steps":
        """Make steps of ladders.

        Args:
            gain: share of the importance that each rung keeps, rising.
            cost: bytes of each rung, not falling.

        Returns:
            the steps.
        """
        more, gained = np.ascontiguousarray(np.diff(cost, axis=1).T), np.diff(gain)
        per_byte = gained[:, None] / np.maximum(more, FREE)
        monotone = np.minimum.accumulate(per_byte, axis=0).astype(np.float32)
        cheapest = int(more.min(initial=NEVER))
        return cls(gained, monotone, more, np.maximum.accumulate(more, axis=0), np.arange(more.size), cheapest)


def climb_many(
    steps: Steps, importance: Float[np.ndarray, "users things"], slack: Float64[np.ndarray, " users"]
) -> UInt8[np.ndarray, "users things"]:
    """Choose a rung for every thing of every user, so that what lies above the lowest rungs costs at most their slack.

    Args:
        steps: what rungs gain and cost.
        importance: finite, at least 0.
        slack: what each user may spend, at least 0.

    Returns:
        how many steps each thing takes; for no user does a further single step fit.

    Example:
        >>> steps = Steps.of(np.array([0.0, 0.5, 1.0]), np.array([[0, 2, 4], [0, 1, 3]]))
        >>> climb_many(steps, np.array([[3.0, 1.0], [1.0, 3.0]]), np.array([4.0, 4.0]))
        array([[2, 0],
               [0, 2]], dtype=uint8)
    """
    if importance.shape[1] <= EXACT_THINGS and int(steps.cost.sum()) <= EXACT_BYTES:
        rungs = [_solve(steps, one, min(int(room), EXACT_BYTES))[None] for one, room in zip(importance, slack, strict=True)]
        return np.concatenate([np.zeros((0, importance.shape[1]), np.uint8), *rungs])
    shares, room = _shares(importance), np.minimum(slack, NEVER).astype(np.int64)
    compiled = library()
    climbed = climb_in_numpy(steps, shares, room) if compiled is None else climb_compiled(compiled, steps, shares, room)
    if (steps.widest > steps.cost).any():
        for share, left, rungs in zip(shares, room.tolist(), climbed, strict=True):
            _top_up(steps, share, left, rungs)
    return climbed


def _top_up(steps: Steps, share: Float32[np.ndarray, " things"], room: int, rungs: UInt8[np.ndarray, " things"]) -> None:
    """Take one user's best next step while any fits, in place."""
    things, top = np.arange(len(share)), len(steps.cost) - 1
    left = room - int((steps.cost * (np.arange(top + 1)[:, None] < rungs)).sum())
    while True:
        level = np.minimum(rungs, top)
        fits = np.flatnonzero((rungs <= top) & (steps.cost[level, things] <= left))
        if not len(fits):
            return
        best = fits[np.argmax(share[fits] * steps.per_byte[level[fits], fits])]
        left -= int(steps.cost[level[best], best])
        rungs[best] += 1


def climb_in_numpy(
    steps: Steps, share: Float32[np.ndarray, "users things"], slack: Int64[np.ndarray, " users"]
) -> UInt8[np.ndarray, "users things"]:
    """Climb with keys and a sort.

    Args:
        steps: what rungs gain and cost.
        share: each user's importance, as a share of the largest.
        slack: what each user may spend, at least 0.

    Returns:
        how many steps each thing takes.
    """
    block = max(1, BLOCK_BYTES // max(1, steps.number.nbytes))
    rungs = [_climb_block(steps, share[at : at + block], slack[at : at + block]) for at in range(0, len(share), block)]
    return np.concatenate([np.zeros((0, share.shape[1]), np.uint8), *rungs])


def _climb_block(
    steps: Steps, share: Float32[np.ndarray, "users things"], slack: Int64[np.ndarray, " users"]
) -> UInt8[np.ndarray, "users things"]:
    """Climb for some users: what is in the run is told from the keys as they stood, which is cheaper than to mark each step."""
    keys = _keys(steps, share)
    order = np.sort(keys, axis=1)
    order &= NUMBER
    spent = steps.cost.ravel().take(order)
    np.cumsum(spent, axis=1, out=spent)
    last, filled = np.empty((len(keys), 1), np.int64), []
    for user, room in enumerate(slack.tolist()):
        start = int(spent[user].searchsorted(room, side="right"))
        last[user] = keys[user, order[user, start - 1]] if start else NOTHING
        left = room - (int(spent[user, start - 1]) if start else 0)
        filled.append(_fill(steps, order[user, start:], left) if left >= steps.cheapest else [])
    taken = (keys <= last).view(np.uint8)
    for user, numbers in enumerate(filled):
        taken[user, numbers] = 1
    return taken.reshape(len(keys), -1, share.shape[1]).sum(axis=1, dtype=np.uint8)


def _shares(importance: Float[np.ndarray, "users things"]) -> Float32[np.ndarray, "users things"]:
    """Write importance as shares of each user's largest."""
    most = np.maximum(importance.max(axis=1, initial=0, keepdims=True), np.finfo(importance.dtype).tiny)
    return (importance / most).astype(np.float32) + np.float32(0)  # never −0, whose bits are large


def _keys(steps: Steps, share: Float32[np.ndarray, "users things"]) -> Int64[np.ndarray, "users steps_things"]:
    """Make the keys: ascending means falling worth per byte."""
    worth = np.empty((len(share), *steps.cost.shape))
    np.multiply(share[:, None], steps.per_byte, out=worth, dtype=np.float32)  # rounded to float32, written as float64
    bits = worth.reshape(len(share), -1).view(np.int64)
    return np.subtract(steps.number, bits, out=bits)


def _fill(steps: Steps, number: Int64[np.ndarray, " places"], left: int) -> list[int]:
    """Find what still fits of one user's steps beyond the run, the best first: what is left only falls, so once is enough."""
    found: list[int] = []
    widest, cost, at = steps.widest.ravel().take(number), steps.cost.ravel(), 0
    while left >= steps.cheapest and at < len(number):
        at += int((widest[at:] <= left).argmax())
        if widest[at] > left:
            break
        found.append(int(number[at]))
        left -= int(cost[number[at]])
        at += 1
    return found


def _solve(steps: Steps, importance: Float[np.ndarray, " things"], room: int) -> UInt8[np.ndarray, " things"]:
    """Find the optimum of a small knapsack: best[b] is the most worth that b bytes buy from the things so far."""
    count, things = steps.cost.shape
    gain, price = np.cumsum([0.0, *steps.gain]), np.cumsum(np.vstack([np.zeros((1, things), np.int64), steps.cost]), axis=0)
    best, choice = np.zeros(room + 1), np.zeros((things, room + 1), np.uint8)
    for thing in range(things):
        before = best
        best = before.copy()
        for rung in range(1, count + 1):
            bytes_ = int(price[rung, thing])
            if bytes_ > room:
                break
            offered = before[: room + 1 - bytes_] + float(importance[thing]) * gain[rung]
            better = offered > best[bytes_:]
            best[bytes_:][better] = offered[better]
            choice[thing, bytes_:][better] = rung
    rungs = np.zeros(things, np.uint8)
    for thing in reversed(range(things)):
        rungs[thing] = choice[thing, room]
        room -= int(price[rungs[thing], thing])
    return rungs
