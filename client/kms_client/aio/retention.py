"""AuditRetentionService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from ..requests import retention
from ..values import AuditArchive, AuditArchiving, LegalHold
from .calls import Calls


class RetentionCalls(Calls):
    """Methods for legal holds and archives of the audit trail."""

    async def create_legal_hold(
        self,
        parent: str,
        hold_id: str,
        *,
        reason: str,
        resource: str = "",
        principal: str = "",
        start: datetime | None = None,
        end: datetime | None = None,
        deadline: float | None = None,
    ) -> LegalHold:
        """Keep the events of *parent*, a tenant or `installation`, from *start* on and before *end*."""
        request = retention.create_legal_hold(parent, hold_id, reason, resource, principal, start, end)
        return await self._run(request, deadline)

    async def release_legal_hold(self, name: str, *, reason: str = "", deadline: float | None = None) -> LegalHold:
        """Release a hold, under an approval (kms_client.under) where one is needed.

        Raises:
            ApprovalRequired: others have to approve it first; the error names the approval.
        """
        return await self._run(retention.release_legal_hold(name, reason), deadline)

    def list_legal_holds(
        self, parent: str, *, page_size: int = 0, deadline: float | None = None
    ) -> AsyncIterator[LegalHold]:
        """Iterate over the holds of *parent*, released or not, by id."""
        return self._pages(retention.list_legal_holds(parent, page_size), deadline)

    def list_audit_archives(self, *, page_size: int = 0, deadline: float | None = None) -> AsyncIterator[AuditArchive]:
        """Iterate over the archives, the oldest month first; for operators."""
        return self._pages(retention.list_audit_archives(page_size), deadline)

    async def archive_audit(self, *, deadline: float | None = None) -> AuditArchiving:
        """Begin to archive what is old enough; for operators."""
        return await self._run(retention.archive_audit(), deadline)

    async def remove_archive(self, month: str, *, deadline: float | None = None) -> AuditArchive:
        """Remove the file of a month, such as 2024-07, that need not be kept any more; for operators.

        Raises:
            FailedPrecondition: it has to be kept: its time is not over, or a legal hold keeps it.
            NotSupported: dangerous requests need the approval of others here.
        """
        return await self._run(retention.remove_archive(month), deadline)
