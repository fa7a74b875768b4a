"""Whether a machine's processors are what they are called: those of a virtual one may share a real one."""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median
from typing import Final

ROUNDS: Final = 3
LOOP: Final = 500_000  # rounds of a loop, some 20 ms
LOOPS: Final = 5
BUSY: Final = "print(flush=True)\nwhile True: pass"


def beside() -> float:
    """Return how fast a processor is while another is busy, as a part of its speed alone.

    1 means that each is one of its own. At a half, two programs at once take as long as one after the other, and what a second
    thread or process does is no less in the way than what the first one does.
    """
    return median(_ratio() for _ in range(ROUNDS))


def _ratio() -> float:
    alone = _quickest()
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE) as other:
        try:
            if other.stdout is not None:  # a pipe, which a type cannot say
                other.stdout.readline()  # it is busy from here on
            return alone / _quickest()
        finally:
            other.kill()


def _quickest() -> float:
    return min(_looped() for _ in range(LOOPS))


def _looped() -> float:
    began = time.perf_counter()
    for _ in range(LOOP):
        pass
    return time.perf_counter() - began
