"""The README's journey runs, block by block, in order, in an empty folder.

Blocks marked ```console are typed into a shell: `$ ` begins a command, what follows must be its output, where `...` stands for
anything (a whole line of it, for any lines). Blocks marked ```python run in the same folder. The two make commands are the
README's only indented commands, and are not run: one of them runs this test.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
LIMIT_S = 300  # for one command, on a machine that does other things too
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """One thing to run, and the output it is to have; None: any."""

    program: list[str]
    expected: str | None


def commands(text: str) -> Iterator[Command]:
    """Find what a reader would run, in order."""
    for kind, body in BLOCK.findall(text):
        if kind == "python":
            yield Command([sys.executable, "-c", body], None)
            continue
        for typed in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
            line, _, expected = typed.partition("\n")
            yield Command(["bash", "-euo", "pipefail", "-c", line], expected)


def fits(expected: str, output: str) -> bool:
    """Tell whether an output is the expected one, `...` standing for anything and spaces at line ends for nothing."""
    pattern = ""
    for line in expected.splitlines():
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*?".join(re.escape(part) for part in line.rstrip().split("...")) + r"[ \t]*\n"
    return re.fullmatch(pattern, output if not output or output.endswith("\n") else output + "\n") is not None


@pytest.mark.skipif(os.environ.get("OSSIA_OFFLINE") == "1", reason="OSSIA_OFFLINE=1: ML-100K can't be fetched")
def test_the_journey_of_the_readme_runs_as_written(tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}
    found = list(commands(README.read_text("utf-8")))
    assert len(found) > 8, "the README lost its journey"
    for command in found:
        done = subprocess.run(
            command.program,
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, f"{command.program[-1]}\n{done.stderr}"
        if command.expected is not None:
            assert fits(command.expected, done.stdout), f"{command.program[-1]}\n{done.stdout}\ninstead of\n{command.expected}"


def test_every_command_of_the_journey_is_there() -> None:
    text = "\n".join(command.program[-1] for command in commands(README.read_text("utf-8")))
    for name in ("prepare", "train", "publish", "profile", "personalize", "rerank", "evaluate", "inspect"):
        assert f"ossia {name}" in text, f"the README does not show ossia {name}"
    assert not re.search("^make ", text, re.MULTILINE)


def test_every_path_the_readme_links_to_exists() -> None:
    prose = BLOCK.sub("", README.read_text("utf-8"))
    links = re.findall(r"\]\(([^)#:]+)\)|src=\"([^\":]+)\"", prose)
    assert links
    assert [link for pair in links for link in pair if link and not (README.parent / link).exists()] == []


@pytest.mark.parametrize(
    ("expected", "output", "same"),
    [
        ("a\n", "a\n", True),
        ("a\n", "a\nb\n", False),
        ("a\n...\n", "a\nb\nc\n", True),
        ("...\nb\n...\n", "a\nb\nc\n", True),
        ("...\nx\n...\n", "a\nb\nc\n", False),
        ("a ... c\n", "a 12 c\n", True),
        ("a ... c\n", "a 12 d\n", False),
        ("", "a\n", False),
    ],
)
def test_dots_stand_for_anything_and_nothing_else_does(expected: str, output: str, same: bool) -> None:
    assert fits(expected, output) is same


def test_console_blocks_are_cut_into_commands_with_their_output() -> None:
    text = "x\n```console\n$ one\n1\n2\n$ two\n```\n```python\nprint()\n```\n```\n$ three\n```\n"
    assert [(each.program[-1], each.expected) for each in commands(text)] == [
        ("one", "1\n2\n"),
        ("two", ""),
        ("print()\n", None),
    ]
