"""The repositories of one transaction, as Protocols; storage implements them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Protocol

from .access_repositories import (
    ApprovalRepository,
    CertificatePinRepository,
    GrantRepository,
    PrincipalRepository,
    QuorumRuleRepository,
    TokenRepository,
)
from .audit import AuditEvent, StreamUid
from .audit_checks import AuditCheckRepository
from .audit_repositories import AuditRepository
from .blob_repositories import BlobRepository
from .events import DaySum, EventType, EventUid, SecurityEvent, Severity
from .key_repositories import (
    KekRepository,
    KeyRepository,
    KeyVersionRepository,
    PlaceRepository,
    PolicyRepository,
    ReceiptRepository,
    TenantRepository,
)
from .names import TenantUid
from .operations import Operation, OperationState, OperationUid
from .outbox import OutboxItem
from .report_ports import ReportRepository
from .retention_repositories import (
    AuditArchiveRepository,
    AuditFeedRepository,
    AuditMonthRepository,
    LegalHoldRepository,
)
from .seal_repositories import EnclaveUpgradeRepository

if TYPE_CHECKING:  # it knows of health and nodes, whose module needs this one
    from .enclaves import EnclaveRepository


class OperationRepository(Protocol):
    """Long work."""

    async def get(self, tenant: TenantUid, uid: OperationUid) -> Operation | None:
        """Return one operation."""
        ...

    async def list_newest(
        self, tenant: TenantUid, before: tuple[datetime, OperationUid] | None, limit: int
    ) -> list[Operation]:
        """Return at most *limit* operations of a tenant that began before *before*, the newest first."""
        ...

    async def find(self, tenant: TenantUid, kind: str, target: str, state: OperationState) -> Operation | None:
        """Return an operation of that kind and target in that state, if there is one."""
        ...

    async def list_free(self, now: datetime, limit: int) -> list[Operation]:
        """Return at most *limit* running operations of all tenants that no node carries on now, the oldest first."""
        ...

    async def add(self, operation: Operation) -> Operation:
        """Store a new operation with revision 1 and return it so.

        Raises:
            Conflict: the tenant has a running operation of that kind and target.
        """
        ...

    async def replace(self, operation: Operation) -> Operation:
        """Store a changed operation over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        ...

    async def remove_ended(self, before: datetime, limit: int) -> int:
        """Remove at most *limit* operations of all tenants that ended before *before*; returns how many."""
        ...


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which security events are wanted."""

    since: datetime | None = None  # stored then or later
    severity: Severity = Severity.INFO  # or worse
    type: EventType | None = None
    unresolved: bool = False


class SecurityEventRepository(Protocol):
    """Security events and their investigation."""

    async def get(self, tenant: TenantUid, uid: EventUid) -> SecurityEvent | None:
        """Return one event."""
        ...

    async def list_newest(
        self, tenant: TenantUid, wanted: EventFilter, before: tuple[datetime, EventUid] | None, limit: int
    ) -> list[SecurityEvent]:
        """Return at most *limit* events that were stored before *before*, the newest first."""
        ...

    async def sum_by_day(self, tenant: TenantUid, first: date, last: date) -> list[DaySum]:
        """Return the sums of the days from *first* to *last*, ordered by day, type and severity."""
        ...

    async def add_all(self, events: Sequence[SecurityEvent]) -> None:
        """Store new events with revision 1; at most 1,000 at once.

        Raises:
            Conflict: one of them is stored already; nothing of the transaction is committed then.
        """
        ...

    async def replace(self, event: SecurityEvent) -> SecurityEvent:
        """Store a changed event over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        ...


class OutboxRepository(Protocol):
    """What others are told of; part of the transaction that makes it so."""

    async def add_all(self, items: Sequence[OutboxItem]) -> None:
        """Store new items, which get the next positions in their order; at most 1,000 at once.

        Late in the transaction, but before the epochs: others wait for it from then on.
        """
        ...


class EpochRepository(Protocol):
    """Tells nodes what they must no longer believe; part of the transaction that changes it."""

    async def changed(self, tenant: TenantUid) -> None:
        """Let every node read the tenant's records again. DEKs in memory stay."""
        ...

    async def revoked(self, tenant: TenantUid) -> int:
        """Let every node drop all that it holds of the tenant; returns the epoch that a node acknowledges by that."""
        ...


class AuditReadRepository(Protocol):
    """What the pass that settles intents reads of the audit log, over all tenants."""

    async def settled_at(self) -> datetime | None:
        """Return when a pass over the intents last ended; None where none has."""
        ...

    async def unsettled(
        self, since: datetime, after: tuple[StreamUid, int] | None, limit: int
    ) -> list[AuditEvent | tuple[StreamUid, int]]:
        """Return at most *limit* intents without an outcome, not older than *since* and beyond *after*, in order.

        One whose row contradicts its bytes stands as its place alone: nothing of it can be believed.
        """
        ...

    async def ended(self, streams: Sequence[StreamUid]) -> set[StreamUid]:
        """Return those of at most 1,000 streams whose node has begun another one since."""
        ...


class UnitOfWork(Protocol):
    """One transaction: all of it is durable when its block ends, or none."""

    @property
    def tenants(self) -> TenantRepository: ...  # noqa: D102

    @property
    def keks(self) -> KekRepository: ...  # noqa: D102

    @property
    def keys(self) -> KeyRepository: ...  # noqa: D102

    @property
    def key_versions(self) -> KeyVersionRepository: ...  # noqa: D102

    @property
    def policies(self) -> PolicyRepository: ...  # noqa: D102

    @property
    def places(self) -> PlaceRepository: ...  # noqa: D102

    @property
    def operations(self) -> OperationRepository: ...  # noqa: D102

    @property
    def receipts(self) -> ReceiptRepository: ...  # noqa: D102

    @property
    def principals(self) -> PrincipalRepository: ...  # noqa: D102

    @property
    def grants(self) -> GrantRepository: ...  # noqa: D102

    @property
    def tokens(self) -> TokenRepository: ...  # noqa: D102

    @property
    def certificate_pins(self) -> CertificatePinRepository: ...  # noqa: D102

    @property
    def approvals(self) -> ApprovalRepository: ...  # noqa: D102

    @property
    def quorum_rules(self) -> QuorumRuleRepository: ...  # noqa: D102

    @property
    def security_events(self) -> SecurityEventRepository: ...  # noqa: D102

    @property
    def reports(self) -> ReportRepository: ...  # noqa: D102

    @property
    def outbox(self) -> OutboxRepository: ...  # noqa: D102

    @property
    def audit(self) -> AuditRepository: ...  # noqa: D102

    @property
    def audit_checks(self) -> AuditCheckRepository: ...  # noqa: D102

    @property
    def audit_feed(self) -> AuditFeedRepository: ...  # noqa: D102

    @property
    def audit_months(self) -> AuditMonthRepository: ...  # noqa: D102

    @property
    def audit_archives(self) -> AuditArchiveRepository: ...  # noqa: D102

    @property
    def legal_holds(self) -> LegalHoldRepository: ...  # noqa: D102

    @property
    def blobs(self) -> BlobRepository: ...  # noqa: D102

    @property
    def enclaves(self) -> EnclaveRepository: ...  # noqa: D102

    @property
    def enclave_upgrades(self) -> EnclaveUpgradeRepository: ...  # noqa: D102

    @property
    def audit_reads(self) -> AuditReadRepository: ...  # noqa: D102

    @property
    def epochs(self) -> EpochRepository: ...  # noqa: D102
