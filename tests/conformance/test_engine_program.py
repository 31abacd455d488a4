"""A program of C alone ranks like the runtime in Python, in less than a megabyte beyond the files that it maps."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ossia.adaptation import Adaptation, encode_payload
from ossia.device import engine as native
from ossia.types import Candidates

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    native.library() is None or shutil.which("cc") is None, reason="the engine is not built, or there is no C compiler"
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example program, beside the engine that Python uses."""
    made = tmp_path_factory.mktemp("rank") / "rank"
    engine = Path(str(native.library()._name))
    command = ["cc", "-std=c11", "-O1", f"-I{ROOT / 'engine/include'}", str(ROOT / "engine/examples/rank.c"), str(engine)]
    subprocess.run([*command, f"-Wl,-rpath,{engine.parent}", "-o", str(made)], check=True, timeout=120)
    return made


def run(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("kind", ["sasrec", "gru4rec", "caser"])
def test_it_ranks_like_the_runtime_in_python(program: Path, base_of, kind: str, tmp_path: Path) -> None:
    base, history = base_of(kind), np.array([4, 0, 11, 7], np.int32)
    adaptation = Adaptation(codes=np.arange(base.channels, dtype=np.uint8) % 4)
    (tmp_path / "payload").write_bytes(encode_payload(base, adaptation, issued=0, expiry=0))
    ranker = native.engine_ranker(base, adaptation)
    rows, scores = ranker.top(history, None, 5, unseen=True)
    done = run(program, "-p", tmp_path / "payload", "-k", 5, base.path, *history)
    assert done.returncode == 0, done.stderr
    shown = [line.split() for line in done.stdout.splitlines()]
    assert [int(row) for row, _ in shown] == rows.tolist()
    assert np.allclose([float(score) for _, score in shown], scores, rtol=1e-5)
    assert np.array_equal(ranker.scores(history, Candidates(rows)), scores)


def test_it_holds_less_than_a_megabyte_beyond_the_mapped_files(program: Path, make_base) -> None:
    base = make_base(items=50_000, dim=64, length=50, hidden=256)
    done = run(program, base.path, *range(50))
    found = re.search(r"in all (-?\d+) KB", done.stderr)
    assert found, done.stderr
    if found[1] == "-1":
        pytest.skip("this system has no /proc/self/smaps_rollup")
    assert 300 < int(found[1]) <= 1024, done.stderr


def test_it_says_what_is_wrong_with_a_base(program: Path, base, tmp_path: Path) -> None:
    broken = tmp_path / "BASE"
    shutil.copytree(base.path, broken)
    (broken / "table/plane8.safetensors").write_bytes(b"short")
    done = run(program, broken, 1)
    assert done.returncode == 1
    assert "digest" in done.stderr


def test_the_library_is_small() -> None:
    assert Path(str(native.library()._name)).stat().st_size <= 120 * 1024
