"""Memory of this process that is freed and soon taken again."""

from __future__ import annotations

import ctypes
import os

# Parameters of glibc's mallopt(3), and values in bytes.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_BY_THE_USER = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"}
_FREE_AT_THE_TOP = 2**31 - 1
_BLOCK_IN_THE_HEAP = 32 * 2**20  # no more is taken


def keep_freed_memory() -> bool:
    """Have the C library keep up to 2 GiB that is freed, in blocks of up to 32 MiB; False where it was left alone.

    A network's step on the CPU takes and frees the same tensors again and again. Each time that they go back to the
    kernel, it clears every page anew, which can take a tenth of a step. For processes of our own only: the setting is
    one for the whole process. Left alone are other libraries than glibc, and one whose thresholds the environment sets.
    """
    if not _BY_THE_USER.isdisjoint(os.environ) or "_threshold" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(set_option(_TRIM_THRESHOLD, _FREE_AT_THE_TOP) and set_option(_MMAP_THRESHOLD, _BLOCK_IN_THE_HEAP))
