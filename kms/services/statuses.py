"""Keys and their versions as callers see them: the record, and what belongs to it from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kms.core.census import Uses
from kms.core.keyring import Key, KeyVersion, Tenant
from kms.core.policy import Policy
from kms.core.ports import Counter, Storage
from kms.core.repositories import UnitOfWork
from kms.services.lineages import policy_of

# UseRecords.uses() takes no more at once.
_MOST_USES: Final = 1_000


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """A key and what holds for it; *policy_version* is that of its named policy, 0 for the built-in one."""

    tenant: Tenant
    key: Key
    policy: Policy
    policy_version: int


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """A key version, and how much it has been used."""

    version: KeyVersion
    primary: bool
    encryptions_reserved: int
    uses: Uses


async def key_status(work: UnitOfWork, tenant: Tenant, key: Key) -> KeyStatus:
    """Return a key with what holds for it now."""
    policy, version = await policy_of(work, key)
    return KeyStatus(tenant, key, policy, version)


async def version_statuses(storage: Storage, key: Key, versions: Sequence[KeyVersion]) -> list[VersionStatus]:
    """Return versions of a key with what has been counted and seen of them; at most 5,000."""
    counters = [Counter(key.tenant, key.uid, version.version) for version in versions]
    reserved = await storage.reserved(counters)
    uses: list[Uses] = []
    for start in range(0, len(counters), _MOST_USES):
        uses += await storage.uses(counters[start : start + _MOST_USES])
    return [
        VersionStatus(version, version.version == key.primary_version, count, seen)
        for version, count, seen in zip(versions, reserved, uses, strict=True)
    ]
