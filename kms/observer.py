"""What the wrapper around every call tells of it: metrics always, spans where a collector is configured."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType

from kms.metrics import Metrics
from kms.tracing import Tracing


class CallObserver:
    """Counts, times and traces calls."""

    def __init__(self, metrics: Metrics, tracing: Tracing) -> None:
        self._metrics = metrics
        self._tracing = tracing

    def span(self, method: str, request_id: str) -> AbstractContextManager[object]:
        """Surround the work of one call."""
        return _Work(self._metrics, self._tracing.span(method, request_id))

    def call_finished(self, method: str, code: str, seconds: float) -> None:
        """One call has been answered with the gRPC status *code*, by name."""
        self._metrics.call_finished(method, code, seconds)
        self._tracing.call_finished(code)


class _Work:
    """A class, since a generator as a context manager costs three times as much, for every call."""

    __slots__ = ("_metrics", "_span")

    def __init__(self, metrics: Metrics, span: AbstractContextManager[object]) -> None:
        self._metrics = metrics
        self._span = span

    def __enter__(self) -> None:
        self._metrics.call_started()
        self._span.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._metrics.call_ended()
        self._span.__exit__(kind, error, trace)
