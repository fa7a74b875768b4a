"""Creating, changing and rotating keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Protocol
from uuid import uuid4

from kms.core.classification import WITHOUT_ENCLAVE, Classification, choose, require_available
from kms.core.errors import (
    AlreadyExists,
    ClassViolation,
    Conflict,
    InvalidRequest,
    NotFound,
    NotSupported,
    Violation,
    invalid,
)
from kms.core.keyring import Key, Tenant
from kms.core.lifecycle import KeyState
from kms.core.names import KeyName, KeyUid, Principal, TenantName
from kms.core.operations import Operation, OperationKind
from kms.core.policy import Overrides, effective, level_violations, lowered, violations
from kms.core.ports import Storage
from kms.core.repositories import UnitOfWork
from kms.core.rotation import planned
from kms.core.suites import ProtectionLevel, Purpose, Suite
from kms.failpoints import reach
from kms.services.keyrings import Keyrings
from kms.services.lineages import find_policy, lineage_of, policies_of
from kms.services.rotating import Rotator
from kms.services.statuses import KeyStatus, VersionStatus, key_status, version_statuses
from kms.services.tenants import Tenants
from kms.services.wrapping import hold_kek

NO_OVERRIDES: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class NewKey:
    """What a caller chooses for a new key."""

    slug: str
    display_name: str
    purpose: Purpose
    suite: Suite | None  # None: the first of the purpose's that the class allows
    labels: Mapping[str, str]
    policy: str = ""
    overrides: Overrides = field(default_factory=Overrides)
    pending: bool = False
    leasable: bool = False
    level: ProtectionLevel | None = None  # None: SOFTWARE where the class allows it


class StartOperation(Protocol):
    """Begins long work, or finds it where it is running already: Operations.start."""

    async def __call__(self, tenant: Tenant, kind: OperationKind, target: str, by: str, total: int) -> Operation:
        """Return the running operation of that kind and target."""
        ...


class Keys:
    """The keys of all tenants."""

    def __init__(
        self,
        storage: Storage,
        tenants: Tenants,
        keyrings: Keyrings,
        rotator: Rotator,
        now: Callable[[], datetime],
        start: StartOperation | None = None,
        levels: frozenset[ProtectionLevel] = WITHOUT_ENCLAVE,
    ) -> None:
        """*levels* are those of keys that this node can make."""
        self._storage = storage
        self._tenants = tenants
        self._keyrings = keyrings
        self._rotator = rotator
        self._now = now
        self._start = start
        self._levels = levels

    async def create(self, caller: Principal, parent: TenantName, wish: NewKey) -> KeyStatus:
        """Create a key with version 1 as its primary.

        Raises:
            AlreadyExists: the slug is taken.
            InvalidRequest: there is no such policy, or the key would break a rule of its class.
            NotSupported: this node has no enclave, which the key's level or the policy's class needs.
            EnclaveUnavailable: it has one, which does not answer.
        """
        tenant = await self._tenants.get(caller, parent)
        now = self._now()
        async with self._storage.transaction(tenant.uid) as work:
            if await work.keys.get(tenant.uid, wish.slug) is not None:
                raise AlreadyExists(f"{KeyName(tenant.slug, wish.slug)} exists")
            suite, level = choose(await _class_of(work, tenant, wish.policy), wish.purpose, wish.suite, wish.level)
            key = _made(wish, tenant, suite, level, now, str(caller))
            await self._require_class(work, key)
        self._require_level(key)
        version = await self._rotator.new_version(tenant, key, str(caller), now, state=key.state)
        reach("create_key.dek_wrapped")
        async with self._storage.transaction(tenant.uid, write=True) as work:
            await self._require_class(work, key)  # again: the policy may have changed while the token worked
            key = await work.keys.add(planned(await lineage_of(work, key)))
            await work.key_versions.add(version)
            await hold_kek(work, tenant, version.kek_version)
            status = await key_status(work, tenant, key)
            reach("create_key.before_commit")
        reach("create_key.committed")
        return status

    async def owner(self, caller: Principal, name: KeyName) -> Tenant:
        """Return the tenant of a key's name, to its own principals; whether the key is there is not looked at.

        Raises:
            NotFound: another tenant's.
        """
        if caller.tenant != name.tenant:
            raise NotFound(str(name))
        try:
            return await self._tenants.get(caller, name.parent)
        except NotFound as error:
            raise NotFound(str(name)) from error

    async def get(self, caller: Principal, name: KeyName) -> KeyStatus:
        """Return a key as it is now.

        Raises:
            NotFound: no such key, or another tenant's.
        """
        tenant = await self.owner(caller, name)
        async with self._storage.transaction(tenant.uid) as work:
            return await key_status(work, tenant, await current_key(work, tenant, name))

    async def list_by_slug(self, caller: Principal, parent: TenantName, after: str, limit: int) -> list[KeyStatus]:
        """Return at most *limit* keys with slugs greater than *after*, ordered."""
        tenant = await self._tenants.get(caller, parent)
        async with self._storage.transaction(tenant.uid) as work:
            keys = await work.keys.list_by_slug(tenant.uid, after, limit)
            policies = await policies_of(work, keys)
        return [KeyStatus(tenant, key, *policy) for key, policy in zip(keys, policies, strict=True)]

    async def update(
        self,
        caller: Principal,
        name: KeyName,
        etag: str,
        changes: Mapping[str, Any],
        overrides: Mapping[str, Any] = NO_OVERRIDES,
    ) -> KeyStatus:
        """Change display_name, labels and policy, and *overrides*: None goes back to the policy.

        Raises:
            Conflict: the key has changed since *etag* (where given), or while this call ran.
            InvalidRequest: there is no such policy, or the key would break a rule of its class.
            ClassViolation: the policy would lower the class of the key, or what its policy demands beyond that.
            NotSupported: this node has no enclave, which the policy's class needs.
        """
        tenant = await self.owner(caller, name)
        async with self._storage.transaction(tenant.uid, write=True) as work:
            key = await current_key(work, tenant, name, etag)
            changed = replace(key, **changes, overrides=replace(key.overrides, **overrides))
            if (changed.policy, changed.overrides) != (key.policy, key.overrides):
                await self._require_class(work, changed, key)
            changed = await work.keys.replace(planned(await lineage_of(work, changed)))
            status = await key_status(work, tenant, changed)
            await work.epochs.changed(tenant.uid)
        self._keyrings.forget(name)
        return status

    async def rotate(self, caller: Principal, name: KeyName, etag: str) -> KeyStatus:
        """Make a new primary version; the older ones go on decrypting.

        Raises:
            WrongKeyState: the key does not encrypt.
            Conflict: the key has changed since *etag* (where given), or while this call ran.
        """
        tenant = await self.owner(caller, name)
        async with self._storage.transaction(tenant.uid) as work:
            key = await current_key(work, tenant, name, etag)
        rotated = await self._rotator.rotate(tenant, key, str(caller))
        self._keyrings.forget(name)
        async with self._storage.transaction(tenant.uid) as work:
            return await key_status(work, tenant, rotated.key)

    async def rotate_all(self, caller: Principal, parent: TenantName) -> tuple[Tenant, Operation]:
        """Begin to rotate every key of a tenant that encrypts, or find that this is going on.

        Raises:
            NotSupported: this node carries out no operations.
        """
        tenant = await self._tenants.get(caller, parent)
        if self._start is None:
            raise NotSupported("operations are not in this release")
        async with self._storage.transaction(tenant.uid) as work:
            total = await work.keys.count(tenant.uid)
        kind = OperationKind.ROTATE_KEYS
        return tenant, await self._start(tenant, kind, str(tenant.name), str(caller), total)

    async def list_versions(
        self, caller: Principal, name: KeyName, after: int, limit: int
    ) -> tuple[KeyStatus, list[VersionStatus]]:
        """Return at most *limit* versions greater than *after*, ordered."""
        tenant = await self.owner(caller, name)
        async with self._storage.transaction(tenant.uid) as work:
            status = await key_status(work, tenant, await current_key(work, tenant, name))
            versions = await work.key_versions.list_by_version(tenant.uid, status.key.uid, after, limit)
        return status, await version_statuses(self._storage, status.key, versions, self._now())

    def _require_level(self, key: Key) -> None:
        """Refuse a new key of a level that this node does not have, or for what its level does not do.

        Raises:
            NotSupported, InvalidRequest: so it is.
        """
        if key.level not in self._levels:
            raise NotSupported(f"protection level {key.level.name} needs an enclave, which this node does not have")
        if broken := level_violations(key.level, key.purpose, leasable=key.leasable):
            raise InvalidRequest(*(Violation(f"key.{violation.field}", violation.rule) for violation in broken))

    async def _require_class(self, work: UnitOfWork, key: Key, before: Key | None = None) -> None:
        """Refuse a key whose policy is not there, that breaks a rule of its class, or that loses protection that it had.

        Raises:
            InvalidRequest, ClassViolation, NotSupported: as Keys.update().
        """
        found = await find_policy(work, key.tenant, key.policy)
        if found is None:
            raise invalid("key.policy", "must name a policy that exists")
        policy, _ = found
        require_available(policy.classification, self._levels)
        if before is not None and before.policy != key.policy:
            old = await find_policy(work, before.tenant, before.policy)
            if old is not None and (lost := lowered(old[0], policy)):
                raise ClassViolation("; ".join(f"key.{violation.field}: {violation.rule}" for violation in lost))
        broken = violations(
            effective(policy, key.overrides, key.purpose), key.purpose, key.suite, key.level, leasable=key.leasable
        )
        if broken:
            raise InvalidRequest(*(Violation(f"key.{violation.field}", violation.rule) for violation in broken))


async def current_key(work: UnitOfWork, tenant: Tenant, name: KeyName, etag: str = "") -> Key:
    """Return a key as it is now.

    Raises:
        NotFound: no such key.
        Conflict: it has changed since *etag*, where that is given.
    """
    key = await work.keys.get(tenant.uid, name.key)
    if key is None:
        raise NotFound(str(name))
    if etag not in ("", key.etag):
        raise Conflict(f"{name} has changed since that etag")
    return key


async def _class_of(work: UnitOfWork, tenant: Tenant, policy: str) -> Classification:
    found = await find_policy(work, tenant.uid, policy)
    if found is None:
        raise invalid("key.policy", "must name a policy that exists")
    return found[0].classification


def _made(wish: NewKey, tenant: Tenant, suite: Suite, level: ProtectionLevel, now: datetime, by: str) -> Key:
    return Key(
        uid=KeyUid(uuid4()),
        tenant=tenant.uid,
        slug=wish.slug,
        display_name=wish.display_name,
        purpose=wish.purpose,
        suite=suite,
        level=level,
        state=KeyState.PENDING if wish.pending else KeyState.ACTIVE,
        primary_version=1,
        created_at=now,
        rotated_at=now,
        scheduled_from=now,
        state_at=now,
        created_by=by,
        policy=wish.policy,
        overrides=wish.overrides,
        labels=wish.labels,
        leasable=wish.leasable,
    )
