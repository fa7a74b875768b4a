"""What the hot path needs of a key, remembered for a bounded time: its record, and its versions ready to encrypt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import structlog

from kms.core.ciphertext import Header
from kms.core.errors import CannotDecrypt, CorruptRecord, NotFound, WrongPurpose
from kms.core.keyring import Key, Tenant
from kms.core.names import KeyName, Principal
from kms.core.policy import rotate_at, stop_at
from kms.core.ports import Counter, Storage
from kms.core.suites import Purpose
from kms.core.wrapping import DekPlace
from kms.crypto.aead import FieldCipher, cipher_for
from kms.crypto.cache import DekCache
from kms.services.counting import UsageCounter, UsageCounters
from kms.services.lineages import policy_of
from kms.services.wrapping import DekWrapping

_log = structlog.get_logger(__name__)

FIELD_PURPOSES: Final = frozenset({Purpose.ENCRYPT, Purpose.DETERMINISTIC})
DATA_KEY_PURPOSES: Final = frozenset({Purpose.DATA_KEY})


@dataclass(frozen=True, slots=True)
class Ring:
    """A key and its tenant as last read."""

    tenant: Tenant
    key: Key


@dataclass(frozen=True, slots=True)
class ReadyVersion:
    """One key version with its DEK loaded."""

    version: int
    header: bytes
    cipher: FieldCipher
    usage: UsageCounter


class Keyrings:
    """Finds keys for callers and loads their versions; a hit costs neither the database nor the token."""

    def __init__(
        self,
        storage: Storage,
        wrapping: DekWrapping,
        usage: UsageCounters,
        rings: DekCache[KeyName, Ring],
        versions: DekCache[DekPlace, ReadyVersion],
    ) -> None:
        self._storage = storage
        self._wrapping = wrapping
        self._usage = usage
        self._rings = rings
        self._versions = versions

    async def find(self, caller: Principal, name: KeyName, purposes: frozenset[Purpose], seen: int = 0) -> Ring:
        """Return the key, if it is the caller's and for one of these purposes.

        Where a version *seen* is newer than the record in memory, another node has rotated the key: it is read again.

        Raises:
            NotFound: no such key, or another tenant's: what is stored makes no difference to the second answer.
            WrongPurpose: the key is for something else.
        """
        if caller.tenant != name.tenant:
            raise NotFound(str(name))
        ring = self._rings.peek(name)
        if ring is not None and ring.key.primary_version < seen:
            self.forget(name)
            ring = None
        if ring is None:
            ring = await self._rings.get(name, lambda: self._read(name))
        if ring.key.purpose not in purposes:
            raise WrongPurpose(f"{name} is for {ring.key.purpose.name}, which this method does not serve")
        return ring

    async def primary(self, ring: Ring) -> ReadyVersion:
        """Return the version that encrypts.

        Raises:
            HsmUnavailable, StorageUnavailable, CorruptRecord: it could not be loaded.
        """
        version = await self._load(ring, ring.key.primary_version)
        if version is None:
            raise CorruptRecord(f"{ring.key.name(ring.tenant).version(ring.key.primary_version)} is not there")
        return version

    async def named(self, ring: Ring, header: Header) -> ReadyVersion:
        """Return the version that a ciphertext's header names.

        Raises:
            CannotDecrypt: the header names another key or suite, or a version that the key does not have.
            HsmUnavailable, StorageUnavailable, CorruptRecord: it could not be loaded.
        """
        if header.key != ring.key.uid or header.suite is not ring.key.suite:
            raise CannotDecrypt
        version = await self._load(ring, header.version)
        if version is None:
            raise CannotDecrypt
        return version

    def forget(self, name: KeyName) -> None:
        """Drop a key's record after a change, so that this node sees it at once."""
        self._rings.drop(name)

    async def _read(self, name: KeyName) -> Ring:
        async with self._storage.transaction() as work:
            tenant = await work.tenants.get(name.tenant)
        if tenant is None or not tenant.ready:
            raise NotFound(str(name))
        async with self._storage.transaction(tenant.uid) as work:
            key = await work.keys.get(tenant.uid, name.key)
        if key is None:
            raise NotFound(str(name))
        return Ring(tenant, key)

    async def _load(self, ring: Ring, version: int) -> ReadyVersion | None:
        # All that the wrap is bound to: a changed record finds no DEK that was unwrapped for another place.
        place = ring.key.place(version)
        ready = self._versions.peek(place)
        if ready is not None:
            return ready
        try:
            return await self._versions.get(place, lambda: self._unwrap(ring, version))
        except NotFound:
            return None

    async def _unwrap(self, ring: Ring, version: int) -> ReadyVersion:
        tenant, key = ring.tenant, ring.key
        async with self._storage.transaction(tenant.uid) as work:
            stored = await work.key_versions.get(tenant.uid, key.uid, version)
            policy, _ = await policy_of(work, key)
        if stored is None:
            raise NotFound(key.name(tenant).version(version))
        try:
            dek = await self._wrapping.unwrap(tenant, key, stored)
        except CorruptRecord as error:  # also told here, since a batch tells it of its items only
            _log.error("key_version.corrupt", name=key.name(tenant).version(version), reason=str(error))
            raise
        return ReadyVersion(
            version,
            Header(key.suite, key.uid, version).encode(),
            cipher_for(key.suite, dek),
            self._usage.of(
                Counter(tenant.uid, key.uid, version), stop_at(policy, key.suite), rotate_at(policy, key.suite)
            ),
        )
