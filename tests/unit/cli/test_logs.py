"""The command `prepare`, as typed."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ossia.cli.app import app
from ossia.data import Dataset
from ossia.errors import DataError, UsageError

LOG = "user,item,rating,time\n" + "".join(f"u{u},i{(u + n) % 4},{n + 1},{n}\n" for u in range(4) for n in range(4))


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "log.csv").write_text(LOG)
    return tmp_path / "log.csv"


def test_several_logs_are_read_in_order_and_all_are_named(log: Path, tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text("user,item,rating,time\nu9,i0,5,1\nu9,i1,5,2\nu9,i2,5,3\n")
    run("prepare", log, tmp_path / "more.csv", "--min-user", 1, "--min-item", 1, "--out", tmp_path / "data")
    data = Dataset.load(tmp_path / "data")
    assert data.user_ids[-1] == "u9"
    assert data.info.source["path"] == f"{log}, {tmp_path / 'more.csv'}"
    assert len(data.info.source["sha256"]) == 130


def test_values_and_repeats_are_filtered_and_told(log: Path, tmp_path: Path) -> None:
    log.write_text(LOG + "u0,i1,5,9\n")
    options = ("--min-user", 1, "--min-item", 1, "--min-value", 2, "--repeats", "last", "--out", tmp_path / "data")
    told = run("prepare", log, *options)
    assert "(0 duplicates, 4 events of value below 2, 1 repeat dropped)" in told
    assert Dataset.load(tmp_path / "data").info.after.events == 12
    again = json.loads(run("prepare", log, *options, "--value", "rating", "--replace", "--json"))
    assert (again["info"]["below_value"], again["info"]["repeats"]) == (4, "last")


def test_what_can_not_be_read_is_named(log: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: expected a file or one of ml-100k, ml-1m, found neither"):
        run("prepare", log, "nowhere", "--out", tmp_path / "data")
    with pytest.raises(UsageError, match="ml-100k: expected a data set's name alone"):
        run("prepare", log, "ml-100k", "--out", tmp_path / "data")
    log.write_text("user,item\na,b\n")
    with pytest.raises(DataError, match="expected a value column"):
        run("prepare", log, "--min-value", 3, "--out", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_split_by_time_is_chosen_when_data_are_prepared_and_told(log: Path, tmp_path: Path) -> None:
    log.write_text("user,item,time\n" + "".join(f"u{n % 5},i{n % 7},{n}\n" for n in range(100)))
    told = run("prepare", log, "--split", "global-time", "--held-out", 0.2, "--min-user", 1, "--out", tmp_path / "data")
    assert "split    global-time at 59 and 79: 5 questions for validation, 5 for test (0.0% of them" in told
    data = Dataset.load(tmp_path / "data")
    assert data.times is not None
    assert data.times[np.isin(data.histories.users, data.split().test.users)].max() == 99
    assert len(data.split().train.items) == 60


def test_describe_tells_a_log_as_text_as_json_and_as_a_page(log: Path, tmp_path: Path) -> None:
    log.write_text("user,item,time\n" + "".join(f"u{n % 20},i{(n // 20 + n) % 9},{1_500_000_000 + n}\n" for n in range(300)))
    run("prepare", log, "--min-user", 1, "--out", tmp_path / "data")
    told = run("describe", tmp_path / "data", "--html", tmp_path / "log.html")
    assert "20 users, 9 items, 300 events" in told
    assert "time     2017-07-14 … 2017-07-14" in told
    assert "bigram, shuffled" in told
    assert "against shuffled copies" in (tmp_path / "log.html").read_text()
    found = json.loads(run("describe", tmp_path / "data", "--json"))
    assert found["log"]["events"] == 300
    assert [row["name"] for row in found["order"]["rows"]] == ["popularity", "bigram", "bigram, shuffled"]
