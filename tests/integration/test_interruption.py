"""Ctrl-C: what was done is saved, it is said how to go on, and the same command goes on there."""

import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

SMALL = ("--set", "dim=8", "--set", "length=6", "--set", "hidden=8", "--set", "blocks=1", "--set", "patience=100000")


def train_until(epoch: int, *words: str) -> tuple[int, list[str]]:
    """Train in another process, interrupt it once `epoch` was told of; return its exit code and what it said."""
    command = [sys.executable, "-c", "from ossia.cli import main; main()", "train", *words]
    # A suite that a shell put into the background ignores SIGINT, and whom it starts would ignore it too.
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=listening)
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line.strip())
        if f"epoch {epoch}:" in line:
            process.send_signal(signal.SIGINT)
            break
    said += [line.strip() for line in process.stderr]
    return process.wait(timeout=60), said


def saved_at(said: list[str]) -> int:
    """Read the number out of the last word of an interrupted training."""
    assert said[-1].endswith("; run again to resume"), said
    return int(said[-1].partition("saved at epoch ")[2].partition(";")[0])


def test_an_interrupted_training_says_so_and_goes_on_with_the_next_epoch(house, cli: Callable, tmp_path: Path) -> None:
    words = (str(house.data), "--out", str(tmp_path / "run"), "--epochs", "100000", *SMALL)
    code, said = train_until(1, *words)
    assert code == 130, said
    saved = saved_at(said)
    assert saved >= 1

    code, said = train_until(saved + 3, *words)
    assert code == 130, said
    # The signal may have come between the saving of an epoch and the telling of it.
    assert f"epoch {saved + 1}:" in said[0] or f"epoch {saved + 2}:" in said[0]
    history = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    assert len(history) in (saved_at(said) + 1, saved_at(said) + 2)

    assert cli("train", *words, "--seed", 1).code == 2, "a run goes on with its own settings, or not at all"
    assert (tmp_path / "run" / "history.jsonl").read_text().splitlines() == history


def test_a_run_that_was_finished_is_not_trained_again(house, cli: Callable) -> None:
    before = (house.run / "checkpoint.safetensors").read_bytes()
    recipe = house.said["train"].result["recipe"]
    shape = [part for name in ("dim", "length", "hidden", "blocks") for part in ("--set", f"{name}={recipe[name]}")]
    said = cli("train", house.data, "--out", house.run, "--epochs", 3, *shape, "--json")
    assert said.code == 0, said.err
    assert said.err == ""
    assert said.result["best"] == house.said["train"].result["best"]
    assert (house.run / "checkpoint.safetensors").read_bytes() == before
