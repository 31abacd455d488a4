"""Parquet, Arrow and frames give the log that the same rows in text give."""

import sys
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.feather
import pytest

from ossia.data.interactions import read_log
from ossia.errors import DataError, UsageError

COLUMNS: dict[str, list[Any]] = {"userId": ["u1", "u2", "u1"], "asin": ["007", "8", "8"], "stars": [5, 1, 4], "ts": [3, 1, 2]}
ROWS = [("u1", "007", 3, 5.0, 0), ("u2", "8", 1, 1.0, 1), ("u1", "8", 2, 4.0, 2)]


class Capsule:
    """A frame of a library that we have never heard of."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize("make", [pl.DataFrame, pl.LazyFrame, pa.table, lambda columns: Capsule(pa.table(columns))])
def test_every_frame_gives_the_same_log(make: Any) -> None:
    log = read_log(make(COLUMNS), value="auto")
    assert log.rows() == ROWS
    assert log.schema == {"user": pl.String, "item": pl.String, "time": pl.Int64, "value": pl.Float64, "row": pl.Int64}


@pytest.mark.parametrize("how", ["file", "stream", "lz4", "feather"])
def test_every_arrow_file_gives_the_same_log(tmp_path: Path, how: str) -> None:
    path, frame = tmp_path / "log.arrow", pl.DataFrame(COLUMNS)
    if how == "stream":
        frame.write_ipc_stream(path)
    elif how == "feather":
        pyarrow.feather.write_feather(pa.table(COLUMNS), str(path))
    else:
        frame.write_ipc(path, compression="lz4" if how == "lz4" else "uncompressed")
    assert read_log(path, value="stars").rows() == read_log(path, format="arrow", value="stars").rows() == ROWS


def test_a_pandas_frame_gives_the_same_log_and_gaps_cost_nothing() -> None:
    pd = pytest.importorskip("pandas")
    assert read_log(pd.DataFrame(COLUMNS), value="auto").rows() == ROWS
    frame = pd.DataFrame({"user": [1.0, 2.0], "item": pd.Categorical(["x", "y"]), "time": pd.to_datetime(["1970-01-02"] * 2)})
    assert read_log(frame.set_index("user", drop=False)).rows() == [
        ("1", "x", 86_400_000_000, 0),
        ("2", "y", 86_400_000_000, 1),
    ]
    numbered = pd.DataFrame([["a", "x"], ["b", "y"]])
    assert read_log(numbered, user="0", item="1").rows() == [("a", "x", 0), ("b", "y", 1)]
    with pytest.raises(DataError, match=r"frame: expected different column names, got user, user"):
        read_log(pd.DataFrame([["a", "x"]], columns=["user", "user"]))


def test_reading_a_file_imports_neither_pandas_nor_pyarrow(tmp_path: Path) -> None:
    import subprocess

    pl.DataFrame(COLUMNS).write_ipc(tmp_path / "log.arrow")
    program = (
        "import sys; from ossia.data import read_log; read_log(sys.argv[1]);"
        " print(*(sys.modules.keys() & {'pandas', 'pyarrow'}))"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "log.arrow"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_frames_and_files_make_one_log(tmp_path: Path) -> None:
    pl.DataFrame(COLUMNS).write_parquet(tmp_path / "log.parquet")
    assert read_log([tmp_path / "log.parquet", pl.DataFrame(COLUMNS)]).height == 6


@pytest.mark.parametrize("log", [7, None, {"user": ["a"], "item": ["b"]}, b"log.csv"])
def test_what_is_neither_path_nor_frame_is_refused(log: object) -> None:
    with pytest.raises(UsageError, match=r"expected a path, or a frame of polars, pandas or Arrow, got (int|None|dict|bytes)"):
        read_log(log)


def test_a_bad_frame_names_its_row() -> None:
    with pytest.raises(DataError, match=r"frame: row 2: user: expected an id, got nothing \(1 such row\)"):
        read_log(pl.DataFrame({"user": ["a", None], "item": ["x", "y"]}))
    with pytest.raises(DataError, match=r"frame: expected rows, got columns only"):
        read_log(pl.DataFrame({"user": [], "item": []}))
    with pytest.raises(DataError, match=r"frame: expected a user column, .* found columns who, item"):
        read_log(pl.DataFrame({"who": ["a"], "item": ["x"]}))


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.9, 0.999])
@pytest.mark.parametrize("how", ["file", "stream"])
def test_a_truncated_arrow_file_is_refused_and_named(tmp_path: Path, how: str, share: float) -> None:
    path, frame = tmp_path / "log.arrow", pl.DataFrame({"user": range(1000), "item": range(1000)})
    (frame.write_ipc if how == "file" else frame.write_ipc_stream)(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: max(8, int(len(whole) * share))])
    with pytest.raises(DataError, match=rf"{path}: expected a whole Arrow file, got a damaged one: "):
        read_log(path)


def test_feather_of_before_2020_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "log.feather"
    path.write_bytes(b"FEA1" + bytes(60) + b"FEA1")
    with pytest.raises(DataError, match="expected Feather version 2"):
        read_log(path)
