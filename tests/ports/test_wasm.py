"""The engine as WebAssembly, and the npm package around it, held to `tests/vectors` by the package's own tests in Node."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "packages" / "browser"
MODULES = [PACKAGE / f"engine-{build}.wasm" for build in ("simd128", "relaxed")]
LIMIT = 15_000  # bytes, gzipped


@pytest.mark.skipif(not all(module.exists() for module in MODULES), reason="not built: make engine-wasm (clang and lld)")
@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
def test_the_package_passes_its_tests_in_node() -> None:
    run = subprocess.run(["node", "--test", "--test-reporter=tap"], cwd=PACKAGE, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    passed = re.search(r"^# pass (\d+)$", run.stdout, re.MULTILINE)
    assert passed is not None
    assert int(passed.group(1)) > 0, run.stdout
