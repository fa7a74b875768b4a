"""The simulated enclave as a process of its own, under the daemon's supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import msgpack
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from enclave import sealing
from enclave.interface import MAX_ARGUMENT, MAX_INPUTS, Policy
from kms.channel import HostRefused, HostUnavailable
from kms.crypto.dek import Dek
from kms.crypto.xaes import Subkeys
from kms.hosts import HostState
from tests.enclaves import EnclaveProcess, copy_of_the_package, measured
from tests.softhsm_token import eventually, is_alive

# One loop and, where nothing is done to it, one enclave for all of this file: a start takes most of a second.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def enclave(tmp_path_factory):
    async with EnclaveProcess(tmp_path_factory.mktemp("enclave")) as process:
        yield process
        assert process.host.status.restarts == 0


@pytest_asyncio.fixture(loop_scope="module")
async def doomed(tmp_path):
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


async def test_what_is_sealed_is_unsealed_by_the_next_process_of_the_same_enclave(tmp_path, enclave):
    policies = ("mrenclave", "mrsigner", "hybrid")
    blobs = [await enclave.call("seal", policy.encode(), policy, b"bound") for policy in policies]
    async with EnclaveProcess(tmp_path, fuse=enclave.fuse) as another:
        assert another.pid != enclave.pid
        for blob, policy in zip(blobs, policies, strict=True):
            assert await another.call("unseal", blob, b"bound") == policy.encode()
            assert await code_of(another.call("unseal", blob, b"other")) == "MAC_MISMATCH"


async def test_real_processes_of_other_code_signer_and_version_are_told_apart(tmp_path, enclave):
    by_code = await enclave.call("seal", b"a secret", "mrenclave", b"")
    by_signer = await enclave.call("seal", b"a secret", "mrsigner", b"")
    changed = copy_of_the_package(tmp_path, addition="ADDED = 1\n")
    cases = [
        # another enclave, and what it gets for the two blobs
        ({"package": changed, "isv_svn": 6}, "MAC_MISMATCH", b"a secret"),
        ({"signer": 2}, b"a secret", "MAC_MISMATCH"),
        ({"isv_svn": 4}, "INVALID_ISVSVN", "INVALID_ISVSVN"),
    ]
    for number, (other, *expected) in enumerate(cases):
        async with EnclaveProcess(tmp_path, fuse=enclave.fuse, counters=f"counters{number}", **other) as another:
            for blob, outcome in zip((by_code, by_signer), expected, strict=True):
                if isinstance(outcome, bytes):
                    assert await another.call("unseal", blob, b"") == outcome
                else:
                    assert await code_of(another.call("unseal", blob, b"")) == outcome


async def test_an_enclave_that_may_not_start_says_why_and_leaves(tmp_path):
    refused = EnclaveProcess(tmp_path, structure=bytes(1808))
    with pytest.raises(HostUnavailable, match="signature structure: is not one of this format"):
        await refused.host.start()
    assert refused.host.status.state is HostState.FAILED


async def test_an_enclave_is_opened_once(enclave):
    again = enclave.call("open", os.urandom(32), bytes(16), enclave.signed(), [bytes(16), 4, 0, 0, bytes(64), 0])
    assert await code_of(again) == "INVALID_PARAMETER"


async def test_a_call_that_there_is_not_is_refused(enclave):
    assert await code_of(enclave.call("read_memory", 0)) == "INVALID_PARAMETER"
    assert await code_of(enclave.call("seal", b"x", "anybody", b"")) == "INVALID_PARAMETER"
    assert (await enclave.call("describe"))["simulated"] is True


async def test_an_enclave_without_an_authority_of_its_platform_cannot_attest(enclave):
    assert await code_of(enclave.call("attest", os.urandom(64))) == "UNSUPPORTED"
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
    sealed = await enclave.execute("new_key", [], ["mrsigner", b""])
    raw = sealing.unseal(*enclave.keys, sealed, b"")
    nonce = os.urandom(12)
    [ciphertext] = await enclave.execute("encrypt", [(sealed, b"")], [[nonce, b"context", b"value"]])
    assert AESGCM(raw).decrypt(nonce, ciphertext, b"context") == b"value"


async def test_a_key_of_the_second_suite_encrypts_as_xaes_256_gcm_and_by_nothing_else(enclave):
    sealed = await enclave.execute("new_key", [], ["mrsigner", b"bound", 2])
    raw = sealing.unseal(*enclave.keys, sealed, b"bound")[1:]
    nonces = [os.urandom(24), os.urandom(24)]
    items = [[nonce, b"context", bytes([number]) * 50] for number, nonce in enumerate([nonces[0], *nonces, nonces[0]])]
    ciphertexts = await enclave.execute("encrypt", [(sealed, b"bound")], items)
    subkeys = Subkeys(Dek(raw))
    for (nonce, aad, data), ciphertext in zip(items, ciphertexts, strict=True):
        assert AESGCM(subkeys.derive(nonce[:12])).decrypt(nonce[12:], ciphertext, aad) == data
    asked = [[nonce, aad, ciphertext] for (nonce, aad, _), ciphertext in zip(items, ciphertexts, strict=True)]
    asked[2][0] = bytes(24)
    opened = await enclave.execute("decrypt", [(sealed, b"bound")], asked)
    assert opened == [None if index == 2 else item[2] for index, item in enumerate(items)]
    short = [[bytes(12), b"", b"value"]]
    assert await code_of(enclave.execute("encrypt", [(sealed, b"bound")], short)) == "INVALID_PARAMETER"
    first = await enclave.execute("new_key", [], ["mrsigner", b"bound", 1])
    assert await code_of(enclave.execute("encrypt", [(first, b"bound")], items)) == "INVALID_PARAMETER"


async def test_a_key_of_streams_seals_streams_and_no_other_key_does(enclave):
    chunks = [bytes(58), bytes(32), 0, True, [b"chunk"]]
    of_streams = await enclave.execute("new_key", [], ["mrsigner", b"bound", 16])
    commitment, sealed = await enclave.execute("seal_chunks", [(of_streams, b"bound")], chunks)
    opened = await enclave.execute("open_chunks", [(of_streams, b"bound")], [*chunks[:4], sealed, commitment])
    assert opened == [b"chunk"]
    item = [[bytes(12), b"", b"value"]]
    assert await code_of(enclave.execute("encrypt", [(of_streams, b"bound")], item)) == "INVALID_PARAMETER"
    for suite in (1, 2):
        other = await enclave.execute("new_key", [], ["mrsigner", b"bound", suite])
        assert await code_of(enclave.execute("seal_chunks", [(other, b"bound")], chunks)) == "INVALID_PARAMETER"


async def test_functions_refuse_what_they_do_not_take(enclave):
    sealed = await enclave.execute("new_key", [], ["mrsigner", b"bound"])
    by_signer = sealing.options_for(Policy.MRSIGNER)
    short = sealing.seal(*enclave.keys, by_signer, b"no key", b"bound")
    item = [bytes(12), b"", b"value"]
    refused = {
        "UNKNOWN_FUNCTION": [("print_key", [(sealed, b"bound")], [item])],
        "MAC_MISMATCH": [("encrypt", [(sealed, b"other")], [item])],
        "INVALID_PARAMETER": [
            ("encrypt", [], [item]),
            ("encrypt", [(short, b"bound")], [item]),
            ("print_key", [(sealed, b"bound")] * (MAX_INPUTS + 1), [item]),
            ("encrypt", [(sealed, b"bound")], [[bytes(11), b"", b"value"]]),
            ("encrypt", [(sealed, b"bound")], [[bytes(12), b""]]),
            ("encrypt", [(sealed, b"bound")], [item] * 1001),
            ("encrypt", [(sealed, b"bound")], {"items": []}),
            ("decrypt", [(sealed, b"bound")], [[bytes(12), b"", bytes(MAX_ARGUMENT)]]),
            ("new_key", [], ["anybody", b""]),
            ("new_key", [], ["mrsigner", b"", 3]),
            ("new_key", [(sealed, b"bound")], ["mrsigner", b""]),
        ],
    }
    for code, calls in refused.items():
        for call in calls:
            assert await code_of(enclave.execute(*call)) == code
    assert await code_of(enclave.call("execute", "encrypt", [(sealed, b"bound")], b"\xc1")) == "INVALID_PARAMETER"


async def test_the_largest_batch_fits_its_answer(enclave):
    sealed = await enclave.execute("new_key", [], ["mrsigner", b""])
    items = [[os.urandom(12), b"", bytes(1480)] for _ in range(1000)]
    assert len(msgpack.packb(items)) > MAX_ARGUMENT * 0.9
    ciphertexts = await enclave.execute("encrypt", [(sealed, b"")], items)
    assert {len(ciphertext) for ciphertext in ciphertexts} == {1496}


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
    later = EnclaveProcess(tmp_path, fuse=fuse, isv_svn=6)
    async with later:
        assert await later.call("increment_counter", "blobs") == 4
    with pytest.raises(HostUnavailable, match="damaged, or is not of this enclave"):
        await EnclaveProcess(tmp_path).host.start()


async def test_counters_that_another_process_has_are_not_shared(enclave):
    with pytest.raises(HostUnavailable, match="left with status 1"):
        await EnclaveProcess(enclave.directory).host.start()
    assert await enclave.call("create_counter", "blobs") == 0


@pytest.mark.parametrize("which", ["the one that holds the secrets", "the one that waits for it"])
async def test_a_crash_fails_what_is_under_way_at_once_and_the_next_call_works(doomed, which):
    enclave = doomed
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


async def test_a_message_beyond_the_bound_ends_the_process_and_not_its_host(doomed):
    enclave = doomed
    channel = enclave.host._channel
    channel._transport.write(((1 << 21) + 1).to_bytes(4, "big"))
    await eventually(lambda: enclave.host.status.restarts == 1)
    assert (await enclave.call("describe"))["simulated"] is True
