"""Names to show for items: `{"50": "Star Wars (1977)"}`.

Any table with an item column and a title column will do; RecBole's `.item` files are such. If there is a release year and
the title does not end with it, it is added, as MovieLens writes it. Titles are for people: no model reads them.
"""

from pathlib import Path

import polars as pl

from ossia.data.columns import ITEM_NAMES, find_column, needed_column, read_ids
from ossia.data.tables import open_table

TITLE_NAMES = ("title", "movietitle", "itemtitle", "producttitle", "name", "itemname", "productname")
YEAR_NAMES = ("releaseyear", "year")


def read_titles(
    path: Path | str,
    *,
    format: str = "auto",  # noqa: A002 - as in read_log
    item: str | None = None,
    title: str | None = None,
) -> dict[str, str]:
    """Read item titles.

    Args:
        path: a CSV, TSV or RecBole file, plain or gzipped, or Parquet.
        format: as in `read_log`; `auto` looks at the content.
        item: the column of ids, as in the log; None: recognized.
        title: the column of titles; None: recognized.

    Returns:
        title by item id; of an id that occurs twice the first, of an item without a title nothing.

    Raises:
        UsageError: there is no such format.
        DataError: the file can't be used; names file, line and column.
    """
    table = open_table(Path(path), format)
    item_column = needed_column(table, "item", ITEM_NAMES, item)
    title_column = needed_column(table, "title", TITLE_NAMES, title)
    year_column = find_column(table, "year", YEAR_NAMES, None)
    frame = table.select(tuple(dict.fromkeys(filter(None, (item_column, title_column, year_column)))))
    known = pl.DataFrame(
        {
            "id": read_ids(table, frame, item_column),
            "title": frame[title_column].cast(pl.String).str.strip_chars(),
            "year": frame[year_column].cast(pl.String).str.strip_chars() if year_column else None,
        },
        schema_overrides={"year": pl.String},
    )
    titled = known.filter(pl.col("title") != "").unique("id", keep="first", maintain_order=True)
    return dict(titled.select("id", _with_year()).iter_rows())


def _with_year() -> pl.Expr:
    """Write `Toy Story (1995)`, unless the title ends so already or the year is not four digits."""
    year = pl.format(" ({})", pl.col("year"))
    lacks = pl.col("year").str.contains(r"^\d{4}$") & ~pl.col("title").str.ends_with(year)
    return pl.when(lacks).then(pl.col("title") + year).otherwise(pl.col("title")).alias("title")
