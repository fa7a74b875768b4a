"""The parts that write the audit trail, put together for kms/daemon.py."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Final

import structlog

from kms.clock import now
from kms.core.audit import AuditEvent, Category, Outcome, Retention
from kms.core.audit_contexts import canonical_json
from kms.core.audit_ports import Position
from kms.core.errors import AuditUnavailable, KmsError
from kms.core.ports import PartHealth
from kms.crypto.signatures import verifier
from kms.failpoints import reach
from kms.metric_sources import audit_metrics, checkpoint_metrics
from kms.metrics import Metrics
from kms.parts import Parts
from kms.rpc.trail import AuditedCalls
from kms.services.access import Accesses
from kms.services.audit import AuditTrail, Origin, shown_details
from kms.services.audit_settling import Settling
from kms.services.checkpoints import Checkpoints, Interval
from kms.services.partitions import AuditPartitions
from kms.settings import PostgresqlStorage, Settings
from storage.audit_writer import GroupCommit
from storage.audit_writer_postgresql import open_postgresql_audit
from storage.audit_writer_sqlite import open_sqlite_audit
from storage.errors import CannotOpen, UserRefused
from storage.sqlite import SqliteDatabase

_log = structlog.get_logger(__name__)

CLOSING: Final = 5.0  # seconds for what waits to be written when the daemon ends


@dataclass(frozen=True, slots=True)
class Auditing:
    """What writes the trail of one process."""

    writer: GroupCommit
    trail: AuditTrail
    settling: Settling
    checkpoints: Checkpoints
    partitions: AuditPartitions
    context_key: bytes

    @property
    def health(self) -> Mapping[str, Callable[[], Awaitable[PartHealth]]]:
        """What to ask for the health of its parts."""
        return {
            "audit": self.writer.health,
            "audit_months": self.partitions.health,
            "anchor": self.checkpoints.health,
        }

    def running(self) -> list[Coroutine[Any, Any, None]]:
        """Return what has to run."""
        return [self.settling.run(), self.checkpoints.run(), self.partitions.run()]

    def show(self, metrics: Metrics) -> None:
        """Let metrics read the counts."""
        metrics.watch(lambda: audit_metrics(self.writer.counts))
        metrics.watch(lambda: checkpoint_metrics(self.checkpoints))

    def calls(self, accesses: Accesses) -> AuditedCalls:
        """Return what makes events of calls."""
        return AuditedCalls(self.trail, accesses, self.context_key, now, time.monotonic, self.checkpoints.seal)


@asynccontextmanager
async def opened_auditing(settings: Settings, parts: Parts, release: str) -> AsyncIterator[Auditing]:
    """Begin the stream of this process, under a checkpoint; its last event is written, and sealed, at the end.

    Raises:
        CannotOpen: the database's user may not write the trail.
        AuditUnavailable: the first event is not known to be durable.
        HsmUnavailable, StorageUnavailable: the first checkpoint is not known to be made and anchored.
    """
    partitions = AuditPartitions(parts.storage, now)
    await partitions.look()
    writer = await _opened(settings, parts, release)
    if writer.excess:
        _log.warning("audit.user_can_do_too_much", reason=writer.excess)
    standard, extended = (timedelta(days=days) for days in (settings.audit.standard_days, settings.audit.extended_days))
    origin = Origin(parts.node, release, settings.audit.region, standard, extended)
    trail = AuditTrail(writer, origin, parts.changes, now)
    checkpoints: Checkpoints | None = None
    failed = True
    try:
        checkpoints = await _checkpoints(settings, parts, lambda: writer.head)
        await checkpoints.seal()
        settling = Settling(parts.storage, writer, trail, parts.node, now)
        yield Auditing(writer, trail, settling, checkpoints, partitions, parts.keys.context)
        failed = False
    finally:
        with suppress(AuditUnavailable):
            await trail.note(_stopped(failed=failed))
        if checkpoints is not None:
            with suppress(KmsError):  # where the token or the database is away, the next start seals what is left
                await checkpoints.seal()
        await writer.close(CLOSING)


async def _checkpoints(settings: Settings, parts: Parts, head: Callable[[], Position]) -> Checkpoints:
    async with parts.storage.exclusive("signing key"):
        public_key = await parts.vault.public_key()
    return Checkpoints(
        parts.storage,
        parts.vault,
        verifier(public_key),
        parts.storage,
        parts.anchors.store,
        head,
        parts.installation,
        parts.node,
        now,
        time.monotonic,
        interval=Interval(settings.audit.checkpoint_interval, settings.audit.checkpoint_events),
        witnesses=parts.anchors.witnesses,
    )


async def _opened(settings: Settings, parts: Parts, release: str) -> GroupCommit:
    storage, installation, node = parts.storage, parts.installation, parts.node
    details = {**_configuration(settings), **_accepted(parts)}
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


def _accepted(parts: Parts) -> Mapping[str, object]:
    gap = parts.accepted
    return {} if gap is None else {"accepted_gap": asdict(gap)}


def _stopped(*, failed: bool) -> AuditEvent:
    return AuditEvent(
        action="daemon.stopped",
        category=Category.SYSTEM,
        outcome=Outcome.ERROR if failed else Outcome.SUCCESS,
        retention=Retention.PERMANENT,
        details=shown_details({"failed": failed}),
    )
