"""The parts that write the audit trail, put together for kms/daemon.py."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import structlog

from kms.clock import now
from kms.core.audit import AuditEvent, Category, Outcome, Retention
from kms.core.audit_contexts import canonical_json
from kms.core.errors import AuditUnavailable
from kms.crypto.audit_values import AuditValues
from kms.failpoints import reach
from kms.rpc.trail import AuditedCalls, Seal, no_seal
from kms.services.access import Accesses
from kms.services.audit import AuditTrail, Origin, shown_details
from kms.services.audit_changes import Changes
from kms.services.audit_settling import Settling
from kms.services.partitions import AuditPartitions
from kms.settings import PostgresqlStorage, Settings
from storage.audit_writer import GroupCommit
from storage.audit_writer_postgresql import open_postgresql_audit
from storage.audit_writer_sqlite import open_sqlite_audit
from storage.database import Database
from storage.errors import CannotOpen, UserRefused
from storage.sqlite import SqliteDatabase

_log = structlog.get_logger(__name__)

CLOSING: Final = 5.0  # seconds for what waits to be written when the daemon ends


@dataclass(frozen=True, slots=True, repr=False)
class AuditKeys:
    """Of which installation events are, and the keys of what is not shown in them, 32 bytes each."""

    installation: UUID
    values: bytes  # derived for the label audit-values
    context: bytes  # for audit-context


@dataclass(frozen=True, slots=True)
class Auditing:
    """What writes the trail of one process."""

    writer: GroupCommit
    trail: AuditTrail
    settling: Settling
    partitions: AuditPartitions
    keys: AuditKeys

    def calls(self, accesses: Accesses, seal: Seal = no_seal) -> AuditedCalls:
        """Return what makes events of calls; *seal* makes a checkpoint."""
        return AuditedCalls(self.trail, accesses, self.keys.context, now, time.monotonic, seal)


def node_name(data_directory: Path) -> str:
    """Return the name of one daemon of the installation, the same at every start."""
    digest = hashlib.sha256(str(data_directory.resolve()).encode()).hexdigest()
    return f"{socket.gethostname()}:{digest[:8]}"


@asynccontextmanager
async def opened_auditing(
    settings: Settings, storage: Database, keys: AuditKeys, release: str
) -> AsyncIterator[Auditing]:
    """Begin the stream of this process; its last event is written at the end.

    Raises:
        CannotOpen: the database's user may not write the trail.
        AuditUnavailable: the first event is not known to be durable.
    """
    node = node_name(settings.data_directory)
    partitions = AuditPartitions(storage, now)
    await partitions.look()
    writer = await _opened(settings, storage, keys.installation, node, release)
    if writer.excess:
        _log.warning("audit.user_can_do_too_much", reason=writer.excess)
    standard, extended = (timedelta(days=days) for days in (settings.audit.standard_days, settings.audit.extended_days))
    origin = Origin(node, release, settings.audit.region, standard, extended)
    trail = AuditTrail(writer, origin, Changes(AuditValues(keys.values, keys.installation)), now)
    failed = True
    try:
        yield Auditing(writer, trail, Settling(storage, writer, trail, node, now), partitions, keys)
        failed = False
    finally:
        with suppress(AuditUnavailable):
            await trail.note(_stopped(failed=failed))
        await writer.close(CLOSING)


async def _opened(settings: Settings, storage: Database, installation: UUID, node: str, release: str) -> GroupCommit:
    details = _configuration(settings)
    if isinstance(settings.storage, PostgresqlStorage):
        url = (settings.storage.audit_url or settings.storage.url).read().get_secret_value()
        writer = await open_postgresql_audit(
            url, installation=installation, node=node, now=now, release=release, details=details, reach=reach
        )
        if writer.excess and settings.profile == "production":
            await writer.close(0)
            raise UserRefused(f"{writer.excess}; production needs a user as docs/storage.md has it")
        return writer
    if not isinstance(storage, SqliteDatabase):
        raise CannotOpen("the settings name another database than the one that is open")
    return await open_sqlite_audit(
        storage, installation=installation, node=node, now=now, release=release, details=details, reach=reach
    )


def _configuration(settings: Settings) -> Mapping[str, object]:
    """Return what the first event says of the configuration; secrets are not in it, only where they are read from."""
    whole = canonical_json(settings.model_dump(mode="json"))
    return {"profile": settings.profile, "settings_sha256": hashlib.sha256(whole.encode()).hexdigest()}


def _stopped(*, failed: bool) -> AuditEvent:
    return AuditEvent(
        action="daemon.stopped",
        category=Category.SYSTEM,
        outcome=Outcome.ERROR if failed else Outcome.SUCCESS,
        retention=Retention.PERMANENT,
        details=shown_details({"failed": failed}),
    )
