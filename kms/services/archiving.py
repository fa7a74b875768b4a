"""Brings old months of the audit trail to files, one after the other, as one operation (docs/audit.md).

Of each month, step by step, each step durable before the next:
1. exported: its events, the checkpoints of that time and what is signed of both are a file, on the disk under its name;
2. verified: the file has been read back as a stranger would, and is what was signed;
3. detached: the month has left the database, unless a legal hold keeps it there.

A step that is interrupted begins again. A file that is lost or damaged before its month has left the database is made
again, byte for byte the same. Nothing here removes a file that was finished.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from kms.core.audit import StreamUid
from kms.core.audit_archives import MOST_STREAMS, ArchiveState, AuditArchive, reached_by
from kms.core.errors import CorruptRecord, FailedPrecondition
from kms.core.names import INSTALLATION_UID
from kms.core.operations import Operation, OperationUid
from kms.core.retention import Month
from kms.services.archive_export import Before, Check, Export, Parts
from kms.services.archive_removal import Holds, Removal
from kms.services.operations import Batch

_log = structlog.get_logger(__name__)

SLICE: Final = 1.0  # seconds of work in one batch
STREAMS_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class _Known:
    """What there was when an operation was begun, or taken up by this node."""

    streams: tuple[tuple[StreamUid, datetime], ...]  # ordered, with the time of their first event that is still there
    partitions: frozenset[Month]
    due: tuple[Month, ...]


class ArchiveAudit:
    """Runner of OperationKind.ARCHIVE_AUDIT; the cursor is the last month that is done with."""

    def __init__(
        self,
        parts: Parts,
        hot: timedelta,
        *,
        clock: Callable[[], float] = time.monotonic,
        slice_seconds: float = SLICE,
    ) -> None:
        """Months that are wholly older than *hot* are archived."""
        self.parts = parts
        self._hot = hot
        self._clock = clock
        self._slice = slice_seconds
        # In memory alone: another node, or this one after a crash, begins the month's step again.
        self._operation: OperationUid | None = None
        self._known: _Known | None = None
        self._month: _Month | None = None
        self._troubles: list[str] = []

    async def due(self) -> list[Month]:
        """Return the months that are old enough, the oldest first, whatever has been done to them.

        Raises:
            CorruptRecord: the records of archives are not whole.
            FailedPrecondition: there are too many streams.
        """
        return list((await self._look()).due)

    async def batch(self, operation: Operation) -> Batch:
        """Go on with the month after the cursor."""
        if self._operation != operation.uid:
            self._operation, self._known, self._month, self._troubles = operation.uid, None, None, []
        known = self._known
        if known is None:
            known = self._known = await self._look()
        month = next((month for month in known.due if str(month) > operation.cursor), None)
        if month is None:
            self._operation = None
            return Batch(operation.cursor, 0, finished=True, error="; ".join(self._troubles))
        if self._month is None or self._month.month != month:
            self._month = _Month(self.parts, known, month)
        end = self._clock() + self._slice
        try:
            while not await self._month.go_on():
                if self._clock() >= end:
                    return Batch(operation.cursor, 0, finished=False)
        except FailedPrecondition as error:  # of this month alone; later ones may leave before it
            _log.warning("audit.month_stays", month=str(month), reason=str(error))
            self._troubles.append(str(error))
        except BaseException:
            self._month = None
            raise
        return Batch(str(month), 1, finished=False)

    async def _look(self) -> _Known:
        """Find out what is there, and what of it is old enough."""
        streams: list[tuple[StreamUid, datetime]] = []
        async with self.parts.storage.transaction() as work:
            partitions = await work.audit_months.partitions()
        while True:
            async with self.parts.storage.transaction() as work:
                after = streams[-1][0] if streams else None
                page = await work.audit_months.streams_after(after, STREAMS_AT_ONCE)
            streams += [(stream, at) for stream, _, at in page]
            if len(streams) > MOST_STREAMS:
                raise FailedPrecondition(f"the audit log has more than {MOST_STREAMS} streams")
            if len(page) < STREAMS_AT_ONCE:
                break
        now = self.parts.now()
        begun = [*partitions, *(Month.of(at) for _, at in streams)]
        begun += [archive.month for archive, _ in await self.parts.archived.all() if _unfinished(archive)]
        due = []
        month = min(begun, default=Month.of(now))
        while month.over(now, self._hot):
            due.append(month)
            month = month.next
        return _Known(tuple(streams), frozenset(partitions), tuple(due))


def _unfinished(archive: AuditArchive) -> bool:
    return archive.state in (ArchiveState.EXPORTED, ArchiveState.VERIFIED)


class _Month:
    """What is done to one month."""

    def __init__(self, parts: Parts, known: _Known, month: Month) -> None:
        self.month = month
        self._parts = parts
        self._known = known
        self._before = Before(None, {})
        self._step: Export | Check | Holds | Removal | None = None
        self._checked = False
        self._remade = False

    async def go_on(self) -> bool:
        """Do a little; True when nothing is left to do now."""
        step = self._step
        if step is None:
            return await self._begin()
        if not await step.go_on():
            return False
        if isinstance(step, Export):
            if step.archive is None:
                return await self._without_events()
            self._step = Check(self._parts, step.archive)
        elif isinstance(step, Check):
            if step.wrong:
                self._make_again(step)
            else:
                self._checked = True
                self._step = Holds(self._parts, step.archive)
        elif isinstance(step, Holds):
            if step.held:
                return True
            # Long after it was verified the first time, the file may have been lost.
            self._step = (Removal if self._checked else Check)(self._parts, step.archive)
        else:
            return True
        return False

    async def _begin(self) -> bool:
        """Decide by the stored record where to go on."""
        archive, before, newest = None, [], True
        for stored, body in await self._parts.archived.all():
            if stored.month == self.month:
                archive = stored
            elif stored.month < self.month:
                before.append(body)
            else:
                newest = False
        self._before = Before(before[-1] if before else None, reached_by(before), newest)
        if archive is None:
            self._export(None)
        elif archive.state is ArchiveState.DELETED:
            return True
        elif archive.state is ArchiveState.DETACHED:
            self._step = Removal(self._parts, archive)
        elif archive.state is ArchiveState.VERIFIED:
            self._step = Holds(self._parts, archive)  # before all of its file is read again for nothing
        else:
            self._step = Check(self._parts, archive)
        return False

    def _export(self, archive: AuditArchive | None) -> None:
        streams = [stream for stream, first in self._known.streams if first < self.month.end]
        self._step = Export(self._parts, self.month, streams, self._before, archive)

    def _make_again(self, check: Check) -> None:
        if self._remade:
            raise CorruptRecord(f"{check.archive.file_name}: {check.wrong}")
        _log.error("audit.archive_damaged", month=str(self.month), file=check.archive.file_name, reason=check.wrong)
        self._remade = True
        self._export(check.archive)

    async def _without_events(self) -> bool:
        """Take away an empty partition."""
        if self.month in self._known.partitions:
            async with self._parts.storage.transaction(INSTALLATION_UID, write=True) as work:
                await work.audit_months.drop(self.month)
        return True
