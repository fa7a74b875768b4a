"""What the enclave process is closed off from; each test has a control that the same thing succeeds without the measure.

The processes run without capabilities, so that the superuser who runs the tests is an ordinary user to the kernel.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.enclaves import MEASURES, ROOT, EnclaveProcess, copy_of_the_package
from tests.memory_search import count_in_memory, without_capabilities
from tests.softhsm_token import eventually, is_alive

# One loop and one enclave for all of this file: a start takes most of a second.
pytestmark = pytest.mark.asyncio(loop_scope="module")

# A function that tries what the enclave is kept from and tells what came of it: added to a copy of the package.
PROBE = """
import errno, os, socket

def tried(action):
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno, "?")
    return "done"

def connect(port):
    with socket.socket() as one:
        one.connect(("127.0.0.1", port))

def probe(_, inputs, argument):
    port, path = argument
    return {
        "connect": tried(lambda: connect(port)),
        "make a socket": tried(lambda: socket.socket().close()),
        "open a file": tried(lambda: os.close(os.open(path, os.O_RDONLY))),
        "make a file": tried(lambda: os.close(os.open(path + ".new", os.O_WRONLY | os.O_CREAT))),
        "fork": tried(lambda: os.waitpid(os.fork() or os._exit(0), 0)),
        "start a program": tried(lambda: os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)),
        "signal its parent": tried(lambda: os.kill(os.getppid(), 0)),
        "environment": dict(os.environ),
    }
"""
RUN_PROBE = f"{PROBE}\nimport json, sys\nprint(json.dumps(probe(None, [], json.loads(sys.argv[1]))))"


def search(pid: int, needle: bytes, *, as_superuser: bool = False) -> Any:
    """How often the needle and each half of it are in a process's memory; "refused" where that cannot be read."""
    counts = count_in_memory(pid, (needle, needle[:16], needle[16:]), as_superuser=as_superuser)
    return "refused" if counts is None else dict(zip(("whole", "first half", "second half"), counts, strict=True))


def readable(path: str) -> bool:
    code = f"open({path!r}, 'rb').close()"
    command = without_capabilities(sys.executable, "-I", "-S", "-c", code)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0 or "PermissionError" in done.stderr, done.stderr
    return done.returncode == 0


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def altered(directory: Path, *changes: tuple[str, str, str]) -> Path:
    """A copy of the package in which a piece of text of a named module is replaced."""
    package = copy_of_the_package(directory)
    for module, old, new in changes:
        path = package / f"{module}.py"
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))
    return package


WITH_PROBE = (
    "functions",
    '"decrypt": _decrypt,',
    '"decrypt": _decrypt, "probe": __import__("enclave.probe").probe.probe,',
)
STAYING_DUMPABLE = ("isolation", "_prctl(_PR_SET_DUMPABLE, 0)", "_prctl(_PR_SET_DUMPABLE, 1)")
WITHOUT_A_FILTER = ("isolation", "    program = filter_program(_ALLOWED)", '    raise _NotDone("left out by the test")')

reads_any_process = pytest.mark.skipif(
    not int(status(os.getpid())["CapEff"], 16) >> 19 & 1, reason="looking into the process takes CAP_SYS_PTRACE"
)


def measures_of(enclave: EnclaveProcess) -> dict[str, bool]:
    return {name: done for name, done, detail in enclave.greeted["measures"] if detail}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def enclave(tmp_path_factory):
    async with EnclaveProcess(tmp_path_factory.mktemp("enclave"), unprivileged=True) as process:
        yield process


async def test_each_measure_is_reported_and_this_system_allows_the_ones_that_need_no_rights(enclave):
    measures = measures_of(enclave)
    assert set(measures) == MEASURES
    optional = {"memory_locked", "no_network"}  # by the limits and the namespaces of the machine
    if os.uname().machine != "x86_64":
        optional.add("system_calls_limited")
    assert {name for name, done in measures.items() if not done} <= optional


async def test_another_process_of_the_same_user_cannot_read_the_fuse_from_memory(enclave, tmp_path):
    assert search(enclave.pid, enclave.fuse) == "refused"
    for name in ("mem", "maps", "environ"):
        assert not readable(f"/proc/{enclave.pid}/{name}")
    # The control: the same enclave without the measure is read, and the fuse is there.
    async with EnclaveProcess(tmp_path, package=altered(tmp_path, STAYING_DUMPABLE), unprivileged=True) as control:
        undone = {name for name, done in measures_of(control).items() if not done}
        assert {"not_dumpable", "fresh_memory"} <= undone
        assert search(control.pid, control.fuse)["whole"] > 0


@reads_any_process
async def test_the_superuser_finds_the_fuse_in_the_process_and_not_in_the_one_that_waits_for_it(enclave):
    # That it is found is no wish but a fact, said in docs/enclave.md; and the control of the second search.
    assert search(enclave.pid, enclave.fuse, as_superuser=True)["whole"] > 0
    outer = enclave.host.status.pid
    assert status(enclave.pid)["PPid"] == str(outer)
    assert search(outer, enclave.fuse, as_superuser=True) == {"whole": 0, "first half": 0, "second half": 0}


@reads_any_process
async def test_the_process_inherits_no_descriptor_and_no_environment(tmp_path, monkeypatch):
    # A descriptor and a variable that a careless start would hand on.
    (tmp_path / "secret").write_bytes(b"a secret")
    monkeypatch.setenv("KMS_TEST_SECRET", "a secret")
    with (tmp_path / "secret").open("rb") as file:
        os.set_inheritable(file.fileno(), True)
        show = f"import os; print(os.read({file.fileno()}, 8), os.environ['KMS_TEST_SECRET'])"
        careless = subprocess.run(
            [sys.executable, "-c", show], close_fds=False, capture_output=True, text=True, check=True, timeout=60
        )
        assert careless.stdout.count("a secret") == 2  # the control
        async with EnclaveProcess(tmp_path) as started:
            links = {int(fd.name): str(fd.readlink()) for fd in Path(f"/proc/{started.pid}/fd").iterdir()}
            environment = Path(f"/proc/{started.pid}/environ").read_bytes()
            assert status(started.pid)["NoNewPrivs"] == "1"
    assert environment == b""
    assert (links[0], links[1]) == ("/dev/null", "/dev/null")
    assert links[2] == str(Path("/proc/self/fd/2").readlink())  # where it writes why it cannot start
    others = sorted(link for descriptor, link in links.items() if descriptor > 2)
    assert others[0] == str(tmp_path / "counters")
    assert [link.partition(":")[0] for link in others[1:]] == ["socket"]


async def test_the_process_reaches_no_network_no_file_and_no_program(tmp_path):
    package = altered(tmp_path, WITH_PROBE)
    (package / "probe.py").write_text(PROBE)
    (tmp_path / "a file").touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked = [server.getsockname()[1], str(tmp_path / "a file")]
        command = without_capabilities(sys.executable, "-I", "-S", "-c", RUN_PROBE, json.dumps(asked))
        control = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60, env={}).stdout)
        (tmp_path / "a file.new").unlink()
        async with EnclaveProcess(tmp_path, package=package, unprivileged=True) as enclave:
            limited = measures_of(enclave)["system_calls_limited"]
            told = await enclave.execute("probe", [], asked)
    for tried in (told, control):
        tried.pop("environment").pop("LC_CTYPE", None)
    assert set(control.values()) == {"done"}
    assert set(told) == set(control)
    if limited:
        assert set(told.values()) == {"EPERM"}
        assert not (tmp_path / "a file.new").exists()
    else:
        pytest.skip("this machine has no filter of system calls")


async def test_the_process_has_a_network_of_its_own_with_nothing_in_it(tmp_path):
    # Without the filter, so that it is the namespace that answers.
    package = altered(tmp_path, WITH_PROBE, WITHOUT_A_FILTER)
    (package / "probe.py").write_text(PROBE)
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), 5).close()  # the control
        async with EnclaveProcess(tmp_path, package=package, unprivileged=True) as enclave:
            assert measures_of(enclave)["system_calls_limited"] is False
            told = await enclave.execute("probe", [], [server.getsockname()[1], str(tmp_path)])
            if not measures_of(enclave)["no_network"]:
                pytest.skip("this system lets no ordinary user make a network namespace")
    assert told["connect"] == "ENETUNREACH"
    assert told["open a file"] == "done"


async def test_core_dumps_are_off_and_no_privilege_can_be_gained(enclave):
    limits = Path(f"/proc/{enclave.pid}/limits").read_text()
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]
    assert status(enclave.pid)["NoNewPrivs"] == "1"
    assert status(enclave.pid)["Seccomp"] == ("2" if measures_of(enclave)["system_calls_limited"] else "0")
    # The control: none of this is what a process of this system has anyway.
    assert status(os.getpid())["NoNewPrivs"] == status(os.getpid())["Seccomp"] == "0"
    assert resource.getrlimit(resource.RLIMIT_CORE)[1] != 0


# Starts an enclave, says which processes it is, and waits to be killed.
DAEMON = """
import asyncio, json, os, sys
from pathlib import Path
from tests.enclaves import EnclaveProcess

async def main():
    async with EnclaveProcess(Path(sys.argv[1]), structure=sys.stdin.buffer.read()) as enclave:
        print(json.dumps([enclave.pid, enclave.host.status.pid]), flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""


async def test_the_process_ends_with_the_daemon_even_when_it_cannot_see_its_socket_close(enclave, tmp_path):
    daemon = subprocess.Popen(
        [sys.executable, "-c", DAEMON, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'client'}"},
    )
    with daemon:
        daemon.stdin.write(enclave.signed())
        daemon.stdin.close()
        pids = json.loads(daemon.stdout.readline())
        assert all(is_alive(pid) for pid in pids)
        os.kill(pids[0], signal.SIGSTOP)
        daemon.kill()
    await eventually(lambda: not any(is_alive(pid) for pid in pids))
