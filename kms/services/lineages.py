"""A key with all that decides about its time: its policy, and its versions that wait."""

from __future__ import annotations

from collections.abc import Sequence

from kms.core.errors import CorruptRecord
from kms.core.keyring import Key
from kms.core.names import TenantUid
from kms.core.policy import BUILT_IN, DEFAULT, Policy, effective
from kms.core.repositories import UnitOfWork
from kms.core.rotation import Lineage


async def find_policy(work: UnitOfWork, tenant: TenantUid, slug: str) -> tuple[Policy, int] | None:
    """Return the newest version of a tenant's policy and its number, 0 for a built-in one; no slug means the default.

    A stored policy comes first: a tenant may have had one of that name before classes did.
    """
    if not slug:
        return DEFAULT, 0
    found = await work.policies.get(tenant, slug)
    if found is not None:
        return found.policy, found.version
    return (BUILT_IN[slug], 0) if slug in BUILT_IN else None


async def policy_of(work: UnitOfWork, key: Key) -> tuple[Policy, int]:
    """Return what holds for a key, and the version of its named policy, 0 for the built-in one.

    Raises:
        CorruptRecord: the key names a policy that is not there.
    """
    return (await policies_of(work, [key]))[0]


async def policies_of(work: UnitOfWork, keys: Sequence[Key]) -> list[tuple[Policy, int]]:
    """Return the same for many keys of one tenant, in their order; every named policy is read once.

    Raises:
        CorruptRecord: a key names a policy that is not there.
    """
    named: dict[str, tuple[Policy, int]] = {}
    result = []
    for key in keys:
        if key.policy not in named:
            found = await find_policy(work, key.tenant, key.policy)
            if found is None:
                raise CorruptRecord(f"key {key.slug} names a policy {key.policy} that is not there")
            named[key.policy] = found
        policy, version = named[key.policy]
        result.append((effective(policy, key.overrides, key.purpose), version))
    return result


async def lineage_of(work: UnitOfWork, key: Key) -> Lineage:
    """Return the key with its policy and the versions of it that wait for a time."""
    policy, _ = await policy_of(work, key)
    return Lineage(key, policy, await work.key_versions.list_timed(key.tenant, key.uid))
