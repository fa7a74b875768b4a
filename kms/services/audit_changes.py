"""What a change has changed, as the audit trail keeps it: canonical JSON, encrypted, and read back for who may see it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, cast
from uuid import UUID

from kms.core.audit import LONGEST_DETAILS, AuditEvent
from kms.core.audit_contexts import canonical_json
from kms.core.audit_ports import RecordChange
from kms.core.canonical import Value
from kms.core.errors import CannotDecrypt
from kms.crypto.audit_values import OVERHEAD, AuditValues

LONGEST: Final = LONGEST_DETAILS - OVERHEAD
_NO_VALUE: Final = frozenset({"mac"})  # says nothing of what has changed


class Changes:
    """Writes and reads the field `changes` of events."""

    def __init__(self, values: AuditValues) -> None:
        self._values = values

    def sealed(self, changes: Sequence[RecordChange], left_out: int, subject: str) -> bytes:
        """Encode and encrypt as many of these changes, the first ones, as an event has room for; the rest is counted."""
        return self._values.seal(encoded(changes, left_out), subject)

    def of(self, event: AuditEvent) -> dict[str, Any]:
        """Return what an event's act has changed: `changes`, and in `left_out` how many more there were.

        Raises:
            CannotDecrypt: the field is another event's, or damaged.
        """
        if not event.changes:
            return {"changes": [], "left_out": 0}
        read = self._values.open(event.changes, subject_of(event))
        try:
            return cast("dict[str, Any]", json.loads(read))
        except ValueError as error:
            raise CannotDecrypt("values in the audit trail are damaged") from error


def subject_of(event: AuditEvent) -> str:
    """Return to what an event's changes are bound: its request, or without one the place of its intent."""
    return event.request_id or f"{event.intent_stream}/{event.intent_sequence}"


def encoded(changes: Sequence[RecordChange], left_out: int) -> bytes:
    """Return changes as canonical JSON of at most LONGEST bytes; one that has no room, and all after it, are counted."""
    told = [
        {
            "table": change.table,
            "tenant": str(change.tenant),
            "identity": _shown(change.identity),
            "before": _shown(change.before),
            "after": _shown(change.after),
        }
        for change in changes
    ]
    room = LONGEST - len(canonical_json({"changes": [], "left_out": left_out + len(told)}))
    kept = 0
    for entry in told:
        room -= len(canonical_json(entry)) + 1
        if room < 0:
            break
        kept += 1
    return canonical_json({"changes": told[:kept], "left_out": left_out + len(told) - kept}).encode()


def _shown(values: Mapping[str, Value]) -> dict[str, str | int | None]:
    return {name: _told(value) for name, value in values.items() if name not in _NO_VALUE}


def _told(value: Value) -> str | int | None:
    match value:
        case None | int() | str():
            return value
        case bytes():
            return value.hex()
        case UUID():
            return str(value)
        case datetime():
            return value.isoformat()
