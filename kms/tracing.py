"""OpenTelemetry spans of calls, where a collector is configured; one test of a flag where none is.

A span tells the method, the status code and the request id, never a value, a name of a tenant or a key.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

# Spans, not bytes: one holds five short attributes.
_QUEUE: Final = 2_048
_BATCH: Final = 512
_DELAY_MS: Final = 2_000
_EXPORT_SECONDS: Final = 5
_CLOSE_SECONDS: Final = 3.0

# The daemon's mistakes; the others are the callers' (OpenTelemetry's conventions for gRPC servers).
_SERVER_ERRORS: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)

_open_span: ContextVar[Span | None] = ContextVar("_open_span", default=None)

_OFF: Final[AbstractContextManager[None]] = nullcontext()


class Tracing:
    """Makes one span a call; without an endpoint it does nothing at next to no cost."""

    def __init__(self, endpoint: str | None, version: str, *, ratio: float = 1.0) -> None:
        self._provider: TracerProvider | None = None
        if endpoint is None:
            return
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415  who traces pays for it
            OTLPSpanExporter,
        )

        # Given by argument rather than left to OTEL_* variables: kmsd.toml alone decides where spans go.
        self._exporter = OTLPSpanExporter(
            endpoint=endpoint, insecure=urlsplit(endpoint).scheme == "http", timeout=_EXPORT_SECONDS
        )
        self._provider = TracerProvider(
            resource=Resource.create({SERVICE_NAME: "kmsd", SERVICE_VERSION: version}),
            sampler=ParentBased(TraceIdRatioBased(ratio)),
            span_limits=SpanLimits(max_span_attributes=16, max_events=4, max_links=4, max_attribute_length=256),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self._exporter,
                max_queue_size=_QUEUE,
                max_export_batch_size=_BATCH,
                schedule_delay_millis=_DELAY_MS,
                export_timeout_millis=_EXPORT_SECONDS * 1000,
            )
        )
        self._tracer = self._provider.get_tracer("kms.rpc", version)

    def span(self, method: str, request_id: str) -> AbstractContextManager[object]:
        """Surround the work of one call to *method* (`/package.Service/Method`); call_finished() ends the span.

        Both belong in the task of the call.
        """
        if self._provider is None:
            return _OFF
        service, _, name = method.removeprefix("/").rpartition("/")
        span = self._tracer.start_span(
            f"{service}/{name}",
            context=Context(),
            kind=SpanKind.SERVER,
            attributes={
                "rpc.system": "grpc",
                "rpc.service": service,
                "rpc.method": name,
                "kms.request_id": request_id,
            },
        )
        return _Work(span)

    def call_finished(self, code: str) -> None:
        """End the span of this task's call, if it has one, with the gRPC status *code* by name."""
        if self._provider is None:
            return
        span = _open_span.get()
        if span is None:
            return
        _open_span.set(None)
        span.set_attribute("rpc.response.status_code", code)
        if code in _SERVER_ERRORS:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def close(self) -> None:
        """Send what is queued, for some seconds at most; a collector that is gone costs no more than that."""
        if self._provider is None:
            return
        # The library waits for up to 30 s, and longer for a queue of several batches.
        closing = threading.Thread(target=self._provider.shutdown, name="tracing-close", daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)
        if closing.is_alive():
            self._exporter.shutdown()  # ends the waits between its retries


class _Work:
    """The part of a call that its span is told exceptions of; by their class, since a message may hold values."""

    __slots__ = ("_span",)

    def __init__(self, span: Span) -> None:
        self._span = span

    def __enter__(self) -> None:
        _open_span.set(self._span)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._span.set_attribute("error.type", kind.__name__)
