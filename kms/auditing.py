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
from kms.settings import PostgresqlStorage, Settings
from storage.audit_writer import AuditStore, GroupCommit, open_audit_writer
from storage.audit_writer_postgresql import PostgresqlAuditStore
from storage.audit_writer_sqlite import SqliteAuditStore
from storage.database import Database
from storage.errors import CannotOpen
from storage.sqlite import SqliteDatabase

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
    writer = await open_audit_writer(
        await _store(settings, storage),
        installation=keys.installation,
        node=node,
        now=now,
        release=release,
        details=_configuration(settings),
        reach=reach,
    )
    standard, extended = (timedelta(days=days) for days in (settings.audit.standard_days, settings.audit.extended_days))
    origin = Origin(node, release, settings.audit.region, standard, extended)
    trail = AuditTrail(writer, origin, Changes(AuditValues(keys.values, keys.installation)), now)
    failed = True
    try:
        yield Auditing(writer, trail, Settling(storage, writer, trail, node, now), keys)
        failed = False
    finally:
        with suppress(AuditUnavailable):
            await trail.note(_stopped(failed=failed))
        await writer.close(CLOSING)


async def _store(settings: Settings, storage: Database) -> AuditStore:
    if isinstance(settings.storage, PostgresqlStorage):
        store = PostgresqlAuditStore(settings.storage.url.read().get_secret_value(), reach)
        await (
            store.excess()
        )  # which refuses a user who may not write the trail; the rest is told of the main connection
        return store
    if not isinstance(storage, SqliteDatabase):
        raise CannotOpen("the settings name another database than the one that is open")
    return SqliteAuditStore(storage, reach)


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
