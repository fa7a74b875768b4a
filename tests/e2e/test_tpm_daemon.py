"""A daemon whose enclave stands upon a TPM, in software here: what it does, loses, and refuses."""

from __future__ import annotations

import io
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kms_client import EnclaveUnavailable, Purpose
from kms_client import HealthStatus as Serving

from kms.kmsd.tpm_files import TpmChoices
from tests.daemon import Daemon, Installation, wait_until
from tests.swtpm import MISSING, WHY_NOT, Swtpm

pytestmark = [pytest.mark.softhsm, pytest.mark.skipif(bool(MISSING), reason=WHY_NOT)]

PATIENCE = 60.0
PLACE = {"table": "users", "column": "totp", "row": "7"}
KEY = "tenants/acme/keys/mfa"


@pytest.fixture(scope="module")
def software_tpm() -> Iterator[Swtpm]:
    made = Swtpm()
    made.start()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def tpm_installation(software_tpm: Swtpm) -> Iterator[Installation]:
    """An installation upon a TPM as `kmsd init` makes it."""
    parent = Path(tempfile.mkdtemp(prefix="kms"))
    made = Installation(parent / "i", tpm=TpmChoices(software_tpm.tcti))
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(parent)


def enclave_pid(daemon: Daemon) -> int:
    """The process that has the secrets: the child of the one that the supervisor knows."""
    started = daemon.events("enclave.host")[-1]["pid"]
    return int(Path(f"/proc/{started}/task/{started}/children").read_text())


def attested(daemon: Daemon, times: int) -> None:
    wait_until(lambda: len(daemon.events("enclave.attested")) >= times, "the enclave to be attested", PATIENCE)


def test_keys_and_blobs_outlive_the_process_the_tpm_and_the_daemon(tpm_installation, software_tpm):
    daemon = tpm_installation.start()
    attested(daemon, 1)
    started = daemon.events("enclave.started")[0]
    assert (started["backend"], started["assurance"], started["freshness"]) == ("tpm2", "SIMULATED", "none")
    assert started["measures_missing"] in ([], ["memory_locked"], ["no_network"], ["memory_locked", "no_network"])
    with tpm_installation.tenant("acme") as client, tpm_installation.operator() as operator:
        client.create_key("tenants/acme", "mfa", Purpose.ENCRYPT, policy="tenants/acme/policies/secret")
        value = client.encrypt(KEY, b"seed", context=PLACE).ciphertext
        body = os.urandom(100_000)
        blob = client.seal_blob("tenants/acme", "scan", io.BytesIO(body), context=PLACE)
        assert blob.simulated

        def all_is_there() -> None:
            assert client.decrypt(KEY, value, context=PLACE).plaintext == b"seed"
            assert b"".join(client.unseal_blob(blob.name, context=PLACE)) == body

        all_is_there()
        # 1. Its process dies.
        os.kill(enclave_pid(daemon), signal.SIGKILL)
        attested(daemon, 2)
        all_is_there()
        # 2. The TPM dies, and comes back as after a restart of the machine.
        software_tpm.stop(signal.SIGKILL)
        with pytest.raises(EnclaveUnavailable, match="TPM"):
            client.decrypt(KEY, value, context=PLACE)
        wait_until(lambda: operator.health("enclave") is not Serving.SERVING, "the enclave to be missed")
        software_tpm.start()
        attested(daemon, 3)
        all_is_there()
        assert daemon.process.poll() is None
        # 3. The daemon is started again.
        assert daemon.stop() == 0
        daemon = tpm_installation.start()
        attested(daemon, 1)
        all_is_there()
        assert daemon.stop() == 0
