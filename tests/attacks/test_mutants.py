"""Short runs of the mutants and the kills; `mutants.py` and `kills.py` beside this file are the long ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from taking_out import without

pytest.importorskip("tuf")

from kills import kill_often
from mutants import exhaust, targets

from ossia.device import trust

HERE = Path(__file__).parent


def test_no_mutant_of_any_document_is_taken_for_something_else() -> None:
    # In a process of its own, without the checks of every shape on every call.
    run = subprocess.run(
        [sys.executable, str(HERE / "mutants.py"), "exhaustive", "--step", "47"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    *each, whole = map(json.loads, run.stdout.splitlines())
    assert {one["target"] for one in each if one["refused"] > 100} == set(targets())
    assert whole["mutants"] > 25_000


def test_the_mutants_find_a_check_that_is_missing() -> None:
    made = targets()
    with without("forged", [trust._check_signed]), pytest.raises(AssertionError, match="accepted"):
        exhaust(made["timestamp"], step=251)


@pytest.mark.parametrize("scene", ["publish", "follow", "commit", "commit, stateless"])
def test_what_is_killed_while_it_writes_leaves_the_old_or_the_new(scene: str) -> None:
    counted = kill_often(scene, 12)
    assert (counted["torn"], counted["lost"]) == (0, 0)


@pytest.mark.parametrize(("scene", "kills"), [("commit, written naively", 25), ("follow, written naively", 6)])
def test_the_kills_find_a_naive_writer(scene: str, kills: int) -> None:
    assert kill_often(scene, kills)["torn"] > 0
