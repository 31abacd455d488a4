import datetime as dt

import polars as pl
import pytest

from ossia.data.times import parse_times


def test_whole_numbers_stay_whole_and_as_they_are() -> None:
    times = parse_times(pl.Series(["881250949", " 3", "-1"]))
    assert times.dtype == pl.Int64
    assert times.to_list() == [881250949, 3, -1]


def test_floats_that_are_whole_become_whole() -> None:
    assert parse_times(pl.Series(["881250949.0", "1e3"])).to_list() == [881250949, 1000]
    assert parse_times(pl.Series([1.0, 2.0])).dtype == pl.Int64


def test_fractions_stay_fractions() -> None:
    times = parse_times(pl.Series(["1.5", "2"]))
    assert times.dtype == pl.Float64
    assert times.to_list() == [1.5, 2.0]


@pytest.mark.parametrize("value", ["nan", "inf", "soon", "", "2014-13-01", "2014-05-01T25:00:00", None])
def test_what_is_no_time_becomes_null_among_numbers_and_dates(value: str | None) -> None:
    assert parse_times(pl.Series(["1.5", value, "2"])).to_list() == [1.5, None, 2.0]
    assert parse_times(pl.Series(["1970-01-01", value])).to_list() == [0, None]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02", 86_400),
        ("1970-01-01 00:01", 60),
        ("1970-01-01T00:00:01", 1),
        ("1970-01-01 00:00:01.250", 1.25),
        ("1970-01-01T00:00:01Z", 1),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1970-01-01T00:00:00.5-0100", 3600.5),
    ],
)
def test_iso_times_become_microseconds_in_utc(text: str, seconds: float) -> None:
    assert parse_times(pl.Series([text])).to_list() == [int(seconds * 1_000_000)]


def test_different_iso_forms_may_stand_in_one_column() -> None:
    assert parse_times(pl.Series(["1970-01-01", "1970-01-01T00:00:01Z"])).to_list() == [0, 1_000_000]


def test_numbers_and_dates_are_not_mixed() -> None:
    assert parse_times(pl.Series(["1", "2", "1970-01-01"])).to_list() == [1, 2, None]


def test_dates_and_zoned_datetimes_of_parquet_are_read() -> None:
    east = dt.timezone(dt.timedelta(hours=2))
    zoned = pl.Series([dt.datetime(1970, 1, 1, 2, 0, 1, tzinfo=east)])
    assert parse_times(zoned).to_list() == [1_000_000]
    assert parse_times(pl.Series([dt.date(1970, 1, 2)])).to_list() == [86_400_000_000]


def test_a_column_of_another_kind_has_no_times() -> None:
    assert parse_times(pl.Series([True, False])).to_list() == [None, None]
    assert parse_times(pl.Series([dt.timedelta(1)])).to_list() == [None]
