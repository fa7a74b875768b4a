"""What a process that holds keys does to itself first: each measure is tried, and reported whether it took effect.

A measure that the system does not allow is no reason not to serve; the report says what is missing. What none of them
helps against is the superuser, who reads any process's memory.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# <linux/prctl.h>
_PR_GET_DUMPABLE: Final = 3
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_GET_NO_NEW_PRIVS: Final = 39

# <sys/mman.h>
_MCL_CURRENT: Final = 1
_MCL_FUTURE: Final = 2
_MCL_ONFAULT: Final = 4  # since Linux 4.4: a page is locked once it is used, so that thread stacks cost no memory

# <linux/capability.h>: the bit in CapEff.
_CAP_IPC_LOCK: Final = 14

_UMASK: Final = 0o077


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure: whether it took effect, and how or why not."""

    name: str
    done: bool
    detail: str


class _NotDone(Exception):
    """The system does not allow the measure; the message says why."""


def harden() -> list[Measure]:
    """Take every measure; never raises. Call it before the first secret is read, and again in every host process.

    What exec keeps (core limit, umask, no_new_privs) a child inherits; dumpable and locked memory it must set itself.
    """
    return [
        _attempt("core_dumps_off", _core_dumps_off),
        _attempt("not_dumpable", _not_dumpable),
        _attempt("no_new_privileges", _no_new_privileges),
        _attempt("private_umask", _private_umask),
        _attempt("memory_locked", _memory_locked),
    ]


def _attempt(name: str, measure: Callable[[], str]) -> Measure:
    try:
        return Measure(name, done=True, detail=measure())
    except _NotDone as reason:
        return Measure(name, done=False, detail=str(reason))
    except (OSError, ValueError, AttributeError) as error:  # AttributeError: the C library has no such function
        return Measure(name, done=False, detail=f"{error.__class__.__name__}: {error}")


def _core_dumps_off() -> str:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A core_pattern that is a pipe ignores the limit; not_dumpable is what stops that one.
    return "RLIMIT_CORE is 0"


def _not_dumpable() -> str:
    _prctl(_PR_SET_DUMPABLE, 0)
    if _prctl(_PR_GET_DUMPABLE) != 0:
        raise _NotDone("PR_SET_DUMPABLE had no effect")
    return "no core dump, no ptrace and no /proc/PID/mem for processes of the same user"


def _no_new_privileges() -> str:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if _prctl(_PR_GET_NO_NEW_PRIVS) != 1:
        raise _NotDone("PR_SET_NO_NEW_PRIVS had no effect")
    return "no program that is started gains privileges"


def _private_umask() -> str:
    os.umask(_UMASK)
    return "files are made for this user alone"


def _memory_locked() -> str:
    # With a limit below what the process will need, MCL_FUTURE succeeds and later allocations fail: worse than swap.
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit != resource.RLIM_INFINITY and not _may_lock_without_limit():
        raise _NotDone(
            f"RLIMIT_MEMLOCK is {limit // 1024} KiB; set it to unlimited (systemd: LimitMEMLOCK=infinity), "
            "or encrypt or switch off swap"
        )
    libc = _libc()
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0:
        return "mlockall: current and future pages, as they are used"
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) == 0:
        return "mlockall: current and future pages"
    raise _NotDone(f"mlockall: {os.strerror(ctypes.get_errno())}")


def _may_lock_without_limit() -> bool:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_IPC_LOCK & 1)
    return False


def _prctl(option: int, argument: int = 0) -> int:
    answer = int(_libc().prctl(option, *(ctypes.c_ulong(value) for value in (argument, 0, 0, 0))))
    if answer < 0:
        raise _NotDone(f"prctl({option}): {os.strerror(ctypes.get_errno())}")
    return answer


def _libc() -> ctypes.CDLL:
    if not sys.platform.startswith("linux"):
        raise _NotDone("only known for Linux")
    return ctypes.CDLL(None, use_errno=True)
