"""Memory of this process that is freed and soon taken again."""

from __future__ import annotations

import ctypes

# Parameters of glibc's mallopt(3), and the largest values that it takes for them.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_NEVER, _LARGEST = 2**31 - 1, 32 * 2**20


def keep_freed_memory() -> bool:
    """Have the C library keep what is freed, up to 32 MiB a block, instead of returning it; False where it cannot.

    A network's step on the CPU takes and frees the same tensors again and again. Each time that they go back to the
    kernel, it clears every page anew: a twentieth to a tenth of a step of ResNet20. For processes of our own only: the
    setting is one for the whole process, which then stays as large as it once was.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return False
    return bool(set_option(_TRIM_THRESHOLD, _NEVER) and set_option(_MMAP_THRESHOLD, _LARGEST))
