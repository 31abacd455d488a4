"""Logs that are words between spaces, without times: sequences, `user item item item …`, and pairs, `user item`.

Sequences have a line per user, oldest first: the layout of the S3-Rec files and their many descendants. A user on two lines
has both, in the order of the file; so pairs, one event a line, are sequences of one, and are read as such. Who names the
format `pairs` is told of a line that is none.
"""

from pathlib import Path

import polars as pl

from ossia.data.raw import checked_text, first_line, read_raw
from ossia.errors import DataError

AMBIGUOUS = (3, 4)
"""If every line has this many numbers, it could as well be `user item time` or `user item rating time`."""


def is_sequences(path: Path) -> bool:
    """Guess whether a file holds sequences: a `.txt` (or `.txt.gz`) whose first line is whole numbers between spaces.

    Args:
        path: the file.

    Returns:
        the guess; no for a file that can't be read.
    """
    words = first_line(path).split(b" ")
    return ".txt" in path.suffixes[-2:] and len(words) > 1 and all(word.isdigit() for word in words if word)


def read_sequences(path: Path, *, sure: bool = True, pairs: bool = False) -> pl.DataFrame:
    """Read a file of sequences, or of pairs.

    Args:
        path: the file, plain or gzipped.
        sure: the caller knows that it is one; if not, lines that are all three or all four long are refused.
        pairs: every line must be `user item`.

    Returns:
        columns `user`, `item` (String) and `row` (Int64, the order in the file, from 0).

    Raises:
        DataError: the file can't be used, a user has no items, or a pair has more than one; names file and line.
    """
    text = checked_text(path, read_raw(path)).decode()
    words = pl.Series("words", text.split("\n")).str.strip_chars().str.replace_all(r"\s+", " ").str.split(" ")
    lines = pl.DataFrame({"words": words}).with_row_index("line", offset=1).with_columns(pl.col("words").list.len().alias("n"))
    lines = lines.filter(pl.col("words").list.first() != "")
    alone = lines.filter(pl.col("n") == 1)
    if alone.height:
        raise DataError(f"{path}:{alone['line'][0]}: expected a user and items, got {alone['words'][0][0]!r} alone")
    longer = lines.filter(pl.col("n") > 2)
    if pairs and longer.height:
        raise DataError(f"{path}:{longer['line'][0]}: expected a user and one item, got {longer['n'][0]} words")
    if not sure and lines.height > 1 and lines["n"].n_unique() == 1 and lines["n"][0] in AMBIGUOUS:
        raise DataError(
            f"{path}: expected lines of different lengths, got {lines['n'][0]} numbers on every line: name the format"
            " 'sequences', or give the file a header line and tabs"
        )
    users = lines.select(pl.col("words").list.first().alias("user"), pl.col("words").list.slice(1).alias("item"))
    return users.explode("item").with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("row"))
