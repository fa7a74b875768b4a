"""The enclave of a node: started with its fuse from a token of its own, recorded, attested, replaced, and refused."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from kms_client import HealthStatus as Serving

from enclave.attestation_errors import WrongReportData
from enclave.chain import Collateral
from enclave.issuing import new_root
from enclave.nonces import NonceStore
from enclave.sigstruct import sign, verified
from enclave.verifier import verify
from kms.attestation_policies import parse_policy
from kms.cli.main import run
from kms.clock import now
from kms.core.enclave_ports import SealedInput
from kms.core.errors import EnclaveUnavailable
from kms.core.ports import HealthStatus
from kms.kmsd import checks
from kms.kmsd.enclave_files import policy_text
from kms.kmsd.enclave_signing import sign_anew
from kms.setting_values import SettingsError
from kms.settings import load
from tests.daemon import Installation, wait_until
from tests.enclaves import fuse_of, measured
from tests.node_enclaves import PATIENCE, inner, running, until
from tests.secret_search import forms
from tests.trail import MemoryWriter

pytestmark = pytest.mark.softhsm


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """An installation with an enclave; tests change copies of its files."""
    parent = Path(tempfile.mkdtemp(prefix="kms"))
    try:
        yield Installation(parent / "i", enclave=True).directory
    finally:
        shutil.rmtree(parent)


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "i")
    configuration = tmp_path / "i/enclave/token/softhsm2.conf"
    configuration.write_text(configuration.read_text().replace(str(made), str(tmp_path / "i")))
    return tmp_path / "i"


def memory_of(pid: int) -> Iterator[bytes]:
    """What a process has in memory that it may write, region by region."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory, Path(f"/proc/{pid}/maps").open() as maps:
        for line in maps:
            span, rights = line.split()[:2]
            if not rights.startswith("rw") or "[v" in line:
                continue
            begin, end = (int(part, 16) for part in span.split("-"))
            memory.seek(begin)
            try:
                yield memory.read(end - begin)
            except OSError:
                continue


def holds(pid: int, secret: bytes) -> bool:
    return any(form in region for region in memory_of(pid) for form in forms(secret))


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_its_start_is_audited_it_is_attested_before_use_and_its_death_in_a_call_is_survived(place: Path) -> None:
    writer = MemoryWriter()
    async with running(place, writer) as enclave:
        sealed = await enclave.execute("new_key", [], ["mrsigner", b"a"])  # which waits for the start
        key = [SealedInput(sealed, b"a")]
        assert writer.happened == ["act enclave.started", "act enclave.attested"]
        facts = enclave.facts
        assert facts is not None
        assert (facts.mrenclave, facts.simulated) == (measured(), True)
        started = writer.of("enclave.started")[0]
        assert '"assurance":"SIMULATED"' in started.details
        assert f'"mrenclave":"{facts.mrenclave.hex()}"' in started.details
        assert '"isv_svn":1' in started.details
        health = await enclave.health()
        assert health.status is HealthStatus.HEALTHY
        assert health.reason.startswith("SIMULATED; attested until ")

        pid = inner(enclave)
        os.kill(pid, signal.SIGSTOP)
        in_flight = asyncio.create_task(enclave.execute("decrypt", key, []))
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(EnclaveUnavailable):
            await in_flight
        assert enclave.facts is None
        assert (await enclave.health()).status is HealthStatus.UNHEALTHY
        value = await enclave.execute("encrypt", key, [[bytes(12), b"", b"a value"]])  # which waits for the next one
        assert await enclave.execute("decrypt", key, [[bytes(12), b"", value[0]]]) == [b"a value"]
        assert writer.happened == ["act enclave.started", "act enclave.attested"] * 2
        assert "SIGKILL" in writer.of("enclave.started")[1].reason or "Killed" in writer.of("enclave.started")[1].reason
        overview = enclave.overview()
        assert (overview.restarts, overview.simulated) == (1, True)
        assert overview.shown is not None
        assert overview.shown.time < overview.shown.expires


async def test_a_quote_of_the_process_answers_a_challenge_and_no_other(place: Path) -> None:
    policy = parse_policy((place / "enclave/policy.yaml").read_bytes())
    async with running(place) as enclave:
        nonces = NonceStore()
        nonce = nonces.issue(now())
        answer = await enclave.answer(nonce, b"a channel", b"claims")
        lists = Collateral(answer.root_list, answer.platform_list)
        challenge = nonces.redeem(nonce, b"a channel", b"claims")
        attested = verify(answer.quote, policy, lists, challenge, now())
        settings = load(place / "kmsd.toml").enclave
        assert settings is not None
        assert attested.identity.mrenclave == measured()
        assert attested.platform_id.hex() == settings.platform_id
        other = nonces.redeem(nonces.issue(now()), b"a channel", b"claims")
        with pytest.raises(WrongReportData):
            verify(answer.quote, policy, lists, other, now())


async def test_an_enclave_that_does_not_show_what_the_policy_asks_for_is_not_used(place: Path) -> None:
    policy = place / "enclave/policy.yaml"
    good = policy.read_text()
    other = new_root(now() - timedelta(days=1), now() + timedelta(days=1))
    policy.write_text(policy_text(other, bytes(32)))
    writer = MemoryWriter()
    async with running(place, writer) as enclave:
        await until(lambda: writer.of("enclave.attestation_refused"))
        assert "UntrustedRoot" in writer.of("enclave.attestation_refused")[0].reason
        await until(lambda: enclave._failed)
        with pytest.raises(EnclaveUnavailable, match="UntrustedRoot"):
            await enclave.execute("new_key", [], ["mrsigner", b"a"])
        health = await enclave.health()
        assert health.status is HealthStatus.UNHEALTHY
        assert "SIMULATED" in health.reason
        assert "UntrustedRoot" in health.reason
        assert enclave.facts is None
        policy.write_text(good)
        await until(lambda: enclave.facts)
        assert len(writer.of("enclave.started")) == 1
        await enclave.execute("new_key", [], ["mrsigner", b"a"])


async def test_what_was_shown_is_shown_again_before_it_expires(place: Path) -> None:
    policy = place / "enclave/policy.yaml"
    policy.write_text(policy.read_text() + "max_age_seconds: 1\nvalidity_seconds: 1\n")
    writer = MemoryWriter()
    async with running(place, writer) as enclave:
        await until(lambda: len(writer.of("enclave.attested")) >= 3)
        assert enclave.overview().restarts == 0


async def test_what_cannot_be_shown_again_is_degraded_and_in_use_as_long_as_it_counts(place: Path) -> None:
    writer = MemoryWriter()
    async with running(place, writer) as enclave:
        await until(lambda: enclave.facts)
        told: list[str] = []
        enclave.watch(lambda: told.append(enclave.overview().verdict.state))
        before = enclave.overview().verdict
        writer.refusing = True
        enclave._now = enclave._attester._now = lambda: now() + timedelta(minutes=40)
        enclave._changes.set()
        await until(lambda: enclave._failed)
        health = await enclave.health()
        assert health.status is HealthStatus.DEGRADED
        assert "cannot be attested again: " in health.reason
        assert enclave.overview().verdict == before
        await enclave.execute("new_key", [], ["mrsigner", b"a"])
        writer.refusing = False
        await until(lambda: not enclave._failed)
        assert (await enclave.health()).status is HealthStatus.HEALTHY
        assert enclave.overview().verdict.quote not in (b"", before.quote)
        assert set(told) == {"valid"}


async def test_what_has_expired_all_the_same_is_shown_again_before_the_next_use(place: Path) -> None:
    writer = MemoryWriter()
    async with running(place, writer) as enclave:
        await until(lambda: enclave.facts)
        enclave._now = enclave._attester._now = lambda: now() + timedelta(hours=2)  # as after a sleep of the machine
        await enclave.execute("new_key", [], ["mrsigner", b"a"])
        assert len(writer.of("enclave.attested")) == 2


async def test_an_enclave_that_is_not_in_the_audit_trail_is_not_used(place: Path) -> None:
    writer = MemoryWriter(refusing=True)
    async with running(place, writer) as enclave:
        await until(lambda: enclave._failed)
        with pytest.raises(EnclaveUnavailable, match="too many events"):
            await enclave.execute("new_key", [], ["mrsigner", b"a"])
        writer.refusing = False
        await until(lambda: enclave.facts)


async def test_a_token_that_is_missing_is_told_of_and_found_when_it_is_back(place: Path) -> None:
    tokens = place / "enclave/token/tokens"
    tokens.rename(place / "elsewhere")
    tokens.mkdir()
    async with running(place) as enclave:
        await until(lambda: enclave._failed)
        with pytest.raises(EnclaveUnavailable, match="no token with this label is present"):
            await enclave.execute("new_key", [], ["mrsigner", b"a"])
        tokens.rmdir()
        (place / "elsewhere").rename(tokens)
        await until(lambda: enclave.facts)


async def test_a_pin_that_is_refused_is_tried_once(place: Path) -> None:
    (place / "secrets/enclave-pin").write_text("9" * 24)
    async with running(place) as enclave:
        await until(lambda: enclave._failed)
        with pytest.raises(EnclaveUnavailable, match="the token refuses the PIN"):
            await enclave.execute("new_key", [], ["mrsigner", b"a"])
        changes: list[object] = []
        enclave._host._host._on_change = changes.append
        enclave._changes.set()  # as the next try would begin
        for _ in range(20):
            await asyncio.sleep(0.02)
        assert changes == []


async def test_a_structure_for_other_code_keeps_it_from_starting_until_it_is_signed_anew(place: Path) -> None:
    structure = place / "enclave/structure.bin"
    before, _ = verified(structure.read_bytes())
    key = load_pem_private_key((place / "secrets/enclave-signing-key.pem").read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    structure.write_bytes(sign(replace(before, mrenclave=bytes(32)), key))
    async with running(place) as enclave:
        await until(lambda: enclave._failed)
        with pytest.raises(EnclaveUnavailable, match="kmsd enclave sign --config"):
            await enclave.execute("new_key", [], ["mrsigner", b"a"])
        await asyncio.to_thread(sign_anew, place / "kmsd.toml", None, 3, now())
        await until(lambda: enclave.facts)
        facts = enclave.facts
        assert facts is not None
        assert facts.isv_svn == 3


def test_a_real_daemon_serves_with_its_enclave_and_knows_neither_fuse_nor_pin(
    enclave_installation: Installation,
) -> None:
    daemon = enclave_installation.start()
    daemon.wait_for("enclave.attested", PATIENCE)
    started = daemon.events("enclave.started")[0]
    assert (started["assurance"], started["mrenclave"]) == ("SIMULATED", measured().hex())
    with enclave_installation.operator() as operator:
        wait_until(lambda: operator.health("enclave") is Serving.SERVING, "the enclave to be healthy")
        shown = operator.get_enclave()
        assert (shown.simulated, shown.in_use, shown.mrenclave) == (True, True, measured())
        assert shown.attest_expire_time is not None
        assert shown.attest_expire_time > now()
    inside = [child for parent in children(daemon.process.pid) for child in children(parent)]
    fuse = fuse_of(enclave_installation.directory)
    pin = (enclave_installation.directory / "secrets/enclave-pin").read_bytes().strip()
    # The search finds what is there, in both processes.
    assert any(holds(pid, fuse) for pid in inside)
    assert holds(daemon.process.pid, measured())
    # Nothing of what the enclave upon a TPM takes is loaded.
    assert not [pid for pid in inside if "tss2" in Path(f"/proc/{pid}/maps").read_text()]
    assert not holds(daemon.process.pid, fuse)
    assert not holds(daemon.process.pid, pin)
    for pid in inside:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(daemon.events("enclave.attested")) == 2, "the enclave to be attested again", PATIENCE)
    assert daemon.process.poll() is None
    with enclave_installation.operator() as operator:
        events = [one for one in operator.list_audit_events("installation") if one.action.startswith("enclave.")]
    assert [one.action for one in reversed(events)] == ["enclave.started", "enclave.attested"] * 2
    assert daemon.stop() == 0


def test_a_quote_of_the_daemons_enclave_is_verified_at_a_desk(
    enclave_installation: Installation, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    enclave_installation.start().wait_for("enclave.attested", PATIENCE)
    place = enclave_installation.directory
    monkeypatch.setenv("KMS_PROFILE", str(enclave_installation.issue("tenants/acme/principals/app")))
    with enclave_installation.operator() as operator:
        operator.create_tenant("acme")
    assert run(["enclave", "status", "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["assurance"] == "SIMULATED"
    out = place / "answer"
    assert run(["enclave", "attest", "--out", str(out), "--output", "json"]) == 0
    asked = json.loads(capsys.readouterr().out)
    lists = ["--root-list", str(out / "root.crl"), "--platform-list", str(out / "platform.crl")]
    verify_command = [
        "enclave",
        "verify",
        str(out / "quote.bin"),
        "--policy",
        str(place / "enclave/policy.yaml"),
        *lists,
    ]
    challenge = ["--issued", asked["issued"], "--at", asked["at"], "--output", "json"]
    assert run([*verify_command, "--nonce", asked["nonce"], *challenge]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert (verdict["verified"], verdict["mrenclave"]) == (True, measured().hex())
    assert run([*verify_command, "--nonce", "00" * 32, *challenge]) == 8
    assert json.loads(capsys.readouterr().out)["check"] == "WrongReportData"


def test_check_looks_at_structure_token_and_certificates(place: Path) -> None:
    config = place / "kmsd.toml"

    def found(at: timedelta = timedelta(0)) -> list[str]:
        return [str(one) for one in checks.run(config, now() + at, login=True) if "enclave" in str(one)]

    assert found() == []
    structure = place / "enclave/structure.bin"
    whole = structure.read_bytes()
    structure.write_bytes(whole[:-1])
    (place / "secrets/enclave-pin").chmod(0o644)
    problems = found(timedelta(days=3650 - 10))
    assert len(problems) == 6
    assert sum("kmsd enclave sign --config" in one for one in problems) == 1
    assert sum("others may read or write it" in one for one in problems) == 1
    assert sum("ends at" in one for one in problems) == 4  # soon: root, platform and their lists


def test_production_refuses_a_simulated_enclave_unless_it_is_allowed(place: Path) -> None:
    config = place / "kmsd.toml"
    text = config.read_text().replace('profile = "development"', 'profile = "production"')
    text = text.replace("open_tenants = true", "open_tenants = false")
    config.write_text(text)
    with pytest.raises(SettingsError, match=r"SIMULATED.*enclave\.allow_simulated"):
        load(config)
    config.write_text(text.replace("# allow_simulated = true", "allow_simulated = true"))
    settings = load(config).enclave
    assert settings is not None
    assert settings.allow_simulated
