"""The repositories of one transaction, as Protocols; storage implements them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol
from uuid import UUID

from .access import Grant, GrantUid, PrincipalRecord
from .approvals import ApprovalRequest, ApprovalUid, QuorumRule, Vote
from .census import Place, PlaceCount
from .events import DaySum, EventType, EventUid, SecurityEvent, Severity
from .keyring import Kek, Key, KeyVersion, Tenant
from .lifecycle import KeyState
from .names import KeyUid, Principal, TenantUid
from .operations import Operation, OperationState, OperationUid
from .outbox import OutboxItem
from .policy import NamedPolicy
from .receipts import Receipt
from .tokens import ApiToken, CertificatePin, TokenUid, TokenUse


class TenantRepository(Protocol):
    """Tenants, by the slug that callers use."""

    async def get(self, slug: str) -> Tenant | None:
        """Return the tenant, also one that is not ready yet."""
        ...

    async def list_ready(self, after: str, limit: int) -> list[Tenant]:
        """Return at most *limit* ready tenants with slugs greater than *after*, ordered by slug."""
        ...

    async def add(self, tenant: Tenant) -> Tenant:
        """Store a new tenant with revision 1 and return it so.

        Raises:
            AlreadyExists: the slug is taken.
        """
        ...

    async def replace(self, tenant: Tenant) -> Tenant:
        """Store a changed tenant over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        ...

    async def by_uid(self, tenant_uid: TenantUid) -> Tenant | None:
        """Return the tenant, also one that is not ready yet."""
        ...


class KekRepository(Protocol):
    """KEK versions; a tenant has one lineage."""

    async def get(self, tenant: TenantUid, version: int) -> Kek | None:
        """Return one version, pending ones included."""
        ...

    async def list_by_version(self, tenant: TenantUid, after: int, limit: int) -> list[Kek]:
        """Return at most *limit* versions greater than *after*, ordered, pending ones included."""
        ...

    async def pending(self) -> list[tuple[Tenant, Kek]]:
        """Return every intent to make a KEK that has no outcome, of all tenants: for the pass at start-up."""
        ...

    async def destroying(self) -> list[tuple[Tenant, Kek]]:
        """Return every intent to destroy a KEK that has no outcome, of all tenants: for the pass at start-up."""
        ...

    async def hold(self, tenant: TenantUid, version: int) -> Kek | None:
        """Return one version, which nobody changes before this transaction, one that writes, has ended."""
        ...

    async def add(self, kek: Kek) -> Kek:
        """Store a new version with revision 1 and return it so.

        Raises:
            Conflict: that version exists.
        """
        ...

    async def replace(self, kek: Kek) -> Kek:
        """Store a changed version over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        ...


class KeyRepository(Protocol):
    """Keys and their versions."""

    async def get(self, tenant: TenantUid, slug: str) -> Key | None:
        """Return the key."""
        ...

    async def list_by_slug(self, tenant: TenantUid, after: str, limit: int) -> list[Key]:
        """Return at most *limit* keys with slugs greater than *after*, ordered by slug."""
        ...

    async def list_by_policy(self, tenant: TenantUid, policy: str, limit: int) -> list[Key]:
        """Return the first, by slug, of at most *limit* keys that name the policy."""
        ...

    async def by_uid(self, tenant: TenantUid, uid: KeyUid) -> Key | None:
        """Return the key."""
        ...

    async def count(self, tenant: TenantUid) -> int:
        """Return how many keys the tenant has."""
        ...

    async def list_by_uid(self, tenant: TenantUid, uids: Collection[KeyUid]) -> list[Key]:
        """Return those of at most 1,000 keys that there are, in no order."""
        ...

    async def add(self, new: Key) -> Key:
        """Store a new key with revision 1 and return it so.

        Raises:
            AlreadyExists: the tenant has a key of that slug.
        """
        ...

    async def replace(self, changed: Key) -> Key:
        """Store a changed key over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        ...


class KeyVersionRepository(Protocol):
    """The wrapped DEKs."""

    async def get(self, tenant: TenantUid, key: KeyUid, version: int) -> KeyVersion | None:
        """Return one version."""
        ...

    async def list_by_version(self, tenant: TenantUid, key: KeyUid, after: int, limit: int) -> list[KeyVersion]:
        """Return at most *limit* versions greater than *after*, ordered."""
        ...

    async def list_timed(self, tenant: TenantUid, key: KeyUid) -> list[KeyVersion]:
        """Return the versions that wait for a time (`until`), ordered by number."""
        ...

    async def list_in_states(
        self, tenant: TenantUid, key: KeyUid, states: Sequence[KeyState], after: int, limit: int
    ) -> list[KeyVersion]:
        """Return at most *limit* versions in one of these states with numbers greater than *after*, ordered."""
        ...

    async def list_wrapped_by(
        self, tenant: TenantUid, kek_version: int, after: tuple[KeyUid, int] | None, limit: int
    ) -> list[KeyVersion]:
        """Return at most *limit* versions, not destroyed, that one KEK version wraps.

        Ordered by key and number, from those beyond *after*.
        """
        ...

    async def count_by_kek(self, tenant: TenantUid) -> dict[int, int]:
        """Return how many key versions, not destroyed, each KEK version of the tenant wraps; without those that wrap none."""
        ...

    async def replace(self, version: KeyVersion) -> KeyVersion:
        """Store a changed version over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        ...

    async def replace_unchanged(self, versions: Sequence[KeyVersion]) -> int:
        """Store changed versions over the revisions that they came from, but for those whose stored revision is another.

        Returns how many were stored. At most 1,000 at once.
        """
        ...

    async def add(self, version: KeyVersion) -> KeyVersion:
        """Store a new version with revision 1 and return it so.

        Raises:
            Conflict: that version exists.
        """
        ...


class PolicyRepository(Protocol):
    """Named policies; every version of them stays."""

    async def get(self, tenant: TenantUid, slug: str) -> NamedPolicy | None:
        """Return the newest version."""
        ...

    async def list_by_slug(self, tenant: TenantUid, after: str, limit: int) -> list[NamedPolicy]:
        """Return the newest versions of at most *limit* policies with slugs greater than *after*, ordered."""
        ...

    async def list_versions(self, tenant: TenantUid, slug: str, after: int, limit: int) -> list[NamedPolicy]:
        """Return at most *limit* versions of one policy with numbers greater than *after*, ordered."""
        ...

    async def add(self, policy: NamedPolicy) -> NamedPolicy:
        """Store a new version with revision 1 and return it so.

        Raises:
            Conflict: that version exists.
        """
        ...


class PlaceRepository(Protocol):
    """Places of ciphertexts and what was counted there."""

    async def list_of_key(self, tenant: TenantUid, key: KeyUid) -> list[Place]:
        """Return all places of a key, at most MOST_PLACES, ordered by slug."""
        ...

    async def add(self, place: Place) -> Place:
        """Store a new place with revision 1 and return it so.

        Raises:
            AlreadyExists: the key has a place of that slug.
        """
        ...

    async def replace(self, place: Place) -> Place:
        """Store a changed place over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        ...

    async def remove(self, place: Place) -> None:
        """Remove a place and its counts.

        Raises:
            Conflict: the stored revision is another; nothing of the transaction is committed then.
        """
        ...

    async def counts(
        self, tenant: TenantUid, key: KeyUid, versions: Sequence[int] | None = None, *, place: str | None = None
    ) -> list[PlaceCount]:
        """Return the counts of a key, of all places or one, for these versions (at most 1,000) or for all.

        Ordered by version and place.
        """
        ...

    async def put_counts(self, counts: Sequence[PlaceCount]) -> None:
        """Store counts: revision 0 for new ones, the others over the revision that they came from.

        Raises:
            Conflict: a stored revision is another; nothing of the transaction is committed then.
        """
        ...


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


class ReceiptRepository(Protocol):
    """Receipts of destruction."""

    async def list_of_subject(self, tenant: TenantUid, prefix: str, after: str, limit: int) -> list[Receipt]:
        """Return at most *limit* receipts whose subject is *prefix* or lies below it, with subjects greater than *after*."""
        ...

    async def add(self, receipt: Receipt) -> Receipt:
        """Store a receipt with revision 1 and return it so.

        Raises:
            Conflict: the subject has one.
        """
        ...


class PrincipalRepository(Protocol):
    """Principals of tenants; those of the installation are operators."""

    async def get(self, tenant: TenantUid, slug: str) -> PrincipalRecord | None:
        """Return the principal."""
        ...

    async def list_by_slug(self, tenant: TenantUid, after: str, limit: int) -> list[PrincipalRecord]:
        """Return at most *limit* principals with slugs greater than *after*, ordered by slug."""
        ...

    async def add(self, principal: PrincipalRecord) -> PrincipalRecord:
        """Store a new principal with revision 1 and return it so.

        Raises:
            AlreadyExists: the tenant has a principal of that slug.
        """
        ...

    async def replace(self, principal: PrincipalRecord) -> PrincipalRecord:
        """Store a changed principal over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        ...


class GrantRepository(Protocol):
    """Grants; one is never changed, only made and removed."""

    async def get(self, tenant: TenantUid, uid: GrantUid) -> Grant | None:
        """Return one grant."""
        ...

    async def list_of_principal(self, tenant: TenantUid, principal: str, after: UUID | None, limit: int) -> list[Grant]:
        """Return at most *limit* grants of a principal with uids greater than *after*, ordered by uid."""
        ...

    async def add(self, grant: Grant) -> Grant:
        """Store a new grant with revision 1 and return it so.

        Raises:
            Conflict: that uid is taken.
        """
        ...

    async def remove(self, grant: Grant) -> None:
        """Remove a grant.

        Raises:
            Conflict: the stored revision is another, or it is gone; nothing of the transaction is committed then.
        """
        ...


class TokenRepository(Protocol):
    """API tokens, by their prefixes, and their uses."""

    async def by_prefix(self, prefix: str) -> ApiToken | None:
        """Return the token of a caller of whom nothing else is known yet, in a transaction of no tenant."""
        ...

    async def get(self, tenant: TenantUid, prefix: str) -> ApiToken | None:
        """Return one token of the tenant."""
        ...

    async def list_by_prefix(self, tenant: TenantUid, after: str, limit: int) -> list[ApiToken]:
        """Return at most *limit* tokens with prefixes greater than *after*, ordered."""
        ...

    async def count_usable(self, tenant: TenantUid, now: datetime) -> int:
        """Return how many tokens of the tenant are neither revoked nor expired."""
        ...

    async def add(self, token: ApiToken) -> ApiToken:
        """Store a new token with revision 1 and return it so.

        Raises:
            AlreadyExists: its prefix is taken.
        """
        ...

    async def replace(self, token: ApiToken) -> ApiToken:
        """Store a changed token over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        ...

    async def uses(self, tenant: TenantUid, tokens: Collection[TokenUid]) -> Mapping[TokenUid, TokenUse]:
        """Return what is known of the use of at most 1,000 tokens; without those never used."""
        ...


class CertificatePinRepository(Protocol):
    """The certificates that principals are bound to."""

    async def list_of(self, tenant: TenantUid, principal: Principal) -> list[CertificatePin]:
        """Return all pins of one principal, ordered by fingerprint."""
        ...

    async def add(self, pin: CertificatePin) -> CertificatePin:
        """Store a new pin with revision 1 and return it so.

        Raises:
            AlreadyExists: the certificate is pinned.
        """
        ...

    async def remove(self, tenant: TenantUid, principal: Principal, fingerprint: bytes) -> bool:
        """Delete a pin; False where there is none."""
        ...


class ApprovalRepository(Protocol):
    """Requests that others have to approve, and their votes; nothing of them is ever removed."""

    async def get(self, tenant: TenantUid, uid: ApprovalUid) -> ApprovalRequest | None:
        """Return one request."""
        ...

    async def find_waiting(self, tenant: TenantUid, digest: bytes) -> ApprovalRequest | None:
        """Return the request of that digest that is stored as waiting, also where its time is over."""
        ...

    async def count_waiting(self, tenant: TenantUid, now: datetime, requester: str | None = None) -> int:
        """Return how many requests wait and have not expired, of one requester or of all."""
        ...

    async def list_newest(
        self,
        tenant: TenantUid,
        before: tuple[datetime, ApprovalUid] | None,
        limit: int,
        *,
        waiting_at: datetime | None = None,
    ) -> list[ApprovalRequest]:
        """Return at most *limit* requests stored before *before*, the newest first; with a time those that wait then."""
        ...

    async def add(self, request: ApprovalRequest) -> ApprovalRequest:
        """Store a new request with revision 1 and return it so.

        Raises:
            Conflict: a request of the same digest waits already.
        """
        ...

    async def replace(self, request: ApprovalRequest) -> ApprovalRequest:
        """Store a changed request over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        ...

    async def votes(self, tenant: TenantUid, uids: Collection[ApprovalUid]) -> list[Vote]:
        """Return all votes on these requests (at most 1,000), the oldest first."""
        ...

    async def add_vote(self, vote: Vote) -> Vote:
        """Store a vote with revision 1 and return it so.

        Raises:
            AlreadyExists: the principal has voted on that request.
        """
        ...


class QuorumRuleRepository(Protocol):
    """How many approvals a tenant's permissions need, where that is not the installation's default."""

    async def get(self, tenant: TenantUid, permission: str) -> QuorumRule | None:
        """Return the tenant's own rule for a permission."""
        ...

    async def list_all(self, tenant: TenantUid) -> list[QuorumRule]:
        """Return all rules of the tenant, one a permission at most, ordered by it."""
        ...

    async def put(self, rule: QuorumRule) -> QuorumRule:
        """Store a rule over the revision that it came from, 0 for a new one; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
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
    def outbox(self) -> OutboxRepository: ...  # noqa: D102

    @property
    def epochs(self) -> EpochRepository: ...  # noqa: D102
