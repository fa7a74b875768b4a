"""The repositories of keys and of what belongs to them, as Protocols."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from .census import Place, PlaceCount
from .keyring import Kek, Key, KeyVersion, Tenant
from .lifecycle import KeyState
from .names import KeyUid, TenantUid
from .policy import NamedPolicy
from .receipts import Receipt


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

    async def list_sealed(self, tenant: TenantUid, after: tuple[KeyUid, int] | None, limit: int) -> list[KeyVersion]:
        """Return at most *limit* versions, not destroyed, of keys of level ENCLAVE.

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
