import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossia.data.description import describe, describe_lengths, describe_popularity, describe_times, gini
from ossia.data.prepare import prepare
from ossia.data.times import to_date

COUNTS = st.lists(st.integers(0, 50), min_size=1, max_size=60).filter(any)


@given(counts=COUNTS)
def test_gini_is_the_mean_difference_of_all_pairs_over_twice_the_mean(counts: list[int]) -> None:
    array = np.array(counts)
    differences = np.abs(array[:, None] - array[None, :]).mean()
    assert gini(array) == pytest.approx(differences / (2 * array.mean()), abs=1e-12)


@given(counts=COUNTS)
def test_shares_of_popular_items_rise_to_all_and_never_below_the_line_of_equality(counts: list[int]) -> None:
    found = describe_popularity(np.array(counts))
    assert found.curve[-1] == pytest.approx(1)
    assert list(found.curve) == sorted(found.curve)
    assert found.top_1_percent <= found.top_10_percent
    best = sorted(counts, reverse=True)
    assert sum(best[: found.items_for_half]) >= sum(counts) / 2 > sum(best[: found.items_for_half - 1])


@given(lengths=st.lists(st.integers(1, 5000), min_size=1, max_size=50))
def test_every_user_is_in_one_bin(lengths: list[int]) -> None:
    found = describe_lengths(np.array(lengths))
    assert sum(users for *_, users in found.bins) == len(lengths)
    for low, high, users in found.bins:
        assert users == sum(low <= length <= high for length in lengths)
    assert (found.least, found.most) == (min(lengths), max(lengths))


def test_every_event_is_in_one_period_and_a_single_moment_is_no_trouble() -> None:
    assert sum(describe_times(np.arange(1000)).per_period) == 1000
    still = describe_times(np.full(7, 5))
    assert (sum(still.per_period), still.first, still.last, still.first_date) == (7, 5, 5, None)


@pytest.mark.parametrize(("time", "date"), [(0, None), (1_538_438_400, "2018-10-02"), (1.5384384e15, "2018-10-02"), (-5, None)])
def test_only_what_looks_like_a_date_is_called_one(time: int | float, date: str | None) -> None:
    assert to_date(time) == date


def tied_log(order: str) -> pl.DataFrame:
    """Days of three items each, in the file by ascending item id, or in a random order."""
    rng, rows = np.random.default_rng(0), []
    for user in range(40):
        for day in range(3):
            items = rng.choice(200, 3, replace=False)
            rows += [(f"u{user}", str(item), day) for item in (sorted(items.tolist()) if order == "id" else items.tolist())]
    return pl.DataFrame(rows, schema=["user", "item", "time"], orient="row")


def test_ties_in_order_of_item_id_are_found_and_hashing_ends_them() -> None:
    by_id, hashed, mixed = (
        describe(prepare(tied_log(order), min_user=1, min_item=1, ties=ties))
        for order, ties in (("id", "file"), ("id", "hash"), ("random", "file"))
    )
    assert by_id.ascending_ties == 1  # as numbers: "9" comes before "10"
    assert hashed.ascending_ties == pytest.approx(0.5, abs=0.12)
    assert mixed.ascending_ties == pytest.approx(0.5, abs=0.12)
    assert by_id.tie_share == hashed.tie_share == 0.75


def test_a_log_without_times_has_neither_ties_nor_a_span() -> None:
    frame = pl.DataFrame({"user": ["a"] * 4 + ["b"] * 4, "item": list("xyzxxyzw")})
    found = describe(prepare(frame, min_user=1, min_item=1))
    assert (found.tie_share, found.ascending_ties, found.span) == (None, None, None)
    assert (found.users, found.items, found.events, found.repeat_share) == (2, 4, 8, 0.125)
    assert found.density == 7 / 8
    assert (found.training_events, found.validation_cases, found.test_cases) == (4, 2, 2)
