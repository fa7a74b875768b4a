"""The simulated enclave as a process of its own, under the daemon's supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import msgpack
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from enclave.command import measure_command, serve_command
from enclave.identity import DEBUG
from enclave.interface import MAX_ARGUMENT, MAX_INPUTS
from kms.channel import HostRefused, HostUnavailable
from kms.hosts import HostState
from tests.enclaves import PACKAGE, EnclaveProcess, copy_of_the_package, measured
from tests.softhsm_token import eventually, is_alive


@pytest.fixture
async def enclave(tmp_path):
    async with EnclaveProcess(tmp_path) as process:
        yield process


async def code_of(call):
    with pytest.raises(HostRefused) as caught:
        await call
    return caught.value.code


async def test_the_greeting_says_who_it_is_and_that_it_is_simulated(enclave):
    assert enclave.greeted["simulated"] is True
    assert enclave.greeted["backend"] == "sgx-simulated"
    assert enclave.greeted["freshness"] == "none"
    assert enclave.greeted["identity"]["mrenclave"] == measured()
    assert enclave.greeted["identity"]["isv_svn"] == 5
    assert await enclave.call("describe") == enclave.greeted


@pytest.mark.parametrize("policy", ["mrenclave", "mrsigner", "hybrid"])
async def test_what_is_sealed_is_unsealed_by_the_next_process_of_the_same_enclave(tmp_path, policy):
    fuse = os.urandom(32)
    async with EnclaveProcess(tmp_path, fuse=fuse) as enclave:
        blob = await enclave.call("seal", b"a secret", policy, b"bound")
    async with EnclaveProcess(tmp_path, fuse=fuse) as enclave:
        assert await enclave.call("unseal", blob, b"bound") == b"a secret"
        assert await code_of(enclave.call("unseal", blob, b"other")) == "MAC_MISMATCH"


async def test_other_code_signer_machine_version_and_debug_are_told_apart_from_real_processes(tmp_path):
    fuse = os.urandom(32)
    async with EnclaveProcess(tmp_path, fuse=fuse) as enclave:
        by_code = await enclave.call("seal", b"a secret", "mrenclave", b"")
        by_signer = await enclave.call("seal", b"a secret", "mrsigner", b"")
    changed = copy_of_the_package(tmp_path, addition="ADDED = 1\n")
    cases = [
        # another enclave, and what it gets for the two blobs
        ({"package": changed, "isv_svn": 6}, "MAC_MISMATCH", b"a secret"),
        ({"signer": 2}, b"a secret", "MAC_MISMATCH"),
        ({"fuse": os.urandom(32)}, "MAC_MISMATCH", "MAC_MISMATCH"),
        ({"isv_svn": 4}, "INVALID_ISVSVN", "INVALID_ISVSVN"),
        ({"cpu_svn": bytes([9, 3]).ljust(16, b"\0")}, "INVALID_CPUSVN", "INVALID_CPUSVN"),
        ({"flags": 4 | DEBUG}, "MAC_MISMATCH", "MAC_MISMATCH"),
    ]
    for number, (other, *expected) in enumerate(cases):
        async with EnclaveProcess(tmp_path, **{"fuse": fuse, "counters": f"counters{number}", **other}) as enclave:
            for blob, outcome in zip((by_code, by_signer), expected, strict=True):
                if isinstance(outcome, bytes):
                    assert await enclave.call("unseal", blob, b"") == outcome
                else:
                    assert await code_of(enclave.call("unseal", blob, b"")) == outcome


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"structure": bytes(1808)}, "INVALID_SIGNATURE"),
        ({"fuse": bytes(32)}, "INVALID_PARAMETER"),
        ({"cpu_svn": b"4"}, "INVALID_PARAMETER"),
        ({"flags": 0}, "INVALID_SIGNATURE"),
    ],
)
async def test_an_enclave_that_may_not_start_says_why_and_leaves(tmp_path, wrong, code):
    refused = EnclaveProcess(tmp_path, **wrong)
    with pytest.raises(HostUnavailable):
        await refused.host.start()
    assert refused.host.status.state is HostState.FAILED
    assert code  # the supervisor passes on the words; the code decides whether it tries again
    assert {"INVALID_SIGNATURE": "structure|ATTRIBUTES", "INVALID_PARAMETER": "fuse|cpu_svn"}[code]


async def test_nothing_is_answered_before_the_enclave_is_open_and_it_is_opened_once(tmp_path, enclave):
    assert await code_of(enclave.call("open", os.urandom(32), bytes(16), b"", [])) == "INVALID_PARAMETER"
    closed = EnclaveProcess(tmp_path, counters="others")
    closed.host._greeting = lambda: ["not the fuse"]
    with pytest.raises(HostUnavailable):
        await closed.host.start()


async def test_a_call_that_there_is_not_is_refused(enclave):
    assert await code_of(enclave.call("read_memory", 0)) == "INVALID_PARAMETER"
    assert await code_of(enclave.call("seal", b"x", "anybody", b"")) == "INVALID_PARAMETER"
    assert (await enclave.call("describe"))["simulated"] is True


async def test_attestation_is_refused_as_long_as_there_is_no_quoting_key(enclave):
    assert await code_of(enclave.call("attest", os.urandom(32))) == "UNSUPPORTED"
    assert await code_of(enclave.call("attest", b"short")) == "INVALID_PARAMETER"


async def test_a_key_born_inside_encrypts_and_never_comes_out(enclave):
    sealed = await enclave.execute("new_key", [], ["mrenclave", b"tenant and key"])
    key = [(sealed, b"tenant and key")]
    items = [[os.urandom(12), b"context", f"value {number}".encode()] for number in range(100)]
    ciphertexts = await enclave.execute("encrypt", key, items)
    asked = [[nonce, aad, ct] for (nonce, aad, _), ct in zip(items, ciphertexts, strict=True)]
    asked[7][2] = bytes(len(asked[7][2]))
    opened = await enclave.execute("decrypt", key, asked)
    assert opened == [None if index == 7 else item[2] for index, item in enumerate(items)]
    assert ciphertexts[0][:-16] != items[0][2]


async def test_what_a_function_encrypts_is_plain_aes_gcm(enclave):
    raw = os.urandom(32)
    sealed = await enclave.call("seal", raw, "mrsigner", b"")
    nonce = os.urandom(12)
    [ciphertext] = await enclave.execute("encrypt", [(sealed, b"")], [[nonce, b"context", b"value"]])
    assert AESGCM(raw).decrypt(nonce, ciphertext, b"context") == b"value"


async def test_functions_refuse_what_they_do_not_take(enclave):
    sealed = await enclave.execute("new_key", [], ["mrsigner", b"bound"])
    short = await enclave.call("seal", b"no key", "mrsigner", b"bound")
    item = [bytes(12), b"", b"value"]
    refused = {
        "UNKNOWN_FUNCTION": [("print_key", [(sealed, b"bound")], [item])],
        "MAC_MISMATCH": [("encrypt", [(sealed, b"other")], [item])],
        "INVALID_PARAMETER": [
            ("encrypt", [], [item]),
            ("encrypt", [(short, b"bound")], [item]),
            ("encrypt", [(sealed, b"bound")] * (MAX_INPUTS + 1), [item]),
            ("encrypt", [(sealed, b"bound")], [[bytes(11), b"", b"value"]]),
            ("encrypt", [(sealed, b"bound")], [[bytes(12), b""]]),
            ("encrypt", [(sealed, b"bound")], [item] * 1001),
            ("encrypt", [(sealed, b"bound")], {"items": []}),
            ("decrypt", [(sealed, b"bound")], [[bytes(12), b"", bytes(MAX_ARGUMENT)]]),
            ("new_key", [], ["anybody", b""]),
            ("new_key", [(sealed, b"bound")], ["mrsigner", b""]),
        ],
    }
    for code, calls in refused.items():
        for call in calls:
            assert await code_of(enclave.execute(*call)) == code
    assert await code_of(enclave.call("execute", "encrypt", [(sealed, b"bound")], b"\xc1")) == "INVALID_PARAMETER"


async def test_the_largest_batch_fits_its_answer(enclave):
    sealed = await enclave.execute("new_key", [], ["mrsigner", b""])
    items = [[os.urandom(12), b"", bytes(480)] for _ in range(1000)]
    assert len(msgpack.packb(items)) > MAX_ARGUMENT * 0.9
    ciphertexts = await enclave.execute("encrypt", [(sealed, b"")], items)
    assert {len(ciphertext) for ciphertext in ciphertexts} == {496}


async def test_counters_survive_the_process(tmp_path):
    fuse = os.urandom(32)
    async with EnclaveProcess(tmp_path, fuse=fuse) as enclave:
        assert await enclave.call("create_counter", "blobs") == 0
        assert [await enclave.call("increment_counter", "blobs") for _ in range(3)] == [1, 2, 3]
        os.kill(enclave.pid, signal.SIGKILL)
        await eventually(lambda: enclave.host.status.restarts == 1)
        assert await enclave.call("read_counter", "blobs") == 3
        assert await code_of(enclave.call("read_counter", "others")) == "UNKNOWN_COUNTER"
    # A later version of the same product goes on with them; another platform cannot read them.
    async with EnclaveProcess(tmp_path, fuse=fuse, isv_svn=6) as enclave:
        assert await enclave.call("increment_counter", "blobs") == 4
    with pytest.raises(HostUnavailable, match="damaged, or is not of this enclave"):
        await EnclaveProcess(tmp_path).host.start()


async def test_counters_that_another_process_has_are_not_shared(tmp_path, enclave):
    with pytest.raises(HostUnavailable, match="left with status 1"):
        await EnclaveProcess(tmp_path).host.start()
    assert await enclave.call("create_counter", "blobs") == 0


@pytest.mark.parametrize("which", ["the one that holds the secrets", "the one that waits for it"])
async def test_a_crash_fails_what_is_under_way_at_once_and_the_next_call_works(enclave, which):
    blob = await enclave.call("seal", b"a secret", "mrsigner", b"")
    inner, outer = enclave.pid, enclave.host.status.pid
    os.kill(inner, signal.SIGSTOP)  # in the middle of a request, from the caller's side
    calls = [asyncio.create_task(enclave.call("unseal", blob, b"", deadline=60)) for _ in range(20)]
    await eventually(lambda: enclave.host._channel is not None and len(enclave.host._channel._calls) == 20)
    began = time.monotonic()
    os.kill(inner if which == "the one that holds the secrets" else outer, signal.SIGKILL)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert time.monotonic() - began < 20
    assert {type(result) for result in results} == {HostUnavailable}
    assert await enclave.call("unseal", blob, b"") == b"a secret"
    assert enclave.host.status.restarts == 1
    assert "signal 9" in enclave.host.status.reason
    assert not is_alive(inner)
    assert not is_alive(outer)


async def test_a_stopped_enclave_leaves_no_process(tmp_path):
    enclave = EnclaveProcess(tmp_path)
    enclave.greeted = await enclave.host.start()
    inner, outer = enclave.pid, enclave.host.status.pid
    assert is_alive(inner)
    await enclave.host.stop()
    assert not is_alive(outer)
    await eventually(lambda: not is_alive(inner))


async def test_a_message_beyond_the_bound_ends_the_process_and_not_its_host(enclave):
    channel = enclave.host._channel
    channel._transport.write((1 << 21).to_bytes(4, "big"))
    await eventually(lambda: enclave.host.status.restarts == 1)
    assert (await enclave.call("describe"))["simulated"] is True


CACHED = """
import importlib.util, marshal, os, pathlib, sys
source = pathlib.Path(sys.argv[1])
code = compile(sys.argv[2], str(source), "exec")
stat = source.stat()
cached = pathlib.Path(importlib.util.cache_from_source(str(source)))
cached.parent.mkdir(exist_ok=True)
head = importlib.util.MAGIC_NUMBER + bytes(4) + int(stat.st_mtime).to_bytes(4, "little") + stat.st_size.to_bytes(4, "little")
cached.write_bytes(head + marshal.dumps(code))
"""


def test_bytecode_put_beside_the_measured_sources_is_never_run(tmp_path):
    package = copy_of_the_package(tmp_path)
    planted = "raise SystemExit('planted code runs')"
    command = [sys.executable, "-c", CACHED, str(package / "errors.py"), planted]
    subprocess.run(command, check=True, timeout=60, env={})
    # The control: an ordinary import takes the planted code.
    ordinary = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import enclave.errors"]
    control = subprocess.run(ordinary, capture_output=True, text=True, check=False, timeout=60, env={})
    assert "planted code runs" in control.stderr
    done = subprocess.run(measure_command(package), capture_output=True, text=True, check=False, timeout=60, env={})
    assert done.returncode == 0, done.stderr
    assert bytes.fromhex(done.stdout) == measured()


def test_what_is_measured_is_what_runs_even_if_the_file_changes_meanwhile(tmp_path):
    # errors.py runs when the package has been read; it rewrites interface.py, which is loaded later.
    swap = textwrap.dedent("""
        from pathlib import Path
        Path({path!r}).write_text("raise SystemExit('swapped code runs')")
    """)
    package = tmp_path / "enclave"
    text = (PACKAGE / "errors.py").read_text() + swap.format(path=str(package / "interface.py"))
    copy_of_the_package(tmp_path, errors=text)
    done = subprocess.run(measure_command(package), capture_output=True, text=True, check=False, timeout=60, env={})
    assert "swapped code runs" in (package / "interface.py").read_text()
    assert done.returncode == 0, done.stderr
    # Started again, the changed file is what is read.
    again = subprocess.run(measure_command(package), capture_output=True, text=True, check=False, timeout=60, env={})
    assert "swapped code runs" in again.stderr


def test_the_measurement_does_not_depend_on_where_the_package_lies(tmp_path):
    assert measured(copy_of_the_package(tmp_path)) == measured()
    assert (
        measured(copy_of_the_package(tmp_path / "other", errors=(PACKAGE / "errors.py").read_text() + "\n"))
        != measured()
    )


def test_the_process_starts_only_as_it_is_meant_to(tmp_path):
    command = [part for part in serve_command(Path("/nowhere")) if part not in ("-S",)]
    done = subprocess.run([*command, "0"], capture_output=True, text=True, check=False, timeout=60, env={})
    assert "is started with -I -S -B" in done.stderr
    assert done.returncode == 1


def test_an_enclave_imports_nothing_that_lies_beside_its_libraries(tmp_path):
    package = copy_of_the_package(tmp_path, errors=(PACKAGE / "errors.py").read_text() + "\nimport pydantic\n")
    done = subprocess.run(measure_command(package), capture_output=True, text=True, check=False, timeout=60, env={})
    assert "No module named 'pydantic'" in done.stderr
