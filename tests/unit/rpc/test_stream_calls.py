"""Streams through the wrapper of every call: gates by the first message, bounds for each message, nothing unrecorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from kms.core.errors import AuditUnavailable, NotFound
from kms.core.names import Principal
from kms.rpc.admission import STREAM_COST
from kms.settings import Limits
from kms.v1 import blobs_pb2 as pb
from kms.v1 import blobs_pb2_grpc
from tests.rpc_server import CALLER, Edge, Serve, refused
from tests.trail import NoTrail

FIRST = pb.SealBlobRequest(parent="tenants/acme", blob_id="file")
READ = pb.UnsealBlobRequest(name="tenants/acme/blobs/file")


def blobs(edge: Edge) -> Any:
    return blobs_pb2_grpc.BlobServiceStub(edge.channel)


class Trail(NoTrail):
    """Notes what it is asked, and refuses what a test says."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.refuses = ""

    async def began(self, call: Any) -> Any:
        self.told.append("began")
        if self.refuses == "began":
            raise AuditUnavailable("full")

    async def ended(self, call: Any) -> None:
        self.told.append(f"ended {call.size} {call.answer_size}")
        if self.refuses == "ended":
            raise AuditUnavailable("full")


async def taken(first: Any, rest: AsyncIterator[Any], caller: Principal) -> pb.Blob:
    assert caller == CALLER
    size = 0
    async for message in rest:
        size += len(message.chunk)
    return pb.Blob(name=first.blob_id, size=size)


async def given(request: Any, caller: Principal) -> AsyncIterator[Any]:
    assert (request, caller) == (READ, CALLER)
    for number in range(5):
        yield pb.UnsealBlobResponse(chunk=bytes([number]) * 10)


async def until_refused(edge: Edge) -> tuple[list[int], grpc.StatusCode]:
    """What a stream brings before its error, and the error."""
    got = []
    try:
        async for part in blobs(edge).UnsealBlob(READ):
            got.append(part.chunk[0])  # noqa: PERF401  it ends by an error
    except grpc.aio.AioRpcError as error:
        return got, error.code()
    return got, grpc.StatusCode.OK


async def test_a_stream_of_requests_is_answered_once_it_is_recorded(serve: Serve):
    trail = Trail()
    edge = await serve(trail=trail)
    edge.answers.streams["SealBlob"] = taken
    sent = [FIRST, *[pb.SealBlobRequest(chunk=b"x" * 100)] * 7]
    answer = await blobs(edge).SealBlob(iter(sent))
    assert (answer.name, answer.size) == ("file", 700)
    assert trail.told == ["began", f"ended {sum(one.ByteSize() for one in sent)} {answer.ByteSize()}"]
    trail.refuses = "began"
    error, _ = await refused(blobs(edge).SealBlob(iter([FIRST])))
    assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_the_last_answer_waits_for_the_record_of_the_whole(serve: Serve):
    trail = Trail()
    edge = await serve(trail=trail)
    edge.answers.streams["UnsealBlob"] = given
    got = [part.chunk[0] async for part in blobs(edge).UnsealBlob(READ)]
    assert got == [0, 1, 2, 3, 4]
    assert trail.told == ["began", f"ended {READ.ByteSize()} {5 * 12}"]
    trail.refuses = "ended"
    assert await until_refused(edge) == ([0, 1, 2, 3], grpc.StatusCode.UNAVAILABLE)


async def test_an_error_in_the_middle_of_a_stream_is_told_and_recorded(serve: Serve):
    async def broken(request: Any, caller: Principal) -> AsyncIterator[Any]:
        async for part in given(request, caller):
            if part.chunk[0] == 3:
                raise NotFound("tenants/acme/blobs/file")
            yield part

    trail = Trail()
    edge = await serve(trail=trail)
    edge.answers.streams["UnsealBlob"] = broken
    assert await until_refused(edge) == ([0, 1], grpc.StatusCode.NOT_FOUND)
    assert len(trail.told) == 2


async def test_a_message_that_does_not_come_ends_the_stream_but_a_long_one_goes_on(serve: Serve):
    async def slow(count: int, pause: float) -> AsyncIterator[Any]:
        yield FIRST
        for _ in range(count):
            await asyncio.sleep(pause)
            yield pb.SealBlobRequest(chunk=b"x")

    edge = await serve(deadline=0.3, idle=2.0)
    edge.answers.streams["SealBlob"] = taken
    assert (await blobs(edge).SealBlob(slow(6, 0.1))).size == 6  # longer than the deadline of other calls
    error, _ = await refused(blobs(edge).SealBlob(slow(1, 30)))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert edge.admission.idle


async def test_a_stream_counts_what_it_keeps_in_memory(serve: Serve):
    edge = await serve(limits=Limits(tenant_bytes_in_flight=2 * STREAM_COST))
    inside, go = asyncio.Event(), asyncio.Event()

    async def waiting(first: Any, rest: AsyncIterator[Any], caller: Principal) -> pb.Blob:
        inside.set()
        await go.wait()
        return await taken(first, rest, caller)

    edge.answers.streams["SealBlob"] = waiting
    running = asyncio.ensure_future(blobs(edge).SealBlob(iter([FIRST])))
    await inside.wait()
    error, _ = await refused(blobs(edge).SealBlob(iter([FIRST])))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    go.set()
    await running
    await blobs(edge).SealBlob(iter([FIRST]))
