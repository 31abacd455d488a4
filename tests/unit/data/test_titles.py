from pathlib import Path

import polars as pl
import pytest

from ossia.data.titles import read_titles
from ossia.errors import DataError


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_release_year_is_added_unless_the_title_has_it(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "ml.item",
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tToy Story\t1995\tComedy\n2\tBabe (1995)\t1995\t\n3\tunknown\t\t\n4\tAda\tV\t\n",
    )
    assert read_titles(path) == {"1": "Toy Story (1995)", "2": "Babe (1995)", "3": "unknown", "4": "Ada"}


def test_titles_without_years_stay_as_they_are(tmp_path: Path) -> None:
    assert read_titles(write(tmp_path, "items.csv", 'asin,title\nB0,"Anno ""2070"", the game"\n')) == {
        "B0": 'Anno "2070", the game'
    }


def test_the_first_of_two_titles_wins_and_no_title_is_no_entry(tmp_path: Path) -> None:
    assert read_titles(write(tmp_path, "items.tsv", "item_id\ttitle\n1\t\n1\tA\n1\tB\n2\t \n")) == {"1": "A"}


def test_parquet_titles_and_named_columns(tmp_path: Path) -> None:
    pl.DataFrame({"sku": [7], "label": ["Seven"], "year": [1995]}).write_parquet(tmp_path / "items.parquet")
    assert read_titles(tmp_path / "items.parquet", item="sku", title="label") == {"7": "Seven (1995)"}
    assert read_titles(tmp_path / "items.parquet", item="sku", title="sku") == {"7": "7 (1995)"}


def test_a_missing_title_column_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a title column, .* found columns item_id, label"):
        read_titles(write(tmp_path, "items.csv", "item_id,label\n1,A\n"))


def test_an_item_without_an_id_names_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"items\.csv:3: item_id: expected an id, got nothing"):
        read_titles(write(tmp_path, "items.csv", "item_id,title\n1,A\n,B\n"))
