"""The one wrapper around every call, on a real server: what a caller, the metrics and the log are told."""

from __future__ import annotations

import asyncio
import gc
import time
from uuid import uuid4

import grpc
import pytest
import structlog
from google.rpc import error_details_pb2

from kms import logs
from kms.core.context import Context
from kms.core.errors import CorruptRecord, InvalidRequest, KmsError, NotFound, Violation
from kms.core.names import TenantUid
from kms.rpc.calls import REQUEST_ID
from kms.settings import Limits
from kms.v1 import crypto_pb2 as pb
from kms.v1 import keys_pb2, keys_pb2_grpc
from tests.node import until
from tests.rpc_server import CALLER, Edge, Serve, StalledPeer, info_of, refused

SECRET = b"4111-1111-1111-1111"


def raising(error: BaseException):
    async def answer(request, caller):
        raise error

    return answer


def giving(response):
    async def answer(request, caller):
        return response

    return answer


async def hang(request, caller):
    await asyncio.Event().wait()


def violations(status) -> list[error_details_pb2.BadRequest.FieldViolation]:
    return list(error_details_pb2.BadRequest.FromString(status.details[1].value).field_violations)


async def test_an_unknown_exception_is_told_to_nobody_and_logged_whole_but_for_secrets(serve: Serve):
    edge = await serve()

    async def answer(request, caller):
        plaintext = request.plaintext
        raise ValueError(f"table users is odd: {plaintext!r}, pin=1234")

    edge.answers.by_name["Encrypt"] = answer
    with structlog.testing.capture_logs(processors=[logs.redact]) as log:
        error, status = await refused(edge.crypto.Encrypt(pb.EncryptRequest(plaintext=SECRET)))
    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal error")
    assert (status.message, info_of(status).reason) == ("internal error", "INTERNAL")
    assert edge.observer.finished == [("Encrypt", "INTERNAL")]
    [failed] = [line for line in log if line["event"] == "call.failed"]
    assert "ValueError: table users is odd" in failed["exception"]
    assert failed["request_id"] == info_of(status).metadata["request_id"]
    assert failed["log_level"] == "error"
    assert SECRET.decode() not in str(log)
    assert "1234" not in str(log).replace(failed["request_id"], "")


async def test_values_are_in_no_log_line(serve: Serve):
    edge = await serve()
    edge.answers.by_name["Decrypt"] = raising(NotFound("tenants/acme/keys/k1"))
    edge.answers.by_name["Encrypt"] = giving(pb.EncryptResponse(ciphertext=SECRET))
    with structlog.testing.capture_logs() as log:
        await refused(
            edge.crypto.Decrypt(pb.DecryptRequest(ciphertext=SECRET, context=[{"key": "a", "value": SECRET}]))
        )
        await edge.crypto.Encrypt(pb.EncryptRequest(plaintext=SECRET))
    assert [line["event"] for line in log] == ["call.refused"]
    assert SECRET.decode() not in str(log)


async def test_stored_state_that_makes_no_sense_is_an_error_in_the_log(serve: Serve):
    edge = await serve()
    edge.answers.by_name["Encrypt"] = raising(CorruptRecord("a stored record makes no sense"))
    edge.answers.by_name["Decrypt"] = raising(NotFound("x"))
    with structlog.testing.capture_logs() as log:
        error, _ = await refused(edge.crypto.Encrypt(pb.EncryptRequest()))
        await refused(edge.crypto.Decrypt(pb.DecryptRequest()))
    assert error.code() is grpc.StatusCode.DATA_LOSS
    assert [(line["reason"], line["log_level"]) for line in log] == [("CORRUPT_RECORD", "error"), ("NOT_FOUND", "info")]


async def test_the_caller_and_the_request_reach_the_servicer_and_success_is_told_once(serve: Serve):
    edge = await serve()
    seen = []

    async def answer(request, caller):
        seen.append((request.plaintext, caller))
        return pb.EncryptResponse(version=7)

    edge.answers.by_name["Encrypt"] = answer
    response = await edge.crypto.Encrypt(pb.EncryptRequest(plaintext=b"x"))
    assert response.version == 7
    assert seen == [(b"x", CALLER)]
    assert edge.observer.finished == [("Encrypt", "OK")]
    assert [method for method, _ in edge.observer.spans] == ["/kms.v1.CryptoService/Encrypt"]


@pytest.mark.parametrize("given", ["abc-DEF_0.9", "x" * 64])
async def test_a_request_id_is_taken_from_the_caller_and_returned(serve: Serve, given: str):
    edge = await serve()
    edge.answers.by_name["Encrypt"] = raising(NotFound("x"))
    with structlog.testing.capture_logs() as log:
        error, status = await refused(edge.crypto.Encrypt(pb.EncryptRequest(), metadata=((REQUEST_ID, given),)))
    assert dict(error.trailing_metadata() or ())[REQUEST_ID] == given
    assert info_of(status).metadata["request_id"] == given
    assert [line["request_id"] for line in log] == [given]
    assert edge.observer.spans[0][1] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", 'a"b', "a/b", "{}"])
async def test_a_request_id_that_breaks_the_rule_is_replaced(serve: Serve, given: str):
    edge = await serve()
    edge.answers.by_name["Encrypt"] = raising(NotFound("x"))
    ids = set()
    for _ in range(2):
        error, status = await refused(edge.crypto.Encrypt(pb.EncryptRequest(), metadata=((REQUEST_ID, given),)))
        ids.add(info_of(status).metadata["request_id"])
        assert dict(error.trailing_metadata() or ())[REQUEST_ID] in ids
    assert len(ids) == 2
    assert all(len(id_) == 22 and int(id_, 16) >= 0 for id_ in ids)
    milliseconds = time.time_ns() // 1_000_000
    assert all(0 <= milliseconds - int(id_[:12], 16) < 60_000 for id_ in ids)


@pytest.mark.parametrize("given", [None, 3600.0], ids=["no deadline", "a longer deadline"])
async def test_a_call_past_the_daemons_deadline_is_ended(serve: Serve, given: float | None):
    edge = await serve(deadline=0.05)
    edge.answers.by_name["Encrypt"] = hang
    error, status = await refused(edge.crypto.Encrypt(pb.EncryptRequest(), timeout=given))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert info_of(status).reason == "DEADLINE_EXCEEDED"
    assert "may still take effect" in str(error.details())
    assert edge.observer.finished == [("Encrypt", "DEADLINE_EXCEEDED")]


async def test_the_callers_deadline_ends_the_work_too(serve: Serve):
    edge = await serve()
    ended = []

    async def answer(request, caller):
        try:
            await hang(request, caller)
        finally:
            ended.append(True)

    edge.answers.by_name["Encrypt"] = answer
    error, _ = await refused(edge.crypto.Encrypt(pb.EncryptRequest(), timeout=0.05))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: edge.observer.finished)
    assert ended == [True]
    assert edge.observer.finished[0][1] in {"DEADLINE_EXCEEDED", "CANCELLED"}


async def test_a_call_that_is_cancelled_ends_its_work_and_is_told_once(serve: Serve):
    edge = await serve()
    started, ended = asyncio.Event(), asyncio.Event()

    async def answer(request, caller):
        started.set()
        try:
            await hang(request, caller)
        finally:
            ended.set()

    edge.answers.by_name["Encrypt"] = answer
    call = edge.crypto.Encrypt(pb.EncryptRequest())
    await started.wait()
    call.cancel()
    await ended.wait()
    await until(lambda: edge.observer.finished)
    assert edge.observer.finished == [("Encrypt", "CANCELLED")]


async def fill(edge: Edge, count: int) -> list[grpc.aio.UnaryUnaryCall]:
    """Begin calls that hang; returns when all of them are being worked on."""
    before = len(edge.observer.spans)
    edge.answers.by_name["Encrypt"] = hang
    calls = [edge.crypto.Encrypt(pb.EncryptRequest()) for _ in range(count)]
    await until(lambda: len(edge.observer.spans) == before + count)
    return calls


async def test_a_caller_has_so_many_calls_in_flight_and_no_more(serve: Serve):
    edge = await serve(limits=Limits(calls_in_flight=3))
    edge.answers.by_name["Decrypt"] = raising(NotFound("x"))
    calls = await fill(edge, 3)
    for _ in range(5):
        error, status = await refused(edge.crypto.Decrypt(pb.DecryptRequest()))
        assert (error.code(), info_of(status).reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    # Refusals take no place: with one call less there is one again, not more and not fewer.
    calls[0].cancel()
    await until(lambda: ("Encrypt", "CANCELLED") in edge.observer.finished)
    await room(edge)
    calls += await fill(edge, 1)
    assert await is_full(edge)
    for call in calls:
        call.cancel()


async def is_full(edge: Edge) -> bool:
    error, _ = await refused(edge.crypto.Decrypt(pb.DecryptRequest()))
    return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def room(edge: Edge) -> None:
    """Wait until there is a place for one more call."""
    async with asyncio.timeout(10):
        while await is_full(edge):
            pass


async def test_calls_in_flight_are_given_back_when_the_client_goes_away(serve: Serve):
    edge = await serve(limits=Limits(calls_in_flight=3))
    edge.answers.by_name["Decrypt"] = raising(NotFound("x"))
    peers = [StalledPeer(edge.path, "/kms.v1.CryptoService/Encrypt") for _ in range(3)]
    edge.answers.by_name["Encrypt"] = hang
    await until(lambda: len(edge.observer.spans) == 3)
    assert await is_full(edge)
    for peer in peers:
        peer.close()
    await room(edge)
    for call in await fill(edge, 3):
        call.cancel()


async def test_a_peer_that_does_not_read_its_answers_keeps_its_places(serve: Serve):
    edge = await serve(limits=Limits(calls_in_flight=2))
    edge.answers.by_name["Decrypt"] = raising(NotFound("x"))
    edge.answers.by_name["Encrypt"] = giving(pb.EncryptResponse(ciphertext=bytes(1000)))
    peers = [StalledPeer(edge.path, "/kms.v1.CryptoService/Encrypt") for _ in range(2)]
    await until(lambda: edge.observer.finished == [("Encrypt", "OK")] * 2)
    assert await is_full(edge)
    for peer in peers:
        peer.close()
    await room(edge)


async def test_calls_that_are_refused_before_the_limit_take_no_place(serve: Serve):
    edge = await serve(limits=Limits(calls_in_flight=1))
    edge.answers.by_name["Encrypt"] = giving(pb.EncryptResponse(ciphertext=bytes(1000)))
    for _ in range(5):  # an operator's method
        error, _ = await refused(edge.channel.unary_unary("/kms.v1.TenantService/CreateTenant")(b""))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    for _ in range(5):  # no message: in flight, and given back
        await room_then(edge, b"\xff\xff")
    await edge.crypto.Encrypt(pb.EncryptRequest())


async def room_then(edge: Edge, body: bytes) -> None:
    error, status = await refused(edge.channel.unary_unary("/kms.v1.CryptoService/Encrypt")(body))
    while info_of(status).reason == "LIMIT_EXCEEDED":
        error, status = await refused(edge.channel.unary_unary("/kms.v1.CryptoService/Encrypt")(body))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in violations(status)] == ["request"]


async def test_every_broken_rule_of_a_legal_request_reaches_the_caller_or_as_many_as_fit(serve: Serve):
    """gRPC drops answers whose trailers are too long at random, so each is asked for several times."""
    edge = await serve()
    pairs = [("KEY", b"\xff")] * 63
    with pytest.raises(InvalidRequest) as caught:
        Context.of(TenantUid(uuid4()), pairs)
    assert len(caught.value.violations) == 63
    edge.answers.by_name["Encrypt"] = raising(caught.value)
    for _ in range(20):
        error, status = await refused(edge.crypto.Encrypt(pb.EncryptRequest(), metadata=((REQUEST_ID, "x" * 64),)))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        told = violations(status)
        assert [violation.field for violation in told] == [f"context[{i}].key" for i in range(len(told))]
        assert len(told) >= 25


async def test_the_longest_refusal_fits_into_what_peers_take(serve: Serve):
    edge = await serve()
    text = "\N{GRINNING FACE}" * 5000  # each character is 12 bytes in grpc-message
    longest = InvalidRequest(*(Violation(text, text) for _ in range(100)))
    edge.answers.by_name["Encrypt"] = raising(longest)
    edge.answers.by_name["Decrypt"] = raising(KmsError(text))
    for _ in range(20):
        error, status = await refused(edge.crypto.Encrypt(pb.EncryptRequest()))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert violations(status)
        assert error.details() == status.message
        error, _ = await refused(edge.crypto.Decrypt(pb.DecryptRequest()))
        assert error.code() is grpc.StatusCode.INTERNAL


async def test_no_task_of_a_call_is_left_with_an_error_that_nobody_saw(serve: Serve, caplog):
    edge = await serve(deadline=0.05)
    edge.answers.by_name["Encrypt"] = hang
    edge.answers.by_name["Decrypt"] = raising(RuntimeError("x"))
    with structlog.testing.capture_logs():
        for given in (0.001, 0.01, 0.049, 0.05, 0.051, None):
            await refused(edge.crypto.Encrypt(pb.EncryptRequest(), timeout=given))
        await refused(edge.crypto.Decrypt(pb.DecryptRequest()))
    await edge.channel.close()
    await edge.server.stop(0.0)
    gc.collect()
    assert [record for record in caplog.records if record.levelname in {"ERROR", "CRITICAL"}] == []


async def test_every_method_is_served_by_the_wrapper(serve: Serve):
    edge = await serve()
    edge.answers.by_name["ListKeys"] = giving(keys_pb2.ListKeysResponse())
    stub = keys_pb2_grpc.KeyServiceStub(edge.channel)
    assert list((await stub.ListKeys(keys_pb2.ListKeysRequest())).keys) == []
    assert edge.observer.finished == [("ListKeys", "OK")]
