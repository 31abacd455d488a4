"""A short run of the engine's fuzzer under the sanitizers; `make engine-fuzz RUNS=10000000` is the long one."""

import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[2] / "engine" / "tests" / "fuzz.py"


def test_the_engine_survives_damaged_bases_payloads_weights_and_calls() -> None:
    done = subprocess.run([sys.executable, str(FUZZ), "2700"], capture_output=True, text=True, timeout=600, check=False)
    if done.returncode == 77:
        pytest.skip("no C compiler with the address and undefined-behavior sanitizers")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2,700 attempts, no fault found" in done.stdout
    for kind in ("sasrec", "caser", "gru4rec"):
        assert f"{kind}, 64 wide" in done.stdout
    assert "tail, 8 wide" in done.stdout
