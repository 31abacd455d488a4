"""From a log to numbered histories: drop duplicates, filter, order, number.

    log ─ values, duplicates, repeats ─► k-core ─► order by (user, time, tie rule) ─► rows by popularity ─► Dataset

*Values*: events with a value (a rating) below `min_value` are dropped. *Duplicates*: events whose user, item and time all
equal an earlier one's are dropped and counted (a log without times keeps them all: there, a second event with the same item
is a repeat). *Repeats*: of a user's events with one item all stay, or only the first or the last. *k-core*: users with fewer
than `min_user` events and items with fewer than `min_item` are removed until none is left. *Order*: by time, stable; ties as
`ties` says. *Rows*: users in order of first appearance in the file, items by descending count in the training part (ties:
first appearance), so that row 0 is the most popular item of what a model may see. *The split* is settled here, because it
decides what the training part is: leave-one-out, or at two moments (`global_time`).

Every step works on whole columns; there is no loop over events.
"""

import platform
from collections.abc import Mapping
from typing import cast

import numpy as np
import polars as pl
from jaxtyping import Bool, Int64

import ossia
from ossia.data.dataset import Counts, DataInfo, Dataset, data_hash
from ossia.data.events import Events, duplicates, event_order, number_events, renumber, repeated
from ossia.data.global_time import Cuts, choose_cuts
from ossia.data.histories import Histories, offsets_of
from ossia.data.splits import FEWEST_EVENTS, SPLITS, in_training, item_counts
from ossia.data.ties import TIES, repeat_share, tie_keys, tie_share
from ossia.data.times import parse_times
from ossia.errors import DataError, UsageError

REPEATS = ("keep", "first", "last")
"""What may stay of a user's events with one item."""

__all__ = ["DataInfo", "Dataset", "k_core", "prepare"]


def prepare(
    log: pl.DataFrame,
    *,
    min_user: int = 5,
    min_item: int = 5,
    ties: str = "file",
    seed: int = 0,
    min_value: float | None = None,
    repeats: str = "keep",
    split: str = "leave-one-out",
    held_out: float = 0.1,
    titles: Mapping[str, str] | None = None,
    source: Mapping[str, str] | None = None,
) -> Dataset:
    """Turn a log into a dataset.

    Args:
        log: as `read_log` returns it: `user`, `item`, and maybe `time`, `value` and `row`; without `row` in the frame's order.
        min_user: fewest events per user.
        min_item: fewest events per item.
        ties: the order of a user's events at one time; `hash` needs a log with times.
        seed: of the rule `hash`.
        min_value: the least `value` of an event that is kept; None: all are.
        repeats: of a user's events with one item, `keep` all, or only the `first` or `last`.
        split: what is held out: each user's last two events (`leave-one-out`), or what is later than a moment (`global-time`).
        held_out: with `global-time`, the share of events after the second moment, and again between the two.
        titles: a name to show by item id; items without one show their id.
        source: where the log came from; `path` or `name` begins error messages.

    Returns:
        the dataset.

    Raises:
        UsageError: an unknown rule, `hash` or `global-time` for a log without times, `min_value` for one without
            values, or a negative seed.
        DataError: less than two users or two items survive, no user has three events, or no title fits.
    """
    where = (source or {}).get("path") or (source or {}).get("name") or "log"
    _check_request(where, log, min_user, min_item, ties, seed)
    _check_filters(where, log, min_value, repeats, split)
    read, log = log.height, _checked(log, where, min_value)
    every = number_events(log)
    keys = tie_keys(every.users, every.items, every.user_ids, every.item_ids, seed) if ties == "hash" else None
    order = event_order(every.users, every.times, keys)
    keep, dropped = _worth_keeping(every, order, repeats)
    stays = np.flatnonzero(keep)[k_core(every.users[keep], every.items[keep], min_user, min_item)]
    kept, order = _only(every, order, stays)
    _check_survivors(where, every, kept, min_user, min_item)
    times = None if kept.times is None else kept.times[order]
    cuts = choose_cuts(times, held_out) if split == "global-time" and times is not None else None
    histories, item_ids = _by_popularity(kept, order, cuts)
    names, titled = _titles(where, item_ids, titles)
    info = DataInfo(
        source=dict(source or {}),
        before=Counts(len(every.user_ids), len(every.item_ids), read),
        after=Counts(len(kept.user_ids), len(item_ids), len(kept.users)),
        duplicates=dropped[0],
        min_value=min_value,
        below_value=read - log.height,
        repeats=repeats,
        repeats_dropped=dropped[1],
        min_user=min_user,
        min_item=min_item,
        ties=ties,
        seed=seed,
        tie_share=None if times is None else tie_share(histories.users, times),
        repeat_share=repeat_share(histories),
        titled=titled,
        split=split,
        cuts=cuts,
        versions=_versions(),
        hash=data_hash(histories, kept.user_ids, item_ids, times, cuts),
    )
    return Dataset(histories, kept.user_ids, item_ids, names, info, times)


def k_core(
    users: Int64[np.ndarray, " events"], items: Int64[np.ndarray, " events"], min_user: int, min_item: int
) -> Int64[np.ndarray, " kept"]:
    """Find the largest set of events in which every user and every item has enough of them.

    Args:
        users: a number of each event's user, from 0.
        items: a number of each event's item, from 0.
        min_user: fewest events per user.
        min_item: fewest events per item.

    Returns:
        the events that stay, ascending; it is unique, whatever is removed first.

    Example:
        >>> k_core(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 2]), 2, 2)
        array([0, 1, 2, 3])
    """
    kept = np.arange(len(users))
    while True:
        enough_user = np.bincount(users[kept])[users[kept]] >= min_user
        enough = enough_user & (np.bincount(items[kept])[items[kept]] >= min_item)
        if enough.all():
            return kept
        kept = kept[enough]


def _check_request(where: str, log: pl.DataFrame, min_user: int, min_item: int, ties: str, seed: int) -> None:
    """Refuse what can't be meant."""
    for name, value, floor in (("min_user", min_user, 1), ("min_item", min_item, 1), ("seed", seed, 0)):
        if not floor <= value < 2**64:
            raise UsageError(f"{name}: expected {floor} or more, below 2⁶⁴, got {value}")
    if ties not in TIES:
        raise UsageError(f"ties: expected one of {', '.join(TIES)}, got {ties!r}")
    if ties == "hash" and "time" not in log.columns:
        raise UsageError(f"ties: expected 'file' for {where}, which has no times to be tied, got 'hash'")
    if missing := {"user", "item"} - set(log.columns):
        raise UsageError(f"log: expected columns user and item, got none called {' or '.join(sorted(missing))}")


def _check_filters(where: str, log: pl.DataFrame, min_value: float | None, repeats: str, split: str) -> None:
    """Refuse filters and splits that can't be meant."""
    if split not in SPLITS:
        raise UsageError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    if split == "global-time" and "time" not in log.columns:
        raise UsageError(f"split: expected 'leave-one-out' for {where}, which has no times to cut at, got 'global-time'")
    if repeats not in REPEATS:
        raise UsageError(f"repeats: expected one of {', '.join(REPEATS)}, got {repeats!r}")
    if min_value is not None and "value" not in log.columns:
        raise UsageError(f"min_value: expected a log with values, such as read_log(…, value='rating'), got {where} without")


def _checked(log: pl.DataFrame, where: str, min_value: float | None) -> pl.DataFrame:
    """Put a log in file order; refuse no events and gaps, which only a frame that `read_log` did not make can have."""
    if log.is_empty():
        raise DataError(f"{where}: expected events, got none")
    log = log.sort("row") if "row" in log.columns and not log["row"].is_sorted() else log
    log = log.with_columns(parse_times(log["time"]).alias("time")) if "time" in log.columns else log
    for name in sorted(set(log.columns) & {"user", "item", "time", "value"}):
        if log[name].null_count():
            raise DataError(f"{where}: row {log[name].is_null().arg_max()}: {name}: expected a value, got nothing")
    if min_value is not None:
        log, most = log.filter(pl.col("value") >= min_value), cast(float, log["value"].max())
        if log.is_empty():
            raise DataError(f"{where}: expected events of value {min_value:g} or more, got {most:g} at most")
    return log.with_columns(pl.col("user", "item").cast(pl.String))


def _worth_keeping(
    events: Events, order: Int64[np.ndarray, " events"], repeats: str
) -> tuple[Bool[np.ndarray, " events"], tuple[int, int]]:
    """Mark the events that are neither duplicates nor unwanted repeats, and count the others of either kind."""
    keep = np.ones(len(events), bool)
    copies = duplicates(events, order)
    keep[copies] = False
    again = np.empty(0, np.int64) if repeats == "keep" else repeated(events, order[keep[order]], repeats)
    keep[again] = False
    return keep, (len(copies), len(again))


def _only(
    events: Events, order: Int64[np.ndarray, " events"], stays: Int64[np.ndarray, " kept"]
) -> tuple[Events, Int64[np.ndarray, " kept"]]:
    """Keep some events, and their order."""
    keep = np.zeros(len(events), bool)
    keep[stays] = True
    kept, order = events.only(keep), (np.cumsum(keep) - 1)[order[keep[order]]]
    # The order goes by users as they were numbered in the whole log; those that stay may be numbered in another one.
    return kept, order[np.argsort(kept.users[order], kind="stable")]


def _by_popularity(events: Events, order: Int64[np.ndarray, " events"], cuts: Cuts | None) -> tuple[Histories, list[str]]:
    """Number items by descending count in training; stable, so ties stay in order of first appearance."""
    histories = Histories(events.items[order].astype(np.int32), offsets_of(np.bincount(events.users)))
    learned = in_training(histories) if cuts is None or events.times is None else events.times[order] <= cuts.validation
    counts = item_counts(histories.where(learned), len(events.item_ids))
    items, item_ids = renumber(histories.items, np.argsort(-counts, kind="stable"), events.item_ids)
    return Histories(items.astype(np.int32), histories.offsets), item_ids


def _check_survivors(where: str, every: Events, kept: Events, min_user: int, min_item: int) -> None:
    """Refuse a log of which too little is left to learn from, or nothing to test on."""
    if len(kept.user_ids) < 2 or len(kept.item_ids) < 2:
        raise DataError(
            f"{where}: expected at least 2 users of {min_user} events and 2 items of {min_item} events (the k-core), got"
            f" {len(kept.user_ids):,} of {len(every.user_ids):,} users, {len(kept.item_ids):,} of {len(every.item_ids):,}"
            f" items, {len(kept.users):,} of {len(every.users):,} events"
        )
    longest = np.bincount(kept.users).max()
    if longest < FEWEST_EVENTS:
        raise DataError(f"{where}: expected a user with {FEWEST_EVENTS} events to test on, got at most {longest}")


def _titles(where: str, item_ids: list[str], titles: Mapping[str, str] | None) -> tuple[list[str] | None, int | None]:
    """Line titles up with rows, and count the items that have one."""
    if titles is None:
        return None, None
    titled = sum(item in titles for item in item_ids)
    if not titled:
        raise DataError(f"{where}: expected titles by item id, such as {item_ids[0]!r}, got none of {len(item_ids):,} items'")
    return [titles.get(item, item) for item in item_ids], titled


def _versions() -> dict[str, str]:
    """Name what could change the result."""
    return {"ossia": ossia.__version__, "python": platform.python_version(), "numpy": np.__version__, "polars": pl.__version__}
