"""AuditService."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime

from ..requests import audit
from ..values import AuditAnswer, AuditEvent, AuditFilter, AuditQuery, AuditStatus, AuditVerification, DataAccessReport
from .calls import Calls


class AuditCalls(Calls):
    """Methods for the audit trail."""

    def list_audit_events(
        self,
        parent: str,
        wanted: AuditFilter | None = None,
        *,
        oldest_first: bool = False,
        all_tenants: bool = False,
        page_size: int = 0,
        deadline: float | None = None,
    ) -> AsyncIterator[AuditEvent]:
        """Iterate over the events of *parent*, a tenant or `installation`, that are wanted, the newest first.

        *all_tenants* is for operators and the parent `installation`.
        """
        listing = audit.list_audit_events(parent, wanted or AuditFilter(), oldest_first, all_tenants, page_size)
        return self._pages(listing, deadline)

    async def get_audit_event(self, name: str, *, deadline: float | None = None) -> AuditEvent:
        """Return one event."""
        return await self._run(audit.get_audit_event(name), deadline)

    async def list_audit_queries(self, *, deadline: float | None = None) -> list[AuditQuery]:
        """Return the named queries."""
        return await self._run(audit.list_audit_queries(), deadline)

    async def query_audit(
        self,
        parent: str,
        query: str,
        parameters: Mapping[str, str] | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        all_tenants: bool = False,
        page_size: int = 0,
        page_token: str = "",
        deadline: float | None = None,
    ) -> AuditAnswer:
        """Return a page of what a named query finds in a period, by default the last 30 days."""
        request = audit.query_audit(parent, query, parameters or {}, since, until, all_tenants, page_size, page_token)
        return await self._run(request, deadline)

    async def report_data_access(
        self,
        parent: str,
        key: str,
        value: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        deadline: float | None = None,
    ) -> DataAccessReport:
        """Return who has used data whose context has this pair."""
        return await self._run(audit.report_data_access(parent, key, value, since, until), deadline)

    def export_audit(self, *, deadline: float | None = None) -> AsyncIterator[bytes]:
        """Iterate over the pieces of the file that holds the whole trail, for `kms audit verify`; for operators.

        *deadline* is for each piece.
        """
        return self._pages(audit.export_audit(), deadline)

    async def verify_audit(self, *, deadline: float | None = None) -> AuditVerification:
        """Have the stored trail verified, unless that is going on already; for operators.

        It returns at once: get_audit_status() says how far it is, and what has been found.
        """
        return await self._run(audit.verify_audit(), deadline)

    async def get_audit_status(self, *, streams: bool = True, deadline: float | None = None) -> AuditStatus:
        """Return how far the streams of events are, and what the last verification has found; for operators.

        Without *streams* it costs little, for those who ask again and again.
        """
        return await self._run(audit.get_audit_status(streams=streams), deadline)
