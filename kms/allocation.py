"""How freed memory is kept for the next message, in place of being given back to the system and asked for again.

glibc maps a buffer of more than 128 KiB anew and unmaps it when it is freed, or cuts it off the heap's end. Each time the
kernel fills it with zeros, page by page, which takes several times as long as to copy a MiB. Source: mallopt(3).
"""

from __future__ import annotations

import ctypes
from typing import Final

# <malloc.h>
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3

# At the end of each arena, and the least that is mapped: every message is shorter, and a part of object storage, too.
KEPT: Final = 16 << 20  # bytes


def keep_freed_memory() -> None:
    """Ask the C library for it; one that is not glibc does as it likes."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, KEPT)
        mallopt(_M_TRIM_THRESHOLD, KEPT)
