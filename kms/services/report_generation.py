"""The making of a compliance report: the runner of OperationKind.GENERATE_REPORT.

What has been gathered is kept, encrypted, in the report itself with how far it is; so a batch that is done again, after
a crash or by another node, begins where the last one that was stored ended, whatever the operation's progress says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Final, Protocol

import structlog

from kms.core.errors import Conflict, CorruptRecord, FailedPrecondition, NotFound, Unavailable
from kms.core.names import ReportName
from kms.core.operations import Operation
from kms.core.ports import Signer, Storage
from kms.core.report_body import Heading, compose, content_of, found, judge_whole
from kms.core.report_facts import Facts
from kms.core.report_ports import Evidence
from kms.core.reports import MOST_BYTES, Report, ReportEvent, ReportState, ReportUid, signed_bytes
from kms.crypto.report_seal import ReportSeal
from kms.failpoints import reach
from kms.services import report_stages as stages
from kms.services.operations import Batch
from kms.services.report_stages import Installation, Source
from kms.services.report_trail import checks, trail, trail_share

_log = structlog.get_logger(__name__)

Stage = Callable[[Source, Facts], Awaitable[bool]]

STAGES: Final[dict[str, Stage]] = {
    "keys": stages.keys,
    "keks": stages.keks,
    "access": stages.access,
    "tokens": stages.tokens,
    "approvals": stages.approvals,
    "quorum": stages.quorum,
    "events": stages.events,
    "older_events": stages.older_events,
    "receipts": stages.receipts,
    "holds": stages.holds,
    "trail": trail,
}
_ORDER: Final = tuple(STAGES)
SIGNING: Final = "signing"  # after all stages
TRAIL_UNITS: Final = 100  # of an operation's progress, for the trail; every other stage is one unit
TOTAL: Final = len(_ORDER) - 1 + TRAIL_UNITS + 1  # and one for signing


class PublicKey(Protocol):
    """Knows the key that verifies signatures."""

    async def public_key(self) -> bytes:
        """Return it as DER SubjectPublicKeyInfo."""
        ...


class ReportGeneration:
    """Makes reports."""

    def __init__(
        self,
        storage: Storage,
        seal: ReportSeal,
        signer: Signer,
        keys: PublicKey,
        installation: Installation,
        evidence: Evidence,
        now: Callable[[], datetime],
    ) -> None:
        self._storage = storage
        self._seal = seal
        self._signer = signer
        self._keys = keys
        self._installation = installation
        self._evidence = evidence
        self._now = now

    async def batch(self, operation: Operation) -> Batch:
        """Gather the next page of a report, or sign it where all is gathered.

        Raises:
            Unavailable: the database or the token does not answer; it goes on later.
            KmsError: it cannot be made; the report has failed.
        """
        report = await self._read(operation)
        if report.state is ReportState.COMPLETED:
            return _done(operation)
        try:
            return await self._step(operation, report)
        except Unavailable:
            raise
        except Conflict:  # another node makes it, too, and was faster
            return Batch(operation.cursor, 0, finished=False)
        except Exception as error:
            reason = (
                str(error)
                if isinstance(error, CorruptRecord | FailedPrecondition)
                else f"internal error ({type(error).__name__})"
            )
            await self._fail(operation, reason)
            raise

    async def _read(self, operation: Operation) -> Report:
        async with self._storage.transaction(operation.tenant) as work:
            uid = ReportUid(ReportName.parse(operation.target).report)
            report = await work.reports.get(operation.tenant, uid)
        if report is None:
            raise NotFound(operation.target)
        return report

    async def _step(self, operation: Operation, report: Report) -> Batch:
        if report.state is ReportState.FAILED:
            report = report.after(ReportEvent.RESUME)
        facts = Facts.decode(self._seal.open(report)) if report.sealed else Facts(stage=_ORDER[0])
        source = await self._source(report)
        if facts.stage == SIGNING:
            await self._complete(source, facts)
            return _done(operation)
        if facts.stage not in STAGES:
            raise CorruptRecord(f"report {report.uid} is at a stage that is none")
        if await STAGES[facts.stage](source, facts):
            following = _ORDER.index(facts.stage) + 1
            facts.stage, facts.cursor = _ORDER[following] if following < len(_ORDER) else SIGNING, []
        sealed, digest = self._seal.seal(report.tenant, report.uid, facts.encode())
        await self._store(replace(report, sealed=sealed, digest=digest))
        reach("report.gathered")
        return Batch(facts.stage, max(_units(source, facts) - operation.done, 0), finished=False)

    async def _source(self, report: Report) -> Source:
        async with self._storage.transaction() as work:
            tenant = await work.tenants.by_uid(report.tenant)
        if tenant is None:
            raise CorruptRecord("a report is for a tenant that is not there")
        return Source(self._storage, tenant, report, self._installation, self._now())

    async def _complete(self, source: Source, facts: Facts) -> None:
        """Compose, sign and store the report."""
        report, tenant, now = source.report, source.tenant, self._now()
        await checks(source, facts, self._evidence)
        judge_whole(facts, open_tenants=self._installation.open_tenants)
        public_key = await self._keys.public_key()
        heading = Heading(
            report,
            str(report.name(tenant.slug)),
            str(tenant.name),
            now,
            self._installation.release,
            hashlib.sha256(public_key).hexdigest(),
        )
        content = content_of(compose(heading, facts))
        if len(content) > MOST_BYTES:
            raise FailedPrecondition(f"the report has more than {MOST_BYTES} bytes")
        sealed, digest = self._seal.seal(report.tenant, report.uid, content)
        signature = await self._signer.sign(signed_bytes(digest))
        reach("report.generated")
        report = replace(
            report.after(ReportEvent.COMPLETE),
            completed_at=now,
            findings=len(found(facts)),
            sealed=sealed,
            digest=digest,
            signature=signature,
        )
        await self._store(report)
        reach("report.committed")
        _log.info("report.completed", name=heading.name, findings=report.findings, size=len(content))

    async def _store(self, report: Report) -> None:
        async with self._storage.transaction(report.tenant, write=True) as work:
            await work.reports.replace(report)

    async def _fail(self, operation: Operation, reason: str) -> None:
        report = await self._read(operation)
        if report.state is ReportState.GENERATING:
            await self._store(report.after(ReportEvent.FAIL, reason))
        _log.error("report.failed", name=operation.target, reason=reason)


def _units(source: Source, facts: Facts) -> int:
    if facts.stage == SIGNING:
        return TOTAL - 1
    return _ORDER.index(facts.stage) + (trail_share(source, facts) if facts.stage == "trail" else 0)


def _done(operation: Operation) -> Batch:
    return Batch(SIGNING, max(operation.total - operation.done, 0), finished=True)
