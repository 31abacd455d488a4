from typing import Any

import numpy as np
import polars as pl
import pytest

from ossia.data.events import event_order
from ossia.data.prepare import k_core, prepare
from ossia.errors import DataError, UsageError


def log(*events: tuple[str, str, int]) -> pl.DataFrame:
    return pl.DataFrame(events, schema={"user": pl.String, "item": pl.String, "time": pl.Int64}, orient="row")


def sequences(text: str) -> pl.DataFrame:
    """`a: x y z, b: x` as a log with rising times."""
    users = (part.split(":") for part in text.split(","))
    return log(*((user.strip(), item, time) for user, items in users for time, item in enumerate(items.split())))


def unfiltered(frame: pl.DataFrame, **options: Any) -> Any:
    return prepare(frame, min_user=1, min_item=1, **options)


def by_ids(data: Any) -> dict[str, list[str]]:
    return {
        user: [data.item_ids[item] for item in history] for user, history in zip(data.user_ids, data.histories, strict=True)
    }


def test_events_are_ordered_by_time_and_ties_as_in_the_file() -> None:
    data = unfiltered(log(("b", "x", 5), ("a", "z", 2), ("a", "y", 1), ("b", "w", 5), ("a", "x", 2), ("b", "v", 4)))
    assert by_ids(data) == {"b": ["v", "x", "w"], "a": ["y", "z", "x"]}
    assert data.user_ids == ["b", "a"]  # first appearance
    assert data.info.tie_share == 0.5


def test_the_row_column_is_the_order_of_the_file() -> None:
    frame = sequences("a: x y z, b: y z x").with_columns(pl.int_range(pl.len()).alias("row"), time=pl.lit(0))
    assert by_ids(unfiltered(frame.reverse())) == by_ids(unfiltered(frame)) == {"a": ["x", "y", "z"], "b": ["y", "z", "x"]}


def test_items_are_numbered_by_popularity_in_training_only() -> None:
    # y leads overall (4 events), but only one of them is in training, where x has three.
    data = unfiltered(sequences("a: x w y z, b: x y y, c: x y v, d: u y"))
    train = {"x": 3, "u": 1, "y": 1, "w": 1}
    assert data.item_ids[0] == "x"
    assert set(data.item_ids[1:4]) == set(train) - {"x"}


def test_items_of_equal_popularity_keep_the_order_of_first_appearance() -> None:
    assert unfiltered(sequences("a: q p r, b: s q q")).item_ids == ["q", "s", "p", "r"]


def test_hash_ties_do_not_depend_on_the_order_of_the_file() -> None:
    frame = pl.DataFrame({"user": ["a"] * 20 + ["b"] * 20, "item": [str(n) for n in range(20)] * 2, "time": [7] * 40})
    shuffled = frame.sample(fraction=1, shuffle=True, seed=3)
    assert by_ids(unfiltered(frame, ties="hash")) == by_ids(unfiltered(shuffled, ties="hash"))
    assert by_ids(unfiltered(frame)) != by_ids(unfiltered(shuffled))
    assert by_ids(unfiltered(frame, ties="hash"))["a"] != by_ids(unfiltered(frame, ties="hash", seed=1))["a"]


def test_hash_ties_leave_different_times_alone() -> None:
    frame = sequences("a: " + " ".join(map(str, range(30))) + ", b: 1 2 3")
    assert by_ids(unfiltered(frame, ties="hash")) == by_ids(unfiltered(frame))


def test_exact_duplicates_are_dropped_and_counted_but_repeats_are_kept() -> None:
    data = unfiltered(
        log(("a", "x", 1), ("a", "x", 1), ("a", "x", 2), ("b", "x", 1), ("b", "y", 1), ("a", "x", 1), ("a", "y", 3))
    )
    assert by_ids(data)["a"] == ["x", "x", "y"]
    assert data.info.duplicates == 2
    assert data.info.before.events == 7
    assert data.info.after.events == 5
    assert data.info.repeat_share == 0.2


def test_without_times_an_event_that_occurs_twice_is_a_repeat() -> None:
    data = unfiltered(sequences("a: x x y, b: y x y").drop("time"))
    assert by_ids(data) == {"a": ["x", "x", "y"], "b": ["y", "x", "y"]}
    assert data.info.duplicates == 0
    assert data.info.tie_share is None


def test_the_k_core_is_taken_until_nothing_changes() -> None:
    # z keeps c alive, c keeps w alive: one pass would drop only z.
    data = prepare(sequences("a: x y x, b: y x y, c: w z, d: w v w"), min_user=2, min_item=2)
    assert set(data.item_ids) == {"x", "y", "w"}
    assert data.user_ids == ["a", "b", "d"]
    assert (data.info.before.users, data.info.after.users) == (4, 3)
    assert (data.info.before.items, data.info.after.items) == (5, 3)


def test_the_k_core_of_nothing_is_nothing() -> None:
    assert len(k_core(np.array([0, 0]), np.array([0, 1]), 1, 2)) == 0


def test_titles_are_lined_up_with_rows_and_missing_ones_show_the_id() -> None:
    data = unfiltered(sequences("a: x y z, b: x y z"), titles={"x": "Ex", "nobody": "!"})
    assert dict(zip(data.item_ids, data.titles, strict=True)) == {"x": "Ex", "y": "y", "z": "z"}
    assert data.info.titled == 1


def test_titles_of_other_items_are_an_error() -> None:
    with pytest.raises(DataError, match=r"log\.csv: expected titles by item id, such as 'x', got none of 3 items'"):
        unfiltered(sequences("a: x y z, b: x y z"), titles={"1": "Ex"}, source={"path": "log.csv"})


def test_nothing_that_survives_says_how_many_there_were() -> None:
    with pytest.raises(DataError) as caught:
        prepare(sequences("a: x y z, b: x y z"), source={"path": "log.csv"})
    assert str(caught.value) == (
        "log.csv: expected at least 2 users of 5 events and 2 items of 5 events (the k-core), got"
        " 0 of 2 users, 0 of 3 items, 0 of 6 events"
    )


@pytest.mark.parametrize("text", ["a: x y z x", "a: x x x, b: x"])
def test_one_user_or_one_item_is_not_enough(text: str) -> None:
    with pytest.raises(DataError, match="expected at least 2 users of 1 events and 2 items of 1 events"):
        unfiltered(sequences(text))


def test_no_events_are_not_enough() -> None:
    with pytest.raises(DataError, match="log: expected events, got none"):
        prepare(log())


def test_users_too_short_to_test_on_are_not_enough() -> None:
    with pytest.raises(DataError, match="expected a user with 3 events to test on, got at most 2"):
        unfiltered(sequences("a: x y, b: x y"))


def test_a_null_in_a_frame_names_its_row() -> None:
    frame = pl.DataFrame({"user": ["a", None], "item": ["x", "y"], "time": [1, 2]})
    with pytest.raises(DataError, match="log: row 1: user: expected a value, got nothing"):
        prepare(frame)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ties": "random"}, "ties: expected one of file, hash, got 'random'"),
        ({"seed": -1}, "seed: expected 0 or more"),
        ({"min_user": 0}, "min_user: expected 1 or more, below 2⁶⁴, got 0"),
    ],
)
def test_requests_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        prepare(sequences("a: x y z, b: x y z"), **options)


def test_a_log_without_times_has_no_ties_to_hash() -> None:
    with pytest.raises(UsageError, match="ties: expected 'file' for log, which has no times"):
        unfiltered(sequences("a: x y z, b: x y z").drop("time"), ties="hash")


def test_a_frame_without_the_columns_is_refused() -> None:
    with pytest.raises(UsageError, match="expected columns user and item, got none called item"):
        prepare(pl.DataFrame({"user": ["a"]}))


def test_whole_number_ids_and_dates_in_a_frame_are_fine() -> None:
    days = pl.date_range(pl.date(2020, 1, 1), pl.date(2020, 1, 3), eager=True)
    frame = pl.DataFrame({"user": [1, 1, 1, 2, 2, 2], "item": [7, 8, 9] * 2, "time": [*days.reverse(), *days]})
    assert by_ids(unfiltered(frame)) == {"1": ["9", "8", "7"], "2": ["7", "8", "9"]}


def test_equal_events_keep_the_order_of_the_file() -> None:
    order = event_order(np.array([1, 0, 1, 0]), np.array([5, 5, 5, 5]), None)
    assert order.tolist() == [1, 3, 0, 2]


def test_events_below_the_value_are_dropped_before_anything_is_counted() -> None:
    frame = sequences("a: x y z x, b: x y z w").with_columns(value=pl.Series([5.0, 1, 4, 4, 3, 4, 4.5, 5]))
    data = unfiltered(frame, min_value=4.0)
    assert by_ids(data) == {"a": ["x", "z", "x"], "b": ["y", "z", "w"]}
    assert (data.info.below_value, data.info.min_value, data.info.before.events) == (2, 4, 8)
    assert by_ids(unfiltered(frame)) == by_ids(unfiltered(frame.drop("value")))


def test_a_value_that_nothing_has_says_what_the_best_one_is() -> None:
    frame = sequences("a: x y z, b: x y z").with_columns(value=pl.lit(3.5))
    with pytest.raises(DataError, match=r"log: expected events of value 4 or more, got 3\.5 at most"):
        unfiltered(frame, min_value=4.0)
    with pytest.raises(UsageError, match="min_value: expected a log with values"):
        unfiltered(frame.drop("value"), min_value=4.0)


@pytest.mark.parametrize(
    ("repeats", "kept", "dropped"),
    [("keep", ["x", "y", "x", "z", "y"], 0), ("first", ["x", "y", "z"], 2), ("last", ["x", "z", "y"], 2)],
)
@pytest.mark.parametrize("timed", [True, False])
def test_of_repeats_all_or_the_first_or_the_last_in_time_stay(repeats: str, kept: list[str], dropped: int, timed: bool) -> None:
    frame = sequences("a: x y x z y, b: x y z")
    frame = frame.reverse() if timed else frame.drop("time")  # with times the order of the file must not matter
    data = unfiltered(frame, repeats=repeats)
    assert by_ids(data) == {"a": kept, "b": ["x", "y", "z"]}
    assert data.info.repeats_dropped == dropped
    assert (data.info.repeat_share > 0) == (repeats == "keep")


def test_repeats_are_dropped_before_users_are_counted() -> None:
    frame = sequences("a: x x x x x, b: x y z, c: x y z")
    assert prepare(frame, min_user=3, min_item=1, repeats="first").user_ids == ["b", "c"]
    with pytest.raises(UsageError, match="repeats: expected one of keep, first, last, got 'none'"):
        unfiltered(frame, repeats="none")


def test_users_that_change_places_when_others_go_keep_their_own_events() -> None:
    # b comes first in the file, but only by an event whose item nobody else meets.
    data = prepare(sequences("b: lonely, a: x y z, b: x y z").with_row_index("row"), min_user=3, min_item=2)
    assert by_ids(data) == {"a": ["x", "y", "z"], "b": ["x", "y", "z"]}


@pytest.mark.parametrize("kind", [pl.Int64, pl.Float64])
def test_times_too_far_apart_for_one_number_are_sorted_all_the_same(kind: type[pl.DataType]) -> None:
    frame = log(("a", "x", 2**61), ("b", "x", 1), ("a", "y", -(2**61)), ("a", "z", 0), ("b", "y", 2), ("b", "z", 2**62))
    data = unfiltered(frame.with_columns(pl.col("time").cast(kind)))
    assert by_ids(data) == {"a": ["y", "z", "x"], "b": ["x", "y", "z"]}
