"""A daemon whose enclave stands upon a TPM, in software here: what it does, loses, and refuses."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kms_client import EnclaveUnavailable as ClientEnclaveUnavailable
from kms_client import HealthStatus as Serving
from kms_client import Purpose

from enclave.signatures import raw_key
from enclave.tpm_release import DEFAULT_PCR, verified_release
from kms.cli.main import run
from kms.clock import now
from kms.core.enclave_ports import SealedInput
from kms.core.errors import EnclaveUnavailable
from kms.core.ports import HealthStatus
from kms.kmsd import check_enclave, checks, tpm_files
from kms.kmsd.enclave_signing import sign_anew
from kms.kmsd.findings import Subject
from kms.kmsd.measuring import private_pem
from kms.kmsd.private_files import Refused
from kms.settings import load
from tests.daemon import Daemon, Installation, wait_until
from tests.enclaves import MEASURES, measured
from tests.memory_search import count_in_memory
from tests.node_enclaves import PATIENCE, enclave_pid, inner, running, until
from tests.secret_search import forms
from tests.swtpm import MISSING, WHY_NOT, Swtpm
from tests.trail import MemoryWriter

pytestmark = [pytest.mark.softhsm, pytest.mark.skipif(bool(MISSING), reason=WHY_NOT)]

if not MISSING:
    from enclave.tpm_device import Tpm
    from tests.tpm_platform import approver

PLACE = {"table": "users", "column": "totp", "row": "7"}
KEY = "tenants/acme/keys/mfa"
NEW_KEY = ["mrsigner", b"a"]


def attested(daemon: Daemon, times: int) -> None:
    wait_until(lambda: len(daemon.events("enclave.attested")) >= times, "the enclave to be attested", PATIENCE)


def measure_something_else(tpm: Swtpm) -> None:
    device = Tpm(tpm.tcti, None)
    device.extend_pcr(DEFAULT_PCR, bytes(32))
    device.close()


def test_keys_and_blobs_outlive_the_process_the_tpm_and_the_daemon(tpm_installation, software_tpm):
    daemon = tpm_installation.start()
    attested(daemon, 1)
    started = daemon.events("enclave.started")[0]
    assert (started["backend"], started["assurance"], started["freshness"]) == ("tpm2", "SIMULATED", "none")
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
        with pytest.raises(ClientEnclaveUnavailable, match="TPM"):
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


def test_a_quote_of_the_daemons_enclave_is_verified_at_a_desk(tpm_installation, capsys, monkeypatch):
    attested(tpm_installation.start(), 1)
    place = tpm_installation.directory
    monkeypatch.setenv("KMS_PROFILE", str(tpm_installation.issue("tenants/acme/principals/app")))
    with tpm_installation.operator() as operator:
        operator.create_tenant("acme")
        wait_until(lambda: operator.health("enclave") is Serving.SERVING, "the enclave to be healthy")
    assert run(["enclave", "status", "--output", "json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["assurance"], status["backend"], status["freshness"]) == ("SIMULATED", "tpm2", "none")
    out = place / "answer"
    assert run(["enclave", "attest", "--out", str(out), "--output", "json"]) == 0
    asked = json.loads(capsys.readouterr().out)
    assert {path.name for path in out.iterdir()} == {"quote.bin"}
    policy = place / "enclave/policy.yaml"

    def verify(
        *more: str, nonce: str = asked["nonce"], quote: Path = out / "quote.bin"
    ) -> tuple[int, dict[str, object]]:
        named = ["--policy", str(policy), "--nonce", nonce, "--issued", asked["issued"], "--at", asked["at"]]
        code = run(["enclave", "verify", str(quote), *named, "--output", "json", *more])
        printed = capsys.readouterr().out
        return code, json.loads(printed) if printed else {}

    code, verdict = verify()
    assert (code, verdict["backend"], verdict["mrenclave"]) == (0, "SIMULATED TPM2", measured(backend="tpm2").hex())
    assert verdict["platform_id"] == status["platform_id"]
    code, verdict = verify(nonce="00" * 32)
    assert (code, verdict["check"]) == (8, "WrongReportData")
    changed = place / "changed.bin"
    whole = (out / "quote.bin").read_bytes()
    changed.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    code, verdict = verify(quote=changed)
    assert (code, verdict["check"]) == (8, "BadSignature")
    # A TPM has no lists, and a policy that does not name software takes none.
    assert verify("--root-list", str(changed))[0] == 2
    policy.write_text(policy.read_text().replace("allow_simulated: true", "allow_simulated: false"))
    code, verdict = verify()
    assert (code, verdict["check"]) == (8, "SimulatedNotAllowed")


def test_the_process_has_all_measures_and_no_way_but_the_one_to_the_tpm(tpm_installation):
    daemon = tpm_installation.start()
    attested(daemon, 1)
    missing = set(daemon.events("enclave.started")[0]["measures_missing"])
    optional = {"memory_locked", "no_network"}  # by the limits and the namespaces of the machine
    if os.uname().machine != "x86_64":
        optional.add("system_calls_limited")
    assert missing <= optional <= MEASURES
    pid = enclave_pid(daemon)
    outer = int(daemon.events("enclave.host")[-1]["pid"])
    links = {fd.name: str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    others = [link.partition(":")[0] for number, link in links.items() if int(number) > 2]
    assert others == ["socket", "socket"]  # the daemon's, and the TPM's
    assert not [fd for fd in Path(f"/proc/{outer}/fd").iterdir() if str(fd.readlink()).startswith("socket")]
    assert Path(f"/proc/{pid}/environ").read_bytes() == b""
    maps = Path(f"/proc/{pid}/maps").read_text()
    assert "libtss2-esys" in maps
    assert "libtss2-tcti-" not in maps  # its transports, which open sockets and libraries, are not used
    assert "tss2" not in Path(f"/proc/{daemon.process.pid}/maps").read_text()


def test_init_makes_what_it_says_with_the_owners_authorization_and_another_pcr(tmp_path, software_tpm):
    from tpm2_pytss.constants import ESYS_TR  # noqa: PLC0415
    from tpm2_pytss.ESAPI import ESAPI  # noqa: PLC0415

    auth = os.urandom(16).hex().encode()
    esapi = ESAPI(software_tpm.tcti)
    esapi.hierarchy_change_auth(ESYS_TR.OWNER, auth)
    esapi.close()
    (tmp_path / "auth").write_bytes(auth + b"\n")
    place = Path(software_tpm.directory) / "i"  # short enough for a socket in it
    arguments = ["init", str(place), "--enclave-backend", "tpm2", "--tpm", software_tpm.tcti, "--tpm-pcr", "12"]
    assert "refuses, 0x9a2" in kmsd(*arguments, code=1)
    assert not place.exists()
    kmsd(*arguments, "--tpm-owner-auth", str(tmp_path / "auth"))
    assert verified_release((place / "enclave/structure.bin").read_bytes()).pcr.pcr == 12
    for path in (place / "secrets").iterdir():
        assert path.stat().st_mode & 0o077 == 0
    assert (place / "secrets/tpm-owner-auth").read_bytes().strip() == auth
    assert [one for one in checks.run(place / "kmsd.toml", now()) if "enclave" in str(one)] == []

    async def use() -> None:
        async with running(place) as enclave:
            await enclave.execute("new_key", [], NEW_KEY)
            if os.geteuid() == 0:
                looked_for = list(forms(auth))
                ours = count_in_memory(inner(enclave), looked_for, as_superuser=True)
                assert ours is not None
                assert max(ours) > 0  # the search finds what is there
                assert (await enclave.health()).status is HealthStatus.HEALTHY

    asyncio.run(use())


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--enclave-backend", "tpm2"], 2, "takes --tpm"),
        (["--tpm", "device:/dev/tpmrm0"], 2, "is for --enclave-backend tpm2"),
        (["--enclave-backend", "tpm2", "--tpm", "swtpm:path=/nowhere/s"], 1, "cannot be opened (No such file"),
        (["--enclave-backend", "tpm2", "--tpm", "mssim:port=2321"], 1, "must be device:PATH or swtpm:path=PATH"),
    ],
    ids=["no place", "no backend", "no TPM", "no form"],
)
def test_init_refuses(tmp_path, arguments, code, said):
    assert said in kmsd("init", str(tmp_path / "i"), *arguments, code=code)
    assert not (tmp_path / "i").exists()


def test_without_the_library_it_is_named_by_every_command(tmp_path, tpm_installation, software_tpm):
    """As on a machine where tpm2-pytss is not installed: it cannot be found."""
    config = str(tpm_installation.config)
    named = "tpm2_pytss: is not installed"
    new = ["init", str(tmp_path / "i"), "--enclave-backend", "tpm2", "--tpm", software_tpm.tcti]
    for arguments, code in ((new, 1), (["serve", "--config", config], 3), (["enclave", "sign", "--config", config], 1)):
        said = kmsd(*arguments, code=code, without="tpm2_pytss")
        assert named in said
        assert "requirements-tpm.lock" in said
        assert "Traceback" not in said
    assert named in kmsd("check", "--config", config, code=1, without="tpm2_pytss")


def kmsd(*arguments: str, code: int = 0, without: str = "") -> str:
    """Run the command in an interpreter of its own, which may not find a library; returns what it says."""
    script = f"import sys; sys.modules.update({{{without!r}: None}} if {without!r} else {{}}); sys.argv[0] = 'kmsd'; "
    script += "from kms.kmsd.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60, check=False, cwd="/"
    )
    assert done.returncode == code, done.stdout + done.stderr
    return " ".join((done.stdout + done.stderr).replace("\u2502", " ").split())


# The enclave of an installation, without a daemon around it.


@pytest.fixture
def place(tpm_installation: Installation) -> Path:
    return tpm_installation.directory


async def test_its_death_and_that_of_the_tpm_are_survived_and_told_at_once(place, software_tpm):
    writer = MemoryWriter()
    async with running(place, writer) as enclave:
        key = [SealedInput(await enclave.execute("new_key", [], NEW_KEY), b"a")]
        health = await enclave.health()
        assert health.reason.startswith("SIMULATED; attested until ")
        software_tpm.stop(signal.SIGKILL)
        with pytest.raises(EnclaveUnavailable, match=r"TPM: has gone|TPM: does not take a command"):
            await enclave.execute("encrypt", key, [[bytes(12), b"", b"a value"]])
        await until(lambda: enclave._failed)
        async with asyncio.timeout(2):  # nobody waits for what is known not to be there
            with pytest.raises(EnclaveUnavailable, match="cannot be opened"):
                await enclave.execute("encrypt", key, [[bytes(12), b"", b"a value"]])
        health = await enclave.health()
        assert (health.status, "SIMULATED" in health.reason) == (HealthStatus.UNHEALTHY, True)
        assert enclave.overview().simulated
        software_tpm.start()
        await until(lambda: enclave.facts)
        value = await enclave.execute("encrypt", key, [[bytes(12), b"", b"a value"]])
        assert await enclave.execute("decrypt", key, [[bytes(12), b"", value[0]]]) == [b"a value"]
        assert writer.happened == ["act enclave.started", "act enclave.attested"] * 2


async def test_where_other_code_was_measured_it_does_not_start_before_the_next_reset(place, software_tpm):
    async with running(place) as enclave:
        sealed = await enclave.execute("new_key", [], NEW_KEY)
    measure_something_else(software_tpm)
    async with running(place) as enclave:
        await until(lambda: enclave._failed)
        with pytest.raises(EnclaveUnavailable, match="other code has been measured since the TPM was reset"):
            await enclave.execute("encrypt", [SealedInput(sealed, b"a")], [])
        assert enclave.overview().simulated is False  # nothing has said so yet
    software_tpm.restart()
    async with running(place) as enclave:
        assert await enclave.execute("encrypt", [SealedInput(sealed, b"a")], []) == []


async def test_a_release_for_other_code_is_refused_until_it_is_signed_anew(place, software_tpm):
    structure = place / "enclave/structure.bin"
    key = place / "secrets/enclave-signing-key.pem"
    before = structure.read_bytes()
    data = bytearray(before)
    data[19] ^= 1  # MRENCLAVE
    structure.write_bytes(data)
    async with running(place) as enclave:
        await until(lambda: enclave._failed)
        with pytest.raises(EnclaveUnavailable, match="approval for security version 0 is not the signer's"):
            await enclave.execute("new_key", [], NEW_KEY)
    structure.write_bytes(tpm_files.sign_structure(before, key, bytes(32), 1, now()))
    async with running(place) as enclave:
        await until(lambda: enclave._failed)
        with pytest.raises(EnclaveUnavailable, match=r"signed for other code.*kmsd enclave sign --config"):
            await enclave.execute("new_key", [], NEW_KEY)
        await asyncio.to_thread(sign_anew, place / "kmsd.toml", None, 3, now())
        await until(lambda: enclave.facts)
        facts = enclave.facts
        assert facts is not None
        assert (facts.isv_svn, facts.mrenclave) == (3, measured(backend="tpm2"))
    with pytest.raises(Refused, match="below the present one"):
        await asyncio.to_thread(sign_anew, place / "kmsd.toml", None, 2, now())
    with pytest.raises(Refused, match="at most 255"):
        await asyncio.to_thread(sign_anew, place / "kmsd.toml", None, 256, now())
    key.write_bytes(private_pem(approver("another")))
    with pytest.raises(Refused, match="another signer's key"):
        await asyncio.to_thread(sign_anew, place / "kmsd.toml", None, None, now())


async def test_production_does_not_use_a_software_tpm_unless_it_is_allowed(place):
    config = place / "kmsd.toml"
    text = config.read_text().replace('profile = "development"', 'profile = "production"')
    config.write_text(text.replace("open_tenants = true", "open_tenants = false"))
    settings = load(config)
    assert not settings.simulated_enclave_allowed
    writer = MemoryWriter()
    async with running(place, writer, simulated_allowed=settings.simulated_enclave_allowed) as enclave:
        await until(lambda: enclave._failed)
        with pytest.raises(EnclaveUnavailable, match=r"it is SIMULATED.*enclave\.allow_simulated"):
            await enclave.execute("new_key", [], NEW_KEY)
        assert enclave.overview().simulated
    assert "SIMULATED" in writer.of("enclave.attestation_refused")[0].reason

    def found() -> list[str]:
        return [str(one) for one in check_enclave.tpm(Subject(config, load(config), now()))]

    assert [one.partition(":")[0] for one in found()] == ["error"]
    config.write_text(config.read_text().replace('backend = "tpm2"', 'backend = "tpm2"\nallow_simulated = true'))
    assert load(config).simulated_enclave_allowed
    assert [one.partition(":")[0] for one in found()] == ["warning"]


async def test_what_the_policy_does_not_name_is_not_used_and_what_was_shown_is_shown_again(place):
    policy = place / "enclave/policy.yaml"
    good = policy.read_text()
    pinned = re.search(r'attestation_key: "(\w+)"', good)
    assert pinned is not None
    stranger = raw_key(approver("a stranger").public_key()).hex()
    policy.write_text(good.replace(pinned[1], stranger))
    writer = MemoryWriter()
    async with running(place, writer) as enclave:
        await until(lambda: enclave._failed)
        with pytest.raises(EnclaveUnavailable, match="BadSignature"):
            await enclave.execute("new_key", [], NEW_KEY)
        assert enclave.facts is None
        policy.write_text(good + "max_age_seconds: 1\nvalidity_seconds: 1\n")
        await until(lambda: len(writer.of("enclave.attested")) >= 3)
        assert enclave.overview().restarts == 0
    assert len(writer.of("enclave.started")) == 1


async def test_another_tpm_in_its_place_is_refused_and_found_by_check(place, software_tpm):
    def found() -> list[str]:
        subject = Subject(place / "kmsd.toml", load(place / "kmsd.toml"), now())
        return [str(one) for check in (check_enclave.tpm, check_enclave.policy) for one in check(subject)]

    assert found() == []
    software_tpm.stop()
    for state in software_tpm.directory.glob("tpm2-*"):  # what it is known by; the next start makes another
        state.unlink()
    software_tpm.start()
    async with running(place) as enclave:
        await until(lambda: enclave._failed)
        with pytest.raises(EnclaveUnavailable, match="not the one that was pinned"):
            await enclave.execute("new_key", [], NEW_KEY)
    assert ["is not the TPM that enclave.storage_root names" in one for one in found()] == [True]
    software_tpm.stop()
    assert ["cannot be opened" in one for one in found()] == [True]
    policy = place / "enclave/policy.yaml"
    policy.write_text(policy.read_text().replace("kind: tpm2", "kind: sgx"))
    assert ["kind: Input should be 'tpm2'" in one for one in found()] == [False, True]
