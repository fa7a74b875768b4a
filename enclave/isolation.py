"""What the enclave process does to itself before the first secret reaches it; each measure is reported, done or not.

The order matters. exec makes a process dumpable again, so that it is switched off here; whoever has opened
/proc/PID/mem before that keeps reading, so that the process then forks and goes on in the child, whose memory nobody
has open. A user namespace made before exec would give its owner outside the right to read; made after, it does not.

None of it helps against the superuser. Source: prctl(2), unshare(2), seccomp(2), proc(5).
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

# <linux/prctl.h>
_PR_SET_PDEATHSIG: Final = 1
_PR_GET_DUMPABLE: Final = 3
_PR_SET_DUMPABLE: Final = 4
_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_MODE_FILTER: Final = 2
# <linux/sched.h>
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
# <sys/mman.h>
_MCL_CURRENT_FUTURE_ONFAULT: Final = 1 | 2 | 4
_CAP_IPC_LOCK: Final = 14

# <asm/unistd_64.h> of x86-64: what Python, AES, random bytes, one open socket and one open file need.
_ALLOWED: Final = (
    0,  # read
    1,  # write
    3,  # close
    5,  # fstat
    7,  # poll
    8,  # lseek
    9,  # mmap
    10,  # mprotect
    11,  # munmap
    12,  # brk
    13,  # rt_sigaction
    14,  # rt_sigprocmask
    15,  # rt_sigreturn
    17,  # pread64
    18,  # pwrite64
    25,  # mremap
    28,  # madvise
    39,  # getpid
    44,  # sendto
    45,  # recvfrom
    60,  # exit
    74,  # fsync
    131,  # sigaltstack
    186,  # gettid
    202,  # futex
    219,  # restart_syscall
    228,  # clock_gettime
    230,  # clock_nanosleep
    231,  # exit_group
    318,  # getrandom
    324,  # membarrier
    334,  # rseq
)
_AUDIT_ARCH_X86_64: Final = 0xC000003E
# <linux/seccomp.h>, <linux/bpf_common.h>
_KILL: Final = 0x80000000
_ERRNO_EPERM: Final = 0x00050000 | 1
_ALLOW: Final = 0x7FFF0000
_LOAD_WORD: Final = 0x20
_JUMP_EQUAL: Final = 0x15
_JUMP_AT_LEAST: Final = 0x35
_RETURN: Final = 0x06
_X32: Final = 0x40000000  # system calls of the other ABI of the same processor


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure: whether it took effect, and how or why not."""

    name: str
    done: bool
    detail: str


class _NotDone(Exception):
    """The system does not allow the measure; the message says why."""


def close_off(*descriptors: int) -> list[Measure]:
    """Take every measure but the last, and go on in a fresh process; the first one waits for it and ends as it ends.

    Args:
        descriptors: sockets and files that the waiting process gives up.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it leaves when its socket is closed
    os.umask(0o077)
    closed = _attempt("not_dumpable", _not_dumpable)
    _attempt("ends_with_its_parent", _ends_with_its_parent)
    parent = os.getpid()
    child = os.fork()
    if child:
        for descriptor in descriptors:
            os.close(descriptor)
        _end_as(child)
    measures = [
        _attempt("core_dumps_off", _core_dumps_off),
        _attempt("no_new_privileges", _no_new_privileges),
        Measure(
            "fresh_memory", closed.done, "forked after nobody could open its memory" if closed.done else closed.detail
        ),
        _attempt("memory_locked", _memory_locked),
        _attempt("no_network", _no_network),
        # A new user namespace sets the first back, a fork the second.
        _attempt("not_dumpable", _not_dumpable),
        _attempt("ends_with_its_parent", _ends_with_its_parent),
    ]
    if os.getppid() != parent:  # it has ended before it could be noticed
        os._exit(1)
    return measures


def forbid_system_calls() -> Measure:
    """Leave this process the system calls that it needs; everything must be loaded and open before."""
    return _attempt("system_calls_limited", _filter)


def _attempt(name: str, measure: Callable[[], str]) -> Measure:
    try:
        return Measure(name, done=True, detail=measure())
    except _NotDone as reason:
        return Measure(name, done=False, detail=str(reason))
    except (OSError, ValueError, AttributeError) as error:  # AttributeError: the C library has no such function
        return Measure(name, done=False, detail=f"{type(error).__name__}: {error}")


def _end_as(child: int) -> NoReturn:
    ended, status = os.wait()
    while ended != child:  # the token host, which leaves early
        ended, status = os.wait()
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


def _core_dumps_off() -> str:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return "RLIMIT_CORE is 0"


def _not_dumpable() -> str:
    _prctl(_PR_SET_DUMPABLE, 0)
    if _prctl(_PR_GET_DUMPABLE) != 0:
        raise _NotDone("PR_SET_DUMPABLE had no effect")
    return "no core dump, no ptrace and no /proc/PID/mem for processes of the same user"


def _no_new_privileges() -> str:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    return "no program that is started gains privileges"


def _ends_with_its_parent() -> str:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return "killed when the process that started it ends"


def _memory_locked() -> str:
    # With a limit below what the process will need, later allocations fail: worse than swap.
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    capabilities = next((line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), "0")
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit != resource.RLIM_INFINITY and not int(capabilities, 16) >> _CAP_IPC_LOCK & 1:
        raise _NotDone(f"RLIMIT_MEMLOCK is {limit // 1024} KiB")
    _checked(_libc().mlockall(_MCL_CURRENT_FUTURE_ONFAULT), "mlockall")
    return "mlockall: current and future pages, as they are used"


def _no_network() -> str:
    if _libc().unshare(_CLONE_NEWNET) == 0:
        return "a network namespace of its own, with nothing in it"
    _checked(_libc().unshare(_CLONE_NEWUSER | _CLONE_NEWNET), "unshare")
    return "a user and a network namespace of its own, with nothing in them"


def _filter() -> str:
    if os.uname().machine != "x86_64" or sys.maxsize < 1 << 32:
        raise _NotDone(f"no list of system calls for {os.uname().machine}")
    program = filter_program(_ALLOWED)
    buffer = ctypes.create_string_buffer(program)
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer)))
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(header))
    return f"seccomp: {len(_ALLOWED)} system calls allowed, no file opened, no program started, no socket made"


def filter_program(allowed: tuple[int, ...]) -> bytes:
    """Return the BPF program that allows the given system calls of x86-64 and answers EPERM to others."""

    def step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("HBBI", code, if_true, if_false, value)

    count = len(allowed)
    return b"".join(
        [
            step(_LOAD_WORD, 4),  # the architecture
            step(_JUMP_EQUAL, _AUDIT_ARCH_X86_64, 1, 0),
            step(_RETURN, _KILL),
            step(_LOAD_WORD, 0),  # the number of the call
            step(_JUMP_AT_LEAST, _X32, 0, 1),
            step(_RETURN, _KILL),
            *(step(_JUMP_EQUAL, number, count - index, 0) for index, number in enumerate(allowed)),
            step(_RETURN, _ERRNO_EPERM),
            step(_RETURN, _ALLOW),
        ]
    )


def _prctl(option: int, *arguments: int) -> int:
    padded = [*arguments, 0, 0, 0, 0][:4]
    return _checked(_libc().prctl(option, *(ctypes.c_ulong(value) for value in padded)), f"prctl({option})")


def _checked(answer: int, what: str) -> int:
    if answer < 0:
        raise _NotDone(f"{what}: {os.strerror(ctypes.get_errno())}")
    return answer


def _libc() -> ctypes.CDLL:
    if not sys.platform.startswith("linux"):
        raise _NotDone("only known for Linux")
    return ctypes.CDLL(None, use_errno=True)
