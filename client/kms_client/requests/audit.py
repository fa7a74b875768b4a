"""Requests to AuditService."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ..methods import AUDIT
from ..responses import audit
from ..responses.reading import page
from ..v1 import audit_pb2
from ..values import AuditAnswer, AuditEvent, AuditFilter, AuditQuery, AuditStatus, AuditVerification, DataAccessReport
from .messages import Listing, Request, build, encoded, timestamp


def list_audit_events(
    parent: str, wanted: AuditFilter, oldest_first: bool, all_tenants: bool, page_size: int
) -> Listing:
    """AuditService.ListAuditEvents."""
    read = page("audit_events", audit.event)
    message = _filter(wanted)
    return lambda token: Request(
        f"{AUDIT}/ListAuditEvents",
        build(
            audit_pb2.ListAuditEventsRequest,
            parent=parent,
            page_size=page_size,
            page_token=token,
            filter=message,
            oldest_first=oldest_first,
            all_tenants=all_tenants,
        ),
        read,
    )


def get_audit_event(name: str) -> Request[AuditEvent]:
    """AuditService.GetAuditEvent."""
    return Request(f"{AUDIT}/GetAuditEvent", build(audit_pb2.GetAuditEventRequest, name=name), audit.event)


def list_audit_queries() -> Request[list[AuditQuery]]:
    """AuditService.ListAuditQueries."""
    return Request(f"{AUDIT}/ListAuditQueries", audit_pb2.ListAuditQueriesRequest(), audit.queries)


def query_audit(
    parent: str,
    query: str,
    parameters: Mapping[str, str],
    since: datetime | None,
    until: datetime | None,
    all_tenants: bool,
    page_size: int,
    page_token: str,
) -> Request[AuditAnswer]:
    """AuditService.QueryAudit."""
    for text in (*parameters, *parameters.values()):
        encoded(text, "parameters")
    message = build(
        audit_pb2.QueryAuditRequest,
        parent=parent,
        query=query,
        parameters=dict(parameters),
        all_tenants=all_tenants,
        page_size=page_size,
        page_token=page_token,
        **_period(since, until),
    )
    return Request(f"{AUDIT}/QueryAudit", message, audit.answer)


def report_data_access(
    parent: str, key: str, value: str, since: datetime | None, until: datetime | None
) -> Request[DataAccessReport]:
    """AuditService.ReportDataAccess."""
    message = build(
        audit_pb2.ReportDataAccessRequest, parent=parent, context=_pair(key, value), **_period(since, until)
    )
    return Request(f"{AUDIT}/ReportDataAccess", message, audit.report)


def export_audit() -> Listing:
    """AuditService.ExportAudit; each page is one piece of the file."""
    return lambda token: Request(
        f"{AUDIT}/ExportAudit", build(audit_pb2.ExportAuditRequest, page_token=token), audit.piece
    )


def verify_audit() -> Request[AuditVerification]:
    """AuditService.VerifyAudit."""
    return Request(f"{AUDIT}/VerifyAudit", audit_pb2.VerifyAuditRequest(), audit.verification)


def get_audit_status(*, streams: bool) -> Request[AuditStatus]:
    """AuditService.GetAuditStatus."""
    message = audit_pb2.GetAuditStatusRequest(without_streams=not streams)
    return Request(f"{AUDIT}/GetAuditStatus", message, audit.status)


def _period(since: datetime | None, until: datetime | None) -> dict[str, Any]:
    given = {"since": since, "until": until}
    return {name: timestamp(moment, name) for name, moment in given.items() if moment is not None}


def _pair(key: str, value: str) -> audit_pb2.AuditEventFilter.Pair:
    return build(audit_pb2.AuditEventFilter.Pair, key=key, value=value)


def _filter(wanted: AuditFilter) -> audit_pb2.AuditEventFilter:
    kinds = audit_pb2.AuditEventFilter
    for texts in (*wanted.equal.values(), *wanted.begins.values()):
        for text in texts:
            encoded(text, "filter")
    given: dict[str, Any] = _period(wanted.since, wanted.until)
    if wanted.context is not None:
        given["context"] = _pair(*wanted.context)
    return build(
        kinds,
        equal=[build(kinds.Values, field=name, values=list(values)) for name, values in wanted.equal.items()],
        begins=[build(kinds.Values, field=name, values=list(values)) for name, values in wanted.begins.items()],
        least=[build(kinds.Least, field=name, value=value) for name, value in wanted.least.items()],
        beyond=[build(kinds.Position, stream=stream, sequence=last) for stream, last in wanted.beyond.items()],
        **given,
    )
