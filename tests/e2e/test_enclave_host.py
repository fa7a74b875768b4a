"""The enclave as the services see it: one process under the supervisor, with the errors of the core."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from enclave.command import serve_command
from kms.core.enclave_ports import SealedInput
from kms.core.errors import CorruptRecord, EnclaveUnavailable, KmsError, NotSupported
from kms.core.ports import HealthStatus
from kms.enclave_host import EnclaveHost
from tests.enclaves import EnclaveProcess, measured
from tests.softhsm_token import eventually


@pytest.fixture
def process(tmp_path):
    return EnclaveProcess(tmp_path)


async def test_what_it_says_and_does_and_how_it_fails(tmp_path, process):
    enclave = EnclaveHost(serve_command(tmp_path / "counters"), process._greeting)
    assert enclave.facts is None
    with pytest.raises(EnclaveUnavailable):
        await enclave.execute("new_key", [], ["mrsigner", b"a"])
    await enclave.start()
    try:
        facts = enclave.facts
        assert facts is not None
        assert (facts.mrenclave, facts.simulated, facts.isv_svn, facts.debug) == (measured(), True, 5, False)
        key = SealedInput(await enclave.execute("new_key", [], ["mrsigner", b"a"]), b"a")
        value = os.urandom(1 << 20)
        [sealed] = await enclave.execute("encrypt", [key], [[bytes(12), b"x" * 8192, value]])
        assert await enclave.execute("decrypt", [key], [[bytes(12), b"x" * 8192, sealed]]) == [value]
        with pytest.raises(CorruptRecord):
            await enclave.execute("decrypt", [SealedInput(key.blob, b"b")], [])
        with pytest.raises(NotSupported):
            await enclave.execute("nothing", [], [])
        with pytest.raises(KmsError, match="refuses execute"):
            await enclave.execute("encrypt", [key], "no list")
        assert (await enclave.health()).status is HealthStatus.HEALTHY
        pid = enclave._host.greeted["pid"]  # of the process that answers; the supervisor knows its parent
        os.kill(pid, signal.SIGSTOP)
        in_flight = asyncio.create_task(enclave.execute("decrypt", [key], []))
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(EnclaveUnavailable):
            await in_flight
        await eventually(lambda: enclave.status.restarts == 1 and enclave.facts is not None)
        assert await enclave.execute("decrypt", [key], [[bytes(12), b"x" * 8192, sealed]]) == [value]
    finally:
        await enclave.stop()
