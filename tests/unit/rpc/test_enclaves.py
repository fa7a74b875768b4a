"""EnclaveService: what it asks of a request, and what it says where there is no enclave."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kms.core.enclave_ports import EnclaveAnswer, EnclaveFacts, EnclaveShown, EnclaveStatus
from kms.core.errors import FailedPrecondition, InvalidRequest
from kms.core.names import Principal
from kms.rpc.enclaves import MAX_SAID, EnclaveServicer, enclave_message
from kms.services.enclave_upgrades import EnclaveUpgrades
from kms.v1 import enclaves_pb2 as pb

APP = Principal("acme", "app")
NOW = datetime(2026, 3, 1, tzinfo=UTC)
FACTS = EnclaveFacts(
    backend="sgx-simulated",
    simulated=True,
    freshness="none",
    mrenclave=b"m" * 32,
    mrsigner=b"s" * 32,
    isv_prod_id=1,
    isv_svn=5,
    cpu_svn=b"c" * 16,
    debug=False,
    measures=(("no_network", False, "not allowed here"),),
)


UPGRADES: EnclaveUpgrades = None  # type: ignore[assignment]  what is asked here is about no tenant


class Recorded:
    """An enclave that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bytes, bytes]] = []

    async def answer(self, nonce: bytes, channel_key: bytes, claims: bytes) -> EnclaveAnswer:
        self.asked.append((nonce, channel_key, claims))
        return EnclaveAnswer(b"quote", b"root", b"platform")


async def test_a_daemon_without_an_enclave_says_so() -> None:
    servicer = EnclaveServicer(None, UPGRADES)
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
        await EnclaveServicer(enclave, UPGRADES).AttestEnclave(request_, APP)  # type: ignore[arg-type]
    assert enclave.asked == []


async def test_a_challenge_is_passed_on_whole() -> None:
    enclave = Recorded()
    request = pb.AttestEnclaveRequest(nonce=b"n" * 32, channel_key=b"k" * MAX_SAID, claims=b"c")
    answer = await EnclaveServicer(enclave, UPGRADES).AttestEnclave(request, APP)  # type: ignore[arg-type]
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
