"""What the watch makes of calls to the real edge: which of them become events, of whom, and what it costs."""

from __future__ import annotations

import time
from ipaddress import ip_address
from uuid import UUID, uuid4

import pytest
import structlog

from kms.core.callers import Caller, Credential, CredentialKind
from kms.core.detection import Detections, Thresholds
from kms.core.errors import (
    CannotDecrypt,
    CorruptRecord,
    Denied,
    LimitExceeded,
    NotFound,
    StorageUnavailable,
    Unauthenticated,
    WrongKeyState,
)
from kms.core.events import KINDS, EventType, Severity
from kms.core.lifecycle import KeyState
from kms.core.names import KeyName, Principal
from kms.rpc.gates import Ended
from kms.rpc.methods import METHODS
from kms.rpc.status import status_of
from kms.rpc.watch import SecurityWatch
from kms.services.sightings import KeySightings
from kms.v1 import crypto_pb2 as pb
from tests.both_databases import Wall
from tests.keyrings import NOW, new_key, new_tenant
from tests.node import Clock
from tests.rpc_server import CALLER, refused

KEY = "tenants/acme/keys/payroll"
ROWS = {method.name: method for method in METHODS}
COUNTS = {
    EventType.REPEATED_DENIALS: 3,
    EventType.TOKEN_BRUTE_FORCE: 3,
    EventType.UNAUTHORIZED_ACCESS: 3,
    EventType.RATE_EXCEEDED: 3,
    EventType.DECRYPT_FAILURES: 3,
}
SUCCESS = 10e-6  # seconds that a successful call may cost at most, on a machine that is busy


class Seen:
    """A watch, and the events that it has raised."""

    def __init__(self):
        self.noticed = []
        self.clock, self.wall = Clock(), Wall()
        self.sightings = KeySightings()
        self.detections = Detections(Thresholds(counts=COUNTS, volume_minimum=1_000), uuid4)
        self.watch = SecurityWatch(self.detections, self.sightings, self.noticed.append, self.wall, self.clock)

    @property
    def events(self):
        return [noticed.event for noticed in self.noticed]

    @property
    def types(self):
        return [event.type for event in self.events]

    def end(self, name, request=None, response=None, error=None, caller=CALLER, address=None, times=1):
        shown = None if caller is None else Caller(caller, Credential(CredentialKind.CERTIFICATE, "ab12"), address)
        for _ in range(times):
            self.watch.ended(Ended(ROWS[name], request, response, shown, address, error, "request-1"))

    def canary(self, slug="payroll", value="true"):
        tenant = new_tenant("acme")
        key = new_key(tenant, slug)
        key.labels["canary"] = value
        self.sightings.read(KeyName("acme", slug), key)


@pytest.fixture
def seen():
    return Seen()


def decrypt(name=KEY):
    return pb.DecryptRequest(name=name, ciphertext=b"c")


def failing(error):
    async def answer(request, caller):
        raise error

    return answer


def failures(*errors):
    return [pb.ItemFailure(index=index, status=status_of(error, "")) for index, error in enumerate(errors)]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Denied("no grant"), EventType.REPEATED_DENIALS),
        (LimitExceeded("slow down"), EventType.RATE_EXCEEDED),
        (CannotDecrypt(), EventType.DECRYPT_FAILURES),
    ],
)
async def test_refusals_over_the_wire_become_one_event_at_the_threshold(serve, seen, error, kind):
    edge = await serve(watch=seen.watch)
    edge.answers.by_name["Decrypt"] = failing(error)
    for calls in range(1, 6):
        await refused(edge.crypto.Decrypt(decrypt()))
        assert seen.types == ([kind] if calls >= 3 else [])
    [event] = seen.events
    assert (event.principal, event.credential_kind, event.resource) == (str(CALLER), "socket", KEY)
    assert (event.method, event.count, event.threshold) == ("/kms.v1.CryptoService/Decrypt", 3, 3)
    assert event.severity is KINDS[kind].severity
    assert event.blocked
    assert event.request_id
    assert event.indicators[-1] == f"last answer: {error.reason}"
    [grown] = seen.detections.grown(seen.clock.now + 60)
    assert (grown.uid, grown.count) == (event.uid, 5)


async def test_callers_without_an_identity_become_an_event_of_nobody(serve, seen):
    edge = await serve(watch=seen.watch, identity=None)
    for _ in range(4):
        await refused(edge.crypto.Decrypt(decrypt()))
    [event], [noticed] = seen.events, seen.noticed
    assert (event.type, event.principal, event.credential_id) == (EventType.TOKEN_BRUTE_FORCE, "", "")
    assert (noticed.tenant, noticed.principal, noticed.key) == (None, None, None)


async def test_what_succeeds_raises_nothing(serve, seen):
    edge = await serve(watch=seen.watch)

    async def answer(request, caller):
        return pb.DecryptResponse(plaintext=b"p", version=1)

    edge.answers.by_name["Decrypt"] = answer
    for _ in range(20):
        await edge.crypto.Decrypt(decrypt())
    assert seen.events == []


async def test_a_watch_that_fails_fails_no_call(serve, seen, monkeypatch):
    def broken(call):
        raise RuntimeError("a mistake")

    monkeypatch.setattr(seen.watch, "_look", broken)
    edge = await serve(watch=seen.watch)
    edge.answers.by_name["Decrypt"] = failing(Denied("no grant"))
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            error, _ = await refused(edge.crypto.Decrypt(decrypt()))
            assert error.details() == "no grant"
    assert [line["event"] for line in logs].count("security.watch_failed") == 1


def test_each_address_counts_for_itself_and_a_network_of_ipv6_as_one(seen):
    for index in range(6):
        seen.end("Decrypt", decrypt(), error=Unauthenticated("no"), caller=None, address=ip_address(f"192.0.2.{index}"))
    assert seen.events == []
    for index in range(6):
        address = ip_address(f"2001:db8::{index:x}")
        seen.end("Decrypt", decrypt(), error=Unauthenticated("no"), caller=None, address=address)
    assert [event.address for event in seen.events] == ["2001:db8::2"]


def test_a_token_that_is_tried_from_many_addresses_is_one_event(seen):
    error = Unauthenticated("no such token")
    error.credential = "k3f9a1"
    for index in range(6):
        seen.end("Decrypt", decrypt(), error=error, caller=None, address=ip_address(f"192.0.2.{index}"))
    assert [(event.type, event.credential_id) for event in seen.events] == [(EventType.TOKEN_BRUTE_FORCE, "k3f9a1")]


def test_asking_for_another_tenants_key_is_unauthorized_access_and_a_missing_one_of_ones_own_is_nothing(seen):
    seen.end("Decrypt", decrypt("tenants/acme/keys/absent"), error=NotFound("x"), times=10)
    assert seen.events == []
    seen.end("Decrypt", decrypt("tenants/globex/keys/payroll"), error=NotFound("x"), times=10)
    [event], [noticed] = seen.events, seen.noticed
    assert (event.type, event.resource) == (EventType.UNAUTHORIZED_ACCESS, "tenants/globex/keys/payroll")
    assert (noticed.tenant, noticed.principal) == ("acme", CALLER)
    assert noticed.key is None  # nobody has another's key suspended


def test_a_destination_of_another_tenant_is_seen_too(seen):
    request = pb.ReEncryptRequest(name=KEY, ciphertext=b"c", destination="tenants/globex/keys/payroll")
    seen.end("ReEncrypt", request, error=NotFound("x"), times=3)
    assert seen.types == [EventType.UNAUTHORIZED_ACCESS]


def test_failed_items_of_a_batch_count_one_by_one_and_other_failures_do_not(seen):
    request = pb.DecryptBatchRequest(name=KEY, ciphertexts=[b"c"] * 4)
    missing = StorageUnavailable("away")
    seen.end(
        "DecryptBatch",
        request,
        pb.DecryptBatchResponse(plaintexts=[b""] * 4, failures=failures(missing, missing, missing)),
    )
    assert seen.events == []
    failed = failures(CannotDecrypt(), CannotDecrypt(), CannotDecrypt())
    seen.end("DecryptBatch", request, pb.DecryptBatchResponse(plaintexts=[b""] * 4, failures=failed))
    assert [(event.type, event.count) for event in seen.events] == [(EventType.DECRYPT_FAILURES, 3)]


def test_a_success_with_the_same_key_ends_a_row_of_failures(seen):
    for _ in range(10):
        seen.end("Decrypt", decrypt(), error=CannotDecrypt(), times=2)
        seen.end("Decrypt", decrypt(), pb.DecryptResponse())
    assert seen.events == []
    seen.end("Decrypt", decrypt(), error=CannotDecrypt(), times=2)
    seen.end("Decrypt", decrypt("tenants/acme/keys/other"), pb.DecryptResponse())
    seen.end("Decrypt", decrypt(), error=CannotDecrypt())
    assert seen.types == [EventType.DECRYPT_FAILURES]


def test_volume_is_counted_in_values_and_only_of_what_shows_plaintext(seen):
    batch = pb.DecryptBatchRequest(name=KEY, ciphertexts=[b"c"] * 100)
    for _ in range(15):
        seen.end("DecryptBatch", batch, pb.DecryptBatchResponse(plaintexts=[b"p"] * 10))
        seen.clock.now += 60
    again = pb.ReEncryptBatchResponse(ciphertexts=[b"c"] * 2_000)
    seen.end("ReEncryptBatch", pb.ReEncryptBatchRequest(name=KEY, ciphertexts=[b"c"] * 2_000), again)
    seen.end("Decrypt", decrypt(), pb.DecryptResponse(), times=999)
    assert seen.events == []
    seen.end("Decrypt", decrypt(), pb.DecryptResponse())
    [event] = seen.events
    assert (event.type, event.count, event.blocked) == (EventType.DECRYPT_VOLUME, 1_000, False)
    assert "usually 10 values a minute" in event.indicators


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (KeyState.REVOKED, EventType.REVOKED_KEY_USED),
        (KeyState.DESTRUCTION_SCHEDULED, EventType.QUARANTINED_KEY_USED),
        (KeyState.SUSPENDED, None),
    ],
)
def test_a_use_that_a_state_refused_is_an_event_for_revoked_and_quarantined_keys(seen, state, kind):
    seen.sightings.refused(f"{KEY}/versions/3", state, 7)
    seen.end("Decrypt", decrypt(), error=WrongKeyState("x"))
    assert [(event.type, event.resource, event.count) for event in seen.events] == (
        [(kind, f"{KEY}/versions/3", 7)] if kind else []
    )
    seen.clock.now += 61
    seen.end("Decrypt", decrypt(), error=WrongKeyState("x"))  # another call: nothing is left of the first
    assert len(seen.events) == (1 if kind else 0)


def test_a_refused_use_of_a_call_that_succeeded_after_all_is_no_event(seen):
    seen.sightings.refused(f"{KEY}/versions/3", KeyState.REVOKED, 1)
    seen.end("Encrypt", pb.EncryptRequest(name=KEY), pb.EncryptResponse())
    assert seen.events == []


def test_any_use_of_a_canary_is_an_event_whether_it_succeeds_or_not(seen):
    seen.canary()
    seen.end("Encrypt", pb.EncryptRequest(name=KEY), pb.EncryptResponse())
    seen.end("Decrypt", decrypt(), error=Denied("no grant"), times=2)
    [event], [noticed] = seen.events, seen.noticed
    assert (event.type, event.severity, event.resource) == (EventType.CANARY_TOUCHED, Severity.CRITICAL, KEY)
    assert noticed.key == KeyName("acme", "payroll")
    seen.end("Encrypt", pb.EncryptRequest(name="tenants/acme/keys/other"), pb.EncryptResponse())
    seen.end("Decrypt", decrypt(), error=Denied("no grant"), caller=Principal("acme", "other"))
    assert seen.types == [EventType.CANARY_TOUCHED] * 2  # of the other caller


@pytest.mark.parametrize("field", ["name", "source"])
def test_a_canary_is_touched_by_an_index_of_it_or_under_it(seen, field):
    seen.canary()
    names = {"name": "tenants/acme/keys/other", "source": "tenants/acme/keys/other", field: KEY}
    seen.end("ReIndexBatch", pb.ReIndexBatchRequest(**names), pb.ReIndexBatchResponse())
    assert [(event.type, event.resource) for event in seen.events] == [(EventType.CANARY_TOUCHED, KEY)]


def test_values_that_do_not_decrypt_on_the_way_to_an_index_are_counted_for_their_own_key(seen):
    request = pb.ReIndexBatchRequest(name="tenants/acme/keys/search", source=KEY, ciphertexts=[b"c"] * 30)
    failures = [pb.ItemFailure(index=index, status=status_of(CannotDecrypt(), "")) for index in range(30)]
    seen.end("ReIndexBatch", request, pb.ReIndexBatchResponse(indexes=[b""] * 30, failures=failures))
    assert [(event.type, event.resource) for event in seen.events] == [(EventType.DECRYPT_FAILURES, KEY)]
    done = pb.ReIndexBatchResponse(indexes=[b"i"] * 2_000)
    seen.end("ReIndexBatch", pb.ReIndexBatchRequest(name=KEY, source=KEY, ciphertexts=[b"c"] * 2_000), done)
    assert EventType.DECRYPT_VOLUME not in seen.types


def test_values_that_are_shown_masked_count_as_values_that_were_read(seen):
    request = pb.DecryptMaskedBatchRequest(name=KEY, ciphertexts=[b"c"])
    for _ in range(15):
        seen.end("DecryptMaskedBatch", request, pb.DecryptMaskedBatchResponse(values=["*"] * 10))
        seen.clock.now += 60
    assert seen.events == []
    seen.end("DecryptMaskedBatch", request, pb.DecryptMaskedBatchResponse(values=["*"] * 1_000))
    assert [(event.type, event.count) for event in seen.events] == [(EventType.DECRYPT_VOLUME, 1_000)]


def test_formatted_values_that_are_decrypted_count_as_values_that_were_read(seen):
    request = pb.DecryptFormatBatchRequest(name=KEY, values=["1"])
    for _ in range(15):
        seen.end("DecryptFormatBatch", request, pb.DecryptFormatBatchResponse(values=["1"] * 10))
        seen.clock.now += 60
    made = pb.EncryptFormatBatchResponse(values=["1"] * 2_000)
    seen.end("EncryptFormatBatch", pb.EncryptFormatBatchRequest(name=KEY, values=["1"]), made)
    assert seen.events == []
    seen.end("DecryptFormatBatch", request, pb.DecryptFormatBatchResponse(values=["1"] * 1_000))
    assert [(event.type, event.count) for event in seen.events] == [(EventType.DECRYPT_VOLUME, 1_000)]


def test_another_tenant_touches_no_canary(seen):
    seen.canary()
    seen.end("Decrypt", decrypt(), error=NotFound("x"), caller=Principal("globex", "app"))
    assert seen.events == []


def test_a_key_whose_label_has_gone_is_no_canary_any_more(seen):
    seen.canary()
    seen.canary(value="false")
    seen.end("Decrypt", decrypt(), pb.DecryptResponse())
    assert seen.events == []


def test_canaries_are_remembered_up_to_a_bound():
    sightings = KeySightings(most=2)
    key = new_key(new_tenant("acme"))
    key.labels["canary"] = "true"
    for slug in ("k1", "k2", "k3"):
        sightings.read(KeyName("acme", slug), key)
    assert list(sightings.canaries) == ["tenants/acme/keys/k2", "tenants/acme/keys/k3"]


def test_a_record_that_was_tampered_with_is_critical_at_once_alone_and_in_a_batch(seen):
    seen.end("GetKey", error=CorruptRecord("no sense"))
    request = pb.DecryptBatchRequest(name=KEY, ciphertexts=[b"c"])
    response = pb.DecryptBatchResponse(plaintexts=[b""], failures=failures(CorruptRecord("no sense")))
    seen.end("DecryptBatch", request, response)
    assert [(event.type, event.resource) for event in seen.events] == [
        (EventType.TAMPERED_RECORD, ""),
        (EventType.TAMPERED_RECORD, KEY),
    ]


def test_an_event_tells_who_from_where_by_what_and_since_when(seen):
    address = ip_address("192.0.2.7")
    for _ in range(3):
        seen.end("Decrypt", decrypt(), error=Denied("no"), address=address)
        seen.clock.now += 5
    [event] = seen.events
    assert isinstance(event.uid, UUID)
    assert (event.address, event.credential_kind, event.credential_id) == ("192.0.2.7", "certificate", "ab12")
    assert (event.last_at, (event.last_at - event.first_at).total_seconds()) == (NOW, 10)
    assert event.indicators == ("3 within 10.0 s; the threshold is 3", "last answer: DENIED")


def test_a_request_that_is_no_message_or_names_nothing_is_counted_without_a_resource(seen):
    seen.end("Decrypt", None, error=Denied("no"), times=3)
    seen.clock.now += 61
    seen.end("Decrypt", decrypt("\0"), error=Denied("no"), times=3)
    assert [(event.type, event.resource) for event in seen.events] == [(EventType.REPEATED_DENIALS, "")] * 2


@pytest.mark.parametrize("name", ["Encrypt", "Decrypt", "DecryptBatch", "ListKeys"])
def test_a_successful_call_costs_some_microseconds(seen, name):
    requests = {
        "Encrypt": (pb.EncryptRequest(name=KEY), pb.EncryptResponse()),
        "Decrypt": (decrypt(), pb.DecryptResponse()),
        "DecryptBatch": (
            pb.DecryptBatchRequest(name=KEY, ciphertexts=[b"c"] * 1_000),
            pb.DecryptBatchResponse(plaintexts=[b"p"] * 1_000),
        ),
        "ListKeys": (None, None),
    }
    request, response = requests[name]
    caller = Caller(CALLER, Credential(CredentialKind.SOCKET))
    ended = Ended(ROWS[name], request, response, caller, None, None, "r")
    best = float("inf")
    for _ in range(20):
        started = time.perf_counter()
        for _ in range(200):
            seen.watch.ended(ended)
        best = min(best, (time.perf_counter() - started) / 200)
    print(f"{name}: {best * 1e6:.2f} us")  # noqa: T201
    assert best < SUCCESS
