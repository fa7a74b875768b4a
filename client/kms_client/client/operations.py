"""OperationService."""

from __future__ import annotations

from collections.abc import Iterator

from ..requests import operations
from ..values import Operation
from .calls import Calls


class OperationCalls(Calls):
    """Methods for long work."""

    def list_operations(self, parent: str, *, page_size: int = 0, deadline: float | None = None) -> Iterator[Operation]:
        """Iterate over a tenant's operations, the newest first."""
        return self._pages(operations.list_operations(parent, page_size), deadline)

    def get_operation(self, name: str, *, deadline: float | None = None) -> Operation:
        """Return one operation."""
        return self._run(operations.get_operation(name), deadline)

    def wait_operation(
        self, name: str, *, seconds: float = 10.0, etag: str = "", deadline: float | None = None
    ) -> Operation:
        """Return an operation when it has ended, or after *seconds* (0 to 20); it may then still be running.

        With *etag* it is returned as soon as it has made progress since. Without a *deadline* of its own the call has the
        client's on top of *seconds*.
        """
        return self._run(operations.wait_operation(name, seconds, etag), deadline)

    def cancel_operation(self, name: str, *, deadline: float | None = None) -> Operation:
        """Stop an operation after the batch it is at; what is done stays done."""
        return self._run(operations.cancel_operation(name), deadline)

    def resume_operation(self, name: str, *, deadline: float | None = None) -> Operation:
        """Let a cancelled or failed operation go on where it stopped."""
        return self._run(operations.resume_operation(name), deadline)
