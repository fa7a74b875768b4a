"""The one wrapper through which every call passes.

In this order: request id, identity, limits, deadline, the work, errors, metrics. Nothing of an unknown exception
reaches a caller.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from kms.core.errors import CorruptRecord, DeadlineExceeded, KmsError, LimitExceeded, invalid
from kms.core.names import Principal
from kms.rpc.identity import Identities, check_caller
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

    def __init__(self, identities: Identities, observer: CallObserver, *, in_flight: int, deadline: float) -> None:
        self._identities = identities
        self._observer = observer
        self._most_in_flight = in_flight
        self._deadline = deadline
        self._in_flight: Counter[Principal] = Counter()

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
        async def call(request: Any, context: Any) -> Message:
            started = time.perf_counter()
            request_id = _request_id(context)
            error: KmsError
            code = "CANCELLED"
            try:
                response = await self._answer(method, handler, request, context, request_id)
            except TimeoutError:
                error = DeadlineExceeded("the call did not finish in time; a change may still take effect")
                code = code_of(error).name
            except KmsError as known:
                error = known
                code = code_of(error).name
            except Exception:  # noqa: BLE001  the last line of defence: logged here, told to nobody
                _log.exception("call.failed", method=method.full_name, request_id=request_id, caller=self._who(context))
                error = KmsError("internal error")
                code = code_of(error).name
            else:
                code = "OK"
                if method.audit is AuditKind.ADMIN:
                    _log.info("call.done", method=method.full_name, request_id=request_id, caller=self._who(context))
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
                request_id=request_id,
                caller=self._who(context),
            )
            status = status_of(error, request_id)
            trailers = ((STATUS_DETAILS, status.SerializeToString()), (REQUEST_ID, request_id))
            await context.abort(code_of(error), status.message, trailers)
            raise AssertionError("abort returned")

        return call

    async def _answer(self, method: Method, handler: Handler, request: Any, context: Any, request_id: str) -> Message:
        caller = self._identities.of(context)
        check_caller(method, caller)
        self._enter(caller, context)
        if request is None:
            raise invalid("request", f"must be a {method.request.full_name} message with valid UTF-8")
        with self._observer.span(method.full_name, request_id):
            # gRPC itself ends a call at its caller's deadline; a timer of ours is for those who allow themselves more.
            remaining = context.time_remaining()
            if remaining is not None and remaining <= self._deadline:
                return await handler(request, caller)
            async with asyncio.timeout(self._deadline):
                return await handler(request, caller)

    def _who(self, context: Any) -> str:
        """Name the caller for the log, off the path of calls that succeed without a change."""
        try:
            return str(self._identities.of(context))
        except KmsError:
            return "unknown"

    def _enter(self, caller: Principal, context: Any) -> None:
        if self._in_flight[caller] >= self._most_in_flight:
            raise LimitExceeded(f"{caller} has {self._most_in_flight} calls in flight, which is the limit")
        self._in_flight[caller] += 1

        # Given back when the answer has left, not when it is ready: a peer that does not read keeps its calls.
        def leave(_: object) -> None:
            self._in_flight[caller] -= 1
            if not self._in_flight[caller]:
                del self._in_flight[caller]

        context.add_done_callback(leave)


def _request_id(context: Any) -> str:
    for key, value in context.invocation_metadata():
        if key == REQUEST_ID and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return os.urandom(8).hex()


def _lenient(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """A deserialiser must not raise: gRPC would answer UNKNOWN with the exception's text."""

    def deserialise(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError:
            return None

    return deserialise
