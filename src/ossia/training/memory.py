"""Keep freed memory instead of handing it back to the kernel after every step.

Each training step frees and asks again for blocks as large as the item table (its gradient, the scores). glibc returns such
blocks to the kernel at once, and the kernel then maps and clears them page by page when they are asked for again: on the
small machine that this was measured on, half of a training step on Amazon Beauty (12 of 25 ms for two gradients of 3 MB).
Two settings of glibc's allocator end that; the price is that the process keeps its largest size until it ends.

Elsewhere than on glibc (macOS, Windows, musl) nothing happens: their allocators have habits of their own.
"""

import ctypes
from functools import lru_cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
LARGEST = (1 << 30, 32 << 20)  # bytes; glibc may refuse more than half of a thread's heap, 32 MiB
NEVER_TRIM = (1 << 31) - 1  # the largest that the call takes


@lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Tell the C library once to keep large blocks that are freed, for the rest of the process.

    Returns:
        whether it does so now; false where the C library has no such setting.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return False
    return any(mallopt(M_MMAP_THRESHOLD, size) == 1 for size in LARGEST) and mallopt(M_TRIM_THRESHOLD, NEVER_TRIM) == 1
