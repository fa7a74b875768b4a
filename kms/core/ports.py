"""What the services need from the outside, as Protocols; adapters translate their library's errors at their own edge."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from .keyring import Kek, Key, KeyVersion, Tenant
from .names import KekUid, KeyUid, TenantUid
from .wrapping import WrapMechanism


@dataclass(frozen=True, slots=True)
class CreatedKek:
    """What the vault tells of a KEK version that it has made, or found already made."""

    mechanism: WrapMechanism
    canary: bytes  # a known value encrypted under it; shows after every reopen that the key is still the same
    hsm_key_id: str  # PKCS#11 URI (RFC 7512), no secrets, at most 256 characters


class KekVault(Protocol):
    """Holds KEKs that never leave it. Every call has a deadline of its own.

    Raises (all methods):
        HsmUnavailable: the vault does not answer, has lost its token, or a KEK's canary is wrong.
    """

    async def create_kek(self, uid: KekUid, version: int) -> CreatedKek:
        """Make the KEK version, or find the one already made: calling twice makes one. Hold Storage.exclusive."""
        ...

    async def wrap(self, kek: Kek, dek: bytes, bound: bytes) -> bytes:
        """Wrap a DEK of 32 or 64 bytes under an active KEK, bound to *bound*; returns a WrappedDek blob."""
        ...

    async def unwrap(self, kek: Kek, wrapped: bytes, bound: bytes) -> bytes:
        """Undo wrap().

        Raises:
            CorruptRecord: it was wrapped elsewhere, under another KEK or with another binding, or altered.
        """
        ...

    async def random(self, length: int) -> bytes:
        """Return 1 to 1,024 random bytes from the token (SP 800-90A, as far as the token has it)."""
        ...


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


class KekRepository(Protocol):
    """KEK versions; a tenant has one lineage."""

    async def get(self, tenant: TenantUid, version: int) -> Kek | None:
        """Return one version, pending ones included."""
        ...

    async def list_by_version(self, tenant: TenantUid, after: int, limit: int) -> list[Kek]:
        """Return at most *limit* versions greater than *after*, ordered, pending ones included."""
        ...

    async def pending(self) -> list[tuple[Tenant, Kek]]:
        """Return every intent without an outcome, of all tenants: for the pass at start-up."""
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

    async def add(self, key: Key) -> Key:
        """Store a new key with revision 1 and return it so.

        Raises:
            AlreadyExists: the tenant has a key of that slug.
        """
        ...

    async def replace(self, key: Key) -> Key:
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

    async def count_by_kek(self, tenant: TenantUid) -> dict[int, int]:
        """Return how many key versions each KEK version of the tenant wraps; those that wrap none are left out."""
        ...

    async def add(self, version: KeyVersion) -> KeyVersion:
        """Store a new version with revision 1 and return it so.

        Raises:
            Conflict: that version exists.
        """
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


@dataclass(frozen=True, slots=True)
class Counter:
    """What is counted: encryptions under a key version, or wraps under a KEK version."""

    tenant: TenantUid
    subject: KeyUid | KekUid
    version: int


class Counters(Protocol):
    """Durable counters, reserved in blocks, each in a transaction of its own."""

    async def reserve(self, counter: Counter, amount: int, stop_at: int | None) -> bool:
        """Add *amount* durably; False, and nothing is added, where that would pass *stop_at*."""
        ...

    async def reserved(self, counters: list[Counter]) -> list[int]:
        """Return what has been reserved of each so far, 0 for one never reserved."""
        ...


class Storage(Counters, Protocol):
    """The database. Every operation has a bound that holds even when the database is frozen.

    Raises (all methods):
        StorageUnavailable: it does not answer in time, is full, read-only or gone; a write's outcome is then unknown.
    """

    def transaction(
        self, tenant: TenantUid | None = None, *, write: bool = False
    ) -> AbstractAsyncContextManager[UnitOfWork]:
        """Begin a transaction; *tenant* is told to the database, None for work over tenants.

        Without *write* it is a snapshot to read from.
        """
        ...

    def exclusive(self, name: str) -> AbstractAsyncContextManager[None]:
        """Hold a lock of that name on all nodes of the installation; a crash of the holder releases it."""
        ...

    async def check(self) -> None:
        """Make one cheap round trip, for health."""
        ...


class HealthStatus(StrEnum):
    """Health of one part."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PartHealth:
    """The health of one part, why, and in how many seconds it answered."""

    status: HealthStatus
    reason: str = ""
    response_time: float = 0.0
