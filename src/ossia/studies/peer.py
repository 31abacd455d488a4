"""Another library as a contestant: an environment of its own, and a process that trains an epoch when it is told to.

RecTools wants another numpy than ossia, so it can't be imported here. It gets a virtual environment in the cache, made once,
and runs `benchmarks/rectools_sasrec.py`, which reads words from a pipe and answers each with a line of JSON. Between two words
the process sleeps, so two contestants that are asked by turns never compete for the processor.

What crosses over is plain: histories as arrays in an .npz, settings as JSON, and back the vectors that scores are made of. So
the peer's figures come from our protocol and not from its own.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import numpy as np
from jaxtyping import Float32

import ossia
from ossia.data import Split
from ossia.data.datasets import default_cache
from ossia.errors import UsageError
from ossia.types import Candidates, History

PINS = ("rectools[torch]==0.19.0", "torch==2.13.0", "numpy==1.26.4", "pytorch-lightning==2.5.2")
"""What is installed; RecTools 0.19 asks for numpy below 2, and trains with the torch that ossia trains with."""

READY = "ossia-ready"  # a file that says the installation came to its end
DATA, SETTINGS = "data.npz", "settings.json"


def peer_script() -> Path:
    """Find the peer's program, which lies in a clone beside the package and not in a wheel.

    Returns:
        its path.

    Raises:
        UsageError: this is no clone.
    """
    path = Path(ossia.__file__).parents[2] / "benchmarks" / "rectools_sasrec.py"
    if not path.is_file():
        raise UsageError(f"{path}: expected the peer's program, which comes with a clone of the repository; found none")
    return path


def peer_python(folder: Path | None, say: Callable[[str], None]) -> Path:
    """Find the interpreter of the peer's environment; make the environment if there is none.

    Args:
        folder: a virtual environment, made here if it is not there; None: in the cache.
        say: told what takes long.

    Returns:
        the interpreter.

    Raises:
        UsageError: pip could not install the peer; says what pip said last.
    """
    folder = folder or default_cache() / "rectools-0.19.0"
    python = folder / "bin" / "python"
    if (folder / READY).exists() or (python.exists() and _can_import(python)):
        return python
    say(f"{folder}: installing {', '.join(PINS)}, once")
    _run([sys.executable, "-m", "venv", str(folder)])
    _run([str(python), "-m", "pip", "install", "--quiet", *PINS])
    (folder / READY).touch()
    return python


def write_task(folder: Path, split: Split, settings: dict[str, int | float | str]) -> None:
    """Write what the peer trains on and is asked about; nothing but arrays and numbers.

    Args:
        folder: the peer's; made if it is not there.
        split: the data. Histories of cases go over, their targets stay.
        settings: of the model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"train": split.train, "validation": split.validation.histories, "test": split.test.histories}
    arrays = {f"{name}_{field}": getattr(part, field) for name, part in parts.items() for field in ("items", "offsets")}
    np.savez(folder / DATA, **arrays)
    (folder / SETTINGS).write_bytes(msgspec.json.encode(settings))


class Peer:
    """The peer's process; a context manager that ends it.

    Args:
        command: what to run: interpreter, program, folder.
        threads: for its arithmetic.
        log: where what it says beside its answers goes.

    Attributes:
        hello: its first answer: what it had trained before it was interrupted, and its versions.
    """

    def __init__(self, command: Sequence[str], *, threads: int, log: Path) -> None:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        # What leads this process to ossia must not lead the peer to our numpy.
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=kept | dict.fromkeys(names, str(threads)),
                text=True,
            )
        self.hello = self._answer()

    def ask(self, word: str) -> dict[str, Any]:
        """Say a word, and wait for the answer.

        Args:
            word: `epoch`, `validation` or `test`.

        Returns:
            what the peer said.

        Raises:
            UsageError: it ended instead.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended; `_answer` says so
            self._process.stdin.write(word + "\n")
            self._process.stdin.flush()
        return self._answer()

    def __enter__(self) -> "Peer":
        """Return the peer."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End the process, also in the middle of an epoch: its last checkpoint is whole."""
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        """Read one line of JSON."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise UsageError(f"peer: expected an answer, but it ended with code {self._process.wait()}; see {self._log}")
        answer: dict[str, Any] = msgspec.json.decode(line)
        return answer


@dataclass(frozen=True, eq=False)
class VectorRanker:
    """Scores out of vectors that somebody else computed, case by case: states · vectors.

    Attributes:
        states: one per case.
        vectors: one per item of the catalog; a row of NaN for an item that the peer does not have.
    """

    states: Float32[np.ndarray, "cases dim"]
    vectors: Float32[np.ndarray, "items dim"]

    @classmethod
    def load(cls, path: Path) -> "VectorRanker":
        """Read what the peer wrote.

        Args:
            path: an .npz with states and vectors.

        Returns:
            the vectors.
        """
        with np.load(path, allow_pickle=False) as stored:
            return cls(stored["states"], stored["vectors"])

    def of(self, case: int) -> "OneState":
        """Make one case's ranker, for `ossia.evaluation.judge`.

        Args:
            case: its number.

        Returns:
            the ranker.
        """
        return OneState(self.states[case], self.vectors)


@dataclass(frozen=True, eq=False)
class OneState:
    """A ranker that knows one user's state already.

    Attributes:
        state: the user's.
        vectors: one per item.
    """

    state: Float32[np.ndarray, " dim"]
    vectors: Float32[np.ndarray, "items dim"]

    def scores(
        self,
        history: History,  # noqa: ARG002 the state knows it
        candidates: Candidates,
    ) -> Float32[np.ndarray, " candidates"]:
        """Score candidates.

        Args:
            history: does not matter.
            candidates: rows of the catalog.

        Returns:
            one score per candidate; −inf for items that the peer does not have.
        """
        scores = (self.vectors @ self.state)[candidates.items]
        return np.where(np.isnan(scores), np.float32(-np.inf), scores)


def _can_import(python: Path) -> bool:
    """Tell whether an environment that somebody else made has the peer."""
    return subprocess.run([str(python), "-c", "import rectools.models"], capture_output=True, check=False).returncode == 0


def _run(command: list[str]) -> None:
    """Run a step of the installation."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise UsageError(f"peer: expected to install {', '.join(PINS)}, got: {' '.join(last)}")
