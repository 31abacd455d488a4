"""The engine for 64-bit Arm on processors old and new, by qemu: `engine/tests/vectors.c` holds it to `tests/vectors`."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"
FOLDERS = {"sasrec": VECTORS, "caser": VECTORS / "caser", "gru4rec": VECTORS / "gru4rec"}
PROGRAM = ROOT / "build" / "arm" / "vectors"
QEMU = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
UNSUPPORTED = 3  # exit code

pytestmark = [
    pytest.mark.skipif(not PROGRAM.exists(), reason="not built: make engine-arm (aarch64-linux-gnu-gcc)"),
    pytest.mark.skipif(QEMU is None, reason="no qemu-aarch64 (Debian: qemu-user)"),
]


def run_vectors(kind: str, cases: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Write the vectors as plain lines and run the program over them under qemu."""
    with (FOLDERS[kind] / "vectors.json").open() as told, cases.open("w") as lines:
        subprocess.run([sys.executable, ROOT / "engine" / "tests" / "plain_cases.py"], stdin=told, stdout=lines, check=True)
    cpu, *path = arguments
    command = [str(QEMU), "-cpu", cpu, str(PROGRAM), str(FOLDERS[kind] / "base"), str(cases), *path]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("kind", sorted(FOLDERS))
@pytest.mark.parametrize(
    ("cpu", "picked"), [("cortex-a53", "neon"), ("neoverse-n1", "dotprod"), ("max", "dotprod")], ids=lambda value: str(value)
)
def test_every_vector_passes_on_what_a_processor_picks(kind: str, cpu: str, picked: str, tmp_path: Path) -> None:
    run = run_vectors(kind, tmp_path / "cases.txt", cpu)
    if run.returncode == UNSUPPORTED:
        pytest.skip(run.stdout.strip())
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"vectors: {picked}: " in run.stdout
    assert run.stdout.strip().endswith(" 0 failed")


def test_plain_c_passes_too(tmp_path: Path) -> None:
    run = run_vectors("sasrec", tmp_path / "cases.txt", "cortex-a53", "plain")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "vectors: plain: " in run.stdout


def test_a_processor_without_dot_products_has_no_such_path(tmp_path: Path) -> None:
    run = run_vectors("sasrec", tmp_path / "cases.txt", "cortex-a53", "dotprod")
    assert run.returncode == UNSUPPORTED
