"""From messages to values: the audit trail."""

from __future__ import annotations

from typing import Any, Final

from ..v1 import audit_pb2
from ..values import (
    AuditAnswer,
    AuditCheckpoint,
    AuditEvent,
    AuditFinding,
    AuditParameter,
    AuditQuery,
    AuditStatus,
    AuditStream,
    AuditVerification,
    AuditVerificationResult,
    DataAccess,
    DataAccessReport,
)
from .reading import Page, time, time_if

_TIMES: Final = ("time", "keep_time")
_AS_THEY_ARE: Final = tuple(name for name in audit_pb2.AuditEvent.DESCRIPTOR.fields_by_name if name not in _TIMES)


def event(message: audit_pb2.AuditEvent) -> AuditEvent:
    """Read an AuditEvent."""
    fields: dict[str, Any] = {name: getattr(message, name) for name in _AS_THEY_ARE}
    return AuditEvent(time=time(message.time), keep_time=time_if(message, "keep_time"), **fields)


def queries(message: audit_pb2.ListAuditQueriesResponse) -> list[AuditQuery]:
    """Read the catalogue."""
    return [
        AuditQuery(
            name=query.name,
            description=query.description,
            parameters=tuple(
                AuditParameter(one.name, one.description, one.required, one.default) for one in query.parameters
            ),
            columns=tuple(query.columns),
            groups=tuple(query.groups),
        )
        for query in message.queries
    ]


def answer(message: audit_pb2.QueryAuditResponse) -> AuditAnswer:
    """Read what a named query has found."""
    columns = [(column.name, column.number) for column in message.columns]
    return AuditAnswer(
        columns=tuple(name for name, _ in columns),
        rows=tuple(
            {name: int(cell) if number else cell for (name, number), cell in zip(columns, row.cells, strict=True)}
            for row in message.rows
        ),
        since=time(message.since),
        until=time(message.until),
        next_page_token=message.next_page_token,
    )


def report(message: audit_pb2.ReportDataAccessResponse) -> DataAccessReport:
    """Read who has used data of a subject."""
    return DataAccessReport(
        accesses=tuple(
            DataAccess(
                principal=one.principal,
                action=one.action,
                resource=one.resource,
                key=one.key,
                outcome=one.outcome,
                events=one.events,
                items=one.items,
                bytes_in=one.bytes_in,
                bytes_out=one.bytes_out,
                first_time=time(one.first_time),
                last_time=time(one.last_time),
            )
            for one in message.accesses
        ),
        since=time(message.since),
        until=time(message.until),
    )


def piece(message: audit_pb2.ExportAuditResponse) -> Page:
    """Read a piece of an exported trail."""
    return Page([message.data], message.next_page_token)


def status(message: audit_pb2.AuditStatus) -> AuditStatus:
    """Read how far the trail is."""
    return AuditStatus(
        streams=tuple(
            AuditStream(
                stream=one.stream,
                node=one.node,
                begin_time=time(one.begin_time),
                sequence=one.sequence,
                last_time=time(one.last_time),
                hash=one.hash,
            )
            for one in message.streams
        ),
        verification=verification(message.verification),
        checkpoint=_checkpoint(message.checkpoint) if message.HasField("checkpoint") else None,
        anchored_checkpoint=message.anchored_checkpoint,
        problem=message.problem,
    )


def verification(message: audit_pb2.AuditVerification) -> AuditVerification:
    """Read how far a verification is, and what the last one has found."""
    return AuditVerification(
        begin_time=time_if(message, "begin_time"),
        events=message.events,
        known_events=message.known_events,
        last=_result(message.last) if message.HasField("last") else None,
        failure=message.failure,
    )


def _checkpoint(message: audit_pb2.AuditStatus.Checkpoint) -> AuditCheckpoint:
    return AuditCheckpoint(message.serial, message.hash, time(message.time))


def _result(message: audit_pb2.AuditVerification.Result) -> AuditVerificationResult:
    return AuditVerificationResult(
        begin_time=time(message.begin_time),
        end_time=time(message.end_time),
        cover_time=time(message.cover_time),
        requester=message.requester,
        events=message.events,
        columns=message.columns,
        streams=message.streams,
        checkpoints=message.checkpoints,
        last_checkpoint=message.last_checkpoint,
        last_hash=message.last_hash,
        findings=tuple(
            AuditFinding(one.fault, one.stream, one.first, one.last, one.checkpoint, one.text, one.notice)
            for one in message.findings
        ),
        problems=message.problems,
    )
