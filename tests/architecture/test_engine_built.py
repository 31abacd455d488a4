"""Where there is a C compiler, `pip install` leaves an engine behind; where there is none, everything works without."""

import os
import shutil
import subprocess
import sys

import pytest

from ossia.device.engine import library

WITHOUT = """
import sys
from pathlib import Path
from ossia.adaptation import Base
from ossia.device import DeviceRanker, open_session
from ossia.device.runtimes import choose_runtime
from ossia.errors import UsageError

assert isinstance(open_session(Base.load(Path(sys.argv[1]))).plain.ranker, DeviceRanker)
try:
    choose_runtime("engine")
except UsageError as error:
    print(error)
"""


@pytest.mark.skipif(
    os.environ.get("OSSIA_EXPECT_ENGINE") != "1" or shutil.which("cc") is None,
    reason="only `make test` promises an engine, and only where there is a C compiler",
)
def test_the_installation_compiled_the_engine() -> None:
    assert library() is not None, "`pip install` did not compile engine/: see its messages with `pip install -v .`"


def test_without_an_engine_numpy_does_the_work_and_says_so(base) -> None:
    nowhere = os.environ | {"OSSIA_ENGINE": os.devnull + "/nowhere"}
    command = [sys.executable, "-c", WITHOUT, str(base.path)]
    done = subprocess.run(command, env=nowhere, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "no C compiler" in done.stdout
    assert "numpy" in done.stdout
