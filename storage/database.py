"""What both engines share behind the Storage port: transactions, counters, health, and a bounded number of each."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from datetime import date, datetime
from typing import Final
from uuid import UUID
from weakref import WeakValueDictionary

from sqlalchemy import Connection, event, select

from kms.core.audit import StreamUid
from kms.core.audit_ports import TenantRoot
from kms.core.census import Uses
from kms.core.checkpoint_ports import StreamEnd
from kms.core.checkpoints import SignedCheckpoint
from kms.core.errors import CorruptRecord, StorageUnavailable
from kms.core.integrity import Page, ScrubCursor
from kms.core.keyring import Key, Tenant
from kms.core.names import KeyUid, TenantUid
from kms.core.outbox import OutboxItem, Topic
from kms.core.ports import ChangeSignal, Counter, HealthStatus, Node, PartHealth, Storage, TenantEpoch
from kms.core.tokens import TokenUid, TokenUse

from . import adoption, audit_partitions, due_work, epochs, integrity, scrubbing
from . import checkpoints as chain
from . import counters as counting
from . import outbox as outboxes
from .approvals import Approvals, QuorumRules
from .audit_archives import AuditArchives
from .audit_checks import AuditChecks
from .audit_feed import AuditFeed
from .audit_log import AuditLog
from .audit_months import AuditMonths
from .audit_reads import AuditReads
from .blobs import Blobs
from .body_rows import BodyRows
from .enclave_upgrades import EnclaveUpgrades
from .enclaves import Enclaves
from .events import SecurityEvents
from .grants import Grants
from .keks import Keks
from .key_versions import KeyVersions
from .keys import Keys
from .legal_holds import LegalHolds
from .operations import Operations
from .places import Places
from .policies import Policies
from .principals import Principals
from .receipts import Receipts
from .reports import Reports
from .running import running
from .seals import Watch
from .session import Line, Session
from .tables import RECORDS, tenants
from .tenants import Tenants
from .tokens import CertificatePins, Tokens
from .tokens import add_uses as add_token_uses

PLACE_WAIT: Final = 1.0  # seconds for a place among the running transactions, or for SQLite's turn to write
COUNT_WAIT: Final = 3.0  # seconds for a tenant's turn to reserve
EXCLUSIVE_WAIT: Final = 10.0  # seconds for a named lock
CLOSE_WAIT: Final = 3.0  # seconds for running transactions when the storage closes


class Work:
    """UnitOfWork: the repositories on one transaction."""

    def __init__(self, session: Session) -> None:
        self.tenants = Tenants(session)
        self.keks = Keks(session)
        self.keys = Keys(session)
        self.key_versions = KeyVersions(session)
        self.policies = Policies(session)
        self.places = Places(session)
        self.operations = Operations(session)
        self.receipts = Receipts(session)
        self.principals = Principals(session)
        self.grants = Grants(session)
        self.tokens = Tokens(session)
        self.certificate_pins = CertificatePins(session)
        self.approvals = Approvals(session)
        self.quorum_rules = QuorumRules(session)
        self.security_events = SecurityEvents(session)
        self.reports = Reports(session)
        self.outbox = outboxes.Outbox(session)
        self.audit = AuditLog(session)
        self.audit_checks = AuditChecks(session)
        self.audit_feed = AuditFeed(session)
        self.audit_months = AuditMonths(session)
        self.audit_archives = AuditArchives(session)
        self.legal_holds = LegalHolds(session)
        self.blobs = Blobs(session)
        self.enclaves = Enclaves(session)
        self.enclave_upgrades = EnclaveUpgrades(session)
        self.epochs = epochs.Epochs(session)
        self.audit_reads = AuditReads(session)
        self.bodies = BodyRows(session)


async def taken(lock: asyncio.Lock | asyncio.Semaphore, wait: float, held: AsyncExitStack, what: str) -> None:
    """Take a lock within *wait* seconds; *held* gives it back.

    Raises:
        StorageUnavailable: it was not free in time.
    """
    try:
        async with asyncio.timeout(wait):
            await lock.acquire()
    except TimeoutError as error:
        raise StorageUnavailable(f"{what} was not free in time") from error
    held.callback(lock.release)


class Database(Storage):
    """Storage on one engine; belongs to one event loop."""

    def __init__(self, line: Line, transactions: int) -> None:
        self._line = line
        self._transactions = transactions
        self._slots = asyncio.Semaphore(transactions)
        self._names: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._closed = False
        # Each transaction begins with one statement, chosen by the session; the drivers' own BEGIN is switched off.
        event.listen(line.engine.sync_engine, "begin", _begin)

    @abstractmethod
    def _statement(self, tenant: TenantUid | None, *, write: bool) -> str:
        """Return what begins a transaction."""

    @abstractmethod
    async def _turn(self, places: AsyncExitStack, *, write: bool) -> None:
        """Wait for what the engine allows only once at a time."""

    @abstractmethod
    def exclusive(self, name: str) -> AbstractAsyncContextManager[None]:
        """Hold a lock of that name on all nodes of the installation; a crash of the holder releases it."""

    @asynccontextmanager
    async def transaction(self, tenant: TenantUid | None = None, *, write: bool = False) -> AsyncIterator[Work]:
        """Begin a transaction; *tenant* is told to the database, None for work over tenants.

        Without *write* it is a snapshot to read from. With it, what is replaced is compared with the revision that
        it came from; on PostgreSQL two reads in it may see another's commit in between.
        """
        async with self._session(tenant, write=write) as session:
            yield Work(session)

    async def reserve(self, counter: Counter, amount: int, stop_at: int | None) -> int | None:
        """Add *amount* durably and return the sum; None, and nothing is added, where that would pass *stop_at*."""
        async with AsyncExitStack() as turn:
            # Those who wait for the tenant's root in the database occupy connections that others need.
            await taken(self._named(f"counters/{counter.tenant}"), COUNT_WAIT, turn, "the turn to count")
            async with self._session(counter.tenant, write=True) as session:
                return await counting.reserve(session, counter, amount, stop_at)

    async def reserved(self, counters: list[Counter]) -> list[int]:
        """Return what has been reserved of each so far, 0 for one never reserved; at most 5,000 of them."""
        async with self._session(_common(counters), write=False) as session:
            return await counting.reserved(session, counters)

    async def add_uses(self, uses: Mapping[Counter, Uses]) -> None:
        """Merge what this node has seen: the later of two times, the sum of refusals. At most 1,000 at once."""
        async with self._session(None, write=True) as session:
            await due_work.add_uses(session, uses)

    async def uses(self, counters: list[Counter]) -> list[Uses]:
        """Return what has been seen of each; at most 1,000 of them."""
        async with self._session(_common(counters), write=False) as session:
            return await due_work.uses_of(session, counters)

    async def add_token_uses(self, uses: Mapping[tuple[TenantUid, TokenUid], TokenUse]) -> None:
        """Merge what this node has seen: the sum of the counts, the later of two times. At most 1,000 at once."""
        async with self._session(None, write=True) as session:
            await add_token_uses(session, uses)

    async def claim_keys(self, node: UUID, now: datetime, until: datetime, limit: int) -> list[tuple[Tenant, Key]]:
        """Claim at most *limit* keys (1,000) that are due, the longest due first, or whose schedule lies beyond CLOCK_SLACK.

        Raises:
            CorruptRecord: nothing is due but damaged records; among others, they are left out.
        """
        async with self._session(None, write=True) as session:
            return await due_work.claim_keys(session, node, now, until, limit)

    async def claim_tenants(self, node: UUID, now: datetime, until: datetime, limit: int) -> list[Tenant]:
        """Claim at most *limit* tenants (1,000) whose KEK versions are due, the longest due first.

        Raises:
            CorruptRecord: as claim_keys().
        """
        async with self._session(None, write=True) as session:
            return await due_work.claim_tenants(session, node, now, until, limit)

    async def release(self, node: UUID, subjects: Sequence[KeyUid | TenantUid]) -> None:
        """Give claims back, at most 1,000; the subjects may be claimed again at once where they are still due."""
        async with self._session(None, write=True) as session:
            await due_work.release(session, node, subjects)

    @property
    @abstractmethod
    def shared(self) -> bool:
        """Whether other nodes may use this database."""

    async def join(self, node: Node) -> None:
        """Enter a node, before it serves; what is entered of it already is replaced."""
        async with self._session(None, write=True) as session:
            await epochs.join(session, node)

    async def epochs(self) -> tuple[int, Mapping[TenantUid, TenantEpoch]]:
        """Return the newest revocation's epoch, and the epoch of every tenant that has one, in one snapshot."""
        async with self._session(None, write=False) as session:
            return await epochs.all_epochs(session)

    async def acknowledge(self, node: UUID, epoch: int, now: datetime) -> bool:
        """Note that a node has been seen, and has acted on all revocations up to *epoch*; False for one struck out."""
        async with self._session(None, write=True) as session:
            return await epochs.acknowledge(session, node, epoch, now)

    async def nodes(self) -> list[Node]:
        """Return all nodes that have joined and not left."""
        async with self._session(None, write=False) as session:
            return await epochs.all_nodes(session)

    async def leave(self, node: UUID) -> None:
        """Strike out a node that no longer serves."""
        async with self._session(None, write=True) as session:
            await epochs.leave(session, node)

    async def leave_all(self) -> None:
        """Strike out all nodes and end their claims: where the database is not shared, whoever starts is alone."""
        async with self._session(None, write=True) as session:
            await epochs.leave_all(session)
            await outboxes.release_all(session)

    async def last_seen(self) -> datetime | None:
        """Return when any node was last seen, struck out or not; None for a new installation."""
        async with self._session(None, write=False) as session:
            return await epochs.last_seen(session)

    async def claim_sink(self, sink: str, node: UUID, now: datetime, until: datetime) -> int | None:
        """Let *node* alone deliver to a sink until a time; returns the sink's position, None while another node delivers."""
        async with self._session(None, write=True) as session:
            return await outboxes.claim(session, sink, node, now, until)

    async def outbox_items(self, after: int, topics: Collection[Topic], limit: int) -> list[OutboxItem]:
        """Return at most *limit* items (1,000) of all tenants and of these topics beyond a position, in order."""
        async with self._session(None, write=False) as session:
            return await outboxes.items_after(session, after, topics, limit)

    async def advance_sink(self, sink: str, node: UUID, position: int, until: datetime) -> bool:
        """Note that a sink has got all up to a position; False where another node has taken over."""
        async with self._session(None, write=True) as session:
            return await outboxes.advance(session, sink, node, position, until)

    async def release_sink(self, sink: str, node: UUID, now: datetime) -> None:
        """Let any node deliver to a sink."""
        async with self._session(None, write=True) as session:
            await outboxes.release(session, sink, node, now)

    async def prune_outbox(self, before: datetime, limit: int) -> int:
        """Remove at most *limit* items (1,000) of all tenants that are older; returns how many."""
        async with self._session(None, write=True) as session:
            return await outboxes.prune(session, before, limit)

    async def newest_checkpoint(self) -> SignedCheckpoint | None:
        """Return the one with the highest serial; nothing of it has been verified."""
        async with self._session(None, write=False) as session:
            return await chain.newest(session)

    async def checkpoints_after(self, serial: int, limit: int) -> list[SignedCheckpoint]:
        """Return at most *limit* (1,000) with higher serials, in order; nothing of them has been verified."""
        async with self._session(None, write=False) as session:
            return await chain.after(session, serial, limit)

    async def checkpoint_roots(self) -> list[TenantRoot]:
        """Return the roots that the newest one covers, ordered by tenant."""
        async with self._session(None, write=False) as session:
            return await chain.roots(session)

    async def stream_ends(self, known: Collection[StreamUid], since: datetime) -> list[StreamEnd]:
        """Return, in one snapshot, where these streams end, and those that have begun since a time."""
        async with self._session(None, write=False) as session:
            return await chain.stream_ends(session, known, since)

    async def add_checkpoint(self, made: SignedCheckpoint, before: int, roots: Sequence[TenantRoot]) -> None:
        """Store a checkpoint after the one with the serial *before*, 0 for the first, and the roots that it covers.

        Raises:
            Conflict: another one has been stored meanwhile.
        """
        async with self._session(None, write=True) as session:
            await chain.add(session, made, before, roots)

    async def ensure_audit_month(self, month: date) -> None:
        """Make sure that audit events of a month of UTC can be stored.

        Raises:
            CorruptRecord: the database makes none that is so far from its present time.
        """
        async with self._session(None, write=True) as session:
            await audit_partitions.ensure_month(session, month)

    @abstractmethod
    def changes(self) -> AbstractAsyncContextManager[ChangeSignal]:
        """Listen for changes of epochs; a signal is only a hint to look sooner."""

    async def adopt(self) -> int:
        """Seal the records of all tenants that have no root; returns how many tenants.

        Only for the first start on a database: whoever may write there could bring in what he likes before it.

        Raises:
            CorruptRecord: a record cannot be sealed.
        """
        adopted = 0
        while True:
            async with self._session(None, write=False) as session:
                found = await adoption.without_root(session)
            if not found:
                return adopted
            for tenant in found:
                await self._adopt(tenant)
                adopted += 1

    async def _adopt(self, tenant: TenantUid) -> None:
        async with self._session(tenant, write=True) as session:
            await adoption.clear(session, tenant)
        after: adoption.Cursor | None = adoption.START
        while after is not None:
            async with self._session(tenant, write=True) as session:
                after = await adoption.seal(session, tenant, RECORDS, after)
        async with self._session(tenant, write=True) as session:
            await adoption.finish(session, tenant)

    async def scrub_tenants(self, after: TenantUid | None, limit: int) -> list[TenantUid]:
        """Return at most *limit* tenants beyond *after*, ordered, that have a record of themselves or a root."""
        async with self._session(None, write=False) as session:
            return await scrubbing.tenants_after(session, after, limit)

    async def scrub(self, tenant: TenantUid, cursor: ScrubCursor) -> Page:
        """Look at some of a tenant's records, first each row and then each place in its tree; says what is wrong."""
        try:
            async with self._session(tenant, write=False) as session:
                return await scrubbing.page(session, tenant, RECORDS, cursor)
        except CorruptRecord as error:
            return scrubbing.broken(RECORDS, cursor, error)

    def watch_lies(self, watch: Watch) -> None:
        """Tell *watch* of every lie that ends a transaction, or is left out of a sweep; it must not wait."""
        self._line.seals.on_lie = watch

    async def roots(self) -> list[TenantRoot]:
        """Return the roots of all tenants in one snapshot, ordered by tenant.

        Raises:
            CorruptRecord: the MAC of one is wrong.
        """
        async with self._session(None, write=False) as session:
            return await integrity.all_roots(session)

    async def check(self) -> None:
        """Make one cheap round trip, for health."""
        async with self._session(None, write=False) as session:
            await session.rows(select(tenants.c.revision).limit(1))

    async def health(self) -> PartHealth:
        """Say whether the database answers, and how fast."""
        started = time.monotonic()
        try:
            await self.check()
        except StorageUnavailable as error:
            return PartHealth(HealthStatus.UNHEALTHY, str(error), time.monotonic() - started)
        return PartHealth(HealthStatus.HEALTHY, "", time.monotonic() - started)

    async def close(self) -> None:
        """Wait a moment for running transactions, then close every connection; may be called twice."""
        self._closed = True
        async with AsyncExitStack() as held:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_WAIT):
                    for _ in range(self._transactions):
                        await self._slots.acquire()
                        held.callback(self._slots.release)
            if self._line.tasks.running:
                await asyncio.wait(self._line.tasks.running, timeout=CLOSE_WAIT)
            await self._line.engine.dispose()

    @asynccontextmanager
    async def _session(self, tenant: TenantUid | None, *, write: bool) -> AsyncIterator[Session]:
        if tenant is not None:
            self._line.seals.refused.check(tenant)
        async with AsyncExitStack() as waiting:
            self._line.breaker.look()
            await self._turn(waiting, write=write)
            await taken(self._slots, PLACE_WAIT, waiting, "a place among the transactions")
            if self._closed:
                raise StorageUnavailable("the storage is closed")
            self._line.breaker.enter()
            begin = self._statement(tenant, write=write)
            session = Session(self._line, begin, waiting.pop_all(), tenant=tenant, write=write)
        async with running(session):
            yield session

    def _named(self, name: str) -> asyncio.Lock:
        """Return the lock of that name inside this process; it lives as long as somebody holds or awaits it."""
        return self._names.setdefault(name, asyncio.Lock())


def _common(counters: Sequence[Counter]) -> TenantUid | None:
    """Return the tenant of all these counters, None where they are of several."""
    owners = {counter.tenant for counter in counters}
    return owners.pop() if len(owners) == 1 else None


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options()["kms_begin"])
