"""Every way a log can be bad that we know of: a DataError that names the file and the place."""

import gzip
import os
from pathlib import Path

import polars as pl
import pytest

from ossia.data.interactions import read_log
from ossia.errors import DataError

HEADER = "user_id,item_id,timestamp\n"


def write(folder: Path, data: bytes | str, name: str = "log.csv") -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def refusal(path: Path, **options: str) -> str:
    with pytest.raises(DataError) as caught:
        read_log(path, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert caught.value.exit_code == 3
    return message.removeprefix(str(path))


@pytest.mark.parametrize("data", [b"", b"\n", b" \r\n\n", b"\xef\xbb\xbf", gzip.compress(b"", mtime=0)])
def test_an_empty_file(tmp_path: Path, data: bytes) -> None:
    assert refusal(write(tmp_path, data)) == ": expected a log, got an empty file"


@pytest.mark.parametrize("end", ["", "\n", "\r\n\r\n"])
def test_a_header_without_rows(tmp_path: Path, end: str) -> None:
    message = refusal(write(tmp_path, "user_id,item_id,timestamp" + end))
    assert message == ": expected rows after the header, got only the header: user_id, item_id, timestamp"


def test_a_parquet_file_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user": [], "item": []}).write_parquet(path)
    assert refusal(path) == ": expected rows, got columns only"


def test_a_missing_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere.csv") == ": expected a file, found nothing there"
    assert refusal(tmp_path / "nowhere.txt") == ": expected a file, found nothing there"


def test_a_folder_instead_of_a_file(tmp_path: Path) -> None:
    assert refusal(tmp_path) == ": expected a file, got a folder"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER)
    path.chmod(0)
    assert "Permission denied" in refusal(path)


@pytest.mark.parametrize(
    ("header", "role"), [("who,item_id,timestamp", "user"), ("user_id,what,timestamp", "item"), ("a:token,b:float", "user")]
)
def test_a_missing_column_lists_what_was_found_and_what_was_looked_for(tmp_path: Path, header: str, role: str) -> None:
    message = refusal(write(tmp_path, header + "\n" + ",".join("123"[: header.count(",") + 1]) + "\n"))
    assert f": expected a {role} column, named by the caller or one of {role}id, {role}, " in message
    assert message.endswith(f"; found columns {header.replace(':token', '').replace(':float', '').replace(',', ', ')}")


@pytest.mark.parametrize("role", ["user", "item", "time"])
def test_a_named_column_that_is_not_there(tmp_path: Path, role: str) -> None:
    message = refusal(write(tmp_path, HEADER + "1,2,3\n"), **{role: "who"})
    assert message == f": expected a {role} column 'who', found columns user_id, item_id, timestamp"


@pytest.mark.parametrize(
    ("value", "shown"), [("soon", "'soon'"), ("", "nothing"), ("nan", "'nan'"), ("2014-02-30", "'2014-02-30'")]
)
def test_a_time_that_can_not_be_read_names_line_and_value(tmp_path: Path, value: str, shown: str) -> None:
    message = refusal(write(tmp_path, f"{HEADER}1,2,3\n\n1,3,{value}\n1,4,5\n"))
    assert message == f":4: timestamp: expected a number or an ISO date, got {shown} (1 such row)"


def test_a_bad_time_after_quoted_newlines_still_names_its_line(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, 'user,text,item,time\n1,"a\nb\n",2,3\n1,x,2,soon\n'))
    assert message.startswith(":5: time: ")


def test_a_bad_time_in_parquet_names_its_row(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user": [1, 2], "item": [1, 2], "time": ["2014-05-01", "later"]}).write_parquet(path)
    assert refusal(path) == ": row 2: time: expected a number or an ISO date, got 'later' (1 such row)"
    pl.DataFrame({"user": [1, 2], "item": [1, 2], "time": [1, None]}).write_parquet(path)
    assert refusal(path) == ": row 2: time: expected a number or an ISO date, got nothing (1 such row)"


@pytest.mark.parametrize("blank", ["", '""', " "])
@pytest.mark.parametrize(("row", "column"), [("{},2,3", "user_id"), ("1,{},3", "item_id")])
def test_an_id_that_is_nothing_names_its_line(tmp_path: Path, blank: str, row: str, column: str) -> None:
    message = refusal(write(tmp_path, f"{HEADER}1,2,3\n{row.format(blank)}\n{row.format(blank)}\n"))
    assert message == f":3: {column}: expected an id, got nothing (2 such rows)"


@pytest.mark.parametrize("values", [[1, None], [1.0, float("nan")], ["a", ""]])
def test_an_id_that_is_nothing_in_parquet_names_its_row(tmp_path: Path, values: list[object]) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user": values, "item": [1, 2]}).write_parquet(path)
    assert refusal(path) == ": row 2: user: expected an id, got nothing (1 such row)"


@pytest.mark.parametrize("values", [[1.5, 2.0], [[1], [2]], [True, False]])
def test_values_that_can_not_be_ids_name_their_type(tmp_path: Path, values: list[object]) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user": values, "item": [1, 2]}).write_parquet(path)
    assert ": user: expected ids that are strings or whole numbers, got " in refusal(path)


def test_text_that_is_not_utf8_names_line_and_byte(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER.encode() + b"1,2,3\ncaf\xe9,2,3\n")
    assert refusal(path) == ":3: expected UTF-8 text, got byte 0xe9 at offset 35"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_wide_text_is_not_utf8(tmp_path: Path, encoding: str) -> None:
    assert ":1: expected UTF-8 text, got byte 0x" in refusal(write(tmp_path, (HEADER + "1,2,3\n").encode(encoding)))


def test_sequences_that_are_not_utf8_are_refused_too(tmp_path: Path) -> None:
    assert refusal(write(tmp_path, b"1 2 3 4\n2 \xff\n", "s.txt")) == ":2: expected UTF-8 text, got byte 0xff at offset 10"


def test_a_user_without_items_in_sequences_names_the_line(tmp_path: Path) -> None:
    assert refusal(write(tmp_path, "1 2 3\n\n7\n", "s.txt")) == ":3: expected a user and items, got '7' alone"


@pytest.mark.parametrize(("row", "fields"), [("1,2", 2), ("1,2,3,4", 4), ("1", 1), ("   ", 1)])
def test_a_ragged_row_names_its_line(tmp_path: Path, row: str, fields: int) -> None:
    message = refusal(write(tmp_path, f"{HEADER}1,2,3\n{row}\n1,2,3\n"))
    assert message == f":3: expected 3 fields as in line 1, got {fields} (rows that don't fit: 1)"


def test_a_ragged_row_of_a_recbole_file_names_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "user_id:token\titem_id:token\n1\t2\n3\n", "log.inter")
    assert refusal(path) == ":3: expected 2 fields as in line 1, got 1 (rows that don't fit: 1)"


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ('a"b,2,3', "one inside a field"),
        ('"a"b,2,3', "one inside a field"),
        ('1,"2,3', "one that is never closed"),
    ],
)
def test_a_stray_quote_names_its_line(tmp_path: Path, row: str, what: str) -> None:
    message = refusal(write(tmp_path, f'{HEADER}"1",2,3\n{row}\n'))
    assert message == f':3: expected quotes (") only in pairs around whole fields, got {what}'


@pytest.mark.parametrize("kept", [3, 12, 30, -1])
def test_a_truncated_gzip(tmp_path: Path, kept: int) -> None:
    packed = gzip.compress((HEADER + "".join(f"{n},{n * 7 % 13},{n}\n" for n in range(200))).encode())
    assert ": expected a whole gzip file of " in refusal(write(tmp_path, packed[:kept], "log.csv.gz"))


def test_a_gzip_with_a_flipped_byte(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress((HEADER + "1,2,3\n" * 50).encode()))
    packed[-6] ^= 1  # in the checksum
    assert ": expected a whole gzip file of " in refusal(write(tmp_path, bytes(packed), "log.csv.gz"))


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_parquet(tmp_path: Path, share: float) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user": range(1000), "item": range(1000), "time": range(1000)}).write_parquet(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: max(4, int(len(whole) * share))])
    assert ": expected a whole Parquet file, got a damaged one: " in refusal(path)


def test_text_that_is_said_to_be_parquet(tmp_path: Path) -> None:
    assert ": expected a whole Parquet file, got a damaged one: " in refusal(write(tmp_path, HEADER), format="parquet")
