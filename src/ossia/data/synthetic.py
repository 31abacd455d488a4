"""Users made up, with a dial from predictable to random: the control that a claim must survive.

A method that personalizes must beat its control on users who are predictable, and must *not* beat it on users who are
random; a data set whose truth is known can tell. There are a few hidden rules; each is a walk through all items in its own
random order; every user has one of them and starts anywhere. At each step

    next item = the rule's successor of the last item      with probability `predictability`
                an item drawn uniformly from all           otherwise

With 1 whoever knows the user's rule (two events show it) is always right, and no item repeats while `events ≤ items`; a
first-order Markov chain, which mixes the rules, is right about one time in `rules`. With 0 there is nothing to
learn: no order, no taste, no popularity.
"""

import numpy as np
import polars as pl
from jaxtyping import Int64

from ossia.data.dataset import Dataset
from ossia.data.prepare import prepare
from ossia.errors import UsageError


def synthetic(users: int, items: int, events: int, *, predictability: float, seed: int, rules: int = 4) -> Dataset:
    """Make up users.

    Args:
        users: how many, at least 2.
        items: how many there are to choose from, at least 2; those that nobody met are not in the dataset.
        events: per user, at least 3.
        predictability: the dial, 0 (random) … 1 (every step follows the user's rule).
        seed: the same seed, the same dataset.
        rules: how many hidden rules there are, at least 1; user u follows rule u mod `rules`.

    Returns:
        a dataset with ids `user-0` and `item-0`.

    Raises:
        UsageError: an argument is out of its range.

    Example:
        >>> data = synthetic(20, 10, 5, predictability=1.0, seed=0)
        >>> data.users, data.histories[0], data.info.repeat_share
        (20, array([4, 1, 7, 5, 6], dtype=int32), 0.0)
    """
    if users < 2 or items < 2 or events < 3 or rules < 1 or not 0 <= predictability <= 1:
        raise UsageError(
            "synthetic: expected 2 users, 2 items, 3 events, 1 rule or more and a predictability of 0 … 1, got"
            f" {users} users, {items} items, {events} events, {rules} rules, predictability {predictability}"
        )
    rng = np.random.default_rng(seed)
    walked = walk(successors(items, rules, rng), users, events, predictability, rng)
    log = pl.DataFrame({"user": np.repeat(np.arange(users), events), "item": walked.ravel()}).select(
        pl.format("user-{}", "user").alias("user"),
        pl.format("item-{}", "item").alias("item"),
        (pl.int_range(pl.len()) % events).alias("time"),
    )
    made = {"name": "synthetic", "predictability": str(predictability), "seed": str(seed), "rules": str(rules)}
    return prepare(log, min_user=1, min_item=1, source=made)


def successors(items: int, rules: int, rng: np.random.Generator) -> Int64[np.ndarray, "rules items"]:
    """Draw the hidden rules: each a single cycle through all items.

    Args:
        items: how many.
        rules: how many.
        rng: the randomness.

    Returns:
        for each rule the item that follows each item.
    """
    cycles = rng.permuted(np.tile(np.arange(items), (rules, 1)), axis=1)
    following = np.empty_like(cycles)
    np.put_along_axis(following, cycles, np.roll(cycles, -1, axis=1), axis=1)
    return following


def walk(
    following: Int64[np.ndarray, "rules items"], users: int, events: int, predictability: float, rng: np.random.Generator
) -> Int64[np.ndarray, "users events"]:
    """Let every user walk, all at once, one step after the other.

    Args:
        following: the hidden rules.
        users: how many.
        events: steps per user.
        predictability: the chance that a step follows the rule.
        rng: the randomness.

    Returns:
        the items that each user met, oldest first.
    """
    rules, items = following.shape
    walked = rng.integers(0, items, (users, events))  # where a step is random, this is it
    follows = rng.random((users, events)) < predictability
    rule = np.arange(users) % rules
    for step in range(1, events):
        walked[:, step] = np.where(follows[:, step], following[rule, walked[:, step - 1]], walked[:, step])
    return walked
