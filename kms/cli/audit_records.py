"""What `kms audit` shows: events, streams and reports as records of plain JSON types."""

from __future__ import annotations

import dataclasses
from datetime import datetime

from kms_client import AuditEvent, AuditQuery, AuditStream, DataAccess

from .output import Record
from .records import moment


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return moment(value)
    return value.hex() if isinstance(value, bytes) else value


def _all_of(value: AuditEvent | AuditStream | DataAccess) -> Record:
    return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}


def of_audit_event(event: AuditEvent) -> Record:
    """Return all fields of an event; digests in hexadecimal digits."""
    return _all_of(event)


def of_audit_stream(stream: AuditStream) -> Record:
    """Return all fields of a stream."""
    return _all_of(stream)


def of_data_access(access: DataAccess) -> Record:
    """Return all fields of a line of a report on a subject."""
    return _all_of(access)


def of_audit_query(query: AuditQuery) -> Record:
    """Return all fields of a named query."""
    return {
        "name": query.name,
        "description": query.description,
        "parameters": [
            {
                "name": one.name,
                "description": one.description,
                "required": one.required,
                "default": one.default,
            }
            for one in query.parameters
        ],
        "columns": list(query.columns),
        "groups": list(query.groups),
    }
