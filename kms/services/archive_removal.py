"""Takes an archived month out of the database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import structlog

from kms.core.audit_archives import ArchiveState, AuditArchive
from kms.core.names import INSTALLATION_UID
from kms.failpoints import reach
from kms.services.archive_export import Parts

_log = structlog.get_logger(__name__)

REMOVED_AT_ONCE: Final = 2_000  # rows, in a transaction that every writer waits for on SQLite
TENANTS_AT_ONCE: Final = 100  # whose legal holds are looked at in one piece of work


class Holds:
    """Looks whether a legal hold keeps a month.

    Attributes:
        held: whether one does, once all is done.
    """

    def __init__(self, parts: Parts, archive: AuditArchive) -> None:
        self.archive = archive
        self.held = False
        self._parts = parts
        self._tenants = archive.content.tenants

    async def go_on(self) -> bool:
        """Do a little; True when it is known."""
        some, self._tenants = self._tenants[:TENANTS_AT_ONCE], self._tenants[TENANTS_AT_ONCE:]
        month = self.archive.month
        hold = await self._parts.archived.hold_on(month, some)
        if hold is not None:
            _log.info("audit.month_held", month=str(month), hold=hold.hold_id, tenant=str(hold.tenant))
            self.held = True
        return self.held or not self._tenants


class Removal:
    """The third step of a month."""

    def __init__(self, parts: Parts, archive: AuditArchive) -> None:
        self._parts = parts
        self._archive = archive
        self._ranges = [
            (part.stream, first, min(first + REMOVED_AT_ONCE - 1, part.last))
            for part in archive.content.streams
            for first in range(part.first, part.last + 1, REMOVED_AT_ONCE)
        ]
        self._next: Callable[[], Awaitable[bool]] = self._detach
        if archive.state is ArchiveState.DETACHED:  # a crash has left some of it
            self._next = self._look_what_is_left

    async def go_on(self) -> bool:
        """Do a little; True when the month is gone.

        Raises:
            FailedPrecondition: the database refuses, and says why.
        """
        return await self._next()

    async def _detach(self) -> bool:
        """Say that the month is gone, and on PostgreSQL take it away, in one transaction."""
        detached = replace(self._archive, state=ArchiveState.DETACHED, detached_at=self._parts.now())
        async with self._parts.storage.transaction(INSTALLATION_UID, write=True) as work:
            gone = await work.audit_months.drop(detached.month)
            self._archive = await work.audit_archives.replace(detached)
        if gone:
            return self._gone()
        self._next = self._remove
        return False

    async def _look_what_is_left(self) -> bool:
        if not self._ranges:
            return True
        stream, first, last = self._ranges[-1]  # the last to go
        async with self._parts.storage.transaction() as work:
            rows = await work.audit_months.events_after(stream, first - 1, self._archive.month, 1)
        if not rows or rows[0].sequence > last:
            return True
        self._next = self._remove
        return False

    async def _remove(self) -> bool:
        stream, first, last = self._ranges[0]
        async with self._parts.storage.transaction(write=True) as work:
            await work.audit_months.remove(stream, first, last)
        del self._ranges[0]
        return not self._ranges and self._gone()

    def _gone(self) -> bool:
        _log.info("audit.month_detached", month=str(self._archive.month), file=self._archive.file_name)
        reach("archive.detached")
        return True
