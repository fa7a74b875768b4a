"""What the wrapper around every call tells of it: metrics always, spans where a collector is configured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from kms.metrics import Metrics
from kms.tracing import Tracing


class CallObserver:
    """Counts, times and traces calls."""

    def __init__(self, metrics: Metrics, tracing: Tracing) -> None:
        self._metrics = metrics
        self._tracing = tracing

    def span(self, method: str, request_id: str) -> AbstractContextManager[object]:
        """Surround the work of one call."""
        return self._work(self._tracing.span(method, request_id))

    def call_finished(self, method: str, code: str, seconds: float) -> None:
        """One call has been answered with the gRPC status *code*, by name."""
        self._metrics.call_finished(method, code, seconds)
        self._tracing.call_finished(code)

    @contextmanager
    def _work(self, span: AbstractContextManager[object]) -> Iterator[None]:
        self._metrics.call_started()
        try:
            with span:
                yield
        finally:
            self._metrics.call_ended()
