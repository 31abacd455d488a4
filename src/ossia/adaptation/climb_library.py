"""The climb for many users in C (`climb.c`), where a compiler was at hand; else `climb_many.py` has the same in numpy."""

import ctypes
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int64, UInt8

if TYPE_CHECKING:
    from ossia.adaptation.climb_many import Steps

_whole, _array = ctypes.c_int64, ctypes.c_void_p


@cache
def library() -> ctypes.CDLL | None:
    """Load the compiled climb.

    Returns:
        the library, or None where it was not built.
    """
    built = sorted(Path(__file__).parent.glob("_climb*.so"))
    if not built:
        return None
    loaded = ctypes.CDLL(str(built[0]))
    loaded.ossia_climb.restype = None
    loaded.ossia_climb.argtypes = (_whole, _whole, _whole, *[_array] * 9)
    return loaded


def climb_compiled(
    loaded: ctypes.CDLL, steps: "Steps", share: Float32[np.ndarray, "users things"], slack: Int64[np.ndarray, " users"]
) -> UInt8[np.ndarray, "users things"]:
    """Climb for many users.

    Args:
        loaded: the library.
        steps: what rungs gain and cost.
        share: each user's importance, as a share of the largest.
        slack: what each user may spend, at least 0.

    Returns:
        how many steps each thing takes.
    """
    (levels, things), count = steps.cost.shape, steps.cost.size
    share, rungs = np.ascontiguousarray(share), np.empty(share.shape, np.uint8)
    room = np.empty(count, np.uint32), np.empty(count, np.int32), np.empty(count, np.uint8)
    arrays = (share, steps.per_byte, steps.cost, steps.widest, np.ascontiguousarray(slack), *room, rungs)
    loaded.ossia_climb(len(share), things, levels, *(each.ctypes.data for each in arrays))
    return rungs
