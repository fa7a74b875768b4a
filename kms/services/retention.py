"""How long the audit trail is kept: a daily look for months that are old, and the archives that there are."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from kms.core.audit_archives import ArchiveBody, ArchiveState, AuditArchive
from kms.core.canonical import EPOCH
from kms.core.errors import FailedPrecondition, KmsError, NotFound, NotSupported
from kms.core.keyring import Tenant
from kms.core.names import INSTALLATION_PARENT, INSTALLATION_UID, KekUid, Principal
from kms.core.operations import Operation, OperationKind
from kms.core.retention import Month
from kms.services.archiving import ArchiveAudit
from kms.services.operations import Operations

_log = structlog.get_logger(__name__)

LOOK_INTERVAL: Final = 86_400.0  # seconds
KEEPER: Final = "operators/audit-retention"  # in whose name the daemon archives by itself
TARGET: Final = "installation/audit"

# The tenant that stands for the installation, as far as operations need one.
INSTALLATION: Final = Tenant(
    INSTALLATION_UID, INSTALLATION_PARENT, "", KekUid(UUID(int=0)), primary_kek=0, created_at=EPOCH
)


@dataclass(frozen=True, slots=True)
class ShownArchive:
    """An archive as it is told: its record, what is signed, and whether it is older than archives are kept."""

    archive: AuditArchive
    body: ArchiveBody
    old: bool


class Retention:
    """The archives of the installation."""

    def __init__(
        self,
        operations: Operations,
        runner: ArchiveAudit,
        keep: timedelta,
        approvals_needed: int = 0,
    ) -> None:
        """*keep* is for how long files are kept at least; *approvals_needed* is the installation's default."""
        self._approvals_needed = approvals_needed
        self._operations = operations
        self._runner = runner
        self._keep = keep
        self._storage = runner.parts.storage
        self._archived = runner.parts.archived
        self._files = runner.parts.files
        self._now = runner.parts.now

    async def run(self) -> None:
        """Look once a day, until cancelled."""
        while True:
            try:
                await self.look()
            except KmsError as error:
                _log.warning("audit.retention_delayed", reason=str(error))
            await asyncio.sleep(LOOK_INTERVAL)

    async def look(self) -> Operation | None:
        """Begin to archive what is due, and tell of files that are older than they have to be kept.

        Raises:
            CorruptRecord: the records of archives are not whole.
        """
        old = [shown.archive.file_name for shown in await self.all() if shown.old]
        if old:
            _log.info("audit.archives_old", files=len(old), oldest=old[0], keep_days=self._keep.days)
        if not await self._due():
            return None
        return await self.start(KEEPER)

    async def start(self, by: str) -> Operation:
        """Begin to archive, or return the operation that runs."""
        kind = OperationKind.ARCHIVE_AUDIT
        return await self._operations.start(INSTALLATION, kind, TARGET, by, len(await self._runner.due()))

    async def all(self) -> Sequence[ShownArchive]:
        """Return all archives in their order.

        Raises:
            CorruptRecord: one is forged or missing.
        """
        return [
            ShownArchive(archive, body, archive.state is ArchiveState.DETACHED and self._old(body))
            for archive, body in await self._archived.all()
        ]

    async def remove(self, caller: Principal, month: Month) -> ShownArchive:
        """Remove the file of a month that is no longer kept; what was signed of it stays.

        Raises:
            NotSupported: others have to approve what is dangerous, and nobody can approve what is no tenant's.
            NotFound: the month is not archived.
            FailedPrecondition: it is still in the database, too young, to be kept for longer, or under a legal hold.
        """
        if self._approvals_needed:
            raise NotSupported("what is no tenant's has no quorum in this release, so it cannot be approved")
        found = next((shown for shown in await self.all() if shown.archive.month == month), None)
        if found is None:
            raise NotFound(f"the archive of {month}")
        archive, body = found.archive, found.body
        if archive.state is ArchiveState.DELETED:
            return found
        if archive.state is not ArchiveState.DETACHED:
            raise FailedPrecondition(
                f"{month} is {archive.state}: only a month that has left the database can be removed"
            )
        if body.permanent:
            raise FailedPrecondition(f"{month} has events that are kept for ever")
        if not self._old(body):
            raise FailedPrecondition(f"{month} has to be kept for longer")
        hold = await self._archived.hold_on(month, body.tenants)
        if hold is not None:
            raise FailedPrecondition(f"{month} is under the legal hold {hold.hold_id}")
        # First the record: a file that is said to be gone and is there does no harm, the other way round it would.
        now = self._now()
        gone = replace(archive, state=ArchiveState.DELETED, deleted_at=now, deleted_by=str(caller))
        async with self._storage.transaction(INSTALLATION_UID, write=True) as work:
            gone = await work.audit_archives.replace(gone)
        await self._files.remove(archive.file_name)
        _log.warning("audit.archive_removed", month=str(month), file=archive.file_name, caller=str(caller))
        return ShownArchive(gone, body, old=False)

    async def _due(self) -> bool:
        """Whether something is to be done that no archive is the end of."""
        done = {
            shown.archive.month
            for shown in await self.all()
            if shown.archive.state in (ArchiveState.DETACHED, ArchiveState.DELETED)
        }
        return any(month not in done for month in await self._runner.due())

    def _old(self, body: ArchiveBody) -> bool:
        now = self._now()
        until = datetime.fromisoformat(body.kept_until) if body.kept_until else body.month.end
        return not body.permanent and body.month.over(now, self._keep) and until <= now
