"""Many wrapped DEKs in a database, made by wrapping through the vault and storing rows, without a call for each."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

from kms.core.errors import Conflict
from kms.core.keyring import Key, KeyVersion, Tenant
from kms.core.lifecycle import KeyState
from kms.core.names import KeyUid
from kms.core.suites import RULES, ProtectionLevel, Purpose, Suite
from kms.core.wrapping import binding
from kms.parts import Parts
from storage.key_versions import row_of
from storage.records import store_all
from storage.tables import key_versions

VERSIONS: Final = 100  # of one key
AT_ONCE: Final = 64  # wraps that wait for the token

Fingerprints = Mapping[tuple[KeyUid, int], bytes]


@dataclass(frozen=True, slots=True)
class Sample:
    """One DEK as it is stored: its blob, what it is bound to there, and what it would be bound to elsewhere."""

    wrapped: bytes
    bound: bytes
    new_bound: bytes


async def make(parts: Parts, tenant: Tenant, count: int, prefix: str = "bench") -> dict[tuple[KeyUid, int], bytes]:
    """Store *count* DEKs under the tenant's primary KEK version; returns the SHA-256 of each."""
    fingerprints: dict[tuple[KeyUid, int], bytes] = {}
    for start in range(0, count, VERSIONS):
        versions = min(VERSIONS, count - start)
        fingerprints |= await _make_key(parts, tenant, f"{prefix}-{start // VERSIONS:06}", versions)
    return fingerprints


async def _make_key(parts: Parts, tenant: Tenant, slug: str, count: int) -> dict[tuple[KeyUid, int], bytes]:
    now = datetime.now(UTC)
    key = Key(
        uid=KeyUid(uuid4()),
        tenant=tenant.uid,
        slug=slug,
        display_name="",
        purpose=Purpose.ENCRYPT,
        suite=Suite.AES_256_GCM,
        level=ProtectionLevel.SOFTWARE,
        state=KeyState.ACTIVE,
        primary_version=count,
        created_at=now,
        rotated_at=now,
        scheduled_from=now,
        state_at=now,
        created_by="bench",
    )
    async with parts.storage.transaction(tenant.uid) as work:
        kek = await work.keks.get(tenant.uid, tenant.primary_kek)
    if kek is None or kek.mechanism is None:
        raise RuntimeError("the tenant has no KEK")
    length = RULES[key.suite].dek_length
    deks = {number: os.urandom(length) for number in range(1, count + 1)}
    places = asyncio.Semaphore(AT_ONCE)

    async def wrapped(number: int, dek: bytes) -> bytes:
        bound = binding(key.place(number), kek.uid, kek.version, kek.mechanism, length)
        async with places:
            return await parts.vault.wrap(kek, dek, bound)

    blobs = await asyncio.gather(*(wrapped(number, dek) for number, dek in deks.items()))
    async with parts.storage.transaction(tenant.uid, write=True) as work:
        await work.keys.add(key)
    rows = []
    for number, blob in enumerate(blobs, 1):
        state = KeyState.ACTIVE if number == count else KeyState.ARCHIVED
        version = KeyVersion(tenant.uid, key.uid, number, blob, kek.version, now, "bench", state, now)
        rows.append((row_of(version), 0))
    async with parts.storage._session(tenant.uid, write=True) as session:  # noqa: SLF001  one statement for many rows
        await store_all(session, key_versions, rows, otherwise=Conflict("a version is there already"))
    return {(key.uid, number): hashlib.sha256(dek).digest() for number, dek in deks.items()}


async def differing(parts: Parts, tenant: Tenant, fingerprints: Fingerprints) -> int:
    """Return how many of these DEKs are not what they were, whatever KEK version wraps them now."""
    places = asyncio.Semaphore(4)

    async def differs(identity: tuple[KeyUid, int], fingerprint: bytes) -> bool:
        async with places:
            async with parts.storage.transaction(tenant.uid) as work:
                key = await work.keys.by_uid(tenant.uid, identity[0])
                version = await work.key_versions.get(tenant.uid, *identity)
            if key is None or version is None:
                return True
            dek = await parts.wrapping.unwrap(tenant, key, version)
            return hashlib.sha256(dek.expose_secret_dek_material()).digest() != fingerprint

    return sum(await asyncio.gather(*(differs(*entry) for entry in fingerprints.items())))
