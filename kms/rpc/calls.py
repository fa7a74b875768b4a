"""The one wrapper through which every call passes.

In this order: request id, deadline, the gates (kms/rpc/gates.py), for a change its intent, the work, errors, the watch,
the audit trail, metrics. Nothing of an unknown exception reaches a caller, and nothing at all before it is durable.

A stream passes the same, by its first message or only request. It may take any time, as long as no message of it does
for longer than a bound; of a stream of answers the intent is durable before the first leaves, the outcome before the last.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from kms.acting import Noted, act_for, begin_noting
from kms.core.audit_ports import Position
from kms.core.callers import Address, Caller
from kms.core.errors import (
    AuditUnavailable,
    CorruptRecord,
    DeadlineExceeded,
    InvalidRequest,
    KmsError,
    Unauthenticated,
    invalid,
)
from kms.core.names import Principal
from kms.rpc.gates import APPROVAL, Ended, Gates
from kms.rpc.identity import check_caller, check_scope
from kms.rpc.methods import AuditKind, Method
from kms.rpc.resources import Resource
from kms.rpc.status import code_of, status_of

_log = structlog.get_logger(__name__)
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
REQUEST_ID: Final = "x-request-id"
CORRELATION_ID: Final = "x-correlation-id"
USER_AGENT: Final = "user-agent"
_TOLD: Final = frozenset({REQUEST_ID, CORRELATION_ID, USER_AGENT, APPROVAL})
STATUS_DETAILS: Final = "grpc-status-details-bin"
STREAM_IDLE: Final = 60.0  # seconds for the next message of a stream to come, or to be taken
_GONE: Final = DeadlineExceeded("nobody waited for the answer; a change may still take effect")

Handler = Callable[[Any, Principal], Awaitable[Message | None]]
_Result = tuple[
    bytes, Message | None, KmsError | None
]  # the answer as bytes and as a message, or the error in its place


class CallObserver(Protocol):
    """Is told of every call: metrics and spans."""

    def span(self, method: str, request_id: str) -> AbstractContextManager[object]:
        """Surround the work of one call."""
        ...

    def call_finished(self, method: str, code: str, seconds: float) -> None:
        """One call has been answered."""
        ...


class Calls:
    """Makes gRPC handlers of the servicers' methods."""

    def __init__(self, gates: Gates, observer: CallObserver, *, deadline: float, idle: float = STREAM_IDLE) -> None:
        """*deadline*: seconds for a call that is no stream; *idle*: seconds for one message of a stream."""
        self._gates = gates
        self._observer = observer
        self._deadline = deadline
        self._idle = idle

    def handlers(self, methods: tuple[Method, ...], servicers: Mapping[str, Any]) -> list[grpc.GenericRpcHandler]:
        """Return one generic handler for each service; *servicers* are by the service's full name."""
        by_service: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
        for method in methods:
            handler = getattr(servicers[method.service.full_name], method.name)
            by_service.setdefault(method.service.full_name, {})[method.name] = self._handler(method, handler)
        return [grpc.method_handlers_generic_handler(service, found) for service, found in by_service.items()]

    def _handler(self, method: Method, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        """Return what gRPC calls: one behaviour for each kind of method."""
        parse = _lenient(method.request._concrete_class.FromString)  # noqa: SLF001  the only way from descriptor to class

        async def call(received: tuple[Any, int], context: Any) -> bytes:
            attempt = _begun(method, context, *received)
            return await self._carried(attempt, self._within_deadline(handler, attempt))

        async def upload(messages: Any, context: Any) -> bytes:
            attempt = _begun(method, context)
            return await self._carried(attempt, self._uploaded(handler, attempt, aiter(messages)))

        async def download(received: tuple[Any, int], context: Any) -> None:
            attempt = _begun(method, context, *received)
            if last := await self._carried(attempt, self._answer(self._sending(handler, attempt), attempt)):
                await context.write(last)

        # The responses have been serialised.
        if method.uploads:
            return grpc.stream_unary_rpc_method_handler(upload, parse, None)
        if method.downloads:
            return grpc.unary_stream_rpc_method_handler(download, parse, None)
        return grpc.unary_unary_rpc_method_handler(call, parse, None)

    async def _carried(self, attempt: _Attempt, work: Awaitable[Message | None]) -> bytes:
        """Do the work of a call, and return its answer, or the last of a stream, when that may leave."""
        gates, method, context = self._gates, attempt.method, attempt.context
        name, code, answer = method.full_name, "CANCELLED", b""
        try:
            try:
                answer, response, error = await self._tried(attempt, work)
            except asyncio.CancelledError:
                gates.trail.left(attempt.ended(None, _GONE, code=_gone(context)))
                raise
            ended = attempt.ended(response, error, attempt.sent + len(answer))
            gates.watch.ended(ended)
            error = await self._recorded(ended)
            code = "OK" if error is None else code_of(error).name
        finally:
            self._observer.call_finished(name, code, time.perf_counter() - attempt.started)
        if error is None:
            if method.audit is AuditKind.ADMIN:
                _log.info("call.done", method=name, request_id=attempt.id, caller=attempt.who)
            return answer
        # Stored state that makes no sense is for the operator to look at, the rest is the callers' business.
        (_log.error if isinstance(error, CorruptRecord) else _log.info)(
            "call.refused",
            method=name,
            audit=method.audit,
            code=code,
            reason=error.reason,
            request_id=attempt.id,
            caller=attempt.who,
        )
        status = status_of(error, attempt.id)
        trailers = ((STATUS_DETAILS, status.SerializeToString()), (REQUEST_ID, attempt.id))
        await context.abort(code_of(error), status.message, trailers)
        raise AssertionError("abort returned")

    async def _within_deadline(self, handler: Handler, attempt: _Attempt) -> Message | None:
        # gRPC itself ends a call at its caller's deadline; a timer of ours is for those who allow themselves more.
        remaining = attempt.context.time_remaining()
        if remaining is not None and remaining <= self._deadline:
            return await self._answer(handler, attempt)
        async with asyncio.timeout(self._deadline):
            return await self._answer(handler, attempt)

    async def _uploaded(self, handler: Any, attempt: _Attempt, messages: AsyncIterator[Any]) -> Message | None:
        """Answer a stream of requests, of which the first says what is wanted."""
        rest = self._arriving(attempt, messages)
        with suppress(InvalidRequest):  # told to those alone who have shown who they are
            attempt.request = await anext(rest, None)

        async def handle(first: Any, caller: Principal) -> Message:
            answer: Message = await handler(first, rest, caller)
            return answer

        return await self._answer(handle, attempt)

    async def _arriving(self, attempt: _Attempt, messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        while True:
            async with asyncio.timeout(self._idle):
                try:
                    message, size = await anext(messages)
                except StopAsyncIteration:
                    return
            attempt.size += size
            if message is None:
                raise _no_message(attempt.method)
            yield message

    def _sending(self, handler: Any, attempt: _Attempt) -> Handler:
        """Return what sends a stream of answers but for the last, which it returns; None for a stream without any."""

        async def send(request: Any, caller: Principal) -> Message | None:
            held: Message | None = None
            async for response in handler(request, caller):
                if held is not None:
                    data = held.SerializeToString()
                    attempt.sent += len(data)
                    # It returns when the peer's window has room: a peer that does not read is not read for.
                    async with asyncio.timeout(self._idle):
                        await attempt.context.write(data)
                held = response
            return held

        return send

    async def _tried(self, attempt: _Attempt, work: Awaitable[Message | None]) -> _Result:
        try:
            response = await work
            # Here, not in gRPC: so its size is known, and what cannot be sent has not succeeded.
            return b"" if response is None else response.SerializeToString(), response, None
        except TimeoutError:
            return b"", None, DeadlineExceeded("the call did not finish in time; a change may still take effect")
        except KmsError as known:
            return b"", None, known
        except Exception:  # noqa: BLE001  the last line of defence: logged here, told to nobody
            _log.exception("call.failed", method=attempt.method.full_name, request_id=attempt.id, caller=attempt.who)
            return b"", None, KmsError("internal error")

    async def _recorded(self, ended: Ended) -> KmsError | None:
        """Return how a call is answered once that is durable: as it ended, or that this could not be written."""
        trail, error = self._gates.trail, ended.error
        if isinstance(error, AuditUnavailable | DeadlineExceeded):
            trail.left(ended)
            return error
        try:
            await trail.ended(ended)
            if error is None and ended.noted.confirm is not None:
                # Writing took its time, in which the node's lease may have ended, or a key been stopped.
                await ended.noted.confirm()
        except KmsError as unrecorded:
            return unrecorded
        return error

    async def _answer(self, handler: Handler, attempt: _Attempt) -> Message | None:
        gates, method, request, context = self._gates, attempt.method, attempt.request, attempt.context
        attempt.address = gates.authenticator.address_of(context)
        gates.admission.arrive(attempt.address)
        try:
            attempt.caller = caller = await gates.authenticator.of(context)
        except Unauthenticated:
            gates.admission.refused(attempt.address)
            raise
        check_caller(method, caller.principal)
        check_scope(method, caller.credential)
        act_for(caller)
        async with gates.admission.turn(method, caller, attempt.size, context):
            if request is None:
                raise _no_message(method)
            with self._observer.span(method.full_name, attempt.id):
                return await self._work(handler, attempt, caller)

    async def _work(self, handler: Handler, attempt: _Attempt, caller: Caller) -> Message | None:
        gates, method, request = self._gates, attempt.method, attempt.request
        attempt.resources = await gates.authorizer.check(method, caller, request)
        if method.audit is AuditKind.ADMIN or method.streams:
            # Before the quorum, which stores requests and uses approvals up: that, too, is a change.
            attempt.begun = True
            attempt.intent = await gates.trail.began(attempt.ended(None, None))
        if not method.needs_quorum(request):
            return await handler(request, caller.principal)
        async with gates.quorum.passage(method, caller, request, attempt.approval):
            return await handler(request, caller.principal)


@dataclass(slots=True)
class _Attempt:
    """One call, and what is known of who makes it."""

    method: Method
    request: Any  # None for what is no message
    size: int  # of the request as it came, bytes
    context: Any
    id: str
    correlation_id: str
    user_agent: str
    approval: str
    started: float
    noted: Noted
    caller: Caller | None = None
    address: Address | None = None
    sent: int = 0  # of a stream of answers, bytes
    begun: bool = False
    intent: Position | None = None
    resources: tuple[Resource, ...] | None = None

    @property
    def who(self) -> str:
        """Name the caller for the log."""
        return "unknown" if self.caller is None else str(self.caller)

    def ended(self, response: Any, error: KmsError | None, size: int = 0, code: str = "") -> Ended:
        return Ended(
            self.method,
            self.request,
            response,
            self.caller,
            self.address,
            error,
            self.id,
            code or ("OK" if error is None else code_of(error).name),
            self.size,
            size,
            time.perf_counter() - self.started,
            self.user_agent,
            self.correlation_id,
            self.approval,
            self.begun,
            self.intent,
            self.noted,
            self.resources,
        )


def _begun(method: Method, context: Any, request: Any = None, size: int = 0) -> _Attempt:
    return _Attempt(method, request, size, context, *_told(context), time.perf_counter(), begin_noting())


def _no_message(method: Method) -> InvalidRequest:
    return invalid("request", f"must be a {method.request.full_name} message with valid UTF-8")


def _gone(context: Any) -> str:
    """Return the code of a call that gRPC has ended: its caller has gone, or that caller's deadline is over."""
    remaining = context.time_remaining()
    return "DEADLINE_EXCEEDED" if remaining is not None and remaining <= 0 else "CANCELLED"


def _told(context: Any) -> tuple[str, str, str, str]:
    """Return what a call's metadata says: request id (a new one where there is none), correlation id, user agent, approval."""
    found: dict[str, str] = {}
    for key, value in context.invocation_metadata() or ():
        if key in _TOLD and isinstance(value, str):
            found.setdefault(key, value)
    if not found:
        return _new_id(), "", "", ""
    request, correlation = found.get(REQUEST_ID, ""), found.get(CORRELATION_ID, "")
    return (
        request if _REQUEST_ID.fullmatch(request) else _new_id(),
        correlation if _REQUEST_ID.fullmatch(correlation) else "",
        found.get(USER_AGENT, ""),
        found.get(APPROVAL, ""),
    )


def _new_id() -> str:
    """Return 48 bits of the time in milliseconds and 40 random bits, in hex, as the first and last bits of a UUIDv7 (RFC 9562).

    Ids in the order of time stand side by side in the audit log's index; random ones would cost each event a page of its own.
    """
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(5).hex()}"


def _lenient(parse: Callable[[bytes], Any]) -> Callable[[bytes], tuple[Any, int]]:
    """A deserialiser must not raise: gRPC would answer UNKNOWN with the exception's text.

    It tells the request's size, too, since to ask a large message for it takes as long as all gates together.
    """

    def deserialise(data: bytes) -> tuple[Any, int]:
        try:
            return parse(data), len(data)
        except DecodeError:
            return None, len(data)

    return deserialise
