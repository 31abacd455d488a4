"""From a log to numbered histories: drop duplicates, filter, order, number.

    log ─ duplicates ─► k-core ─► order by (user, time, tie rule) ─► rows by popularity ─► Dataset

*Duplicates*: events whose user, item and time all equal an earlier one's are dropped and counted (a log without times keeps
them all: there, a second event with the same item is a repeat). *k-core*: users with fewer than `min_user` events and items
with fewer than `min_item` are removed until none is left. *Order*: by time, stable; ties as `ties` says. *Rows*: users in
order of first appearance in the file, items by descending count in the training part of leave-one-out (ties: first
appearance), so that row 0 is the most popular item of what a model may see.

Every step works on whole columns; there is no loop over events.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Int, Int64, Shaped, UInt64

import ossia
from ossia.data.dataset import Counts, DataInfo, Dataset, data_hash
from ossia.data.histories import Histories, offsets_of
from ossia.data.splits import FEWEST_EVENTS, in_training, item_counts
from ossia.data.ties import TIES, repeat_share, tie_keys, tie_share
from ossia.errors import DataError, UsageError

__all__ = ["DataInfo", "Dataset", "k_core", "prepare"]


def prepare(
    log: pl.DataFrame,
    *,
    min_user: int = 5,
    min_item: int = 5,
    ties: str = "file",
    seed: int = 0,
    titles: Mapping[str, str] | None = None,
    source: Mapping[str, str] | None = None,
) -> Dataset:
    """Turn a log into a dataset.

    Args:
        log: as `read_log` returns it: `user`, `item`, and maybe `time` and `row`; without `row` in the order of the frame.
        min_user: fewest events per user.
        min_item: fewest events per item.
        ties: the order of a user's events at one time; `hash` needs a log with times.
        seed: of the rule `hash`.
        titles: a name to show by item id; items without one show their id.
        source: where the log came from; `path` or `name` begins error messages.

    Returns:
        the dataset.

    Raises:
        UsageError: an unknown tie rule, `hash` for a log without times, or a negative seed.
        DataError: less than two users or two items survive, no user has three events, or no title fits.
    """
    where = (source or {}).get("path") or (source or {}).get("name") or "log"
    _check_request(where, log, min_user, min_item, ties, seed)
    log = _checked(log, where)
    every = _events(log)
    kept = every.only(k_core(every.users, every.items, min_user, min_item))
    _check_survivors(where, every, kept, min_user, min_item)
    keys = tie_keys(kept.users, kept.items, kept.user_ids, kept.item_ids, seed) if ties == "hash" else None
    order = event_order(kept.users, kept.times, keys)
    histories, item_ids = _by_popularity(kept, order)
    names, titled = _titles(where, item_ids, titles)
    info = DataInfo(
        source=dict(source or {}),
        before=Counts(len(every.user_ids), len(every.item_ids), log.height),
        after=Counts(len(kept.user_ids), len(item_ids), len(kept.users)),
        duplicates=log.height - len(every.users),
        min_user=min_user,
        min_item=min_item,
        ties=ties,
        seed=seed,
        tie_share=None if kept.times is None else tie_share(kept.users[order], kept.times[order]),
        repeat_share=repeat_share(histories),
        titled=titled,
        versions=_versions(),
        hash=data_hash(histories, kept.user_ids, item_ids),
    )
    return Dataset(histories, kept.user_ids, item_ids, names, info)


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


def event_order(
    users: Int64[np.ndarray, " events"],
    times: Shaped[np.ndarray, " events"] | None,
    keys: UInt64[np.ndarray, " events"] | None,
) -> Int64[np.ndarray, " events"]:
    """Sort events by user, then time, then tie key; what is equal in all keeps the order of the file.

    Args:
        users: of each event, in file order.
        times: of each event; None: the file is in order.
        keys: of the rule `hash`; None: the rule `file`.

    Returns:
        the permutation that sorts.
    """
    return np.lexsort([by for by in (keys, times, users) if by is not None])


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


def _checked(log: pl.DataFrame, where: str) -> pl.DataFrame:
    """Put a log in file order; refuse no events and gaps, which only a frame that `read_log` did not make can have."""
    if log.is_empty():
        raise DataError(f"{where}: expected events, got none")
    log = (log.sort("row") if "row" in log.columns else log).with_columns(pl.col("user", "item").cast(pl.String))
    for name in sorted(set(log.columns) & {"user", "item", "time"}):
        if log[name].null_count():
            raise DataError(f"{where}: row {log[name].is_null().arg_max()}: {name}: expected a value, got nothing")
    return log


@dataclass(frozen=True, eq=False)
class _Events:
    """A log in file order, its ids numbered."""

    users: Int64[np.ndarray, " events"]
    items: Int64[np.ndarray, " events"]
    times: Shaped[np.ndarray, " events"] | None
    user_ids: list[str]
    item_ids: list[str]

    def only(self, kept: Int64[np.ndarray, " kept"]) -> "_Events":
        """Keep some events; the users and items that are left are numbered by first appearance."""
        users, user_ids = _numbered(self.users[kept], self.user_ids)
        items, item_ids = _numbered(self.items[kept], self.item_ids)
        return _Events(users, items, None if self.times is None else self.times[kept], user_ids, item_ids)


def _events(log: pl.DataFrame) -> _Events:
    """Drop exact duplicates and number the ids."""
    timed = "time" in log.columns
    log = log.unique(["user", "item", "time"], keep="first", maintain_order=True) if timed else log
    (users, user_ids), (items, item_ids) = _codes(log["user"]), _codes(log["item"])
    return _Events(users, items, log["time"].to_numpy() if timed else None, user_ids, item_ids)


def _codes(names: pl.Series) -> tuple[Int64[np.ndarray, " events"], list[str]]:
    """Number ids in order of first appearance."""
    ids = names.unique(maintain_order=True)
    codes = names.replace_strict(ids, pl.int_range(len(ids), dtype=pl.Int64, eager=True), return_dtype=pl.Int64)
    return codes.to_numpy(), ids.to_list()


def _numbered(codes: Int64[np.ndarray, " events"], ids: list[str]) -> tuple[Int64[np.ndarray, " events"], list[str]]:
    """Number what is left in order of first appearance."""
    left, first = np.unique(codes, return_index=True)
    return _renumbered(codes, left[np.argsort(first)], ids)


def _by_popularity(events: _Events, order: Int64[np.ndarray, " events"]) -> tuple[Histories, list[str]]:
    """Number items by descending count in training; stable, so ties stay in order of first appearance."""
    histories = Histories(events.items[order].astype(np.int32), offsets_of(np.bincount(events.users)))
    counts = item_counts(histories.where(in_training(histories)), len(events.item_ids))
    items, item_ids = _renumbered(histories.items, np.argsort(-counts, kind="stable"), events.item_ids)
    return Histories(items.astype(np.int32), histories.offsets), item_ids


def _renumbered(
    codes: Int[np.ndarray, " events"], order: Int64[np.ndarray, " kept"], ids: list[str]
) -> tuple[Int64[np.ndarray, " events"], list[str]]:
    """Give the code `order[k]` the number k, in the events and in the list of ids."""
    numbers = np.zeros(len(ids), np.int64)
    numbers[order] = np.arange(len(order))
    return numbers[codes], [ids[code] for code in order.tolist()]


def _check_survivors(where: str, every: _Events, kept: _Events, min_user: int, min_item: int) -> None:
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
