"""The engine as WebAssembly, and the npm package around it, held to `tests/vectors` by the package's own tests in Node."""

import gzip
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "packages" / "browser"
MODULES = [PACKAGE / f"engine-{build}.wasm" for build in ("simd128", "relaxed")]

pytestmark = [
    pytest.mark.skipif(not all(module.exists() for module in MODULES), reason="not built: make engine-wasm (clang and lld)"),
    pytest.mark.skipif(shutil.which("node") is None, reason="no node"),
]


def run_node(*files: str, **environment: str) -> None:
    """Run tests of the package, all or some files, and see that there were some."""
    run = subprocess.run(
        ["node", "--test", "--test-reporter=tap", *files],
        cwd=PACKAGE,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    passed = re.search(r"^# pass (\d+)$", run.stdout, re.MULTILINE)
    assert passed is not None
    assert int(passed.group(1)) > 10, run.stdout


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_a_page_fetches_no_more_than_docs_ports_says(module: Path) -> None:
    assert len(gzip.compress(module.read_bytes(), 9)) <= 18_100


def test_the_package_passes_its_tests() -> None:
    run_node()


def test_wide_models_pass_too(wide_vectors: Path) -> None:
    run_node("test/vectors.test.js", OSSIA_VECTORS=str(wide_vectors))
