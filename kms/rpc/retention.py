"""AuditRetentionService: parse, call, format."""

from __future__ import annotations

from datetime import UTC, datetime

from kms.core.canonical import EPOCH
from kms.core.errors import invalid
from kms.core.names import (
    INSTALLATION_UID,
    LegalHoldName,
    Principal,
    SecurityEventsParent,
    parse_slug,
)
from kms.core.retention import LONGEST_REASON, LegalHold, Month
from kms.rpc.fields import parse_text
from kms.rpc.messages import timestamp
from kms.rpc.paging import cut, parse_page
from kms.services.legal_holds import LegalHolds
from kms.services.retention import Retention, ShownArchive
from kms.v1 import retention_pb2 as pb

LONGEST_NAME = 256  # characters of a resource or principal


class AuditRetentionServicer:
    """Serves kms.v1.AuditRetentionService."""

    def __init__(self, holds: LegalHolds, retention: Retention) -> None:
        self._holds = holds
        self._retention = retention

    async def CreateLegalHold(self, request: pb.CreateLegalHoldRequest, caller: Principal) -> pb.LegalHold:
        """Store a hold."""
        parent = SecurityEventsParent.parse(request.parent)
        name = LegalHoldName(parent.tenant, parse_slug(request.legal_hold_id, "legal_hold_id"))
        return hold_message(parent.tenant, await self._holds.create(caller, name, _hold(request.legal_hold)))

    async def ReleaseLegalHold(self, request: pb.ReleaseLegalHoldRequest, caller: Principal) -> pb.LegalHold:
        """Release a hold."""
        name = LegalHoldName.parse(request.name)
        parse_text(request.reason, "reason", LONGEST_REASON)
        return hold_message(name.tenant, await self._holds.release(caller, name))

    async def ListLegalHolds(self, request: pb.ListLegalHoldsRequest, caller: Principal) -> pb.ListLegalHoldsResponse:
        """List holds."""
        parent, page = SecurityEventsParent.parse(request.parent), parse_page(request)
        found = await self._holds.list_after(caller, parent, page.after, page.size + 1)
        holds, token = cut(found, page, lambda hold: hold.hold_id)
        return pb.ListLegalHoldsResponse(
            legal_holds=[hold_message(parent.tenant, hold) for hold in holds], next_page_token=token
        )

    async def ListAuditArchives(
        self, request: pb.ListAuditArchivesRequest, caller: Principal
    ) -> pb.ListAuditArchivesResponse:
        """List archives."""
        del caller
        page = parse_page(request)
        found = [shown for shown in await self._retention.all() if str(shown.archive.month) > page.after]
        archives, token = cut(found[: page.size + 1], page, lambda shown: str(shown.archive.month))
        return pb.ListAuditArchivesResponse(
            audit_archives=[archive_message(shown) for shown in archives], next_page_token=token
        )

    async def ArchiveAudit(self, request: pb.ArchiveAuditRequest, caller: Principal) -> pb.ArchiveAuditResponse:
        """Begin to archive."""
        del request
        operation = await self._retention.start(str(caller))
        return pb.ArchiveAuditResponse(operation=str(operation.uid), months=operation.total)

    async def RemoveArchive(self, request: pb.RemoveArchiveRequest, caller: Principal) -> pb.AuditArchive:
        """Remove the file of a month."""
        try:
            month = Month.parse(request.month)
        except ValueError as error:
            raise invalid("month", str(error)) from error
        return archive_message(await self._retention.remove(caller, month))


def _hold(given: pb.LegalHold) -> LegalHold:
    if not given.reason.strip():
        raise invalid("legal_hold.reason", "must say why")
    since = _moment(given, "start_time")
    until = _moment(given, "end_time")
    if since is not None and until is not None and until <= since:
        raise invalid("legal_hold.end_time", "must be after start_time")
    return LegalHold(
        tenant=INSTALLATION_UID,  # the service fills in whose it is
        hold_id="",
        reason=parse_text(given.reason, "legal_hold.reason", LONGEST_REASON),
        created_at=EPOCH,
        created_by="",
        resource=parse_text(given.resource, "legal_hold.resource", LONGEST_NAME),
        principal=parse_text(given.principal, "legal_hold.principal", LONGEST_NAME),
        from_at=since,
        until_at=until,
    )


def _moment(given: pb.LegalHold, field: str) -> datetime | None:
    if not given.HasField(field):
        return None
    try:
        moment: datetime = getattr(given, field).ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise invalid(f"legal_hold.{field}", "must be a time in the years 1 to 9999") from error
    return moment


def hold_message(tenant: str | None, hold: LegalHold) -> pb.LegalHold:
    """Format a hold; *tenant* is the owner's slug, None for the installation."""
    return pb.LegalHold(
        name=hold.name(tenant),
        reason=hold.reason,
        resource=hold.resource,
        principal=hold.principal,
        start_time=timestamp(hold.from_at),
        end_time=timestamp(hold.until_at),
        create_time=timestamp(hold.created_at),
        creator=hold.created_by,
        release_time=timestamp(hold.released_at),
        releaser=hold.released_by,
    )


def archive_message(shown: ShownArchive) -> pb.AuditArchive:
    """Format an archive."""
    archive, body = shown.archive, shown.body
    return pb.AuditArchive(
        name=f"auditArchives/{archive.month}",
        state=archive.state.value,
        events=body.events,
        streams=len(body.streams),
        first_time=timestamp(datetime.fromisoformat(body.first_at)),
        last_time=timestamp(datetime.fromisoformat(body.last_at)),
        file_name=archive.file_name,
        file_size=archive.file_size,
        file_sha256=archive.file_sha256.hex(),
        body=archive.body,
        signature=archive.signature,
        create_time=timestamp(archive.created_at),
        verify_time=timestamp(archive.verified_at),
        detach_time=timestamp(archive.detached_at),
        delete_time=timestamp(archive.deleted_at),
        deleter=archive.deleted_by,
        old=shown.old,
    )
