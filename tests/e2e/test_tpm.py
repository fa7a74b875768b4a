"""The enclave upon a TPM, against those who use the same TPM, sit on the way to it, or own its files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from enclave.errors import CounterFault, InvalidParameter, MacMismatch, PlatformFault, UnknownCounter
from enclave.interface import Policy
from enclave.launch import LIBRARIES
from enclave.tpm_policy import OneOf, PcrIs, digest_of, steps_for
from enclave.tpm_release import parse_release, sign_release
from tests.enclave_platforms import measurement
from tests.swtpm import MISSING, WHY_NOT, Swtpm
from tests.tpm_listener import Listener

pytestmark = pytest.mark.skipif(bool(MISSING), reason=WHY_NOT)

if not MISSING:
    from tpm2_pytss import types as tpm
    from tpm2_pytss.constants import ESYS_TR, TPM2_ALG, TPM2_CAP, TPM2_SE, TPMA_NV
    from tpm2_pytss.ESAPI import ESAPI
    from tpm2_pytss.TSS2_Exception import TSS2_Exception

    from enclave import tpm_device
    from enclave.tpm import TpmEnclave
    from enclave.tpm_device import FIRST_COUNTER, MAX_COUNTERS, Tpm, TpmRefused, pin
    from tests.tpm_platform import TpmPlatform, approver

AAD = b"associated data"
PCR = 13


@pytest.fixture
def platform() -> Iterator[TpmPlatform]:
    made = TpmPlatform()
    yield made
    made.close()


@contextmanager
def somebody_else(platform: TpmPlatform) -> Iterator[ESAPI]:
    """Speak to the same TPM as another process does; swtpm serves one client at a time."""
    platform.disconnect()
    esapi = ESAPI(platform.swtpm.tcti)
    try:
        yield esapi
    finally:
        esapi.close()


def release(code: str = "E1", signer: str = "S1", svn: int = 5):
    return parse_release(sign_release(measurement(code), 1, svn, approver(signer)), measurement(code))


# Policies.


def test_the_digests_of_policies_are_the_tpms_own(platform):
    platform.start()
    said = release()
    with somebody_else(platform) as esapi:
        for policy in Policy:
            session = esapi.start_auth_session(ESYS_TR.NONE, ESYS_TR.NONE, TPM2_SE.POLICY, "aes128cfb", TPM2_ALG.SHA256)
            for step in steps_for(policy, said.pcr, said.approvals[5]):
                if isinstance(step, PcrIs):
                    esapi.policy_pcr(session, b"", f"sha256:{step.pcr}")
                else:
                    area, _ = tpm.TPMT_PUBLIC.unmarshal(step.public)
                    key = esapi.load_external(tpm.TPM2B_PUBLIC(area), hierarchy=ESYS_TR.OWNER)
                    ecc = tpm.TPMS_SIGNATURE_ECC(
                        hash=TPM2_ALG.SHA256, signatureR=step.signature[:32], signatureS=step.signature[32:]
                    )
                    signature = tpm.TPMT_SIGNATURE(sigAlg=TPM2_ALG.ECDSA, signature=tpm.TPMU_SIGNATURE(ecdsa=ecc))
                    digest, _ = esapi.hash(step.approved + step.reference, TPM2_ALG.SHA256, ESYS_TR.OWNER)
                    ticket = esapi.verify_signature(key, digest, signature)
                    esapi.policy_authorize(session, step.approved, esapi.tr_get_name(key), ticket, step.reference)
                    esapi.flush_context(key)
            assert bytes(esapi.policy_get_digest(session)) == digest_of(steps_for(policy, said.pcr, said.approvals[5]))
            esapi.flush_context(session)


def test_what_else_is_measured_while_it_runs_closes_every_seal_until_the_next_reset(platform):
    enclave = platform.start()
    blobs = [enclave.seal(b"data", policy, AAD) for policy in Policy]
    enclave.create_counter("anchor")
    platform.tpm.extend_pcr(PCR, bytes(32))
    for blob in blobs:  # no fault of theirs, and not told as one
        with pytest.raises(PlatformFault, match=r"^PCR 13: other code has been measured"):
            enclave.unseal(blob, AAD)
    with pytest.raises(CounterFault):
        enclave.increment_counter("anchor")
    with pytest.raises(PlatformFault, match=r"^PCR 13: other code has been measured"):
        platform.resume()
    enclave = platform.start()
    assert [enclave.unseal(blob, AAD) for blob in blobs] == [b"data"] * 3


def test_it_starts_again_without_a_reset_and_other_code_does_not(platform):
    blob = platform.start().seal(b"data", Policy.HYBRID, AAD)
    assert platform.resume().unseal(blob, AAD) == b"data"
    with pytest.raises(PlatformFault, match="reset it"):
        platform.resume("E2")
    assert platform.resume().unseal(blob, AAD) == b"data"


def test_the_tpm_itself_refuses_an_older_release_what_a_newer_one_has_sealed(platform):
    platform.start()
    newer, older = release(svn=6), release(svn=5)
    steps = steps_for(Policy.MRSIGNER, newer.pcr, newer.approvals[6])
    sealed = platform.tpm.seal(b"key", digest_of(steps))
    assert platform.tpm.unseal(*sealed, steps) == b"key"
    for approval in older.approvals:
        with pytest.raises(TpmRefused):
            platform.tpm.unseal(*sealed, steps_for(Policy.MRSIGNER, older.pcr, approval))


def test_the_tpm_itself_refuses_an_approval_that_the_signer_has_not_given(platform):
    platform.start()
    said, other = release(), release(signer="S2")
    forged = type(said.approvals[5])(
        said.approvals[5].public, said.approvals[5].approved, said.approvals[5].reference, other.approvals[5].signature
    )
    sealed = platform.tpm.seal(b"key", digest_of((said.pcr, said.approvals[5])))
    for approval in (forged, other.approvals[5]):
        with pytest.raises(TpmRefused):
            platform.tpm.unseal(*sealed, (said.pcr, approval))
    for steps in ((), (said.pcr,), (said.pcr, said.approvals[5], said.pcr)):
        with pytest.raises(TpmRefused):
            platform.tpm.unseal(*sealed, steps)
    assert platform.tpm.unseal(*sealed, (said.pcr, said.approvals[5])) == b"key"


def test_the_tpm_itself_tells_products_apart(platform):
    platform.start(product=1)
    sealed = platform.tpm.seal(b"key", digest_of((release().pcr,)))
    platform.start(product=2)
    with pytest.raises(TpmRefused):
        platform.tpm.unseal(*sealed, (release().pcr,))


def test_one_tpm_serves_threads_one_after_the_other(platform):
    enclave = platform.start()
    enclave.create_counter("anchor")
    blob = enclave.seal(b"data", Policy.HYBRID, AAD)
    with ThreadPoolExecutor(4) as threads:
        opened = list(threads.map(lambda _: enclave.unseal(blob, AAD), range(24)))
    assert opened == [b"data"] * 24


# Counters.


def test_nobody_counts_without_the_signers_code(platform):
    enclave = platform.start()
    value = enclave.create_counter("anchor")
    with somebody_else(platform) as esapi:
        index = esapi.tr_from_tpmpublic(FIRST_COUNTER)
        with pytest.raises(TSS2_Exception):
            esapi.nv_increment(index)
    enclave = platform.start("E1", "S2")
    with pytest.raises(UnknownCounter):
        enclave.read_counter("anchor")
    assert platform.start().read_counter("anchor") == value


def test_a_counter_that_was_deleted_does_not_come_back_lower(platform):
    enclave = platform.start()
    enclave.create_counter("anchor")
    highest = [enclave.increment_counter("anchor") for _ in range(5)][-1]
    with somebody_else(platform) as esapi:
        esapi.nv_undefine_space(esapi.tr_from_tpmpublic(FIRST_COUNTER))
    enclave = platform.resume()
    with pytest.raises(UnknownCounter):
        enclave.read_counter("anchor")
    assert enclave.create_counter("anchor") > highest


def test_an_index_of_the_same_policy_that_is_no_counter_counts_for_nothing(platform):
    platform.start()
    approval = release().approvals[0]
    approved = (release().pcr, approval)
    from enclave.tpm_policy import counter_branch  # noqa: PLC0415

    policy = digest_of((*approved, OneOf((digest_of(approved), counter_branch("anchor")))))
    with somebody_else(platform) as esapi:
        area = tpm.TPMS_NV_PUBLIC(
            nvIndex=FIRST_COUNTER,
            nameAlg=TPM2_ALG.SHA256,
            attributes=TPMA_NV.AUTHREAD | TPMA_NV.OWNERWRITE | TPMA_NV.NO_DA,
            authPolicy=policy,
            dataSize=8,
        )
        index = esapi.nv_define_space(None, tpm.TPM2B_NV_PUBLIC(area))
        esapi.nv_write(index, bytes(7) + b"\x01", auth_handle=ESYS_TR.OWNER)
    enclave = platform.resume()
    with pytest.raises(UnknownCounter):
        enclave.read_counter("anchor")
    enclave.create_counter("anchor")  # elsewhere
    assert platform.tpm.find_counters()[policy] == FIRST_COUNTER + 1


def test_a_counter_that_a_crash_left_without_a_value_is_taken_up_again(platform, monkeypatch):
    enclave = platform.start()

    def killed(*_: object) -> None:
        raise PlatformFault("killed between the two steps")

    with monkeypatch.context() as patch:
        patch.setattr(Tpm, "increment", killed)
        with pytest.raises(CounterFault):
            enclave.create_counter("anchor")
    platform.crash()
    enclave = platform.start()
    with pytest.raises(UnknownCounter):
        enclave.read_counter("anchor")
    value = enclave.create_counter("anchor")
    assert enclave.increment_counter("anchor") == value + 1
    assert list(platform.tpm.find_counters().values()) == [FIRST_COUNTER]


def test_there_are_as_many_counters_as_there_is_room_for(platform, monkeypatch):
    enclave = platform.start()
    monkeypatch.setattr(tpm_device, "MAX_COUNTERS", 3)
    for number in range(3):
        enclave.create_counter(f"c{number}")
    with pytest.raises(InvalidParameter, match=r"^counter: there are"):
        enclave.create_counter("c3")
    assert enclave.increment_counter("c2") == enclave.read_counter("c2")
    assert MAX_COUNTERS == 128


def test_a_restored_copy_of_a_software_tpm_takes_its_counters_back(platform, tmp_path):
    """What a software TPM does not protect against, and why its freshness is none."""
    enclave = platform.start()
    enclave.create_counter("anchor")
    before = enclave.increment_counter("anchor")
    platform.disconnect()
    platform.swtpm.stop()
    shutil.copytree(platform.swtpm.directory, tmp_path / "copy", ignore=lambda *_: {"s", "s.ctrl"})
    assert platform.start().increment_counter("anchor") == before + 1
    platform.disconnect()
    platform.swtpm.stop()
    shutil.copytree(tmp_path / "copy", platform.swtpm.directory, dirs_exist_ok=True)
    assert platform.start().read_counter("anchor") == before


# The way to the TPM.


def test_another_tpm_in_its_place_is_refused(platform):
    platform.start()
    platform.disconnect()
    other = Swtpm()
    other.start()
    try:
        with pytest.raises(PlatformFault, match="not the one that was pinned"):
            Tpm(other.tcti, platform.pins.storage_root)
    finally:
        other.remove()
    assert pin(platform.swtpm.tcti) == platform.pins


def test_a_tpm_that_does_not_answer_is_a_fault_and_no_mismatch(platform):
    enclave = platform.start()
    blob = enclave.seal(b"data", Policy.MRSIGNER, AAD)
    enclave.create_counter("anchor")
    platform.swtpm.stop(signal.SIGKILL)
    for call in (
        lambda: enclave.unseal(blob, AAD),
        lambda: enclave.seal(b"data", Policy.MRSIGNER, AAD),
        lambda: enclave.attest(bytes(64)),
    ):
        with pytest.raises(PlatformFault) as raised:
            call()
        assert not isinstance(raised.value, TpmRefused)
    with pytest.raises(CounterFault):
        enclave.increment_counter("anchor")
    with pytest.raises(PlatformFault):
        Tpm(platform.swtpm.tcti, platform.pins.storage_root)
    assert platform.start().unseal(blob, AAD) == b"data"


def test_what_a_killed_process_has_left_in_the_tpm_is_flushed(platform):
    with somebody_else(platform) as esapi:
        for _ in range(3):
            esapi.create_primary(None, "ecc256:aes128cfb")
            esapi.start_auth_session(ESYS_TR.NONE, ESYS_TR.NONE, TPM2_SE.POLICY, "aes128cfb", TPM2_ALG.SHA256)
    with somebody_else(platform) as esapi, pytest.raises(TSS2_Exception):
        esapi.create_primary(None, "ecc256:aes128cfb")  # they are still there
    enclave = platform.resume()
    assert enclave.unseal(enclave.seal(b"data", Policy.HYBRID, AAD), AAD) == b"data"


def test_nothing_stays_in_the_tpm_after_any_call(platform):
    enclave = platform.start()
    enclave.create_counter("anchor")
    blob = enclave.seal(b"data", Policy.HYBRID, AAD)
    for _ in range(3):
        enclave.unseal(blob, AAD)
        enclave.attest(bytes(64))
        enclave.increment_counter("anchor")
        with pytest.raises(MacMismatch):
            enclave.unseal(blob[:-1] + bytes([blob[-1] ^ 1]), AAD)
    platform.disconnect()
    with somebody_else(platform) as esapi:
        for first in (0x02000000, 0x03000000, 0x80000000):
            _, capability = esapi.get_capability(TPM2_CAP.HANDLES, first, 16)
            handles = capability.data.handles
            assert [int(one) for one in handles] == []


def test_whoever_listens_on_the_way_does_not_hear_a_sealed_key(platform):
    platform.start()
    platform.disconnect()
    key, control = os.urandom(32), os.urandom(32)
    with Listener(platform.swtpm.socket, platform.swtpm.directory) as listener:
        device = Tpm(f"swtpm:path={listener.socket}", platform.pins.storage_root)
        steps = (release().pcr,)
        sealed = device.seal(key, digest_of(steps))
        assert device.unseal(*sealed, steps) == key
        device.close()
        esapi = ESAPI(f"swtpm:path={listener.socket}")
        root = esapi.create_primary(None, "ecc256:aes128cfb")[0]
        sensitive = tpm.TPM2B_SENSITIVE_CREATE(tpm.TPMS_SENSITIVE_CREATE(data=tpm.TPM2B_SENSITIVE_DATA(control)))
        esapi.create(root, sensitive, tpm.TPM2B_PUBLIC.parse("keyedhash", objectAttributes="fixedtpm|fixedparent"))
        esapi.flush_context(root)
        esapi.close()
    assert control in listener.heard  # without an encrypted session it would be heard
    assert key not in listener.heard
    assert key[:16] not in listener.heard


def test_the_owners_authorization_is_needed_where_one_is_set(platform):
    platform.disconnect()
    auth = os.urandom(32)
    with somebody_else(platform) as esapi:
        esapi.hierarchy_change_auth(ESYS_TR.OWNER, auth)
    with pytest.raises(PlatformFault):
        Tpm(platform.swtpm.tcti, platform.pins.storage_root)
    device = Tpm(platform.swtpm.tcti, platform.pins.storage_root, auth)
    try:
        enclave = TpmEnclave(device, release())
        value = enclave.create_counter("anchor")
        assert enclave.increment_counter("anchor") == value + 1
        assert enclave.unseal(enclave.seal(b"data", Policy.HYBRID, AAD), AAD) == b"data"
    finally:
        device.close()


def test_it_is_known_for_a_software_tpm(platform, monkeypatch):
    platform.start()
    assert platform.tpm.simulated
    platform.disconnect()
    monkeypatch.setattr(tpm_device, "_MAKERS", frozenset({b"IBM\0"}))
    enclave = platform.resume()
    said = enclave.describe()
    assert (said.simulated, str(said.freshness)) == (False, "local")
    # What one kind of TPM has sealed says so, and is not the other's.
    blob = enclave.seal(b"data", Policy.MRSIGNER, AAD)
    assert blob.startswith(b"TPM2\0")
    monkeypatch.undo()
    with pytest.raises(MacMismatch):
        platform.resume().unseal(blob, AAD)


def test_the_simulated_enclave_never_loads_it():
    code = "import sys, enclave.host, enclave.launch, enclave.simulated_start; print(*sorted(n for n in sys.modules if 'tpm' in n))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""
    assert not [name for name in LIBRARIES["simulated"] if "tpm" in name]
