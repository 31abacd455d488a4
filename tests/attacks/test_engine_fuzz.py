"""A short run of the engine's fuzzer under the sanitizers; `make engine-fuzz RUNS=10000000` is the long one."""

import re
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
    assert re.search(r"2,7\d\d attempts, no fault found", done.stdout)  # as many for each base
    for kind in ("sasrec", "caser", "gru4rec"):
        assert f"{kind}, 64 wide" in done.stdout
    assert "tail, 8 wide" in done.stdout
