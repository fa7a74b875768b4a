"""Searching the memory of another process as a debugger would, with the rights of an ordinary process or without limits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

from tests.enclaves import WITHOUT_CAPABILITIES

# Counts each of the needles, which come with every byte inverted: not in the form that is looked for.
_SEARCH = """
import json, re, sys
pid = sys.argv[1]
needles = [bytes(255 - byte for byte in bytes.fromhex(line)) for line in sys.stdin.read().splitlines()]
counts = [0] * len(needles)
try:
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps.read().splitlines():
            begin, end, permissions, name = re.match(r"(\\w+)-(\\w+) (\\S+) \\S+ \\S+ \\S+\\s*(.*)", line).groups()
            if permissions[0] != "r" or name.startswith("[v"):
                continue
            begin, end = int(begin, 16), int(end, 16)
            data = b""
            try:
                memory.seek(begin)
                while len(data) < end - begin and (more := memory.read(end - begin - len(data))):
                    data += more
            except OSError as error:
                if error.errno not in (5, 14):  # the mapping has gone since it was listed
                    raise
            counts = [count + data.count(needle) for count, needle in zip(counts, needles)]
except PermissionError:
    counts = None
print(json.dumps(counts))
"""


def without_capabilities(*command: str) -> list[str]:
    """A command that runs as an ordinary process would, even where the tests run as root."""
    return [sys.executable, "-I", "-S", str(WITHOUT_CAPABILITIES), *command]


def count_in_memory(pid: int, needles: Sequence[bytes], *, as_superuser: bool = False) -> list[int] | None:
    """How often each needle is in the memory of a process; None where the system does not let it be read."""
    command = [sys.executable, "-I", "-S", "-c", _SEARCH, str(pid)]
    inverted = (bytes(255 - byte for byte in needle).hex() for needle in needles)
    done = subprocess.run(
        command if as_superuser else without_capabilities(*command),
        input="\n".join(inverted),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    counts: list[int] | None = json.loads(done.stdout)
    return counts
