"""Requests to AuditRetentionService."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ..methods import RETENTION
from ..responses import retention
from ..responses.reading import page
from ..v1 import retention_pb2
from ..values import AuditArchive, AuditArchiving, LegalHold
from .messages import Listing, Request, build, timestamp


def create_legal_hold(
    parent: str,
    hold_id: str,
    reason: str,
    resource: str,
    principal: str,
    start: datetime | None,
    end: datetime | None,
) -> Request[LegalHold]:
    """AuditRetentionService.CreateLegalHold."""
    times: dict[str, Any] = {
        name: timestamp(moment, name)
        for name, moment in (("start_time", start), ("end_time", end))
        if moment is not None
    }
    hold = build(retention_pb2.LegalHold, reason=reason, resource=resource, principal=principal, **times)
    message = build(retention_pb2.CreateLegalHoldRequest, parent=parent, legal_hold_id=hold_id, legal_hold=hold)
    return Request(f"{RETENTION}/CreateLegalHold", message, retention.hold)


def release_legal_hold(name: str, reason: str) -> Request[LegalHold]:
    """AuditRetentionService.ReleaseLegalHold."""
    message = build(retention_pb2.ReleaseLegalHoldRequest, name=name, reason=reason)
    return Request(f"{RETENTION}/ReleaseLegalHold", message, retention.hold)


def list_legal_holds(parent: str, page_size: int) -> Listing:
    """AuditRetentionService.ListLegalHolds."""
    read = page("legal_holds", retention.hold)
    return lambda token: Request(
        f"{RETENTION}/ListLegalHolds",
        build(retention_pb2.ListLegalHoldsRequest, parent=parent, page_size=page_size, page_token=token),
        read,
    )


def list_audit_archives(page_size: int) -> Listing:
    """AuditRetentionService.ListAuditArchives."""
    read = page("audit_archives", retention.archive)
    return lambda token: Request(
        f"{RETENTION}/ListAuditArchives",
        build(retention_pb2.ListAuditArchivesRequest, page_size=page_size, page_token=token),
        read,
    )


def archive_audit() -> Request[AuditArchiving]:
    """AuditRetentionService.ArchiveAudit."""
    return Request(f"{RETENTION}/ArchiveAudit", build(retention_pb2.ArchiveAuditRequest), retention.archiving)


def remove_archive(month: str) -> Request[AuditArchive]:
    """AuditRetentionService.RemoveArchive."""
    message = build(retention_pb2.RemoveArchiveRequest, month=month)
    return Request(f"{RETENTION}/RemoveArchive", message, retention.archive)
