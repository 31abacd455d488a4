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
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Float32, Int, Int32

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.base import Base
from ossia.adaptation.manifests import BaseManifest, read_manifest
from ossia.adaptation.payload import encode_payload
from ossia.device.engine_library import (
    NOTHING,
    TRUSTED,
    UNSEEN,
    UNSIGNED,
    UNSUPPORTED,
    WHOLE,
    File,
    Memory,
    Shape,
    address,
    check,
    fill,
    given,
    has_path,
    library,
    loaded_library,
    path,
)
from ossia.errors import UsageError
from ossia.quantization.grid import Panel
from ossia.types import Candidates, History, Slot

__all__ = [
    "EngineRanker",
    "Model",
    "engine_ranker",
    "fold_payload",
    "has_path",
    "library",
    "open_files",
    "open_model",
    "path",
    "runs",
]


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
        check(loaded_library().ossia_encode(*self._call(), given(events), len(events), address(state)), "history")
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
        answer = loaded_library().ossia_score(
            *self._call(), given(events), len(events), given(items), len(items), given(beside), NOTHING.from_buffer(scores.data)
        )  # fmt: skip
        check(answer, "candidates")
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
        answer = loaded_library().ossia_top(
            *self._call(), given(events), len(events), given(items), count, UNSEEN if unseen else 0,
            k, NOTHING.from_buffer(positions.data), NOTHING.from_buffer(scores.data), ctypes.byref(shown),
        )  # fmt: skip
        check(answer, "candidates")
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
        answer = loaded_library().ossia_slot(*self._call()[:2], index, address(panel.values), address(panel.scale))
        check(answer, f"slot {index}")
        return panel

    def rows(self) -> Panel:
        """Show the item rows as this device holds them.

        Returns:
            one row an item; zeros with scale 0 for one that is absent.
        """
        items, dim = self.model.shape.items, self.model.shape.dim
        panel = Panel(np.empty((items, dim), np.int8), np.empty(items, np.float32))
        for row in range(items):
            answer = loaded_library().ossia_row(*self._call()[:2], row, address(panel.values[row]), address(panel.scale[row:]))
            check(answer, f"row {row}")
        return panel

    def _call(self) -> tuple[ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]:
        """Return what every call begins with, worked out once a thread: a scratch belongs to one."""
        if not hasattr(self._scratch, "call"):
            model = address(self.model.memory)
            self._scratch.memory = fill(lambda memory, size: loaded_library().ossia_prepare(model, memory, size), "scratch")
            self._scratch.call = model, address(self.memory), address(self._scratch.memory)
        call: tuple[ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p] = self._scratch.call
        return call


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
    handle, flags = address(model.memory), UNSIGNED | (WHOLE if whole else 0)
    return EngineRanker(
        model,
        fill(lambda memory, got: loaded_library().ossia_fold(handle, payload, len(payload), flags, memory, got), "payload"),
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
    answer: int = loaded_library().ossia_open(_files(mapped), len(mapped), 0, None, ctypes.byref(size))
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
    memory = fill(lambda memory, size: loaded_library().ossia_open(files, len(files), flags, memory, size), str(folder))
    shape = Shape()
    check(loaded_library().ossia_shape_of(address(memory), ctypes.byref(shape)), str(folder))
    manifest = read_manifest(folder / "manifest.json", BaseManifest)[1]
    return Model(memory, shape, manifest.slots, tuple(mapped.values()))


PLANE_FILES = tuple(f"plane{bits}.safetensors" for bits in (2, 4, 8))
FILES: Final = (
    "manifest.json", "base/floats.safetensors", *(f"base/{name}" for name in PLANE_FILES),
    "table/manifest.json", "table/scales.safetensors", *(f"table/{name}" for name in PLANE_FILES), "table/tail.safetensors",
)  # fmt: skip
_MODELS: WeakKeyDictionary[Base, Model] = WeakKeyDictionary()


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
    return (File * len(mapped))(*(File(name.encode(), address(data), data.nbytes) for name, data in mapped.items()))


def _rows(items: Int[np.ndarray, " items"]) -> Int32[np.ndarray, " items"]:
    """Give item rows the engine's type; what does not fit it is no row either."""
    if items.dtype == np.int32:
        return np.ascontiguousarray(items)
    return np.where((items >= 0) & (items < 2**31), items, -1).astype(np.int32)
