"""Verifies the stored audit trail of the whole installation: every day, and when an operator asks.

It is no operation: operations belong to tenants, and this belongs to none. So it is not resumed after a restart, but begins
anew. Its result stays in memory, and in the trail itself as `audit.verified`, with who has asked for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID, uuid4

import structlog

from kms.core.anchors import Verify
from kms.core.audit import AuditEvent, Category, Outcome, Retention
from kms.core.audit_check import NOTICES
from kms.core.audit_findings import Fault, Finding
from kms.core.audit_ports import Trail
from kms.core.checkpoint_ports import CheckpointRecords
from kms.core.checkpoints import SignedCheckpoint
from kms.core.errors import AuditUnavailable, CorruptRecord, KmsError, RolledBack, Unavailable
from kms.core.events import KINDS, EventType, EventUid, SecurityEvent, Severity, risk_of
from kms.core.names import INSTALLATION_UID
from kms.core.ports import Storage
from kms.core.report_ports import TrailCheck
from kms.services.archived import Archived
from kms.services.audit import RISKS, shown_details
from kms.services.audit_walk import ROWS, Boundaries, Progress, Sleep, Walk
from kms.services.event_recorder import Noticed

_log = structlog.get_logger(__name__)

MOST_TOLD: Final = 100  # findings of a result; all are counted
MOST_IN_EVENT: Final = 20  # that the audit event names
MOST_INDICATORS: Final = 10  # that the security event names
LONGEST_FINDING: Final = 200  # characters in an event
FIRST: Final = timedelta(minutes=5)  # after the start
RETRY: Final = 3_600.0  # seconds after one that could not be done
SCHEDULE: Final = "scheduler"
TURNS: Final = 3  # of a verification under which months leave the database


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome of one verification."""

    began_at: datetime
    at: datetime
    covers: datetime  # all events before that time
    by: str  # who has asked for it
    events: int
    columns: int  # events whose columns were compared with their bytes
    streams: int
    checkpoints: int
    last_serial: int
    last_hash: bytes  # 32, empty where there is no checkpoint
    findings: tuple[Finding, ...]  # at most MOST_TOLD
    problems: int  # all findings that are no notices

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class VerificationState:
    """What is going on, and what came of the last one."""

    began_at: datetime | None  # of the one that runs; None while none does
    events: int
    known: int
    last: Verification | None
    failure: str  # why the last one has no outcome; empty where it has one


class Sealer(Protocol):
    """Makes checkpoints: kms/services/checkpoints.py."""

    @property
    def anchored(self) -> int: ...  # noqa: D102

    async def seal(self) -> None: ...  # noqa: D102


class VerifiedStorage(CheckpointRecords, Storage, Protocol):
    """The database, as far as a verification needs it."""


class AuditVerification:
    """One verification after the other; belongs to one event loop."""

    def __init__(
        self,
        storage: VerifiedStorage,
        archived: Archived,
        installation: UUID,
        checkpoints: Sealer | None,
        trail: Trail,
        offer: Callable[[Noticed], None],
        now: Callable[[], datetime],
        *,
        interval: timedelta,
        first: timedelta = FIRST,
        sleep: Sleep = asyncio.sleep,
        rows: int = ROWS,
    ) -> None:
        """Prepare; with *interval* 0 it verifies only when it is asked.

        Without *checkpoints* it makes none itself, and verifies what is sealed already.
        """
        self._storage = storage
        self._archived = archived
        self._installation = installation
        self._checkpoints = checkpoints
        self._trail = trail
        self._offer = offer
        self._now = now
        self._interval = interval.total_seconds()
        self._first = first.total_seconds()
        self._sleep = sleep
        self._rows = rows
        self._wanted = asyncio.Event()
        self._by = SCHEDULE
        self._began_at: datetime | None = None
        self._progress = Progress()
        self._last: Verification | None = None
        self._failure = ""

    @property
    def state(self) -> VerificationState:
        """What is going on."""
        return VerificationState(self._began_at, self._progress.events, self._progress.known, self._last, self._failure)

    def begin(self, by: str) -> VerificationState:
        """Have one begun, unless one runs."""
        if self._began_at is None:
            self._start(by)
            self._wanted.set()
        return self.state

    @property
    def anchored(self) -> int:
        """The serial of the checkpoint that this node has anchored last; 0 for none."""
        return 0 if self._checkpoints is None else self._checkpoints.anchored

    async def newest_checkpoint(self) -> SignedCheckpoint | None:
        """Return the newest that is stored.

        Raises:
            CorruptRecord: it contradicts itself.
        """
        return await self._storage.newest_checkpoint()

    def trail_check(self) -> TrailCheck | None:
        """Return what reports say of the last one; None where there is none since the start."""
        last = self._last
        if last is None:
            return None
        problems = [str(finding) for finding in last.findings if finding.fault not in NOTICES]
        return TrailCheck(last.at, last.covers, last.events, last.problems, "; ".join(problems[:MOST_INDICATORS]))

    async def run(self) -> None:
        """Verify when it is asked for, and when it is due, until cancelled."""
        wait = self._first
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait if self._interval else None):
                    await self._wanted.wait()
            if not self._wanted.is_set():
                self._start(SCHEDULE)
            try:
                await self._verify()
            finally:
                self._wanted.clear()
                self._began_at = None
            wait = self._interval if not self._failure else min(self._interval, RETRY)

    def _start(self, by: str) -> None:
        self._by, self._began_at, self._progress = by, self._now(), Progress()

    async def _verify(self) -> None:
        began_at, by = self._began_at or self._now(), self._by
        try:
            made = await self._whole(began_at, by)
        except Exception as error:  # noqa: BLE001  a fault in it stops no daemon, and is told
            self._failure = str(error) if isinstance(error, KmsError) else f"unexpected error: {type(error).__name__}"
            _log.error("audit.unverified", reason=self._failure, exc_info=not isinstance(error, KmsError))
            await self._note(_failed(by, self._failure))
            return
        self._last, self._failure = made, ""
        tell = _log.info if made.whole else _log.error
        tell("audit.verified", events=made.events, problems=made.problems, what=_named(made.findings, MOST_INDICATORS))
        if not made.whole:
            self._offer(Noticed(_security_event(made, self._now()), None))
        await self._note(_event(made))

    async def _whole(self, began_at: datetime, by: str) -> Verification:
        verify = await self._archived.verify()
        before = await self._boundaries()
        for turn in range(1, TURNS + 1):
            made = await self._once(began_at, by, verify, *before)
            after = await self._boundaries()
            if made.whole or after == before or turn == TURNS:
                break
            before = after  # a month has left the database meanwhile: what was missing may be in its archive
        return made

    async def _boundaries(self) -> tuple[Boundaries, Finding | None]:
        try:
            return await self._archived.boundaries(), None
        except CorruptRecord as error:
            return {}, Finding(Fault.ARCHIVE_FORGED, text=str(error))

    async def _once(
        self, began_at: datetime, by: str, verify: Verify, boundaries: Boundaries, forged: Finding | None
    ) -> Verification:
        progress = self._progress
        walk = Walk(self._storage, self._installation, verify, boundaries, progress, self._sleep, self._rows)
        seen = walk.verifier
        covers: datetime | None = self._now()
        try:
            if self._checkpoints is None:
                covers = None
            else:
                await self._checkpoints.seal()
        except (CorruptRecord, RolledBack) as error:
            covers = None
            seen.found(Fault.CHECKPOINT_NOT_MADE, text=str(error))
        except Unavailable as error:
            covers = None  # what is sealed already is verified all the same
            _log.warning("audit.verification_unsealed", reason=str(error))
        if forged is not None:
            seen.found(forged.fault, text=forged.text)
        async with self._storage.transaction() as work:
            until = await work.audit_checks.newest_serial()
        await walk.count()
        await walk.go(until, self._now())
        newest = seen.newest
        problems = sum(finding.fault not in NOTICES for finding in seen.findings) + seen.suppressed
        return Verification(
            began_at=began_at,
            at=self._now(),
            covers=covers or (began_at if newest is None else newest.checkpoint.at),
            by=by,
            events=seen.events,
            columns=walk.columns,
            streams=seen.streams,
            checkpoints=seen.checkpoints,
            last_serial=0 if newest is None else newest.serial,
            last_hash=b"" if newest is None else newest.hash,
            findings=tuple(seen.findings[:MOST_TOLD]),
            problems=problems,
        )

    async def _note(self, event: AuditEvent) -> None:
        with suppress(AuditUnavailable):
            await self._trail.note(event)


def _named(findings: Sequence[Finding], most: int) -> list[str]:
    return [str(finding)[:LONGEST_FINDING] for finding in findings[:most]]


def _event(made: Verification) -> AuditEvent:
    severity = Severity.INFO if made.whole else Severity.CRITICAL
    return AuditEvent(
        action="audit.verified",
        category=Category.SECURITY,
        outcome=Outcome.SUCCESS if made.whole else Outcome.FAILURE,
        severity=severity,
        risk=RISKS[severity],
        principal=made.by,
        retention=Retention.EXTENDED,
        duration_us=int((made.at - made.began_at).total_seconds() * 1_000_000),
        details=shown_details(
            {
                "covers": made.covers.isoformat(),
                "events": made.events,
                "columns": made.columns,
                "streams": made.streams,
                "checkpoints": made.checkpoints,
                "last_serial": made.last_serial,
                "last_hash": made.last_hash.hex(),
                "problems": made.problems,
                "findings": _named(made.findings, MOST_IN_EVENT),
            }
        ),
    )


def _failed(by: str, reason: str) -> AuditEvent:
    return AuditEvent(
        action="audit.verified",
        category=Category.SECURITY,
        outcome=Outcome.ERROR,
        severity=Severity.MEDIUM,
        risk=RISKS[Severity.MEDIUM],
        principal=by,
        retention=Retention.EXTENDED,
        details=shown_details({"reason": reason}),
    )


def _security_event(made: Verification, now: datetime) -> SecurityEvent:
    kind = KINDS[EventType.TAMPERED_RECORD]
    return SecurityEvent(
        uid=EventUid(uuid4()),
        tenant=INSTALLATION_UID,
        type=EventType.TAMPERED_RECORD,
        severity=kind.severity,
        category=kind.category,
        risk=risk_of(EventType.TAMPERED_RECORD, made.problems, 1),
        first_at=now,
        last_at=now,
        count=made.problems,
        threshold=1,
        created_at=now,
        description="the stored audit trail is not what was written",
        blocked=False,
        indicators=("audit trail", *_named(made.findings, MOST_INDICATORS)),
    )
