"""The life of keys and their versions as tables. Source: NIST SP 800-57 part 1, revision 5, section 7.

    pending --activate--> active <--finish rotation-- rotating
                             |  --rotate-------------->   |
                             |                            |
           active, rotating  --suspend--> suspended --resume--> active
           active, rotating, suspended --archive--> archived
           any of them       --revoke---> revoked
           any of them       --schedule destruction--> destruction scheduled --destroy--> destroyed
                                            --cancel destruction--> what it was before
                                            --revoke--> revoked, and destruction is no longer scheduled

The words are those of the documents; section 7 calls pending pre-activation, archived deactivated, and revoked
compromised. A version is never suspended by itself, and only a version is archived, by the end of its grace; its
destruction is scheduled only once it is archived or revoked.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from .errors import WrongKeyState


class KeyState(StrEnum):
    """The states of a key, and of a key version."""

    PENDING = "pending"  # not yet for use
    ACTIVE = "active"  # a version: the primary one, which encrypts
    ROTATING = "rotating"  # replaced as primary; nodes that have not heard may encrypt under it until its grace is over
    SUSPENDED = "suspended"  # stopped for a while: neither encrypts nor decrypts
    ARCHIVED = "archived"  # decrypts only
    REVOKED = "revoked"  # compromised: only re-encryption by the rotation identity
    DESTRUCTION_SCHEDULED = "destruction_scheduled"  # a version: quarantine; a use is refused and reported
    DESTROYED = "destroyed"  # the wrapped DEK is gone; the record remains


class KeyEvent(StrEnum):
    """What may happen to a key or a key version."""

    ACTIVATE = "activate"
    ROTATE = "rotate"  # a newer version becomes the primary one
    FINISH_ROTATION = "finish rotation"  # the grace of the replaced versions is over
    SUSPEND = "suspend"
    RESUME = "resume"
    ARCHIVE = "archive"
    REVOKE = "revoke"
    SCHEDULE_DESTRUCTION = "schedule destruction"
    CANCEL_DESTRUCTION = "cancel destruction"
    DESTROY = "destroy"
    DESTROY_WITH_KEY = "destroy with the key"


class _Before:
    """Stands for the state in which destruction was scheduled."""


BEFORE: Final = _Before()

_S = KeyState
_E = KeyEvent
_LIVE: Final = (_S.PENDING, _S.ACTIVE, _S.ROTATING, _S.SUSPENDED, _S.ARCHIVED)

Transitions = Mapping[tuple[KeyState, KeyEvent], KeyState | _Before]

KEY_TRANSITIONS: Final[Transitions] = MappingProxyType(
    {
        (_S.PENDING, _E.ACTIVATE): _S.ACTIVE,
        (_S.ACTIVE, _E.ROTATE): _S.ROTATING,
        (_S.ROTATING, _E.ROTATE): _S.ROTATING,
        (_S.ROTATING, _E.FINISH_ROTATION): _S.ACTIVE,
        # The grace of versions ends whatever has happened to their key meanwhile.
        **{
            (state, _E.FINISH_ROTATION): state
            for state in (_S.ACTIVE, _S.SUSPENDED, _S.ARCHIVED, _S.REVOKED, _S.DESTRUCTION_SCHEDULED)
        },
        (_S.ACTIVE, _E.SUSPEND): _S.SUSPENDED,
        (_S.ROTATING, _E.SUSPEND): _S.SUSPENDED,
        (_S.SUSPENDED, _E.RESUME): _S.ACTIVE,
        (_S.ACTIVE, _E.ARCHIVE): _S.ARCHIVED,
        (_S.ROTATING, _E.ARCHIVE): _S.ARCHIVED,
        (_S.SUSPENDED, _E.ARCHIVE): _S.ARCHIVED,
        **{(state, _E.REVOKE): _S.REVOKED for state in (*_LIVE, _S.DESTRUCTION_SCHEDULED)},
        **{(state, _E.SCHEDULE_DESTRUCTION): _S.DESTRUCTION_SCHEDULED for state in (*_LIVE, _S.REVOKED)},
        (_S.DESTRUCTION_SCHEDULED, _E.CANCEL_DESTRUCTION): BEFORE,
        (_S.DESTRUCTION_SCHEDULED, _E.DESTROY): _S.DESTROYED,
    }
)

VERSION_TRANSITIONS: Final[Transitions] = MappingProxyType(
    {
        (_S.PENDING, _E.ACTIVATE): _S.ACTIVE,
        (_S.ACTIVE, _E.ROTATE): _S.ROTATING,
        (_S.ROTATING, _E.FINISH_ROTATION): _S.ARCHIVED,
        **{
            (state, _E.REVOKE): _S.REVOKED
            for state in (_S.PENDING, _S.ACTIVE, _S.ROTATING, _S.ARCHIVED, _S.DESTRUCTION_SCHEDULED)
        },
        (_S.ARCHIVED, _E.SCHEDULE_DESTRUCTION): _S.DESTRUCTION_SCHEDULED,
        (_S.REVOKED, _E.SCHEDULE_DESTRUCTION): _S.DESTRUCTION_SCHEDULED,
        (_S.DESTRUCTION_SCHEDULED, _E.CANCEL_DESTRUCTION): BEFORE,
        (_S.DESTRUCTION_SCHEDULED, _E.DESTROY): _S.DESTROYED,
        **{
            (state, _E.DESTROY_WITH_KEY): _S.DESTROYED
            for state in (_S.PENDING, _S.ACTIVE, _S.ROTATING, _S.ARCHIVED, _S.REVOKED, _S.DESTRUCTION_SCHEDULED)
        },
    }
)


def advance(
    table: Transitions, name: str, state: KeyState, event: KeyEvent, before: KeyState | None = None
) -> KeyState:
    """Return the state of *name* after *event*; *before* is the state in which its destruction was scheduled.

    Raises:
        WrongKeyState: the table has no such step.
    """
    after = table.get((state, event))
    if after is None or (after is BEFORE and before is None):
        raise WrongKeyState(f"{name} is {spoken(state)}: it cannot {event}")
    return before if isinstance(after, _Before) else after  # type: ignore[return-value]  # None was refused above


def spoken(state: KeyState) -> str:
    """The state in words."""
    return state.value.replace("_", " ")


# A key in one of these may be used to encrypt.
ENCRYPTING: Final = frozenset({_S.ACTIVE, _S.ROTATING})


class Use(StrEnum):
    """What somebody wants to do with a key version."""

    ENCRYPT = "encrypt"
    DECRYPT = "decrypt"
    RESCUE = "re-encrypt"  # decrypting on the way to another version, by the rotation identity


_KEY_ALLOWS: Final = MappingProxyType(
    {
        _S.ACTIVE: frozenset(Use),
        _S.ROTATING: frozenset(Use),
        _S.ARCHIVED: frozenset({Use.DECRYPT, Use.RESCUE}),
        _S.REVOKED: frozenset({Use.RESCUE}),
    }
)
_VERSION_ALLOWS: Final = MappingProxyType(
    {
        _S.ACTIVE: frozenset(Use),
        _S.ROTATING: frozenset(Use),
        _S.ARCHIVED: frozenset({Use.DECRYPT, Use.RESCUE}),
        _S.REVOKED: frozenset({Use.RESCUE}),
    }
)


def key_allows(state: KeyState, use: Use) -> bool:
    """Whether a key in this state may be used so."""
    return use in _KEY_ALLOWS.get(state, frozenset())


def version_allows(state: KeyState, use: Use) -> bool:
    """Whether a version in this state, of a key that allows it, may be used so."""
    return use in _VERSION_ALLOWS.get(state, frozenset())
