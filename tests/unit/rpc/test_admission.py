"""What a caller may ask for, on a real server: rates, bytes and calls in flight, and turns that are fair to tenants."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import grpc
import pytest

from kms.core.callers import Credential, CredentialKind, TokenLimits
from kms.core.errors import NotFound
from kms.core.limits import SECOND
from kms.rpc.admission import CALL_COST, Limit
from kms.settings import Limits
from kms.v1 import census_pb2, crypto_pb2, operations_pb2, policies_pb2, tenants_pb2
from kms.v1.census_pb2_grpc import CensusServiceStub
from kms.v1.crypto_pb2 import EncryptBatchRequest, EncryptBatchResponse, EncryptRequest, EncryptResponse
from kms.v1.operations_pb2_grpc import OperationServiceStub
from kms.v1.policies_pb2_grpc import PolicyServiceStub
from kms.v1.tenants_pb2_grpc import TenantServiceStub
from tests.node import until
from tests.rpc_server import CALLER, Claims, Edge, Serve, StalledPeer, info_of, refused, retry_of

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
HALF = bytes(512 << 10)


class Clock:
    """Shows the nanoseconds that a test sets."""

    def __init__(self) -> None:
        self.now = 10**15

    def __call__(self) -> int:
        return self.now

    def wait(self, length: timedelta) -> None:
        self.now += length // timedelta(microseconds=1) * 1000


def who(caller: str = str(CALLER), address: str = "") -> tuple[tuple[str, str], ...]:
    return (("caller", caller), *((("address", address),) if address else ()))


async def answered(request: Any, caller: Any) -> EncryptResponse:
    return EncryptResponse(version=1)


class Held:
    """Answers that wait until a test lets them go; remembers whose calls have begun."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ends: list[asyncio.Event] = []

    async def __call__(self, request: Any, caller: Any) -> Any:
        end = asyncio.Event()
        self.begun.append(str(caller))
        self.ends.append(end)
        await end.wait()
        return EncryptBatchResponse() if isinstance(request, EncryptBatchRequest) else EncryptResponse()

    async def begins(self, count: int) -> None:
        await until(lambda: len(self.begun) >= count)
        assert len(self.begun) == count

    def end_all(self) -> None:
        for end in self.ends:
            end.set()


class Stubborn(Held):
    """Goes on when it is cancelled, so that its turn does not end with its deadline."""

    async def __call__(self, request: Any, caller: Any) -> Any:
        work = asyncio.create_task(super().__call__(request, caller))
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(work)
        return work.result()


async def check_refused(call: Any, limit: Limit, edge: Edge) -> timedelta:
    before = edge.admission.refusals[limit]
    error, status = await refused(call)
    assert (error.code(), info_of(status).reason) == (EXHAUSTED, "LIMIT_EXCEEDED")
    assert edge.admission.refusals[limit] == before + 1
    assert "try again in" in status.message
    return retry_of(status)


TOKEN = Credential(CredentialKind.TOKEN, "abcd", limits=TokenLimits(rate=2))
RATES = {
    Limit.PRINCIPAL_RATE: (Limits(principal_rate=2, burst=timedelta(seconds=1)), {}),
    Limit.TENANT_RATE: (Limits(tenant_rate=2, burst=timedelta(seconds=1)), {}),
    Limit.ADDRESS_RATE: (Limits(address_rate=2, burst=timedelta(seconds=1)), {}),
    Limit.TOKEN_RATE: (Limits(), {str(CALLER): TOKEN}),
}
OTHERS = {
    Limit.PRINCIPAL_RATE: who("tenants/acme/principals/other"),
    Limit.TENANT_RATE: who("tenants/globex/principals/app"),
    Limit.ADDRESS_RATE: who(address="192.0.2.2"),
    Limit.TOKEN_RATE: who("tenants/acme/principals/other"),
}


@pytest.mark.parametrize("limit", RATES)
async def test_a_rate_refuses_and_grants_again_after_the_time_that_it_said(serve: Serve, limit: Limit):
    clock, (limits, credentials) = Clock(), RATES[limit]
    edge = await serve(limits=limits, clock=clock, authenticator=Claims(credentials))
    edge.answers.by_name["Encrypt"] = answered

    def call(metadata: Any = None) -> Any:
        return edge.crypto.Encrypt(EncryptRequest(), metadata=metadata or who(address="192.0.2.1"))

    for _ in range(2):
        await call()
    retry = await check_refused(call(), limit, edge)
    assert retry == timedelta(seconds=1)  # limits.block, which is longer than the half second of the rate
    clock.wait(retry - timedelta(microseconds=1))
    assert await check_refused(call(), limit, edge) == timedelta(microseconds=1)
    await call(OTHERS[limit])
    clock.wait(timedelta(microseconds=1))
    await call()
    assert sum(edge.admission.refusals.values()) == 2


async def test_what_one_rate_refuses_costs_nothing_of_another(serve: Serve):
    limits = Limits(principal_rate=1, tenant_rate=3, burst=timedelta(seconds=1))
    edge = await serve(limits=limits, clock=Clock(), authenticator=Claims())
    edge.answers.by_name["Encrypt"] = answered
    await edge.crypto.Encrypt(EncryptRequest())
    for _ in range(10):
        await check_refused(edge.crypto.Encrypt(EncryptRequest()), Limit.PRINCIPAL_RATE, edge)
    for name in ("app2", "app3"):
        await edge.crypto.Encrypt(EncryptRequest(), metadata=who(f"tenants/acme/principals/{name}"))
    call = edge.crypto.Encrypt(EncryptRequest(), metadata=who("tenants/acme/principals/app4"))
    await check_refused(call, Limit.TENANT_RATE, edge)


async def test_an_operator_is_under_no_tenants_rate(serve: Serve):
    edge = await serve(limits=Limits(tenant_rate=1, burst=timedelta(seconds=1)), clock=Clock(), authenticator=Claims())

    async def listed(request, caller):
        return tenants_pb2.ListTenantsResponse()

    edge.answers.by_name["ListTenants"] = listed
    for _ in range(5):
        await TenantServiceStub(edge.channel).ListTenants(
            tenants_pb2.ListTenantsRequest(), metadata=who("operators/root")
        )


async def test_an_address_that_fails_to_authenticate_too_often_is_blocked_whoever_calls_from_it(serve: Serve):
    clock = Clock()
    limits = Limits(failures_per_minute=5, failure_block=timedelta(seconds=30))
    edge = await serve(limits=limits, clock=clock, authenticator=Claims())
    edge.answers.by_name["Encrypt"] = answered
    for _ in range(6):
        error, _ = await refused(edge.crypto.Encrypt(EncryptRequest(), metadata=who("nobody", "2001:db8::1")))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    # The same network of 64 bits is the same source.
    good = who(address="2001:db8::2")
    retry = await check_refused(edge.crypto.Encrypt(EncryptRequest(), metadata=good), Limit.ADDRESS_FAILURES, edge)
    assert retry == timedelta(seconds=30)
    await edge.crypto.Encrypt(EncryptRequest(), metadata=who(address="2001:db8:0:1::1"))
    clock.wait(retry)
    await edge.crypto.Encrypt(EncryptRequest(), metadata=good)


async def test_failures_at_a_small_rate_block_nobody(serve: Serve):
    clock = Clock()
    edge = await serve(limits=Limits(failures_per_minute=60), clock=clock, authenticator=Claims())
    edge.answers.by_name["Encrypt"] = answered
    for _ in range(100):
        error, _ = await refused(edge.crypto.Encrypt(EncryptRequest(), metadata=who("nobody", "192.0.2.1")))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        clock.now += SECOND
    await edge.crypto.Encrypt(EncryptRequest(), metadata=who(address="192.0.2.1"))


async def test_refusals_for_other_reasons_are_no_failures_to_authenticate(serve: Serve):
    edge = await serve(limits=Limits(failures_per_minute=1), clock=Clock(), authenticator=Claims())
    edge.answers.by_name["Encrypt"] = answered
    for _ in range(5):
        call = edge.channel.unary_unary("/kms.v1.TenantService/CreateTenant")(b"", metadata=who(address="192.0.2.1"))
        error, _ = await refused(call)
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    await edge.crypto.Encrypt(EncryptRequest(), metadata=who(address="192.0.2.1"))


async def test_the_bytes_of_a_tenants_requests_in_flight_are_bounded(serve: Serve):
    limits = Limits(message_bytes=1 << 20, tenant_bytes_in_flight=2 << 20, bytes_in_flight=3 << 20, room_bytes=16 << 20)
    edge, held = await serve(limits=limits, clock=Clock(), authenticator=Claims()), Held()
    edge.answers.by_name["EncryptBatch"] = held

    def batch(tenant: str) -> Any:
        request = EncryptBatchRequest(plaintexts=[HALF])
        return edge.crypto.EncryptBatch(request, metadata=who(f"tenants/{tenant}/principals/app"))

    calls = [batch("acme") for _ in range(3)]
    await held.begins(3)
    retry = await check_refused(batch("acme"), Limit.TENANT_BYTES, edge)
    assert retry > timedelta(0)
    calls += [batch("globex") for _ in range(2)]
    await held.begins(5)
    await check_refused(batch("globex"), Limit.BYTES, edge)
    # Operators are not counted among the tenants.
    asked = Held()
    edge.answers.by_name["ListTenants"] = asked
    listing = TenantServiceStub(edge.channel).ListTenants(
        tenants_pb2.ListTenantsRequest(), metadata=who("operators/root")
    )
    await asked.begins(1)
    listing.cancel()
    held.end_all()
    await asyncio.gather(*calls)
    await until(lambda: edge.admission.idle)
    calls = [batch("acme") for _ in range(3)]
    await held.begins(8)
    for call in calls:
        call.cancel()
    await until(lambda: edge.admission.idle)


async def test_a_peer_that_does_not_read_its_answer_keeps_its_bytes_but_not_its_turn(serve: Serve):
    limits = Limits(message_bytes=1 << 20, tenant_bytes_in_flight=2 << 20, room_bytes=16 << 10)
    edge, held = await serve(limits=limits, clock=Clock(), authenticator=Claims()), Held()

    async def long_answer(request, caller):
        return EncryptResponse(ciphertext=bytes(1000))

    edge.answers.by_name["Encrypt"] = long_answer
    edge.answers.by_name["EncryptBatch"] = held
    peers = [StalledPeer(edge.path, "/kms.v1.CryptoService/Encrypt") for _ in range(3)]
    await until(lambda: edge.observer.finished == [("Encrypt", "OK")] * 3)
    await until(lambda: edge.admission._keys.at_work == 0)
    assert edge.admission._bytes == {"acme": 3 * CALL_COST}
    for peer in peers:
        peer.close()
    await until(lambda: edge.admission.idle)


@pytest.mark.parametrize("length", [256 << 10, (256 << 10) + 1])
async def test_a_request_that_uses_no_key_has_a_smaller_size(serve: Serve, length: int):
    edge = await serve(authenticator=Claims())
    overhead = policies_pb2.CreatePolicyRequest(policy_id="x" * (128 << 10)).ByteSize() - (128 << 10)
    request = policies_pb2.CreatePolicyRequest(policy_id="x" * (length - overhead))
    assert request.ByteSize() == length

    async def answer(request, caller):
        raise NotFound("x")

    edge.answers.by_name["CreatePolicy"] = answer
    error, status = await refused(PolicyServiceStub(edge.channel).CreatePolicy(request))
    fits = length == 256 << 10
    assert error.code() is (grpc.StatusCode.NOT_FOUND if fits else grpc.StatusCode.INVALID_ARGUMENT)
    assert edge.admission.refusals[Limit.SIZE] == (0 if fits else 1)
    assert fits or "must have at most 262144 bytes" in status.message
    await until(lambda: edge.admission.idle)


def flood(edge: Edge, tenant: str, count: int) -> list[Any]:
    """Begin batches of half a mebibyte."""
    request = EncryptBatchRequest(plaintexts=[HALF])
    return [edge.crypto.EncryptBatch(request, metadata=who(f"tenants/{tenant}/principals/app")) for _ in range(count)]


async def waits(edge: Edge, count: int) -> None:
    await until(lambda: edge.admission.waiting == count)


async def cancelled(calls: Iterable[Any]) -> None:
    for call in calls:
        call.cancel()


async def test_another_tenants_flood_of_batches_does_not_come_before_a_quiet_tenants_calls(serve: Serve):
    edge, held = await serve(limits=Limits(room_bytes=1 << 20), clock=Clock(), authenticator=Claims()), Held()
    edge.answers.by_name["EncryptBatch"] = held
    edge.answers.by_name["Encrypt"] = answered
    batches = flood(edge, "flood", 40)
    await held.begins(2)
    await waits(edge, 38)
    for _ in range(20):
        await edge.crypto.Encrypt(EncryptRequest(), metadata=who("tenants/quiet/principals/app"))
    assert len(held.begun) == 2
    assert edge.admission.waiting == 38
    await cancelled(batches)
    await until(lambda: edge.admission.idle)


async def test_two_tenants_that_flood_are_served_in_turn(serve: Serve):
    edge, held = await serve(limits=Limits(room_bytes=1 << 20), clock=Clock(), authenticator=Claims()), Held()
    edge.answers.by_name["EncryptBatch"] = held
    batches = flood(edge, "first", 12)
    await held.begins(2)
    await waits(edge, 10)
    batches += flood(edge, "second", 12)
    await held.begins(3)  # one at once, since it had none
    await waits(edge, 21)
    for number in range(16):
        await until(lambda n=number: len(held.ends) > n)
        held.ends[number].set()
    for tenant in ("first", "second"):
        assert 6 <= sum(tenant in name for name in held.begun[:16]) <= 10
    for number in range(16, 24):
        await until(lambda n=number: len(held.ends) > n)
        held.ends[number].set()
    await asyncio.gather(*batches)
    await until(lambda: edge.admission.idle)


async def test_no_flood_locks_out_an_operator(serve: Serve):
    limits = Limits(message_bytes=1 << 20, tenant_bytes_in_flight=8 << 20, bytes_in_flight=8 << 20)
    edge, held = await serve(limits=limits, clock=Clock(), authenticator=Claims()), Held()
    edge.answers.by_name["EncryptBatch"] = held
    edge.answers.by_name["GetTenant"] = held
    edge.answers.by_name["ListTenants"] = list_nothing = Held()
    calls = flood(edge, "flood", 15)
    stub = TenantServiceStub(edge.channel)
    calls += [
        stub.GetTenant(tenants_pb2.GetTenantRequest(), metadata=who("tenants/slow/principals/app")) for _ in range(20)
    ]
    await until(lambda: edge.admission._records.waiting > 0 and edge.admission._keys.waiting > 0)
    listing = [stub.ListTenants(tenants_pb2.ListTenantsRequest(), metadata=who("operators/root")) for _ in range(4)]
    await list_nothing.begins(4)
    await cancelled([*calls, *listing])
    await until(lambda: edge.admission.idle)


async def test_waiting_for_an_operation_takes_no_turn(serve: Serve):
    edge, held = await serve(clock=Clock(), authenticator=Claims()), Held()
    edge.answers.by_name["WaitOperation"] = held
    edge.answers.by_name["ListPlaces"] = places = Held()
    calls = [
        OperationServiceStub(edge.channel).WaitOperation(operations_pb2.WaitOperationRequest()) for _ in range(100)
    ]
    await held.begins(100)
    calls.append(CensusServiceStub(edge.channel).ListPlaces(census_pb2.ListPlacesRequest()))
    await places.begins(1)
    await cancelled(calls)
    await until(lambda: edge.admission.idle)


async def test_calls_beyond_the_queue_are_refused_with_a_time_to_wait(serve: Serve):
    edge, held = await serve(limits=Limits(room_bytes=1 << 20, queue=3), clock=Clock(), authenticator=Claims()), Held()
    edge.answers.by_name["EncryptBatch"] = held
    batches = flood(edge, "flood", 5)
    await held.begins(2)
    await waits(edge, 3)
    [more] = flood(edge, "flood", 1)
    assert await check_refused(more, Limit.QUEUE, edge) == timedelta(milliseconds=100)
    assert edge.admission.waiting == 3
    held.end_all()
    await held.begins(4)
    await cancelled(batches)
    await until(lambda: edge.admission.idle)


@pytest.mark.parametrize("given", [None, 0.05, 3600.0], ids=["the daemon's", "the caller's", "the daemon's again"])
async def test_the_wait_for_a_turn_is_inside_the_calls_deadline_and_leaves_no_trace(serve: Serve, given: float | None):
    limits = Limits(room_bytes=1 << 20)
    edge, held = await serve(limits=limits, deadline=0.3, clock=Clock(), authenticator=Claims()), Stubborn()
    edge.answers.by_name["EncryptBatch"] = held
    batches = flood(edge, "flood", 2)
    await held.begins(2)
    waiting = edge.crypto.EncryptBatch(
        EncryptBatchRequest(plaintexts=[HALF]), metadata=who("tenants/flood/principals/app"), timeout=given
    )
    error, _ = await refused(waiting)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: edge.admission.waiting == 0)
    assert not edge.admission.idle  # the two still work
    await cancelled(batches)
    held.end_all()
    await until(lambda: edge.admission.idle)
    assert len(held.begun) == 2


async def test_calls_that_are_cancelled_while_they_wait_leave_no_trace(serve: Serve):
    edge, held = await serve(limits=Limits(room_bytes=1 << 20), clock=Clock(), authenticator=Claims()), Held()
    edge.answers.by_name["EncryptBatch"] = held
    working = flood(edge, "flood", 2)
    await held.begins(2)
    waiting = flood(edge, "flood", 20)
    await waits(edge, 20)
    assert not edge.admission.idle
    await cancelled(waiting)
    await waits(edge, 0)
    held.end_all()
    await asyncio.gather(*working)
    await until(lambda: edge.admission.idle)
    assert len(held.begun) == 2
    edge.answers.by_name["Encrypt"] = answered
    assert await edge.crypto.Encrypt(crypto_pb2.EncryptRequest()) == EncryptResponse(version=1)
