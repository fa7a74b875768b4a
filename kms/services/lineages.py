"""A key with all that decides about its time: its policy, and its versions that wait."""

from __future__ import annotations

from collections.abc import Sequence

from kms.core.errors import CorruptRecord
from kms.core.keyring import Key
from kms.core.policy import DEFAULT, NamedPolicy, Policy, effective
from kms.core.repositories import UnitOfWork
from kms.core.rotation import Lineage


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
    named: dict[str, NamedPolicy] = {}
    result = []
    for key in keys:
        if not key.policy:
            result.append((effective(DEFAULT, key.overrides, key.purpose), 0))
            continue
        if key.policy not in named:
            found = await work.policies.get(key.tenant, key.policy)
            if found is None:
                raise CorruptRecord(f"key {key.slug} names a policy {key.policy} that is not there")
            named[key.policy] = found
        chosen = named[key.policy]
        result.append((effective(chosen.policy, key.overrides, key.purpose), chosen.version))
    return result


async def lineage_of(work: UnitOfWork, key: Key) -> Lineage:
    """Return the key with its policy and the versions of it that wait for a time."""
    policy, _ = await policy_of(work, key)
    return Lineage(key, policy, await work.key_versions.list_timed(key.tenant, key.uid))
