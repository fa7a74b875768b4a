"""For whom the present task works, so that the database can be told; None for what the daemon does by itself."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from kms.core.names import Principal

_acting: Final[ContextVar[Principal | None]] = ContextVar("acting", default=None)


def act_for(principal: Principal | None) -> None:
    """Let the rest of this task, and what it starts, work for a principal."""
    _acting.set(principal)


def acting() -> Principal | None:
    """Return for whom this task works."""
    return _acting.get()
