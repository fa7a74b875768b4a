"""For whom the present task works, and under which approval; nobody for what the daemon does by itself."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from kms.core.callers import Caller
from kms.core.names import Principal

_caller: Final[ContextVar[Caller | None]] = ContextVar("caller", default=None)
_under: Final[ContextVar[str]] = ContextVar("under", default="")


def act_for(caller: Caller | None) -> None:
    """Let the rest of this task, and what it starts, work for a caller."""
    _caller.set(caller)


def acting() -> Principal | None:
    """Return for whom this task works."""
    caller = _caller.get()
    return None if caller is None else caller.principal


def present_caller() -> Caller:
    """Return for whom this task works, from where, and by what that was shown.

    Raises:
        RuntimeError: it works for nobody.
    """
    caller = _caller.get()
    if caller is None:
        raise RuntimeError("no call is being worked on")
    return caller


def act_under(approval: str) -> None:
    """Let the rest of this task work under an approval, by its resource name."""
    _under.set(approval)


def acting_under() -> str:
    """Return the approval under which this task works; empty where there is none."""
    return _under.get()
