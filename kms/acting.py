"""For whom the present task works, so that the database can be told; by which credential, and under which approval.

None for what the daemon does by itself.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from kms.core.callers import Credential
from kms.core.names import Principal

_acting: Final[ContextVar[Principal | None]] = ContextVar("acting", default=None)
_with: Final[ContextVar[Credential | None]] = ContextVar("acting_with", default=None)
_under: Final[ContextVar[str]] = ContextVar("acting_under", default="")


def act_for(principal: Principal | None) -> None:
    """Let the rest of this task, and what it starts, work for a principal."""
    _acting.set(principal)


def acting() -> Principal | None:
    """Return for whom this task works."""
    return _acting.get()


def act_with(credential: Credential) -> None:
    """Let the rest of this task know by what its principal has shown who it is."""
    _with.set(credential)


def acting_with() -> Credential | None:
    """Return by what this task's principal has shown who it is."""
    return _with.get()


def act_under(approval: str) -> None:
    """Let the rest of this task work under an approval, by its resource name."""
    _under.set(approval)


def acting_under() -> str:
    """Return the approval under which this task works; empty where there is none."""
    return _under.get()
