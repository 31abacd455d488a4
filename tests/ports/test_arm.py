"""The engine for 64-bit Arm on processors old and new, by qemu: `engine/tests/vectors.c` holds it to `tests/vectors`."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"
FOLDERS = {"sasrec": VECTORS, **{kind: VECTORS / kind for kind in ("caser", "gru4rec", "valves", "tail", "basis")}}
PROGRAM = ROOT / "build" / "arm" / "vectors"
QEMU = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
NO_SUCH_PATH = 3  # exit code
CPUS = [("cortex-a53", "neon"), ("neoverse-n1", "dotprod"), ("max", "i8mm")]

pytestmark = [
    pytest.mark.skipif(not PROGRAM.exists(), reason="not built: make engine-arm (aarch64-linux-gnu-gcc)"),
    pytest.mark.skipif(QEMU is None, reason="no qemu-aarch64 (Debian: qemu-user)"),
]


def run_vectors(folder: Path, cases: Path, cpu: str, *path: str) -> subprocess.CompletedProcess[str]:
    """Write the vectors as plain lines and run the program over them under qemu."""
    with (folder / "vectors.json").open() as told, cases.open("w") as lines:
        subprocess.run([sys.executable, ROOT / "engine" / "tests" / "plain_cases.py"], stdin=told, stdout=lines, check=True)
    command = [str(QEMU), "-cpu", cpu, str(PROGRAM), str(folder / "base"), str(cases), *path]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def assert_passes(run: subprocess.CompletedProcess[str], path: str) -> None:
    """Hold a run to all vectors passed on the path that was meant."""
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"vectors: {path}: " in run.stdout
    assert run.stdout.strip().endswith(" 0 failed")


@pytest.mark.parametrize("kind", sorted(FOLDERS))
@pytest.mark.parametrize(("cpu", "picked"), CPUS)
def test_every_vector_passes_on_what_a_processor_picks(kind: str, cpu: str, picked: str, tmp_path: Path) -> None:
    assert_passes(run_vectors(FOLDERS[kind], tmp_path / "cases.txt", cpu), picked)


@pytest.mark.parametrize(("cpu", "picked"), CPUS)
def test_wide_models_pass_too(cpu: str, picked: str, wide_vectors: Path, tmp_path: Path) -> None:
    assert_passes(run_vectors(wide_vectors, tmp_path / "cases.txt", cpu), picked)


def test_plain_c_passes_too(wide_vectors: Path, tmp_path: Path) -> None:
    assert_passes(run_vectors(wide_vectors, tmp_path / "cases.txt", "cortex-a53", "plain"), "plain")


def test_a_processor_without_dot_products_has_no_such_path(tmp_path: Path) -> None:
    assert run_vectors(VECTORS, tmp_path / "cases.txt", "cortex-a53", "dotprod").returncode == NO_SUCH_PATH
