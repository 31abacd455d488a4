"""Item ids in files: what is read, and what is said of what can't be."""

from pathlib import Path

import numpy as np
import pytest

from ossia.adaptation import Base
from ossia.cli.ids import parse_device_id, parse_ids, read_listed
from ossia.errors import DataError, UsageError


def test_both_spellings_of_a_list_mean_the_same() -> None:
    assert parse_ids(b'["a", "7"]', "x") == parse_ids(b"a\r\n\n 7 \n", "x") == parse_ids(b'["a", 7]', "x") == ["a", "7"]


def test_an_empty_file_is_an_empty_list() -> None:
    assert parse_ids(b"", "x") == parse_ids(b"[]", "x") == []


@pytest.mark.parametrize("data", [b'["a", 1.5]', b'["a"', b'{"a": 1}', b'[["a"]]', b"[null]", b"\xff\xfe"])
def test_what_is_no_list_of_ids_is_refused_by_place(data: bytes) -> None:
    with pytest.raises(DataError, match=r"^history\.json: expected"):
        parse_ids(data, "history.json")


def test_an_unknown_id_keeps_its_place(base: Base, tmp_path: Path) -> None:
    (tmp_path / "h").write_text("item-3\nnobody\nitem-0\n")
    listed = read_listed(tmp_path / "h", base.table, "history")
    assert listed.rows.tolist() == [3, -1, 0]
    assert listed.unknown == ["nobody"]


def test_a_history_of_unknown_items_alone_is_refused(base: Base, tmp_path: Path) -> None:
    (tmp_path / "h").write_text("nobody\nnothing\n")
    with pytest.raises(DataError, match=r"h: expected a history of items that the base knows.*nobody, nothing"):
        read_listed(tmp_path / "h", base.table, "history")


def test_an_empty_history_is_a_history(base: Base, tmp_path: Path) -> None:
    (tmp_path / "h").write_text("[]")
    assert np.array_equal(read_listed(tmp_path / "h", base.table, "history").rows, [])


@pytest.mark.parametrize("text", ["", "00", "zz" * 16, "0" * 31, "0" * 34])
def test_a_device_id_has_sixteen_bytes(text: str) -> None:
    with pytest.raises(UsageError, match="32 hexadecimal digits"):
        parse_device_id(text)
    assert parse_device_id("0f" * 16) == b"\x0f" * 16
