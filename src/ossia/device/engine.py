"""The C engine as a runtime: `engine/` compiled by `pip install`, called through ctypes.

    model    = open(files of the base)          once per base; the files are mapped, not read
    weights  = fold(model, payload)             once per adaptation, in a block of memory without pointers
    scratch                                     one per ranker and thread

The engine reads the same files and the same payloads as every port does, so an adaptation crosses this border as the bytes of
its payload. Arithmetic is that of `numpy_int8`: panels and integer sums to the bit, floats within a tolerance.

Where no C compiler was there when ossia was installed, `library()` is None and the numpy runtimes do the work.
"""

import ctypes
import mmap
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Float32, Int, Int32, UInt8

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.base import Base
from ossia.adaptation.manifests import BaseManifest, read_manifest
from ossia.adaptation.payload import encode_payload
from ossia.errors import ArtifactError, PayloadError, UsageError
from ossia.quantization.grid import Panel
from ossia.types import Candidates, History, Slot

ALIGN: Final = 64
TRUSTED, UNSIGNED, UNSEEN, WHOLE = 1, 2, 8, 16  # flags of ossia.h
MEMORY, UNSUPPORTED, FIRST_OF_PAYLOAD = 2, 6, 10  # errors of ossia.h
Memory: TypeAlias = UInt8[np.ndarray, " bytes"]
Ask: TypeAlias = Callable[[ctypes.c_void_p | None, object], int]
"""Fills memory of a size; without memory only says the size."""


class Shape(ctypes.Structure):
    """`ossia_shape`."""

    _fields_ = tuple(
        (name, ctypes.c_uint32) for name in ("items", "dim", "length", "blocks", "heads", "hidden", "gates", "channels")
    )


class File(ctypes.Structure):
    """`ossia_file`."""

    _fields_ = (("name", ctypes.c_char_p), ("data", ctypes.c_void_p), ("size", ctypes.c_size_t))


_pointer, _size, _flags, _text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_char_p
_ranker, _history, _candidates = (_pointer, _pointer, _pointer), (_pointer, _size), (_pointer, _size)
FUNCTIONS: Final[dict[str, tuple[type, tuple[type, ...]]]] = {
    "ossia_error": (_text, (_flags,)),
    "ossia_path": (_text, (_text,)),
    "ossia_open": (_flags, (_pointer, _size, _flags, _pointer, _pointer)),
    "ossia_shape_of": (_flags, (_pointer, _pointer)),
    "ossia_fold": (_flags, (_pointer, _text, _size, _flags, _pointer, _pointer)),
    "ossia_slot": (_flags, (_pointer, _pointer, ctypes.c_uint32, _pointer, _pointer)),
    "ossia_row": (_flags, (_pointer, _pointer, ctypes.c_uint32, _pointer, _pointer)),
    "ossia_prepare": (_flags, (_pointer, _pointer, _pointer)),
    "ossia_encode": (_flags, (*_ranker, *_history, _pointer)),
    "ossia_score": (_flags, (*_ranker, *_history, *_candidates, _pointer, _pointer)),
    "ossia_top": (_flags, (*_ranker, *_history, *_candidates, _flags, _size, _pointer, _pointer, _pointer)),
}
"""What of `ossia.h` is called here: what it answers, and what it takes."""


@cache
def library() -> ctypes.CDLL | None:
    """Return the compiled engine, or None where it was not built; `OSSIA_ENGINE` names another one, or none at all."""
    named = os.environ.get("OSSIA_ENGINE")
    built = [Path(named)] if named else sorted(Path(__file__).parent.glob("_engine*.so"))
    if not built or not built[0].is_file():
        return None
    loaded = ctypes.CDLL(str(built[0]))
    for name, (answers, takes) in FUNCTIONS.items():
        getattr(loaded, name).restype = answers
        getattr(loaded, name).argtypes = takes
    return loaded


def path(name: str | None = None) -> str:
    """Tell which arithmetic runs, or pick one: `vnni`, `avx2`, `plain`, ….

    Args:
        name: which to pick, for tests and measurements; None: leave it as it is.

    Returns:
        the one that runs from now on.

    Raises:
        UsageError: this build or this processor has none of that name.
    """
    chosen: bytes | None = _library().ossia_path(None if name is None else name.encode())
    if chosen is None:
        raise UsageError(f"path: expected one that this processor runs, got {name!r}")
    return chosen.decode()


@dataclass(frozen=True, eq=False)
class Model:
    """An opened base: the model's memory, and the mapped files that it points into."""

    memory: Memory
    shape: Shape
    slots: Sequence[Slot]
    files: Sequence[np.ndarray] = field(repr=False)


@dataclass(frozen=True, eq=False)
class EngineRanker:
    """A folded payload, ready to rank; answers like `DeviceRanker`.

    Attributes:
        model: the opened base.
        memory: the folded weights.
    """

    model: Model
    memory: Memory
    _scratch: threading.local = field(default_factory=threading.local, repr=False)

    def state(self, history: History) -> Float32[np.ndarray, " dim"]:
        """Encode a history.

        Args:
            history: item rows, oldest first; unknown items are skipped, then the newest `length` are read.

        Returns:
            the user state; zeros if nothing in the history is known.
        """
        events, state = _rows(history), np.empty(self.model.shape.dim, np.float32)
        _check(_library().ossia_encode(*self._call(), _at(events), len(events), _at(state)), "history")
        return state

    def scores(self, history: History, candidates: Candidates) -> Float32[np.ndarray, " candidates"]:
        """Score candidates for a history.

        Args:
            history: item rows, oldest first; unknown items are skipped, then the newest `length` are read.
            candidates: item rows, with or without vectors.

        Returns:
            one score a candidate, higher is better; −inf for a row that is not here, or a product that is not finite.

        Raises:
            UsageError: vectors that are not one row of `dim` numbers per candidate.
        """
        events, items, vectors = _rows(history), _rows(candidates.items), candidates.vectors
        expected = (len(items), self.model.shape.dim)
        if vectors is not None and vectors.shape != expected:
            raise UsageError(f"candidates: expected vectors of shape {expected}, got {vectors.shape}")
        beside = None if vectors is None else np.ascontiguousarray(vectors)
        scores = np.empty(len(items), np.float32)
        answer = _library().ossia_score(
            *self._call(), _at(events), len(events), _at(items), len(items), _at(beside), _at(scores)
        )  # fmt: skip
        _check(answer, "candidates")
        return scores

    def top(
        self, history: History, candidates: Int[np.ndarray, " candidates"] | None, k: int, *, unseen: bool = False
    ) -> tuple[Int32[np.ndarray, " shown"], Float32[np.ndarray, " shown"]]:
        """Find the k best candidates, or of all rows that the device holds, without a score for each of them.

        Args:
            history: item rows, oldest first.
            candidates: item rows; None: all rows that can be scored.
            k: how many, at least 0.
            unseen: leave out the items of the history.

        Returns:
            places in the list of candidates (without a list: rows), best first, and their scores.

        Raises:
            UsageError: k below 0.
        """
        if k < 0:
            raise UsageError(f"k: expected 0 or more, got {k}")
        events, items = _rows(history), None if candidates is None else _rows(candidates)
        count = 0 if items is None else len(items)
        k = min(k, self.model.shape.items if items is None else count)
        positions, scores, shown = np.empty(k, np.int32), np.empty(k, np.float32), ctypes.c_size_t()
        answer = _library().ossia_top(
            *self._call(), _at(events), len(events), _at(items), count, UNSEEN if unseen else 0,
            k, _at(positions), _at(scores), ctypes.byref(shown),
        )  # fmt: skip
        _check(answer, "candidates")
        return positions[: shown.value], scores[: shown.value]

    def slot(self, index: int) -> Panel:
        """Show a folded slot; only of a payload that was folded whole.

        Args:
            index: its place in the manifest.

        Returns:
            its panel, row by row.
        """
        slot = self.model.slots[index]
        panel = Panel(np.empty((slot.channels, slot.inputs), np.int8), np.empty(slot.channels, np.float32))
        answer = _library().ossia_slot(*self._call()[:2], index, _at(panel.values), _at(panel.scale))
        _check(answer, f"slot {index}")
        return panel

    def rows(self) -> Panel:
        """Show the item rows as this device holds them.

        Returns:
            one row an item; zeros with scale 0 for one that is absent.
        """
        items, dim = self.model.shape.items, self.model.shape.dim
        panel = Panel(np.empty((items, dim), np.int8), np.empty(items, np.float32))
        for row in range(items):
            answer = _library().ossia_row(*self._call()[:2], row, _at(panel.values[row]), _at(panel.scale[row:]))
            _check(answer, f"row {row}")
        return panel

    def _call(self) -> tuple[ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]:
        """Return what every call begins with; a scratch belongs to one thread."""
        if not hasattr(self._scratch, "memory"):
            model = _at(self.model.memory)
            self._scratch.memory = _fill(lambda memory, size: _library().ossia_prepare(model, memory, size), "scratch")
        return _at(self.model.memory), _at(self.memory), _at(self._scratch.memory)


def engine_ranker(base: Base, adaptation: Adaptation) -> EngineRanker:
    """Rank with the C engine.

    Args:
        base: the base; its files are opened where it was loaded from.
        adaptation: one user's terms.

    Returns:
        the ranker.

    Raises:
        ArtifactError: the files are no longer those of the base, or a size is beyond the engine's.
        UsageError: the engine was not built.
    """
    payload = encode_payload(base, adaptation, issued=0, expiry=0)
    return fold_payload(open_model(base), payload)


def fold_payload(model: Model, payload: bytes, *, whole: bool = False) -> EngineRanker:
    """Fold an unsigned payload, or one whose signature was checked before and left away.

    Args:
        model: the opened base.
        payload: its bytes.
        whole: leave nothing out, so that the folded panels can be compared.

    Returns:
        the ranker.

    Raises:
        PayloadError: the bytes are no payload for this base; names the field.
    """
    handle, flags = _at(model.memory), UNSIGNED | (WHOLE if whole else 0)
    return EngineRanker(
        model, _fill(lambda memory, got: _library().ossia_fold(handle, payload, len(payload), flags, memory, got), "payload")
    )


def open_model(base: Base) -> Model:
    """Open a base's files with the engine, once for each base.

    Args:
        base: where it was loaded from.

    Returns:
        the model.

    Raises:
        ArtifactError: the files are not what the manifest says, or a size is beyond the engine's.
        UsageError: the engine was not built.
    """
    if base not in _MODELS:
        _MODELS[base] = open_files(base.path)
    return _MODELS[base]


def runs(base: Base) -> bool:
    """Tell whether the engine runs a base: it was compiled, and knows the backbone at this size.

    Args:
        base: the base.

    Returns:
        whether `engine_ranker` is worth asking.
    """
    if library() is None or base in _MODELS:
        return library() is not None
    mapped, size = _map_files(base.path), ctypes.c_size_t(0)  # they must live as long as the call
    answer: int = _library().ossia_open(_files(mapped), len(mapped), 0, None, ctypes.byref(size))
    return answer != UNSUPPORTED


def open_files(folder: Path, *, trusted: bool = False) -> Model:
    """Open the files below a base's folder.

    Args:
        folder: the base's folder.
        trusted: the files' digests were checked before.

    Returns:
        the model.

    Raises:
        ArtifactError: a file is missing, is not what the manifest says, or a size is beyond the engine's.
        UsageError: the engine was not built.
    """
    mapped, flags = _map_files(folder), TRUSTED if trusted else 0
    files = _files(mapped)
    memory = _fill(lambda memory, size: _library().ossia_open(files, len(files), flags, memory, size), str(folder))
    shape = Shape()
    _check(_library().ossia_shape_of(_at(memory), ctypes.byref(shape)), str(folder))
    manifest = read_manifest(folder / "manifest.json", BaseManifest)[1]
    return Model(memory, shape, manifest.slots, tuple(mapped.values()))


PLANE_FILES = tuple(f"plane{bits}.safetensors" for bits in (2, 4, 8))
FILES: Final = (
    "manifest.json", "base/floats.safetensors", *(f"base/{name}" for name in PLANE_FILES),
    "table/manifest.json", "table/scales.safetensors", *(f"table/{name}" for name in PLANE_FILES),
)  # fmt: skip
_MODELS: WeakKeyDictionary[Base, Model] = WeakKeyDictionary()


def _library() -> ctypes.CDLL:
    """Return the engine, or say why there is none."""
    loaded = library()
    if loaded is None:
        raise UsageError(
            "engine: expected it to be compiled, but there was no C compiler at installation; numpy works everywhere"
        )
    return loaded


def _map_files(folder: Path) -> dict[str, np.ndarray]:
    """Map the files that are there; pages are read when they are touched."""
    mapped = {}
    for name in FILES:
        path = folder / name
        if path.exists() and path.stat().st_size:
            with path.open("rb") as file:
                mapped[name] = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    return mapped


def _files(mapped: Mapping[str, np.ndarray]) -> "ctypes.Array[File]":
    """Give mapped files the engine's form."""
    return (File * len(mapped))(*(File(name.encode(), _at(data), data.nbytes) for name, data in mapped.items()))


def _rows(items: Int[np.ndarray, " items"]) -> Int32[np.ndarray, " items"]:
    """Give item rows the engine's type; what does not fit it is no row either."""
    if items.dtype == np.int32:
        return np.ascontiguousarray(items)
    return np.where((items >= 0) & (items < 2**31), items, -1).astype(np.int32)


def _at(array: np.ndarray | None) -> ctypes.c_void_p:
    """Return an array's address."""
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


def _fill(ask: Ask, what: str) -> Memory:
    """Ask how much memory a thing takes, and have it made there."""
    size = ctypes.c_size_t(0)
    answer = ask(None, ctypes.byref(size))
    if answer == MEMORY:
        memory = np.zeros(size.value + ALIGN, np.uint8)
        memory = memory[-memory.ctypes.data % ALIGN :][: size.value]
        answer = ask(_at(memory), ctypes.byref(size))
        if answer == 0:
            return memory
    _check(answer, what)
    raise AssertionError("a thing without size")


def _check(answer: int, what: str) -> None:
    """Raise what the engine answered; its names are those of the Python reader's fields."""
    if answer == 0:
        return
    name = _library().ossia_error(answer).decode()
    if answer >= FIRST_OF_PAYLOAD:
        raise PayloadError(f"{name}: expected a payload for this base, got one that is not")
    raise ArtifactError(f"{what}: expected what the engine can open, got an error of: {name}")
