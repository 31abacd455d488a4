"""Tables whose columns have types already: Parquet, Arrow, and frames that somebody holds in Python.

    Parquet                              a file that begins with PAR1
    Arrow IPC, Feather 2                 a file that begins with ARROW1
    Arrow stream                         a file that begins with FF FF FF FF
    polars, pandas, pyarrow, any frame   that has `__arrow_c_stream__` (the Arrow PyCapsule interface)

A frame is read where it lies; its rows are named by their place, from 1. pandas and pyarrow are never imported here: who has
such a frame has them, and polars asks them for the columns that a log needs.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ossia.errors import DataError, UsageError

MAGIC = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow", b"FEA1": "arrow"}
TYPED = ("parquet", "arrow")
TITLES = {"parquet": "Parquet", "arrow": "Arrow"}


@dataclass(frozen=True, eq=False)
class TypedTable:
    """A table in a Parquet or Arrow file, or in memory.

    Attributes:
        path: the file; for a frame `frame`.
        names: of the columns.
        kind: what to call it in a message.
        data: reads columns when they are asked for.
        has_header: names are always the table's own.
    """

    path: Path
    names: tuple[str, ...]
    kind: str
    data: pl.LazyFrame
    has_header: bool = True

    def select(self, names: tuple[str, ...]) -> pl.DataFrame:
        """Read some columns.

        Args:
            names: different columns of this table.

        Returns:
            values as stored, in the order of `names`.

        Raises:
            DataError: the file is damaged.
        """
        with _whole(self.path, self.kind):
            return self.data.select(names).collect()

    def place(self, row: int) -> str:
        """Name the file and the row.

        Args:
            row: from 0.

        Returns:
            such as `log.parquet: row 17`, counted from 1.
        """
        return f"{self.path}: row {row + 1:,}"


def typed_format(data: bytes) -> str:
    """Recognize a typed file by its first bytes.

    Args:
        data: a file's content.

    Returns:
        one of `TYPED`; `text` for anything else.

    Example:
        >>> typed_format(b"PAR1..."), typed_format(b"user,item")
        ('parquet', 'text')
    """
    return next((kind for magic, kind in MAGIC.items() if data.startswith(magic)), "text")


def read_typed(path: Path, data: bytes, kind: str) -> TypedTable:
    """Read the schema of a Parquet or Arrow file.

    Args:
        path: the file, for messages.
        data: its content.
        kind: one of `TYPED`.

    Returns:
        the table, with at least one row.

    Raises:
        DataError: it is damaged, has no rows, or is Feather of before 2020.
    """
    if data.startswith(b"FEA1"):
        raise DataError(f"{path}: expected Feather version 2 (Arrow IPC), got version 1")
    with _whole(path, TITLES[kind]):
        lazy = _scan(data, kind)
        names, rows = tuple(lazy.collect_schema()), lazy.select(pl.len()).collect().item()
    if not rows:
        raise DataError(f"{path}: expected rows, got columns only")
    return TypedTable(path, names, TITLES[kind], lazy)


def open_frame(frame: Any) -> TypedTable:
    """Take a frame from Python as a table.

    Args:
        frame: of polars (lazy or not), pandas, pyarrow, or with `__arrow_c_stream__`.

    Returns:
        the table, with at least one row.

    Raises:
        UsageError: it is none of these.
        DataError: it has no rows, or two columns of one name.
    """
    lazy = _lazy(frame)
    if lazy is None:
        raise UsageError(f"log: expected a path, or a frame of polars, pandas or Arrow, got {type(frame).__name__}")
    names, rows = tuple(lazy.collect_schema()), lazy.select(pl.len()).collect().item()
    if not rows:
        raise DataError("frame: expected rows, got columns only")
    return TypedTable(Path("frame"), names, "frame", lazy)


def first_words(error: BaseException) -> str:
    """Shorten polars' advice to what happened.

    Args:
        error: whatever polars raised.

    Returns:
        its first line.
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _scan(data: bytes, kind: str) -> pl.LazyFrame:
    """Open a file's content without reading its columns, as far as the layout lets us."""
    if kind == "parquet":
        return pl.scan_parquet(io.BytesIO(data))
    stream = not data.startswith(b"ARROW1")
    return (pl.read_ipc_stream(io.BytesIO(data)) if stream else pl.read_ipc(io.BytesIO(data))).lazy()


def _lazy(frame: Any) -> pl.LazyFrame | None:
    """Turn a frame into polars'; None for what is no frame."""
    if isinstance(frame, pl.DataFrame | pl.LazyFrame):
        return frame.lazy()
    try:
        if type(frame).__module__.partition(".")[0] == "pandas":
            return pl.from_pandas(_plain_names(frame)).lazy()
        return pl.DataFrame(frame).lazy() if hasattr(frame, "__arrow_c_stream__") else None
    except ModuleNotFoundError as error:
        raise UsageError(f"frame: expected {error.name} beside pandas, which is not installed here") from error
    except (pl.exceptions.PolarsError, ValueError, TypeError) as error:
        raise DataError(f"frame: expected columns of one type each, got: {first_words(error)}") from error


def _plain_names(frame: Any) -> Any:
    """Call pandas' columns what a person would read, also where they are numbers."""
    names = [str(name) for name in frame.columns]
    if len(set(names)) < len(names):
        raise DataError(f"frame: expected different column names, got {', '.join(names)}")
    return frame.set_axis(names, axis=1)


@contextmanager
def _whole(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever polars makes of a damaged file into one error."""
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        what = f"expected a whole {kind} file, got a damaged one: {first_words(error)}"
        raise DataError(f"{path}: {what}") from error
