"""The house keeps its shape: rooms import downward, files stay short, no drawer collects what has no name."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGEST = 400
DRAWERS = {"utils", "util", "common", "helpers", "helper", "core", "misc", "manager", "managers"}
CODE = sorted(path for room in ("src", "tests", "examples", "benchmarks", "engine") for path in (ROOT / room).rglob("*.*"))


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the import contract on the package `ossia` that lies in `folder`, by the settings of pyproject.toml."""
    program = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    command = [sys.executable, "-c", program, "--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def house(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "src" / "ossia", tmp_path / "ossia", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_every_room_imports_only_from_rows_below(house: Path) -> None:
    done = lint_imports(house)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("room", "line", "contract"),
    [
        ("quantization", "import ossia.adaptation", "one direction"),
        ("service", "import ossia.training", "one direction"),
        ("device", "import torch", "torch lives"),
    ],
)
def test_the_import_contract_can_fail(house: Path, room: str, line: str, contract: str) -> None:
    (house / "ossia" / room / "wrong.py").write_text(f"{line}\n")
    done = lint_imports(house)
    assert done.returncode != 0
    assert re.search(rf"{contract}.*BROKEN", done.stdout), done.stdout


@pytest.mark.parametrize(
    "path", [path for path in CODE if path.suffix in (".py", ".c", ".h")], ids=lambda path: str(path.relative_to(ROOT))
)
def test_no_file_is_longer_than_a_reader_follows(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= LONGEST


def test_no_room_or_module_is_a_drawer() -> None:
    names = {path: set(path.relative_to(ROOT).with_suffix("").parts) for path in CODE if path.suffix in (".py", ".c", ".h")}
    assert [str(path) for path, parts in names.items() if parts & DRAWERS] == []


def test_the_house_has_two_levels_and_no_third() -> None:
    deep = [path for path in (ROOT / "src" / "ossia").rglob("*.py") if len(path.relative_to(ROOT / "src" / "ossia").parts) > 2]
    assert deep == []


def test_nothing_is_pickled() -> None:
    pattern = re.compile(
        r"^\s*(import|from) (pickle|dill|cloudpickle|joblib|shelve)\b|torch\.(load|save)\(|allow_pickle=True", re.MULTILINE
    )
    assert [str(path) for path in (ROOT / "src").rglob("*.py") if pattern.search(path.read_text("utf-8"))] == []


def test_no_module_turns_its_annotations_into_strings() -> None:
    sources = (ROOT / "src").rglob("*.py")
    assert [str(path) for path in sources if "from __future__ import annotations" in path.read_text("utf-8")] == []
