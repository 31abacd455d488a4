"""The result goes to stdout, everything else to stderr."""

import json
from pathlib import Path

import pytest

from ossia.cli.output import answer, say, watch


def test_json_is_all_that_stands_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    say("working")
    answer({"path": Path("x"), "number": 2, "nothing": None}, ["for people"], as_json=True)
    out, err = capsys.readouterr()
    assert json.loads(out) == {"path": "x", "number": 2, "nothing": None}
    assert err == "working\n"


def test_people_get_their_lines_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    answer({}, ["a [bold]title[/bold] " + "x" * 200], as_json=False)
    assert capsys.readouterr().out == "a [bold]title[/bold] " + "x" * 200 + "\n"


def test_steps_pass_through_and_are_told_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(watch(iter([1, 2, 3]), 3, "count", lambda step: f"{step}" if step != 2 else None)) == [1, 2, 3]
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "count: 1\ncount: 3\n"
