"""AuditService: parse, call, format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message

from kms.core.audit import AuditEvent
from kms.core.audit_filters import AuditPosition, Kind, Span
from kms.core.audit_queries import QUERIES, cells, sum_cells
from kms.core.errors import CorruptRecord, NotSupported, invalid
from kms.core.names import AuditEventName, Principal, SecurityEventsParent
from kms.rpc.audit_messages import (
    LARGEST_PAGE,
    event_message,
    parse_filter,
    parse_pair,
    parse_parameters,
    period_of,
    position_of,
    query_message,
    stream_message,
    token_of,
)
from kms.rpc.audit_verifications import checkpoint_message, verification_message
from kms.rpc.messages import timestamp
from kms.rpc.paging import LONGEST_TOKEN, encode_token, parse_page
from kms.services.audit_exports import AuditExports
from kms.services.audit_reader import AuditReader, Whose, named_query, position
from kms.services.audit_verification import AuditVerification
from kms.v1 import audit_pb2 as pb

M = TypeVar("M", bound=Message)


class AuditServicer:
    """Serves kms.v1.AuditService."""

    def __init__(
        self,
        reader: AuditReader,
        exports: AuditExports | None = None,
        verification: AuditVerification | None = None,
    ) -> None:
        self._reader = reader
        self._exports = exports
        self._verification = verification

    async def ListAuditEvents(
        self, request: pb.ListAuditEventsRequest, caller: Principal
    ) -> pb.ListAuditEventsResponse:
        """List events."""
        whose, page = _trail(request), parse_page(request)
        wanted, pair = parse_filter(request.filter)
        span = Span(position_of(page), newest_first=not request.oldest_first)
        events, after = await self._reader.list_events(caller, whose, wanted, pair, span, page.size)
        shown, token = _fitting(events, after, lambda event: event_message(whose.parent, event))
        return pb.ListAuditEventsResponse(audit_events=shown, next_page_token=token)

    async def GetAuditEvent(self, request: pb.GetAuditEventRequest, caller: Principal) -> pb.AuditEvent:
        """Return an event."""
        name = AuditEventName.parse(request.name)
        event, values = await self._reader.get(caller, name)
        return event_message(name.parent, event, values)

    async def ListAuditQueries(self, _: pb.ListAuditQueriesRequest, __: Principal) -> pb.ListAuditQueriesResponse:
        """List the catalogue."""
        return pb.ListAuditQueriesResponse(queries=[query_message(query) for query in QUERIES.values()])

    async def QueryAudit(self, request: pb.QueryAuditRequest, caller: Principal) -> pb.QueryAuditResponse:
        """Answer a named query."""
        whose, page, query = _trail(request), parse_page(request), named_query(request.query)
        given = parse_parameters(request.parameters)
        answer = await self._reader.query(caller, whose, query, given, period_of(request), position_of(page), page.size)
        rows, token = _fitting(
            answer.events, answer.after, lambda event: pb.QueryAuditResponse.Row(cells=cells(query, event))
        )
        return pb.QueryAuditResponse(
            columns=[
                pb.QueryAuditResponse.Column(name=column, number=query.kind(column) is Kind.NUMBER)
                for column in query.columns
            ],
            rows=[*rows, *(pb.QueryAuditResponse.Row(cells=sum_cells(query, one)) for one in answer.sums)],
            next_page_token=token,
            since=timestamp(answer.since),
            until=timestamp(answer.until),
        )

    async def ReportDataAccess(
        self, request: pb.ReportDataAccessRequest, caller: Principal
    ) -> pb.ReportDataAccessResponse:
        """Say who has used a subject's data."""
        parent = SecurityEventsParent.parse(request.parent)
        pair = parse_pair(request.context, "context")
        sums, since, until = await self._reader.data_access(caller, parent, pair, period_of(request))
        accesses = []
        for one in sums:
            principal, action, resource, key, outcome = one.group
            accesses.append(
                pb.ReportDataAccessResponse.Access(
                    principal=str(principal),
                    action=str(action),
                    resource=str(resource),
                    key=str(key or ""),
                    outcome=str(outcome),
                    events=one.events,
                    items=one.items,
                    bytes_in=one.bytes_in,
                    bytes_out=one.bytes_out,
                    first_time=timestamp(one.first_at),
                    last_time=timestamp(one.last_at),
                )
            )
        return pb.ReportDataAccessResponse(accesses=accesses, since=timestamp(since), until=timestamp(until))

    async def ExportAudit(self, request: pb.ExportAuditRequest, _: Principal) -> pb.ExportAuditResponse:
        """Return a part of the exported trail."""
        if self._exports is None:
            raise NotSupported("this daemon makes no checkpoints, without which an exported trail proves nothing")
        data, token = await self._exports.page(_token(request.page_token))
        return pb.ExportAuditResponse(data=data, next_page_token=token)

    async def VerifyAudit(self, _: pb.VerifyAuditRequest, caller: Principal) -> pb.AuditVerification:
        """Have the trail verified."""
        if self._verification is None:
            raise NotSupported("this daemon does not verify the stored trail")
        return verification_message(self._verification.begin(str(caller)))

    async def GetAuditStatus(self, request: pb.GetAuditStatusRequest, _: Principal) -> pb.AuditStatus:
        """Say how far the streams are, and what has been found."""
        answer = pb.AuditStatus()
        # Somebody who asks what is wrong gets an answer also where the newest events are what is wrong.
        try:
            if not request.without_streams:
                answer.streams.extend([stream_message(head) for head in await self._reader.heads()])
            if self._verification is not None:
                newest = await self._verification.newest_checkpoint()
                if newest is not None:
                    answer.checkpoint.CopyFrom(checkpoint_message(newest))
        except CorruptRecord as error:
            answer.problem = str(error)
        if self._verification is not None:
            answer.verification.CopyFrom(verification_message(self._verification.state))
            answer.anchored_checkpoint = self._verification.anchored
        return answer


def _trail(request: Any) -> Whose:
    return Whose(SecurityEventsParent.parse(request.parent), request.all_tenants)


def _fitting(
    events: Sequence[AuditEvent], after: AuditPosition | None, make: Callable[[AuditEvent], M]
) -> tuple[list[M], str]:
    """Return the entries that fit into a page, at least one, and the next token."""
    shown: list[M] = []
    size = 0
    for event in events:
        made = make(event)
        size += made.ByteSize()
        if shown and size > LARGEST_PAGE:
            after = position(events[len(shown) - 1])
            break
        shown.append(made)
    return shown, "" if after is None else encode_token(token_of(after))


def _token(text: str) -> str:
    if len(text) > LONGEST_TOKEN:
        raise invalid("page_token", "must be the next_page_token of the last page")
    return text
