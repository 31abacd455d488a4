"""One tiny house, built once by the command line itself: log → data → run → base → personalizer."""

import contextlib
import io
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ossia.cli import main

PROGRAM = "from ossia.cli import main; main()"
SHAPE = ["--set", "dim=16", "--set", "length=8", "--set", "hidden=32", "--set", "blocks=1"]


@dataclass(frozen=True)
class Said:
    """What one run of the command line left behind."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, object]:
        """The JSON object on stdout."""
        parsed: dict[str, object] = json.loads(self.out)
        return parsed


def run(*words: object) -> Said:
    """Run the command line in this process, with its streams caught."""
    out, err = io.StringIO(), io.StringIO()
    code: int | str | None = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(word) for word in words])
        except SystemExit as error:
            code = error.code
    assert isinstance(code, int) or code is None
    return Said(code or 0, out.getvalue(), err.getvalue())


def write_log(path: Path, users: int = 60, items: int = 50, events: int = 10) -> Path:
    """Write a CSV log of users who walk through the items, each from a place of their own."""
    lines = ["user_id,item_id,timestamp"]
    for user in range(users):
        start, step = 7 * user, 1 + user % 3
        lines += [f"u{user},i{(start + step * event) % items},{1000 * event + user}" for event in range(events)]
    path.write_text("\n".join(lines) + "\n")
    return path


@dataclass(frozen=True)
class House:
    """Paths of what was built, and what was said meanwhile."""

    folder: Path
    said: dict[str, Said]

    def __getattr__(self, name: str) -> Path:
        """Name a file or folder of the house: `house.base`."""
        return self.folder / name


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """The whole journey on a small synthetic log; the tests look at what it left."""
    folder = tmp_path_factory.mktemp("house")
    write_log(folder / "log.csv")
    (folder / "titles.csv").write_text("item_id,title\n" + "".join(f"i{item},Item {item}\n" for item in range(50)))
    (folder / "history").write_text("i1\ni2\ni3\ni4\n")
    (folder / "candidates").write_text(json.dumps([f"i{item}" for item in (40, 5, 20, 6, 33)] + ["nobody"]))
    steps: dict[str, tuple[object, ...]] = {
        "prepare": (folder / "log.csv", "--titles", folder / "titles.csv", "--out", folder / "data"),
        "train": (folder / "data", "--backbone", "sasrec", "--out", folder / "run", "--epochs", 3, *SHAPE),
        "publish": (folder / "run", "--out", folder / "base"),
    }
    said = {name: run(name, *words, "--json") for name, words in steps.items()}
    words = (folder / "data", "--base", folder / "base", "--personalizer", "chord", "--out", folder / "base", "--epochs", 1)
    said["personalizer"] = run("train", *words, "--json")
    for name, each in said.items():
        assert each.code == 0, f"{name}: {each.err}"
    return House(folder, said)


@pytest.fixture(scope="session")
def cli() -> Callable[..., Said]:
    """The command line."""
    return run


@contextlib.contextmanager
def serve(base: Path, data: Path, *options: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """Run `ossia serve` until the block ends; it is killed if it has not stopped by then."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["serve", str(base), "--data", str(data), "--port", str(port), *options]
    server = subprocess.Popen([sys.executable, "-c", PROGRAM, *words], stderr=subprocess.PIPE, text=True)
    try:
        wait_for(f"http://127.0.0.1:{port}", server)
        yield server, f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def wait_for(url: str, server: subprocess.Popen) -> None:
    for _ in range(600):
        assert server.poll() is None, server.stderr.read()
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the service did not begin within a minute")


@pytest.fixture(scope="session")
def serving() -> Callable[..., contextlib.AbstractContextManager[tuple[subprocess.Popen[str], str]]]:
    """`ossia serve` as a process."""
    return serve


@pytest.fixture(scope="session")
def program() -> list[str]:
    """The command line as a process: the words before its own."""
    return [sys.executable, "-c", PROGRAM]
