"""What has been archived of the audit trail, as records that prove themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final
from uuid import UUID

from kms.core.audit import StreamUid
from kms.core.audit_archives import ArchiveBody, ArchiveState, AuditArchive, StreamPart, message_of, reached_by
from kms.core.errors import CorruptRecord
from kms.core.names import INSTALLATION_UID, TenantUid
from kms.core.ports import Storage
from kms.core.retention import MOST_HOLDS, LegalHold, Month
from kms.crypto.signatures import verifier

AT_ONCE: Final = 12  # archives in one page: bodies of months with many starts are long

Verify = Callable[[bytes, bytes], bool]


class Archived:
    """The records of all archives, verified: each signature, and that each goes on where the one before ended."""

    def __init__(self, storage: Storage, public_key: Callable[[], Awaitable[bytes]]) -> None:
        """*public_key* returns the token's signing key, DER SubjectPublicKeyInfo."""
        self._storage = storage
        self._public_key = public_key

    async def verify(self) -> Verify:
        """Return what verifies signatures of the token."""
        return verifier(await self._public_key())

    async def all(self) -> list[tuple[AuditArchive, ArchiveBody]]:
        """Return all archives in their order.

        Raises:
            CorruptRecord: one is forged, or missing, or does not go on where the one before ended.
        """
        found: list[tuple[AuditArchive, ArchiveBody]] = []
        verify = await self.verify()
        while True:
            after = str(found[-1][1].month) if found else ""
            async with self._storage.transaction(INSTALLATION_UID) as work:
                page = await work.audit_archives.list_after(INSTALLATION_UID, after, AT_ONCE)
            for archive in page:
                if not verify(message_of(archive.body), archive.signature):
                    raise CorruptRecord(f"the record of the archive of {archive.month} is forged")
                found.append((archive, archive.content))
            if len(page) < AT_ONCE:
                break
        try:
            reached_by(body for _, body in found)
        except ValueError as error:
            raise CorruptRecord(str(error)) from error
        return found

    async def boundaries(self) -> Mapping[StreamUid, tuple[StreamPart, ...]]:
        """Return, of each stream, the parts that have left the database, in their order: who verifies goes on behind them.

        Raises:
            CorruptRecord: as all().
        """
        gone: dict[StreamUid, tuple[StreamPart, ...]] = {}
        for archive, body in await self.all():
            if archive.state in (ArchiveState.DETACHED, ArchiveState.DELETED):
                for part in body.streams:
                    gone[part.stream] = (*gone.get(part.stream, ()), part)
        return gone

    async def hold_on(self, month: Month, tenants: Iterable[str]) -> LegalHold | None:
        """Return a legal hold that keeps a month in which these tenants (uids) have events, if there is one."""
        for tenant in tenants:
            uid = TenantUid(UUID(tenant))
            async with self._storage.transaction(uid) as work:
                holds = await work.legal_holds.list_active(uid, MOST_HOLDS)
            for hold in holds:
                if hold.keeps(month):
                    return hold
        return None
