"""From messages to values: legal holds and archives of the audit trail."""

from __future__ import annotations

from ..v1 import retention_pb2
from ..values import AuditArchive, AuditArchiving, LegalHold
from .reading import time, time_if


def hold(message: retention_pb2.LegalHold) -> LegalHold:
    """Read a LegalHold."""
    return LegalHold(
        name=message.name,
        reason=message.reason,
        resource=message.resource,
        principal=message.principal,
        start_time=time_if(message, "start_time"),
        end_time=time_if(message, "end_time"),
        create_time=time(message.create_time),
        creator=message.creator,
        release_time=time_if(message, "release_time"),
        releaser=message.releaser,
    )


def archive(message: retention_pb2.AuditArchive) -> AuditArchive:
    """Read an AuditArchive."""
    return AuditArchive(
        name=message.name,
        state=message.state,
        events=message.events,
        streams=message.streams,
        first_time=time(message.first_time),
        last_time=time(message.last_time),
        file_name=message.file_name,
        file_size=message.file_size,
        file_sha256=message.file_sha256,
        body=message.body,
        signature=message.signature,
        create_time=time(message.create_time),
        verify_time=time_if(message, "verify_time"),
        detach_time=time_if(message, "detach_time"),
        delete_time=time_if(message, "delete_time"),
        deleter=message.deleter,
        old=message.old,
    )


def archiving(message: retention_pb2.ArchiveAuditResponse) -> AuditArchiving:
    """Read what was begun."""
    return AuditArchiving(operation=message.operation, months=message.months)
