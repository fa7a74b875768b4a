"""A key with all that decides about its time: its policy, and its versions that wait."""

from __future__ import annotations

from kms.core.errors import CorruptRecord
from kms.core.keyring import Key
from kms.core.policy import DEFAULT, Policy, effective
from kms.core.repositories import UnitOfWork
from kms.core.rotation import Lineage


async def policy_of(work: UnitOfWork, key: Key) -> tuple[Policy, int]:
    """Return what holds for a key, and the version of its named policy, 0 for the built-in one.

    Raises:
        CorruptRecord: the key names a policy that is not there.
    """
    if not key.policy:
        return effective(DEFAULT, key.overrides, key.purpose), 0
    named = await work.policies.get(key.tenant, key.policy)
    if named is None:
        raise CorruptRecord(f"key {key.slug} names a policy {key.policy} that is not there")
    return effective(named.policy, key.overrides, key.purpose), named.version


async def lineage_of(work: UnitOfWork, key: Key) -> Lineage:
    """Return the key with its policy and the versions of it that wait for a time."""
    policy, _ = await policy_of(work, key)
    return Lineage(key, policy, await work.key_versions.list_timed(key.tenant, key.uid))
