"""Keys and their versions as callers see them: the record, and what belongs to it from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from kms.acting import UsedKey, note_key
from kms.core.census import PlaceCount, Uses, VersionCensus, census, next_step
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
    """A key version, how much it has been used, what it still protects, and what remains to be done with it."""

    version: KeyVersion
    primary: bool
    encryptions_reserved: int
    uses: Uses
    census: VersionCensus
    next_step: str


async def key_status(work: UnitOfWork, tenant: Tenant, key: Key) -> KeyStatus:
    """Return a key with what holds for it now."""
    policy, version = await policy_of(work, key)
    note_key(UsedKey.of(tenant, key, policy))
    return KeyStatus(tenant, key, policy, version)


async def version_statuses(
    storage: Storage, key: Key, versions: Sequence[KeyVersion], now: datetime
) -> list[VersionStatus]:
    """Return versions of a key with what has been counted and seen of them; at most 5,000."""
    counters = [Counter(key.tenant, key.uid, version.version) for version in versions]
    reserved = await storage.reserved(counters)
    uses: list[Uses] = []
    for start in range(0, len(counters), _MOST_USES):
        uses += await storage.uses(counters[start : start + _MOST_USES])
    async with storage.transaction(key.tenant) as work:
        places = await work.places.list_of_key(key.tenant, key.uid)
        counts = await work.places.counts(key.tenant, key.uid, [version.version for version in versions])
    of_version: dict[int, list[PlaceCount]] = {}
    for count in counts:
        of_version.setdefault(count.version, []).append(count)
    statuses = []
    for version, number, seen in zip(versions, reserved, uses, strict=True):
        found = census(now, key, version, number, places, of_version.get(version.version, ()), seen)
        primary = version.version == key.primary_version
        statuses.append(VersionStatus(version, primary, number, seen, found, next_step(now, key, version, found)))
    return statuses
