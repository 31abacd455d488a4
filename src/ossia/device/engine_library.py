"""The compiled engine as ctypes sees it: which library, what its functions take, and what their answers mean.

`engine.py` makes a runtime of it. Memory is the caller's in `ossia.h`, so here it is numpy's: `fill` asks how much a thing
takes, and has it made there.
"""

import ctypes
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from jaxtyping import UInt8

from ossia.errors import ArtifactError, PayloadError, UsageError

ALIGN: Final = 64
TRUSTED, UNSIGNED, UNSEEN, WHOLE = 1, 2, 8, 16  # flags of ossia.h
MEMORY, UNSUPPORTED, FIRST_OF_PAYLOAD = 2, 6, 10  # errors of ossia.h
Memory: TypeAlias = UInt8[np.ndarray, " bytes"]
Ask: TypeAlias = Callable[[ctypes.c_void_p | None, object], int]
"""Fills memory of a size; without memory only says the size."""
NOTHING: Final = ctypes.c_char * 0
"""Lies where an array begins."""
COPIED_BYTES: Final = 4096
"""A list up to this long is handed over as a copy: finding out where an array lies takes twenty times as long."""


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
    chosen: bytes | None = loaded_library().ossia_path(None if name is None else name.encode())
    if chosen is None:
        raise UsageError(f"path: expected one that this processor runs, got {name!r}")
    return chosen.decode()


def has_path(name: str) -> bool:
    """Tell whether this build and this processor have an arithmetic.

    Args:
        name: `vnni`, `avx2`, `plain`, ….

    Returns:
        whether `path(name)` would pick it; the one that runs stays.
    """
    before = path()
    try:
        return path(name) == name
    except UsageError:
        return False
    finally:
        path(before)


def loaded_library() -> ctypes.CDLL:
    """Return the engine, or say why there is none.

    Returns:
        the library.

    Raises:
        UsageError: it was not built.
    """
    loaded = library()
    if loaded is None:
        raise UsageError(
            "engine: expected it to be compiled, but there was no C compiler at installation; numpy works everywhere"
        )
    return loaded


def address(array: np.ndarray | None) -> ctypes.c_void_p:
    """Give an array to C; it must outlive the call.

    Args:
        array: what C reads or fills.

    Returns:
        where its first byte is; a null pointer for None.
    """
    if array is None:
        return ctypes.c_void_p(None)
    if array.flags.writeable and array.flags.c_contiguous:  # a third of the time of `array.ctypes`, which counts in every call
        return ctypes.c_void_p(ctypes.addressof(NOTHING.from_buffer(array.data)))
    return ctypes.c_void_p(array.ctypes.data)


def given(array: np.ndarray | None) -> bytes | ctypes.c_void_p | None:
    """Give C an array to read during a call, which the caller holds until then.

    Args:
        array: what C reads.

    Returns:
        a copy of a short one, the address of a long one, None for None.
    """
    if array is None:
        return None
    return array.tobytes() if array.nbytes <= COPIED_BYTES else address(array)


def fill(ask: Ask, what: str) -> Memory:
    """Ask how much memory a thing takes, and have it made there.

    Args:
        ask: makes the thing.
        what: the thing in words, for messages.

    Returns:
        the memory, aligned as `ossia.h` wants it.

    Raises:
        PayloadError: the engine refused a payload.
        ArtifactError: it refused anything else.
    """
    size = ctypes.c_size_t(0)
    answer = ask(None, ctypes.byref(size))
    if answer == MEMORY:
        memory = np.zeros(size.value + ALIGN, np.uint8)
        memory = memory[-memory.ctypes.data % ALIGN :][: size.value]
        answer = ask(address(memory), ctypes.byref(size))
        if answer == 0:
            return memory
    check(answer, what)
    raise AssertionError("a thing without size")


def check(answer: int, what: str) -> None:
    """Raise what the engine answered; its names are those of the Python reader's fields.

    Args:
        answer: of a function of `ossia.h`.
        what: what was asked, in words.

    Raises:
        PayloadError: an error of a payload.
        ArtifactError: any other error.
    """
    if answer == 0:
        return
    name = loaded_library().ossia_error(answer).decode()
    if answer >= FIRST_OF_PAYLOAD:
        raise PayloadError(f"{name}: expected a payload for this base, got one that is not")
    raise ArtifactError(f"{what}: expected what the engine can open, got an error of: {name}")
