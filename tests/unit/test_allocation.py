"""Memory that was freed serves the next buffer: seen in the page faults of a process of its own, in both packages."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# 200 messages of a MiB, each copied once and then forgotten, as streams of them are.
MESSAGES = """
import resource
from {module} import keep_freed_memory
{call}
source = bytes(1 << 20)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def message():
    waiting = bytearray()
    waiting += source
    return len(bytes(waiting))
message()
before = faults()
for _ in range(200):
    message()
print((faults() - before) / 200)
"""


def faults_of_a_message(module: str, call: str) -> float:
    script = MESSAGES.format(module=module, call=call)
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    return float(done.stdout)


@pytest.mark.parametrize("module", ["kms.allocation", "enclave.allocation"])
def test_a_message_takes_no_fresh_pages(module: str):
    assert faults_of_a_message(module, "") > 100, "this C library keeps freed memory by itself"
    assert faults_of_a_message(module, "keep_freed_memory()") < 10
