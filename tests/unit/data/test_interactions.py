import gzip
from pathlib import Path

import polars as pl
import pytest

from ossia.data.interactions import read_log
from ossia.errors import DataError, UsageError

ROWS = [("u1", "007", 3), ("u2", "8", 1), ("u1", "8", 2)]


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def rows(log: pl.DataFrame) -> list[tuple[object, ...]]:
    return log.select("user", "item", "time").rows()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("log.csv", "user_id,item_id,timestamp\nu1,007,3\nu2,8,1\nu1,8,2\n"),
        ("semicolons.csv", "timestamp;asin;reviewerID\n3;007;u1\n1;8;u2\n2;8;u1"),
        ("log.tsv", "userId\tmovieId\trating\ttimestamp\nu1\t007\t5\t3\nu2\t8\t5\t1\nu1\t8\t5\t2\n"),
        ("log.inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float\nu1\t007\t5\t3\nu2\t8\t5\t1\nu1\t8\t5\t2\n"),
        ("windows.csv", "\ufeffUser Id,Item-ID,time\r\nu1,007,3\r\n\r\nu2,8,1\r\nu1,8,2\r\n\r\n"),
        ("quoted.csv", '"user","text","item","time"\nu1,"a, ""b""\nc",007,3\nu2,,"8",1\n"u1",x,8,2'),
        ("packed.csv.gz", "user,item,time\nu1,007,3\nu2,8,1\nu1,8,2\n"),
        ("misnamed.data", "user|item|time\nu1|007|3\nu2|8|1\nu1|8|2\n"),
    ],
)
def test_every_layout_of_text_gives_the_same_log(tmp_path: Path, name: str, text: str) -> None:
    log = read_log(write(tmp_path, name, text))
    assert rows(log) == ROWS
    assert log["row"].to_list() == [0, 1, 2]
    assert log.schema == {"user": pl.String, "item": pl.String, "time": pl.Int64, "row": pl.Int64}


def test_parquet_gives_the_same_log_whatever_its_types(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user": ["u1", "u2", "u1"], "asin": ["007", "8", "8"], "date": [3.0, 1.0, 2.0], "text": ["", "", ""]})
    frame.with_columns(pl.col("user").cast(pl.Categorical)).write_parquet(tmp_path / "log.parquet")
    assert rows(read_log(tmp_path / "log.parquet")) == ROWS


def test_whole_numbers_that_became_floats_are_ids_without_a_point(tmp_path: Path) -> None:
    pl.DataFrame({"user": [1.0, 2.0], "item": [7, 8], "time": [1, 2]}).write_parquet(tmp_path / "log.parquet")
    assert rows(read_log(tmp_path / "log.parquet")) == [("1", "7", 1), ("2", "8", 2)]


def test_columns_named_by_the_caller_win_over_those_recognised(tmp_path: Path) -> None:
    path = write(tmp_path, "log.csv", "user,item,time,who,what,when\na,b,1,u1,007,3\na,b,1,u2,8,1\na,b,1,u1,8,2\n")
    assert rows(read_log(path, user="who", item="what", time="when")) == ROWS


def test_a_particular_name_wins_over_a_vague_one(tmp_path: Path) -> None:
    path = write(tmp_path, "log.csv", "user,user_id,date,timestamp,item\nAnn,u1,May,3,007\nBob,u2,May,1,8\nAnn,u1,May,2,8\n")
    assert rows(read_log(path)) == ROWS


def test_a_log_without_times_is_in_the_order_of_its_file(tmp_path: Path) -> None:
    log = read_log(write(tmp_path, "log.csv", "user,item\nu1,b\nu1,a\n"))
    assert log.columns == ["user", "item", "row"]
    assert log["item"].to_list() == ["b", "a"]


def test_four_columns_of_numbers_need_no_header(tmp_path: Path) -> None:
    log = read_log(write(tmp_path, "u.data", "196\t242\t3\t881250949\n186\t302\t3\t891717742\n"))
    assert rows(log) == [("196", "242", 881250949), ("186", "302", 891717742)]


def test_other_headless_columns_are_named_by_number(tmp_path: Path) -> None:
    path = write(tmp_path, "log.csv", "3,1,7\n4,1,8\n")
    assert rows(read_log(path, user="column_2", item="column_3", time="column_1")) == [("1", "7", 3), ("1", "8", 4)]
    with pytest.raises(DataError, match=r"expected a user column.*found columns column_1, column_2, column_3"):
        read_log(path)


def test_the_caller_can_say_that_there_is_no_header(tmp_path: Path) -> None:
    path = write(tmp_path, "ratings.csv", "A3,B00,5.0,1\nA4,B01,1.0,2\n")
    assert rows(read_log(path, header=False)) == [("A3", "B00", 1), ("A4", "B01", 2)]


def test_a_hash_sign_and_the_word_null_are_ordinary_ids(tmp_path: Path) -> None:
    log = read_log(write(tmp_path, "log.csv", "user,item,time\n#1,null,1\nNA,nan,2\n"))
    assert rows(log) == [("#1", "null", 1), ("NA", "nan", 2)]


def test_quotes_in_a_tab_separated_file_are_ordinary_characters(tmp_path: Path) -> None:
    log = read_log(write(tmp_path, "log.tsv", 'user\titem\ttime\nu"1\t"7\t1\n'))
    assert rows(log) == [('u"1', '"7', 1)]


def test_the_format_can_be_forced(tmp_path: Path) -> None:
    path = write(tmp_path, "log", "user,item\tx,time\na,b\tx,1\n")
    assert read_log(path, format="csv", item="item\tx").rows() == [("a", "b\tx", 1, 0)]
    with pytest.raises(UsageError, match="format: expected one of auto, csv"):
        read_log(path, format="xml")


def test_one_column_can_not_be_two_things(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected different columns"):
        read_log(write(tmp_path, "log.csv", "user,item\n1,2\n"), item="user")


def test_sequences_are_one_line_a_user_oldest_first(tmp_path: Path) -> None:
    log = read_log(write(tmp_path, "Beauty.txt.gz", "1 10 11 10\n\n2  12 \r\n1 13\n"))
    assert log.rows() == [("1", "10", 0), ("1", "11", 1), ("1", "10", 2), ("2", "12", 3), ("1", "13", 4)]
    assert log.columns == ["user", "item", "row"]


def test_sequences_of_words_need_the_format_named(tmp_path: Path) -> None:
    path = write(tmp_path, "plays.txt", "ann x y\nbob z\n")
    assert read_log(path, format="sequences")["item"].to_list() == ["x", "y", "z"]
    with pytest.raises(DataError, match="expected a user column"):
        read_log(path)


@pytest.mark.parametrize("line", ["1 2 3\n4 5 6\n", "1 2 5 881\n4 5 3 882\n"])
def test_lines_that_could_be_a_table_are_not_guessed_to_be_sequences(tmp_path: Path, line: str) -> None:
    path = write(tmp_path, "log.txt", line)
    with pytest.raises(DataError, match="name the format 'sequences'"):
        read_log(path)
    assert read_log(path, format="sequences").height == line.count(" ")


def test_a_table_in_a_txt_file_is_still_a_table(tmp_path: Path) -> None:
    assert rows(read_log(write(tmp_path, "log.txt", "user\titem\ttime\nu1\t007\t3\nu2\t8\t1\nu1\t8\t2\n"))) == ROWS
    assert rows(read_log(write(tmp_path, "n.txt", "1,2,5,3\n"))) == [("1", "2", 3)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pairs.txt", "1 10\n1 11\n2 10\n"),
        ("pairs.dat", "1 10\n1 11\n2 10\n"),
        ("pairs.tsv", "1\t10\n1\t11\n2\t10\n"),
        ("pairs.csv.gz", "1,10\r\n1,11\r\n2,10\r\n"),
    ],
)
def test_pairs_of_numbers_are_user_and_item_whatever_is_between_them(tmp_path: Path, name: str, text: str) -> None:
    assert read_log(write(tmp_path, name, text)).rows() == [("1", "10", 0), ("1", "11", 1), ("2", "10", 2)]


def test_pairs_of_words_need_the_format_named_and_a_longer_line_is_told_of(tmp_path: Path) -> None:
    path = write(tmp_path, "pairs.txt", "ann x\n\nbob  y\n")
    assert read_log(path, format="pairs").rows() == [("ann", "x", 0), ("bob", "y", 1)]
    with pytest.raises(DataError, match=r"pairs\.txt:2: expected a user and one item, got 3 words"):
        read_log(write(tmp_path, "pairs.txt", "ann x\nbob y z\n"), format="pairs")


def test_a_value_is_read_only_if_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, "log.csv", "user,item,rating,time\na,x,4.5,1\nb,y,soon,2\n")
    assert "value" not in read_log(path).columns
    with pytest.raises(DataError, match=r"log\.csv:3: rating: expected a number, got 'soon' \(1 such row\)"):
        read_log(path, value="auto")
    path = write(tmp_path, "u.data", "1\t2\t5\t881\n1\t3\t2\t882\n")
    assert read_log(path, value="auto").select("value", "time").rows() == [(5.0, 881), (2.0, 882)]


@pytest.mark.parametrize(("value", "shown"), [("", "nothing"), ("nan", "'nan'"), ("four", "'four'")])
def test_a_value_that_is_no_number_names_its_line(tmp_path: Path, value: str, shown: str) -> None:
    path = write(tmp_path, "log.csv", f"user,item,stars\na,x,1\nb,y,{value}\n")
    with pytest.raises(DataError, match=rf"log\.csv:3: stars: expected a number, got {shown} \(1 such row\)"):
        read_log(path, value="stars")


def test_a_log_without_a_value_column_says_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"expected a value column, named by the caller or one of rating, .*; found columns user"
    ):
        read_log(write(tmp_path, "log.csv", "user,item,time\na,x,1\n"), value="auto")
    with pytest.raises(DataError, match="expected a value column, got sequences, which have none"):
        read_log(write(tmp_path, "s.txt", "1 2 3\n"), format="sequences", value="auto")


def test_several_files_are_one_log_in_the_order_given(tmp_path: Path) -> None:
    one = write(tmp_path, "1.csv", "user,item,time\nu1,007,3\n")
    two = write(tmp_path, "2.csv.gz", "time,item,user\n1.5,8,u2\n2,8,u1\n")
    log = read_log([one, two])
    assert log.rows() == [("u1", "007", 3.0, 0), ("u2", "8", 1.5, 1), ("u1", "8", 2.0, 2)]
    assert read_log([two, one])["user"].to_list() == ["u2", "u1", "u1"]
    assert read_log([one]).rows() == read_log(one).rows()


def test_several_sequence_files_are_one_log(tmp_path: Path) -> None:
    one, two = write(tmp_path, "1.txt", "1 10 11\n"), write(tmp_path, "2.txt", "1 12\n2 10 10 10 10\n")
    assert read_log([one, two])["item"].to_list() == ["10", "11", "12", "10", "10", "10", "10"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user,item,when\na,x,1\n", "expected columns user, item, time as in .*1.csv, got columns user, item"),
        ("user,asin,time\na,x,1\n", "expected columns user, item, time as in .*1.csv, got columns user, asin, time"),
        ("user,item,time\na,x,2020-01-01\n", "time: expected numbers as in .*1.csv, got dates"),
    ],
)
def test_a_file_that_does_not_fit_the_first_is_named(tmp_path: Path, text: str, message: str) -> None:
    one, two = write(tmp_path, "1.csv", "user,item,time\na,x,1\n"), write(tmp_path, "2.csv", text)
    with pytest.raises(DataError, match=rf"2\.csv: {message}"):
        read_log([one, two])


def test_no_files_are_no_log() -> None:
    with pytest.raises(UsageError, match="expected at least one file or frame, got an empty list"):
        read_log([])
