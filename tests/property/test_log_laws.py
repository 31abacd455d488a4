"""Laws of the data room: what is written is read, filters are what they are defined to be, a split loses nothing."""

import csv
import io
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossia.data.dataset import Dataset
from ossia.data.histories import Histories
from ossia.data.interactions import read_log
from ossia.data.prepare import k_core, prepare
from ossia.data.splits import item_counts, leave_one_out
from ossia.errors import DataError

unhurried = settings(deadline=None)  # a busy machine is no bug

IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1, max_size=5).filter(str.strip)
# A bare carriage return is no part of CSV unless it is quoted, and Python's writer does not always quote it.
SAFE_IDS = IDS.filter(lambda text: not set(text) & set("\t\n"))
TIMES = st.integers(-(2**53), 2**53)
LISTS = st.lists(st.lists(st.integers(0, 6), max_size=7), max_size=6)
EVENTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=40)


def read_bytes(data: bytes, name: str) -> pl.DataFrame:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        return read_log(path)


def as_csv(rows: list[tuple[str, str, object]], end: str) -> bytes:
    file = io.StringIO()
    csv.writer(file, lineterminator=end).writerows([("user", "item", "time"), *rows])
    return file.getvalue().encode()


@unhurried
@given(st.lists(st.tuples(IDS, IDS, TIMES), min_size=1, max_size=12), st.sampled_from(["\n", "\r\n"]))
def test_whatever_the_csv_module_writes_is_read_back(rows: list[tuple[str, str, int]], end: str) -> None:
    assert read_bytes(as_csv(list(rows), end), "log.csv").select("user", "item", "time").rows() == rows


@unhurried
@given(st.lists(st.tuples(SAFE_IDS, SAFE_IDS, TIMES), min_size=1, max_size=12), st.sampled_from(["\n", "\r\n"]))
def test_tabs_need_no_quotes(rows: list[tuple[str, str, int]], end: str) -> None:
    lines = ["user_id:token\titem_id:token\ttimestamp:float", *("\t".join(map(str, row)) for row in rows)]
    assert read_bytes(end.join(lines).encode(), "log.inter").select("user", "item", "time").rows() == rows


@unhurried
@given(st.lists(st.tuples(IDS, IDS, TIMES), min_size=1, max_size=12), st.data())
def test_a_bad_time_is_found_on_its_line_whatever_is_quoted_before_it(
    rows: list[tuple[str, str, int]], data: st.DataObject
) -> None:
    bad = data.draw(st.integers(0, len(rows) - 1))
    text = as_csv([(*row[:2], "never" if index == bad else row[2]) for index, row in enumerate(rows)], "\n")
    line = as_csv(list(rows[:bad]), "\n").count(b"\n") + 1
    with pytest.raises(DataError, match=rf"log\.csv:{line}: time: "):
        read_bytes(text, "log.csv")


@unhurried
@given(st.binary(max_size=200))
def test_any_bytes_are_a_log_or_a_data_error(data: bytes) -> None:
    for name in ("log.csv", "log.txt"):
        try:
            assert read_bytes(data, name).height > 0
        except DataError as error:
            assert name in str(error)


@unhurried
@given(st.text('ab1,;\t"\n\r .', max_size=40))
def test_any_body_under_a_header_is_rows_or_a_data_error(body: str) -> None:
    try:
        assert read_bytes(f"user,item\n{body}".encode(), "log.csv").height > 0
    except DataError:
        return


@unhurried
@given(EVENTS, st.integers(1, 4), st.integers(1, 4))
def test_the_k_core_is_the_largest_set_with_enough_of_each(events: list[tuple[int, int]], min_user: int, min_item: int) -> None:
    users, items = np.array(events, np.int64).reshape(-1, 2).T
    kept = k_core(users, items, min_user, min_item)
    assert set(np.bincount(users[kept])) <= {0, *range(min_user, 99)}
    assert set(np.bincount(items[kept])) <= {0, *range(min_item, 99)}
    # Removing one weak user or item at a time, in any order, ends in the same set: nothing more could have stayed.
    left = set(range(len(events)))
    while weak := [
        event
        for event in left
        if sum(users[other] == users[event] for other in left) < min_user
        or sum(items[other] == items[event] for other in left) < min_item
    ]:
        left.remove(weak[0])
    assert set(kept.tolist()) == left


@unhurried
@given(LISTS)
def test_a_split_loses_nothing_and_adds_nothing(lists: list[list[int]]) -> None:
    histories = Histories.from_lists(lists)
    split = leave_one_out(histories)
    rebuilt = [history.tolist() for history in split.train]
    for cases, seen in ((split.validation, 0), (split.test, 1)):
        for user, history, target in zip(cases.users, cases.histories, cases.targets, strict=True):
            assert history.tolist() == rebuilt[user]
            rebuilt[user].append(int(target))
        assert {len(lists[user]) - len(rebuilt[user]) for user in cases.users} <= {1 - seen}
    assert rebuilt == lists
    assert {user for user, events in enumerate(lists) if len(events) >= 3} == set(split.test.users.tolist())


@unhurried
@given(LISTS)
def test_counts_add_up(lists: list[list[int]]) -> None:
    histories = Histories.from_lists(lists)
    counts = item_counts(histories, 7)
    assert counts.sum() == len(histories.items)
    assert counts.tolist() == [sum(events.count(item) for events in lists) for item in range(7)]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("uvwxyz"), st.integers(0, 3)), min_size=1, max_size=30),
    st.sampled_from(["file", "hash"]),
)
def test_a_prepared_log_keeps_every_event_and_sorts_users_by_time(events: list[tuple[str, str, int]], ties: str) -> None:
    log = pl.DataFrame(events, schema=["user", "item", "time"], orient="row")
    try:
        data = prepare(log, min_user=1, min_item=1, ties=ties)
    except DataError:
        return
    times = {(user, item): sorted(t for u, i, t in set(events) if (u, i) == (user, item)) for user, item, _ in events}
    for user, history in zip(data.user_ids, data.histories, strict=True):
        met = [(user, data.item_ids[item]) for item in history]
        assert sorted(met) == sorted((u, i) for u, i, _ in set(events) if u == user)
        taken = {key: iter(values) for key, values in times.items()}
        order = [next(taken[key]) for key in met]
        assert order == sorted(order)
    popularity = item_counts(leave_one_out(data.histories).train, data.items)
    assert (np.diff(popularity) <= 0).all()


@settings(max_examples=20, deadline=None)
@given(st.lists(IDS, min_size=3, max_size=6, unique=True))
def test_any_ids_survive_the_folder(names: list[str]) -> None:
    log = pl.DataFrame({"user": ["u"] * len(names) + ["v"] * len(names), "item": names * 2})
    data = prepare(log, min_user=1, min_item=1, titles={name: name[::-1] for name in names})
    with tempfile.TemporaryDirectory() as folder:
        data.save(Path(folder) / "DATA")
        loaded = Dataset.load(Path(folder) / "DATA")
    assert (loaded.item_ids, loaded.titles, loaded.hash) == (data.item_ids, data.titles, data.hash)
