"""Under which approval of others calls are made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from .formats.names import ApprovalName

KEY: Final = "x-kms-approval"

_approval: Final[ContextVar[str]] = ContextVar("approval", default="")


@contextmanager
def under(approval: str) -> Iterator[None]:
    """Make the calls of this block under an approval, `tenants/{tenant}/approvals/{approval}`; empty: under none.

    It is about this thread or asyncio task alone, and both clients heed it. An approval serves one request, the very one
    that was approved.

    Raises:
        InvalidRequest: another form.
    """
    token = _approval.set(str(ApprovalName.parse(approval, "approval")) if approval else "")
    try:
        yield
    finally:
        _approval.reset(token)


def metadata() -> tuple[tuple[str, str], ...]:
    """Return what goes with a call."""
    approval = _approval.get()
    return ((KEY, approval),) if approval else ()
