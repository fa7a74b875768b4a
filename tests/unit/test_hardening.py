"""Each measure is seen from outside the Python code: in /proc, by another process, or by the kernel's own answer."""

import ctypes
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]

# A process that hardens itself, says so on one line and waits to be looked at.
VICTIM = """
import ctypes, json, os, resource, sys
from dataclasses import asdict
{before}
from kms.hardening import harden
measures = [asdict(measure) for measure in harden()]
allocated = bytearray(32 << 20)
libc = ctypes.CDLL(None)
umask = os.umask(0o077)
print(json.dumps({{
    "measures": {{m["name"]: [m["done"], m["detail"]] for m in measures}},
    "dumpable": libc.prctl(3, 0, 0, 0, 0),
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "umask": umask,
}}), flush=True)
sys.stdin.read()
"""


class Victim:
    def __init__(self, *, before: str = "", harden: bool = True) -> None:
        script = VICTIM.format(before=before)
        if not harden:
            script = script.replace("harden()]", "[]]")
        self.process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read() if self.process.stderr else ""
        self.report = json.loads(line)

    def status(self) -> dict[str, str]:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate(timeout=20)


# Drops the capabilities named by {mask}, so that the superuser too becomes an ordinary user of the same uid.
DROP_CAPABILITIES = """
class Header(ctypes.Structure): _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]
header, data = Header(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert ctypes.CDLL(None).capget(ctypes.byref(header), data) == 0
for word in range(6): data[word] &= ~({mask} >> 32 * (word // 3))
assert ctypes.CDLL(None).capset(ctypes.byref(header), data) == 0
"""
EVERY_CAPABILITY = DROP_CAPABILITIES.format(mask="0xFFFFFFFFFFFFFFFF")
RIGHT_TO_LOCK = DROP_CAPABILITIES.format(mask="(1 << 14)")


def readable(path: str) -> bool:
    """Whether another process of the same user, without capabilities, can open the file."""
    code = f"import ctypes\n{EVERY_CAPABILITY}\nopen({path!r}, 'rb').close()"
    done = subprocess.run([sys.executable, "-S", "-c", code], check=False, capture_output=True, timeout=30, text=True)
    assert done.returncode == 0 or "PermissionError" in done.stderr, done.stderr
    return done.returncode == 0


def may_lock() -> bool:
    unlimited = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY
    effective = int(
        next(
            line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff")
        ),
        16,
    )
    return unlimited or bool(effective >> 14 & 1)


def test_every_measure_is_reported_by_name():
    with Victim() as victim:
        assert set(victim.report["measures"]) == {
            "core_dumps_off",
            "not_dumpable",
            "no_new_privileges",
            "private_umask",
            "memory_locked",
        }
        assert all(detail for _, detail in victim.report["measures"].values())


def test_a_hardened_process_leaves_no_core_and_is_not_dumpable():
    with Victim() as victim:
        assert victim.report["measures"]["core_dumps_off"][0]
        assert victim.report["measures"]["not_dumpable"][0]
        assert victim.report["core"] == [0, 0]
        assert victim.report["dumpable"] == 0
        limits = Path(f"/proc/{victim.process.pid}/limits").read_text()
        core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
        assert core.split()[4:6] == ["0", "0"]


def test_programs_that_a_hardened_process_starts_gain_no_privileges():
    with Victim() as victim:
        assert victim.report["measures"]["no_new_privileges"][0]
        assert victim.status()["NoNewPrivs"] == "1"


def test_files_that_a_hardened_process_makes_are_its_users_alone():
    with Victim(before="os.umask(0)") as victim:
        assert victim.report["umask"] == 0o077


def test_memory_is_locked_where_the_system_allows_and_reported_where_not():
    with Victim() as victim:
        done, detail = victim.report["measures"]["memory_locked"]
        locked = int(victim.status()["VmLck"].split()[0])
        if may_lock():
            # More than was there when mlockall was called: future pages are locked too.
            assert done, detail
            assert locked > 32 << 10
        else:
            assert not done
            assert "RLIMIT_MEMLOCK" in detail
            assert locked == 0


NO_RIGHT_TO_LOCK = f"resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))\n{RIGHT_TO_LOCK}"


def test_without_the_right_to_lock_memory_the_process_goes_on_and_says_what_to_set():
    with Victim(before=NO_RIGHT_TO_LOCK) as victim:
        done, detail = victim.report["measures"]["memory_locked"]
        assert not done
        assert "64 KiB" in detail
        assert "LimitMEMLOCK=infinity" in detail
        assert victim.status()["VmLck"].split()[0] == "0"
        # The 32 MiB that the victim allocated afterwards were granted, and the other measures took effect.
        assert victim.report["measures"]["not_dumpable"][0]


def test_another_process_of_the_same_user_cannot_read_a_hardened_process():
    with Victim(before=EVERY_CAPABILITY, harden=False) as control:
        assert readable(f"/proc/{control.process.pid}/environ")
        assert readable(f"/proc/{control.process.pid}/mem")
    with Victim(before=EVERY_CAPABILITY) as victim:
        assert not readable(f"/proc/{victim.process.pid}/mem")
        assert not readable(f"/proc/{victim.process.pid}/environ")


def test_a_measure_that_fails_is_reported_and_the_others_are_still_taken():
    forbidden = """
real = resource.setrlimit
def refuse(*_): raise ValueError("not allowed to raise maximum limit")
resource.setrlimit = refuse
"""
    with Victim(before=forbidden) as victim:
        done, detail = victim.report["measures"]["core_dumps_off"]
        assert not done
        assert "not allowed" in detail
        assert victim.report["dumpable"] == 0


def test_the_test_process_itself_is_untouched():
    # harden() is for processes of their own; were a test to call it here, every later test would run hardened.
    assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 1
