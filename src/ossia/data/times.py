"""Times in whatever form a log has them, as numbers that sort.

Numbers stay as they are (seconds, milliseconds, days: only their order counts): Int64 if all are whole, else Float64. ISO
dates and date-times, with or without fraction and offset, become microseconds since 1970 in UTC; without an offset they
are taken as UTC. One column has one kind: numbers and dates are not mixed. "Wednesday" and NaN are not times.
"""

from datetime import UTC, datetime

import polars as pl

ISO_FORMATS = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S%.f")
ISO_WITH_OFFSET = "%Y-%m-%d %H:%M:%S%.f%z"
PER_SECOND = (1, 1_000, 1_000_000)  # seconds, milliseconds, microseconds
EPOCH_SECONDS = (631_152_000, 4_102_444_800)  # 1990 … 2100: the three units can't be taken for one another there


def parse_times(values: pl.Series) -> pl.Series:
    """Read times from strings, numbers, dates or date-times.

    Args:
        values: one column.

    Returns:
        Int64 or Float64, null where a value is no time.

    Example:
        >>> parse_times(pl.Series(["1970-01-02", "1970-01-01T00:00:01Z", "soon"])).to_list()
        [86400000000, 1000000, None]
    """
    kind = values.dtype
    if kind.is_temporal() and kind not in (pl.Time, pl.Duration):
        return values.cast(pl.Datetime("us")).to_physical()
    if kind.is_integer():
        return values.cast(pl.Int64, strict=False)
    if kind.is_float() or kind.is_decimal():
        return _finite(values.cast(pl.Float64))
    if kind == pl.String:
        return _from_strings(values.str.strip_chars())
    return pl.Series(values.name, [None] * len(values), pl.Int64)


def are_dates(values: pl.Series) -> bool:
    """Tell whether `parse_times` reads a column as dates rather than as numbers.

    Args:
        values: one column of which every value is a time.

    Returns:
        true for dates: their unit is the microsecond, whatever another column's numbers count.

    Example:
        >>> are_dates(pl.Series(["1970-01-02"])), are_dates(pl.Series(["86400"]))
        (True, False)
    """
    if values.dtype == pl.String:
        return values.head(1).str.strip_chars().cast(pl.Float64, strict=False).null_count() > 0
    return values.dtype.is_temporal()


def to_date(time: int | float) -> str | None:
    """Guess the date of a time whose unit nobody wrote down.

    Args:
        time: as `parse_times` gives it.

    Returns:
        a date of 1990 to 2100, if the number is one in seconds, milliseconds or microseconds since 1970; else None.

    Example:
        >>> to_date(978300760), to_date(978300760000), to_date(17)
        ('2000-12-31', '2000-12-31', None)
    """
    first, last = EPOCH_SECONDS
    seconds = next((time / unit for unit in PER_SECOND if first <= time / unit < last), None)
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).date().isoformat()


def _from_strings(values: pl.Series) -> pl.Series:
    """Take the reading that makes sense of most values; the first wins a tie."""
    whole = values.cast(pl.Int64, strict=False)
    if not whole.null_count():
        return whole
    readings = (_finite(values.cast(pl.Float64, strict=False)), _from_iso(values))
    return min(readings, key=lambda reading: reading.null_count())


def _finite(values: pl.Series) -> pl.Series:
    """Turn NaN and infinities into nulls; all whole becomes Int64."""
    times = values.to_frame("t").select(pl.when(pl.col("t").is_finite()).then(pl.col("t")))["t"]
    whole = times.cast(pl.Int64, strict=False)
    return whole if (whole.cast(pl.Float64) == times).all() and whole.null_count() == times.null_count() else times


def _from_iso(values: pl.Series) -> pl.Series:
    """Read ISO 8601; `T` or a space between date and time, `Z` or ±hh:mm after it."""
    text = values.str.replace("T", " ", literal=True).str.replace("Z$", "+0000")
    local = [text.str.to_datetime(form, time_unit="us", strict=False).alias(form) for form in ISO_FORMATS]
    shifted = text.str.to_datetime(ISO_WITH_OFFSET, time_unit="us", strict=False).dt.replace_time_zone(None).alias("offset")
    return pl.DataFrame([*local, shifted]).select(pl.coalesce(pl.all()).to_physical())[ISO_FORMATS[0]]
