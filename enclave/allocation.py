"""Freed memory is kept for the next message: what kms/allocation.py says, for this process, which imports nothing of it."""

from __future__ import annotations

import ctypes
from typing import Final

# <malloc.h>
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3

KEPT: Final = 16 << 20  # bytes; a call and its answer are 2 MiB each, and are there a few times over


def keep_freed_memory() -> None:
    """Ask the C library for it; one that is not glibc does as it likes."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, KEPT)
        mallopt(_M_TRIM_THRESHOLD, KEPT)
