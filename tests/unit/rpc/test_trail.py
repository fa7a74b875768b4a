"""Every call in the audit trail, over the real edge: which event it is, in which order, and what when none can be written."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import grpc
import pytest

from kms.acting import (
    MOST_ENCLAVES,
    UsedKey,
    note_body,
    note_changes,
    note_context,
    note_execution,
    note_items,
    note_key,
    note_version,
)
from kms.core.audit import AuditEvent, Category, Outcome, Phase, Retention, Sensitivity
from kms.core.audit_contexts import hashed_value, items_digest
from kms.core.audit_ports import RecordChange
from kms.core.callers import Credential, CredentialKind
from kms.core.context import Context
from kms.core.errors import (
    CannotDecrypt,
    CorruptRecord,
    Denied,
    HsmUnavailable,
    NotFound,
    StorageUnavailable,
)
from kms.core.names import INSTALLATION_UID, KeyUid, TenantUid
from kms.core.policy import AuditContext
from kms.crypto.audit_values import AuditValues
from kms.rpc.methods import METHODS, AuditKind, Callers, Method, Quorum
from kms.rpc.strangers import EVENTS_OF_ONE
from kms.rpc.trail import AuditedCalls
from kms.services.access import Accesses
from kms.services.audit_changes import Changes
from kms.v1 import crypto_pb2 as pb
from kms.v1 import keys_pb2
from tests.attacks.method_requests import request_for
from tests.keyrings import new_grant, new_principal
from tests.node import Clock, Node, stored_tenant
from tests.rpc_server import CALLER, Claims, Edge, aio_single, info_of, refused
from tests.trail import INSTALLATION, VALUES_KEY, MemoryWriter, make_trail

CONTEXT_KEY = bytes(32)
CREDENTIAL = Credential(CredentialKind.TOKEN, "abcdefghijkl")
METADATA = (("address", "192.0.2.7"), ("x-request-id", "call-1"), ("x-correlation-id", "order-66"))
OPERATORS = (("caller", "operators/root"), *METADATA)
CHANGE = next(method for method in METHODS if method.name == "RotateKey")
READING = next(method for method in METHODS if method.name == "GetKey")
PLANTED = b"planted-plaintext-of-a-value"


class Audited:
    """An edge whose calls are in a trail, and what its methods do."""

    def __init__(self, edge: Edge, writer: MemoryWriter, calls: AuditedCalls, tenant: TenantUid, clock: Clock) -> None:
        self.edge, self.writer, self.calls, self.tenant, self.clock = edge, writer, calls, tenant, clock
        self.seals = 0

    async def call(self, method: Method, request: Any = None, metadata: Any = METADATA, timeout: float = 10) -> Any:  # noqa: ASYNC109
        found = aio_single(self.edge.channel, method)
        return await found(
            request_for(method, "acme") if request is None else request, metadata=metadata, timeout=timeout
        )

    def answer(self, method: Method, act: Any = None) -> None:
        async def work(request: Any, _: Any) -> Any:
            self.writer.happened.append("work")
            if act is not None:
                found = act(request)
                if asyncio.iscoroutine(found):
                    found = await found
                if isinstance(found, BaseException):
                    raise found
                if found is not None:
                    return found
            return method.response._concrete_class()

        self.edge.answers.by_name[method.name] = work

    async def seal(self) -> None:
        self.seals += 1
        self.writer.happened.append("seal")


@pytest.fixture
async def audited(serve, database) -> Audited:
    writer, clock = MemoryWriter(), Clock()
    tenant = replace(await stored_tenant(database), slug="acme")
    async with database.transaction(tenant.uid, write=True) as work:
        await work.tenants.replace(replace(tenant, primary_kek=1))
    accesses = Accesses(database, open_tenants=True, lifetime=100.0, clock=clock, now=lambda: datetime.now(UTC))
    made: list[Audited] = []

    async def seal() -> None:
        await made[0].seal()

    calls = AuditedCalls(make_trail(writer, region="eu"), accesses, CONTEXT_KEY, lambda: datetime.now(UTC), clock, seal)
    claims = Claims({str(CALLER): CREDENTIAL})
    edge = await serve(authenticator=claims, trail=calls)
    made.append(Audited(edge, writer, calls, tenant.uid, clock))
    return made[0]


def one(events: list[AuditEvent]) -> AuditEvent:
    [event] = events
    return event


async def settled(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  what is waited for announces nothing
            await asyncio.sleep(0.01)


# Every method.


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
async def test_every_method_is_durable_before_it_is_answered(audited: Audited, method: Method):
    audited.answer(method)
    metadata = OPERATORS if method.callers is Callers.OPERATOR else METADATA
    await audited.call(method, metadata=metadata)
    changes = method.audit is AuditKind.ADMIN
    begun = changes or method.streams
    order = (
        [f"intent {method.full_name}", "work", f"outcome {method.full_name}"]
        if begun
        else ["work", f"act {method.full_name}"]
    )
    assert audited.writer.happened == order + (["seal"] if method.anchored else [])
    event = audited.writer.events[-1]
    operators = method.callers is Callers.OPERATOR
    assert (event.outcome, event.code, event.error) == (Outcome.SUCCESS, "OK", "")
    assert event.principal == ("operators/root" if operators else str(CALLER))
    assert event.tenant == (INSTALLATION_UID if operators else audited.tenant)
    assert (event.credential_kind, event.credential_id) == (
        ("certificate", "") if operators else ("token", "abcdefghijkl")
    )
    assert (event.address, event.request_id, event.correlation_id) == ("192.0.2.7", "call-1", "order-66")
    assert event.user_agent.startswith("grpc-python-asyncio/")
    assert (event.node, event.release, event.region) == ("n1", "1.2.3", "eu")
    assert event.retention is (Retention.EXTENDED if changes else Retention.STANDARD)
    assert event.kept_until is not None
    assert (event.kept_until - event.at).days in ((3652, 3653) if changes else (2556, 2557))
    assert event.bytes_in == len(request_for(method, "acme").SerializeToString())
    if method.resources:
        assert event.resource
        assert event.resource_type not in {"", "tenants", "installation"}
    if begun:
        intent = audited.writer.events[0]
        assert (event.intent_stream, event.intent_sequence) == (intent.stream, intent.sequence)
        assert (intent.phase, intent.outcome, intent.code) == (Phase.INTENT, Outcome.UNKNOWN, "")
        assert (intent.principal, intent.resource, intent.request_id) == (event.principal, event.resource, "call-1")
    else:
        assert event.intent_stream is None
    assert (event.category in {Category.ADMIN, Category.DATA_MODIFICATION}) == changes
    assert (event.category is Category.DATA_ACCESS) != changes


async def test_dangerous_methods_stand_out(audited: Audited):
    assert {m.name for m in METHODS if m.anchored} >= {
        *("RevokeKey", "SuspendKey", "ScheduleKeyDestruction", "RetireKeyVersion", "BlockPrincipal", "CreateGrant"),
        *("DeleteGrant", "CreateToken", "RevokeToken", "PinCertificate", "UpdatePolicy", "UpdateQuorumRule"),
        *("ApproveApproval", "CancelKeyDestruction", "UnblockPrincipal", "ResumeKey"),
    }
    for method in METHODS:
        if method.quorum is Quorum.ALWAYS:
            assert method.anchored, method.name
    revoke = next(m for m in METHODS if m.name == "RevokeKey")
    audited.answer(revoke, lambda _: NotFound("tenants/acme/keys/payroll"))
    await refused(audited.call(revoke))
    assert (audited.writer.events[-1].severity, audited.writer.events[-1].risk) == ("high", 70)
    assert audited.seals == 0  # nothing has changed


# Refusals.


async def test_a_refusal_is_one_event_or_the_outcome_of_its_intent(audited: Audited):
    for method, error, outcome, category, severity in (
        (READING, NotFound("tenants/acme/keys/k1"), Outcome.FAILURE, Category.DATA_ACCESS, "low"),
        (READING, Denied("keys.get is not allowed"), Outcome.FAILURE, Category.AUTHORIZATION, "medium"),
        (READING, StorageUnavailable("away"), Outcome.ERROR, Category.DATA_ACCESS, "medium"),
        (READING, CorruptRecord("damaged"), Outcome.ERROR, Category.DATA_ACCESS, "critical"),
        (READING, RuntimeError(PLANTED.decode()), Outcome.ERROR, Category.DATA_ACCESS, "medium"),
        (CHANGE, HsmUnavailable("away"), Outcome.ERROR, Category.DATA_MODIFICATION, "medium"),
    ):
        audited.writer.events.clear()
        audited.answer(method, lambda _, error=error: error)
        _, status = await refused(audited.call(method))
        event = audited.writer.events[-1]
        assert event.phase is (Phase.ACT if method is READING else Phase.OUTCOME)
        assert len(audited.writer.events) == (1 if method is READING else 2)
        assert (event.outcome, event.category, event.severity) == (outcome, category, severity)
        assert event.error == info_of(status).reason
        assert event.error_message == status.message
        assert event.code


async def test_who_is_not_known_and_what_is_no_message_are_events_too(audited: Audited):
    await refused(audited.call(READING, metadata=(("caller", "nobody"), ("address", "192.0.2.9"))))
    event = one(audited.writer.events)
    assert (event.category, event.code, event.principal) == (Category.AUTHENTICATION, "UNAUTHENTICATED", "")
    assert (event.address, event.tenant, event.outcome) == ("192.0.2.9", INSTALLATION_UID, Outcome.FAILURE)
    await refused(audited.call(READING, b"\xff\xff\xff"))
    event = audited.writer.events[-1]
    assert (event.code, event.resource, event.principal) == ("INVALID_ARGUMENT", "", str(CALLER))
    operator = next(m for m in METHODS if m.callers is Callers.OPERATOR)
    await refused(audited.call(operator, metadata=METADATA))
    assert audited.writer.events[-1].category is Category.AUTHORIZATION


async def test_strangers_have_few_events_of_their_own_and_the_rest_is_summed(audited: Audited):
    flood = (("caller", "nobody"), ("address", "198.51.100.1"))
    for _ in range(EVENTS_OF_ONE + 7):
        await refused(audited.call(READING, metadata=flood))
    assert len(audited.writer.events) == EVENTS_OF_ONE
    await refused(audited.call(READING, metadata=(("caller", "nobody"), ("address", "198.51.100.2"))))
    assert len(audited.writer.events) == EVENTS_OF_ONE + 1
    await audited.calls.tell_strangers()
    event = audited.writer.events[-1]
    assert (event.action, event.address, event.items) == ("calls.refused", "198.51.100.1", 7)
    await audited.calls.tell_strangers()
    assert audited.writer.events[-1] is event
    # What cannot be written is told the next time.
    await refused(audited.call(READING, metadata=flood))
    audited.writer.refusing = True
    await audited.calls.tell_strangers()
    audited.writer.refusing = False
    await audited.calls.tell_strangers()
    assert audited.writer.events[-1].items == 1
    audited.clock.now += 61
    await refused(audited.call(READING, metadata=flood))
    assert audited.writer.events[-1].action == READING.full_name


# When nothing can be written.


@pytest.mark.parametrize("how", ["refusing", "failing"])
async def test_without_the_trail_no_change_is_made_and_nothing_is_answered(audited: Audited, how: str):
    audited.answer(CHANGE)
    audited.answer(READING)
    setattr(audited.writer, how, True)
    _, status = await refused(audited.call(CHANGE))
    assert info_of(status).reason == "AUDIT_UNAVAILABLE"
    assert "nothing has been done" in status.message
    assert "work" not in audited.writer.happened
    _, status = await refused(audited.call(READING))
    assert info_of(status).reason == "AUDIT_UNAVAILABLE"
    # A refusal, too, is only told when it is durable.
    audited.answer(READING, lambda _: NotFound("tenants/acme/keys/k1"))
    error, status = await refused(audited.call(READING))
    assert (error.code(), info_of(status).reason) == (grpc.StatusCode.UNAVAILABLE, "AUDIT_UNAVAILABLE")
    assert audited.writer.events == []
    assert ("RotateKey", "UNAVAILABLE") in audited.edge.observer.finished
    setattr(audited.writer, how, False)
    await audited.call(CHANGE)
    assert audited.writer.events[-1].outcome is Outcome.SUCCESS


async def test_a_change_whose_outcome_cannot_be_written_is_not_acknowledged(audited: Audited):
    def fail(_: Any) -> None:
        audited.writer.failing = True

    audited.answer(CHANGE, fail)
    _, status = await refused(audited.call(CHANGE))
    assert info_of(status).reason == "AUDIT_UNAVAILABLE"
    assert "may have been made" in status.message
    assert "its intent is recorded" in status.message
    assert [event.phase for event in audited.writer.events] == [Phase.INTENT]


async def test_an_answer_waits_for_its_event_and_the_work_for_its_intent(audited: Audited):
    audited.answer(CHANGE)
    audited.writer.gate.clear()
    call = asyncio.ensure_future(audited.call(CHANGE))
    done, _ = await asyncio.wait({call}, timeout=0.3)
    assert not done
    assert audited.writer.happened == []
    audited.writer.gate.set()
    await call
    audited.answer(READING, lambda _: audited.writer.gate.clear())
    call = asyncio.ensure_future(audited.call(READING))
    await settled(lambda: audited.writer.happened[-1] == "work")
    done, _ = await asyncio.wait({call}, timeout=0.3)
    assert not done
    audited.writer.gate.set()
    await call


async def test_a_change_that_must_be_anchored_is_answered_after_the_checkpoint(audited: Audited, monkeypatch):
    suspend = next(m for m in METHODS if m.name == "SuspendKey")
    audited.answer(suspend)

    async def broken() -> None:
        raise HsmUnavailable("the token is away")

    monkeypatch.setattr(audited, "seal", broken)
    _, status = await refused(audited.call(suspend))
    assert info_of(status).reason == "AUDIT_UNAVAILABLE"
    assert "has been made and recorded, but is not anchored" in status.message
    assert audited.writer.events[-1].outcome is Outcome.SUCCESS


# Nobody waits.


async def test_who_goes_away_leaves_an_outcome(audited: Audited):
    begun, go = asyncio.Event(), asyncio.Event()

    async def wait(_: Any) -> None:
        begun.set()
        await go.wait()

    for method in (CHANGE, READING):
        begun.clear()
        audited.answer(method, wait)
        call = asyncio.ensure_future(audited.call(method))
        await asyncio.wait_for(begun.wait(), 10)
        before = len(audited.writer.events)
        call.cancel()
        await settled(lambda before=before: len(audited.writer.events) > before)
        event = audited.writer.events[-1]
        assert (event.outcome, event.code, event.error) == (Outcome.ERROR, "CANCELLED", "CANCELLED")
        assert (event.intent_stream is None) == (method is READING)


async def test_who_goes_away_before_the_intent_is_durable_leaves_one_that_was_not_carried_out(audited: Audited):
    audited.answer(CHANGE)
    audited.writer.gate.clear()
    call = asyncio.ensure_future(audited.call(CHANGE))
    done, _ = await asyncio.wait({call}, timeout=0.3)
    assert not done
    call.cancel()
    await settled(lambda: ("RotateKey", "CANCELLED") in audited.edge.observer.finished)
    audited.writer.gate.set()
    await settled(lambda: len(audited.writer.events) == 2)
    intent, outcome = audited.writer.events
    assert (outcome.intent_sequence, outcome.code) == (intent.sequence, "CANCELLED")
    assert "work" not in audited.writer.happened


async def test_a_call_that_takes_too_long_is_an_error_of_its_own(serve, audited: Audited):
    async def hang(_: Any) -> None:
        await asyncio.Event().wait()

    audited.answer(CHANGE, hang)
    with pytest.raises(grpc.aio.AioRpcError):
        await audited.call(CHANGE, timeout=0.5)
    await settled(lambda: len(audited.writer.events) == 2)
    assert audited.writer.events[-1].code in {"DEADLINE_EXCEEDED", "CANCELLED"}
    assert audited.writer.events[-1].outcome is Outcome.ERROR


# What an event says of a use of a key.


def used(how: AuditContext = AuditContext.HASHED, *, each_item: bool = False) -> UsedKey:
    return UsedKey(KeyUid(INSTALLATION), TenantUid(INSTALLATION), "tenants/acme/keys/k1", "internal", how, each_item)


ENCRYPT = next(method for method in METHODS if method.name == "Encrypt")
DECRYPT_BATCH = next(method for method in METHODS if method.name == "DecryptBatch")
PAIRS = [("column", b"iban"), ("table", b"people")]


@pytest.mark.parametrize("how", AuditContext)
async def test_a_use_of_a_key_tells_which_and_how_much_and_the_context_as_its_policy_has_it(audited: Audited, how):
    context = Context.of(TenantUid(INSTALLATION), PAIRS)

    def act(_: Any) -> Any:
        note_key(used(how))
        note_context(context)
        note_version(KeyUid(INSTALLATION), 3)
        note_items((b"ciphertext",))
        return pb.EncryptResponse(ciphertext=b"ciphertext", version=3)

    audited.answer(ENCRYPT, act)
    request = pb.EncryptRequest(name="tenants/acme/keys/k1", plaintext=PLANTED)
    answer = await audited.call(ENCRYPT, request)
    event = one(audited.writer.events)
    assert (event.key, event.key_version, event.classification) == (INSTALLATION, 3, "internal")
    assert (event.items, event.failures, event.items_digest) == (1, 0, items_digest((b"ciphertext",)))
    assert (event.bytes_in, event.bytes_out) == (request.ByteSize(), answer.ByteSize())
    if how is AuditContext.NONE:
        assert (event.context, event.context_digest) == ("", b"")
        return
    hashed = hmac.digest(CONTEXT_KEY, context.digest(), "sha256")
    assert event.context_digest == (context.digest() if how is AuditContext.PLAIN else hashed)
    shown = json.loads(event.context)
    assert list(shown) == ["column", "table"]
    if how is AuditContext.PLAIN:
        assert (shown["table"], event.sensitivity) == ("people", Sensitivity.SENSITIVE)
    else:
        assert shown["table"] == hashed_value(CONTEXT_KEY, TenantUid(INSTALLATION), "table", b"people")
        assert b"people" not in audited.writer.bytes[-1]


async def test_roles_are_those_that_the_daemon_knows_at_that_time(audited: Audited, database):
    async def roles() -> str:
        audited.writer.events.clear()
        await audited.call(READING)
        return one(audited.writer.events).roles

    audited.answer(READING)
    assert await roles() == ""
    async with database.transaction(audited.tenant, write=True) as work:
        tenant = await work.tenants.get("acme")
        principal = await work.principals.add(new_principal(tenant, CALLER.name))
        await work.grants.add(new_grant(principal))
    assert (
        await roles() == ""
    )  # what is remembered of the caller is good for 100 seconds, for its event as for its call
    audited.clock.now += 101
    assert await roles() == "application"


async def test_what_was_run_in_enclaves_is_summed_up_in_the_event_and_bounded(audited: Audited):
    ours, other = (b"m" * 32, 5, True), (b"n" * 32, 6, True)

    def act(_: Any) -> Any:
        note_key(used(AuditContext.HASHED))
        for failed in (False, False, True):
            note_execution(ours, "encrypt", 0.25, failed=failed)
        note_execution(other, "new_key", 0.5, failed=False)
        for number in range(MOST_ENCLAVES):
            note_execution((bytes([number]) * 32, 7, True), "encrypt", 0.5, failed=False)
        note_body(b"h" * 32)
        return pb.EncryptResponse(ciphertext=b"ciphertext", version=3)

    audited.answer(ENCRYPT, act)
    await audited.call(ENCRYPT, pb.EncryptRequest(name="tenants/acme/keys/k1", plaintext=b"x"))
    details = json.loads(one(audited.writer.events).details)
    assert details["sealed_sha256"] == [(b"h" * 32).hex()]
    first, second, *more = details["executions"]
    assert first == {
        "mrenclave": "6d" * 32,
        "isv_svn": 5,
        "simulated": True,
        "functions": {"encrypt": 3},
        "ms": 750.0,
        "outcome": "failed",
        "failed": 1,
    }
    assert (second["functions"], second["outcome"]) == ({"new_key": 1}, "completed")
    assert len(more) == MOST_ENCLAVES - 2


async def test_a_batch_is_one_event_and_one_for_each_item_where_the_class_asks_for_it(audited: Audited):
    items = [os.urandom(40) for _ in range(600)]
    failures = {1: CannotDecrypt()}
    for each_item in (False, True):
        audited.writer.events.clear()

        def act(_: Any, each_item: bool = each_item) -> None:
            note_key(used(each_item=each_item))
            note_version(KeyUid(INSTALLATION), 3)
            note_version(KeyUid(INSTALLATION), 4)
            note_context(
                Context.of(TenantUid(INSTALLATION), PAIRS[1:]), "column", [b"c%d" % index for index in range(600)]
            )
            note_items(items, failures)

        audited.answer(DECRYPT_BATCH, act)
        await audited.call(DECRYPT_BATCH, pb.DecryptBatchRequest(name="tenants/acme/keys/k1"))
        batch, *rest = audited.writer.events
        assert (batch.items, batch.failures, batch.outcome) == (600, 1, Outcome.PARTIAL)
        assert batch.items_digest == items_digest(items)
        assert json.loads(batch.details) == {"varying": "column", "versions": [3, 4]}
        if not each_item:
            assert rest == []
            continue
        assert [json.loads(event.details)["index"] for event in rest] == list(range(600))
        assert [event.items_digest for event in rest] == [items_digest((item,)) for item in items]
        assert [event.outcome for event in rest[:3]] == [Outcome.SUCCESS, Outcome.FAILURE, Outcome.SUCCESS]
        assert rest[1].error == "DECRYPT_FAILED"
        assert {event.items for event in rest} == {0}  # they are counted in the batch's
        expected = hashed_value(CONTEXT_KEY, TenantUid(INSTALLATION), "column", b"c599")
        assert json.loads(rest[599].context)["column"] == expected


async def test_items_of_a_batch_that_cannot_be_written_hold_back_its_answer(audited: Audited):
    def act(_: Any) -> None:
        note_key(used(each_item=True))
        note_items([b"a", b"b"])
        audited.writer.failing = True

    audited.answer(DECRYPT_BATCH, act)
    _, status = await refused(audited.call(DECRYPT_BATCH, pb.DecryptBatchRequest(name="tenants/acme/keys/k1")))
    assert info_of(status).reason == "AUDIT_UNAVAILABLE"


async def test_values_before_and_after_are_in_the_outcome_encrypted(audited: Audited):
    change = RecordChange(
        "encryption_keys",
        audited.tenant,
        {"key_id": "k1"},
        {"state": "active"},
        {"state": "planted-state", "mac": b"m"},
    )
    audited.answer(CHANGE, lambda _: note_changes([change]))
    await audited.call(CHANGE)
    intent, outcome = audited.writer.events
    assert intent.changes == b""
    assert outcome.sensitivity is Sensitivity.SENSITIVE
    assert b"planted-state" not in b"".join(audited.writer.bytes)
    told = Changes(AuditValues(VALUES_KEY, INSTALLATION)).of(outcome)
    assert told == {
        "changes": [
            {
                "table": "encryption_keys",
                "tenant": str(audited.tenant),
                "identity": {"key_id": "k1"},
                "before": {"state": "active"},
                "after": {"state": "planted-state"},
            }
        ],
        "left_out": 0,
    }


async def test_texts_that_no_database_takes_are_made_so_that_it_does(audited: Audited):
    audited.answer(READING, lambda _: NotFound("a\0b" + "x" * 2000))
    await refused(audited.call(READING))
    event = one(audited.writer.events)
    assert "\0" not in event.error_message
    assert len(event.error_message) == 1024


async def test_a_refusal_of_an_event_itself_is_no_answer(audited: Audited, monkeypatch):
    def unstorable(_: AuditEvent) -> Any:
        raise ValueError("an audit event that is too long")

    audited.answer(READING)
    monkeypatch.setattr(audited.writer, "append", unstorable)
    error, status = await refused(audited.call(READING))
    assert (error.code(), info_of(status).reason) == (grpc.StatusCode.UNAVAILABLE, "AUDIT_UNAVAILABLE")
    assert "too long" not in status.message


# Secrets.


@pytest.mark.softhsm
async def test_nothing_secret_is_in_any_event(serve, node: Node):
    """Over the daemon's own services: plaintext, ciphertexts and data keys are in no event's bytes."""
    from kms.rpc.crypto import CryptoServicer  # noqa: PLC0415
    from kms.rpc.keys import KeyServicer  # noqa: PLC0415

    class Values:
        def values_processed(self, method: str, succeeded: int, failed: int = 0) -> None:
            pass

    await node.tenant("acme")
    key = str(await node.key(CALLER, "payroll"))
    writer = MemoryWriter()
    accesses = Accesses(node.storage, open_tenants=True, lifetime=9.0, clock=node.clock, now=node.wall)
    calls = AuditedCalls(make_trail(writer), accesses, CONTEXT_KEY, node.wall, node.clock)
    edge = await serve(trail=calls)
    crypto = CryptoServicer(
        node.fields, node.indexes, node.pseudonyms, node.formats, node.data_keys, node.leases, Values()
    )
    keys = KeyServicer(node.keys, node.keks, node.lifecycle)
    for servicer, names in (
        (crypto, ("Encrypt", "Decrypt", "EncryptBatch", "DecryptBatch")),
        (keys, ("GetKey", "RotateKey")),
    ):
        for name in names:
            edge.answers.by_name[name] = getattr(servicer, name)
    context = [pb.ContextPair(key="table", value=b"planted-context")]
    made = await edge.crypto.Encrypt(pb.EncryptRequest(name=key, plaintext=PLANTED, context=context))
    await edge.crypto.Decrypt(pb.DecryptRequest(name=key, ciphertext=made.ciphertext, context=context))
    batch = await edge.crypto.EncryptBatch(
        pb.EncryptBatchRequest(name=key, plaintexts=[PLANTED, b"2"], context=context)
    )
    await edge.crypto.DecryptBatch(
        pb.DecryptBatchRequest(name=key, ciphertexts=[*batch.ciphertexts, made.ciphertext[:-1]], context=context)
    )
    await refused(edge.crypto.Decrypt(pb.DecryptRequest(name=key, ciphertext=made.ciphertext)))
    for method in (READING, CHANGE):
        call = edge.channel.unary_unary(method.full_name, request_serializer=lambda m: m.SerializeToString())
        request = keys_pb2.GetKeyRequest(name=key) if method is READING else keys_pb2.RotateKeyRequest(name=key)
        await call(request)
    everything = b"".join(writer.bytes)
    assert key.encode() in everything  # what is there is found
    for secret in (PLANTED, made.ciphertext, made.ciphertext[22:40], batch.ciphertexts[0], b"planted-context"):
        assert secret not in everything
        assert secret.hex().encode() not in everything
    assert [event.key_version for event in writer.of("/kms.v1.CryptoService/Encrypt")] == [1]
    assert writer.of("/kms.v1.CryptoService/DecryptBatch")[0].failures == 1
    rotated = writer.of(CHANGE.full_name, Phase.OUTCOME)
    assert one(rotated).key == writer.of("/kms.v1.CryptoService/Encrypt")[0].key


def test_ip_addresses_of_one_network_are_one_stranger():
    from kms.rpc.strangers import MOST_SOURCES, Strangers  # noqa: PLC0415

    strangers = Strangers(lambda: 0.0)
    own = [strangers.has_event(ip_address(f"2001:db8::{index:x}")) for index in range(EVENTS_OF_ONE + 5)]
    assert own.count(True) == EVENTS_OF_ONE
    for number in range(3 * MOST_SOURCES):
        strangers.has_event(ip_address(f"10.{number >> 8}.{number & 255}.1"))
    assert len(strangers._sources) <= MOST_SOURCES + 1
    assert sum(each.count for each in strangers.taken()) > 2 * MOST_SOURCES
