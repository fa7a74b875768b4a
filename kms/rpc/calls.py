"""The one wrapper through which every call passes.

In this order: request id, deadline, the gates (kms/rpc/gates.py), the work, errors, metrics, the watch. Nothing of an
unknown exception reaches a caller.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from kms.acting import act_for
from kms.core.callers import Address, Caller
from kms.core.errors import CorruptRecord, DeadlineExceeded, KmsError, Unauthenticated, invalid
from kms.core.names import Principal
from kms.rpc.gates import APPROVAL, Ended, Gates
from kms.rpc.identity import check_caller, check_scope
from kms.rpc.methods import AuditKind, Method
from kms.rpc.status import code_of, status_of

_log = structlog.get_logger(__name__)
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
REQUEST_ID: Final = "x-request-id"
STATUS_DETAILS: Final = "grpc-status-details-bin"

Handler = Callable[[Any, Principal], Awaitable[Message]]


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

    def __init__(self, gates: Gates, observer: CallObserver, *, deadline: float) -> None:
        self._gates = gates
        self._observer = observer
        self._deadline = deadline

    def handlers(self, methods: tuple[Method, ...], servicers: Mapping[str, Any]) -> list[grpc.GenericRpcHandler]:
        """Return one generic handler for each service; *servicers* are by the service's full name."""
        by_service: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
        for method in methods:
            handler = getattr(servicers[method.service.full_name], method.name)
            request = method.request._concrete_class  # noqa: SLF001  the only way from descriptor to class
            by_service.setdefault(method.service.full_name, {})[method.name] = grpc.unary_unary_rpc_method_handler(
                self._wrapped(method, handler),
                request_deserializer=_lenient(request.FromString),
                response_serializer=method.response._concrete_class.SerializeToString,  # noqa: SLF001
            )
        return [grpc.method_handlers_generic_handler(service, found) for service, found in by_service.items()]

    def _wrapped(self, method: Method, handler: Handler) -> Callable[[Any, Any], Awaitable[Message]]:
        async def call(received: tuple[Any, int], context: Any) -> Message:
            started = time.perf_counter()
            attempt = _Attempt(method, *received, context, _request_id(context))
            error: KmsError
            code = "CANCELLED"
            try:
                # gRPC itself ends a call at its caller's deadline; a timer of ours is for those who allow themselves more.
                remaining = context.time_remaining()
                if remaining is not None and remaining <= self._deadline:
                    response = await self._answer(handler, attempt)
                else:
                    async with asyncio.timeout(self._deadline):
                        response = await self._answer(handler, attempt)
            except TimeoutError:
                error = DeadlineExceeded("the call did not finish in time; a change may still take effect")
                code = code_of(error).name
            except KmsError as known:
                error = known
                code = code_of(error).name
            except Exception:  # noqa: BLE001  the last line of defence: logged here, told to nobody
                _log.exception("call.failed", method=method.full_name, request_id=attempt.id, caller=attempt.who)
                error = KmsError("internal error")
                code = code_of(error).name
            else:
                code = "OK"
                if method.audit is AuditKind.ADMIN:
                    _log.info("call.done", method=method.full_name, request_id=attempt.id, caller=attempt.who)
                self._gates.watch.ended(attempt.ended(response, None))
                return response
            finally:
                self._observer.call_finished(method.full_name, code, time.perf_counter() - started)
            # Stored state that makes no sense is for the operator to look at, the rest is the callers' business.
            (_log.error if isinstance(error, CorruptRecord) else _log.info)(
                "call.refused",
                method=method.full_name,
                audit=method.audit,
                code=code,
                reason=error.reason,
                request_id=attempt.id,
                caller=attempt.who,
            )
            self._gates.watch.ended(attempt.ended(None, error))
            status = status_of(error, attempt.id)
            trailers = ((STATUS_DETAILS, status.SerializeToString()), (REQUEST_ID, attempt.id))
            await context.abort(code_of(error), status.message, trailers)
            raise AssertionError("abort returned")

        return call

    async def _answer(self, handler: Handler, attempt: _Attempt) -> Message:
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
                raise invalid("request", f"must be a {method.request.full_name} message with valid UTF-8")
            with self._observer.span(method.full_name, attempt.id):
                return await self._work(handler, attempt, caller)

    async def _work(self, handler: Handler, attempt: _Attempt, caller: Caller) -> Message:
        gates, method, request = self._gates, attempt.method, attempt.request
        await gates.authorizer.check(method, caller, request)
        if not method.needs_quorum(request):
            return await handler(request, caller.principal)
        async with gates.quorum.passage(method, caller, request, _metadata(attempt.context, APPROVAL)):
            return await handler(request, caller.principal)


@dataclass(slots=True)
class _Attempt:
    """One call, and what is known of who makes it."""

    method: Method
    request: Any  # None for what is no message
    size: int  # of the request as it came, bytes
    context: Any
    id: str
    caller: Caller | None = None
    address: Address | None = None

    @property
    def who(self) -> str:
        """Name the caller for the log."""
        return "unknown" if self.caller is None else str(self.caller)

    def ended(self, response: Any, error: KmsError | None) -> Ended:
        return Ended(self.method, self.request, response, self.caller, self.address, error, self.id)


def _metadata(context: Any, name: str) -> str:
    """Return a value of the call's metadata as text; empty where it is not given."""
    return next((value for key, value in context.invocation_metadata() if key == name and isinstance(value, str)), "")


def _request_id(context: Any) -> str:
    given = _metadata(context, REQUEST_ID)
    return given if _REQUEST_ID.fullmatch(given) else os.urandom(8).hex()


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
