"""EnclaveService: what it asks of a request, and what it says where there is no enclave."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from enclave.quotes import MAX_QUOTE as LARGEST
from enclave.quotes import parse_quote
from kms.core.enclave_ports import AttestationState, EnclaveAnswer, EnclaveShown, EnclaveStatus, Verdict
from kms.core.enclaves import MAX_QUOTE, EnclaveRecord, EnclaveUid
from kms.core.errors import FailedPrecondition, InvalidRequest
from kms.core.names import Principal
from kms.rpc.enclaves import MAX_SAID, EnclaveServicer, enclave_message
from kms.services.enclave_upgrades import EnclaveUpgrades
from kms.services.enclaves import Enclaves
from kms.v1 import enclaves_pb2 as pb
from tests.attestation import identity, new_scene
from tests.enclave_records import FACTS, new_enclave

APP = Principal("acme", "app")
NOW = datetime(2026, 3, 1, tzinfo=UTC)
NOBODY: Enclaves = None  # type: ignore[assignment]  # asked by the list alone


UPGRADES: EnclaveUpgrades = None  # type: ignore[assignment]  what is asked here is about no tenant


class Recorded:
    """An enclave that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bytes, bytes]] = []

    async def answer(self, nonce: bytes, channel_key: bytes, claims: bytes) -> EnclaveAnswer:
        self.asked.append((nonce, channel_key, claims))
        return EnclaveAnswer(b"quote", b"root", b"platform")


async def test_a_daemon_without_an_enclave_says_so() -> None:
    servicer = EnclaveServicer(None, NOBODY, UPGRADES)
    told = await servicer.GetEnclave(pb.GetEnclaveRequest(), APP)
    assert (told.state, told.in_use, told.simulated, told.backend) == ("none", False, False, "")
    with pytest.raises(FailedPrecondition, match="no enclave"):
        await servicer.AttestEnclave(pb.AttestEnclaveRequest(nonce=bytes(32)), APP)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.AttestEnclaveRequest(), "nonce"),
        (pb.AttestEnclaveRequest(nonce=bytes(31)), "nonce"),
        (pb.AttestEnclaveRequest(nonce=bytes(33)), "nonce"),
        (pb.AttestEnclaveRequest(nonce=bytes(32), channel_key=bytes(MAX_SAID + 1)), "channel_key"),
        (pb.AttestEnclaveRequest(nonce=bytes(32), claims=bytes(MAX_SAID + 1)), "claims"),
    ],
)
async def test_a_challenge_that_breaks_a_rule_is_refused_by_the_name_of_its_field(
    request_: pb.AttestEnclaveRequest, field: str
) -> None:
    enclave = Recorded()
    with pytest.raises(InvalidRequest, match=f"{field}: must be"):
        await EnclaveServicer(enclave, NOBODY, UPGRADES).AttestEnclave(request_, APP)  # type: ignore[arg-type]
    assert enclave.asked == []


async def test_a_challenge_is_passed_on_whole() -> None:
    enclave = Recorded()
    request = pb.AttestEnclaveRequest(nonce=b"n" * 32, channel_key=b"k" * MAX_SAID, claims=b"c")
    answer = await EnclaveServicer(enclave, NOBODY, UPGRADES).AttestEnclave(request, APP)  # type: ignore[arg-type]
    assert enclave.asked == [(b"n" * 32, b"k" * MAX_SAID, b"c")]
    assert (answer.quote, answer.root_list, answer.platform_list) == (b"quote", b"root", b"platform")


def test_who_it_is_is_told_while_it_is_in_use_and_simulated_always() -> None:
    shown = EnclaveShown(b"p" * 16, NOW, NOW + timedelta(hours=1))
    told = enclave_message(EnclaveStatus("running", "", 2, simulated=True, facts=FACTS, shown=shown))
    assert (told.simulated, told.in_use, told.mrenclave, told.isv_svn) == (True, True, b"m" * 32, 5)
    assert [(one.name, one.done, one.detail) for one in told.measures] == [("no_network", False, "not allowed here")]
    assert told.attest_expire_time.ToDatetime(UTC) == NOW + timedelta(hours=1)
    away = enclave_message(EnclaveStatus("failed", "why", 2, simulated=True, facts=None, shown=None))
    assert (away.simulated, away.in_use, away.reason, away.mrenclave) == (True, False, "why", b"")
    assert not away.HasField("attest_time")


class Listed:
    """Enclaves that list what they are given."""

    def __init__(self, records: list[EnclaveRecord]) -> None:
        self.records = sorted(records, key=lambda one: one.uid)
        self.asked: list[tuple[EnclaveUid | None, int, bool]] = []

    async def list_after(self, after: EnclaveUid | None, limit: int, *, active: bool) -> list[EnclaveRecord]:
        self.asked.append((after, limit, active))
        return [one for one in self.records if after is None or one.uid > after][:limit]


async def test_they_are_listed_page_by_page_with_all_that_is_known() -> None:
    verdict = Verdict(AttestationState.REVOKED, "why", bytes(436) + b"g" * 64 + b"rest", NOW, NOW)
    listed = Listed([new_enclave(verdict=verdict, restarts=2, revision=7) for _ in range(3)])
    servicer = EnclaveServicer(None, listed, UPGRADES)  # type: ignore[arg-type]
    first = await servicer.ListEnclaves(pb.ListEnclavesRequest(page_size=2, active_only=True), APP)
    assert [one.name for one in first.enclaves] == [f"enclaves/{one.uid}" for one in listed.records[:2]]
    then = await servicer.ListEnclaves(pb.ListEnclavesRequest(page_token=first.next_page_token), APP)
    assert (len(then.enclaves), then.next_page_token) == (1, "")
    assert listed.asked == [(None, 3, True), (listed.records[1].uid, 101, False)]
    told, record = then.enclaves[0], listed.records[2]
    assert (told.node, told.node_uid, told.platform_id) == (record.node, str(record.node_uid), record.platform_id)
    assert (told.mrenclave, told.isv_svn, told.simulated, told.restarts) == (b"m" * 32, 5, True, 2)
    assert (told.attestation_status, told.attestation_reason, told.signature) == ("revoked", "why", b"g" * 64)
    assert (told.quote, told.active, told.health, told.revision) == (verdict.quote, True, "healthy", 7)
    assert told.attest_time.ToDatetime(UTC) == NOW
    with pytest.raises(InvalidRequest, match="page_token"):
        await servicer.ListEnclaves(pb.ListEnclavesRequest(page_token="eHg="), APP)


def test_the_signature_is_where_a_quote_has_it_and_every_quote_fits() -> None:
    quote = new_scene().platform.quote(identity(), bytes(64))
    assert new_enclave(verdict=Verdict(quote=quote)).signature == parse_quote(quote).signature
    assert len(new_enclave().signature) == 64
    assert LARGEST <= MAX_QUOTE
