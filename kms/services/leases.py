"""DEKs for applications that encrypt and decrypt in their own process, each for the time of a lease.

Step by step:
1. the key's record and the version's state allow the use, as for every use of a key (kms/services/keyrings.py);
2. the lease is what is left of this node's own, bounded by the revocation deadline;
3. the version is marked as exposed, durably, before its DEK leaves for the first time;
4. just before the answer leaves, 1 is looked at again.

Why no application uses a stopped key for longer than the deadline: docs/revocation-cycle.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from kms.core.ciphertext import Header
from kms.core.errors import CannotDecrypt, Conflict, FailedPrecondition, NotFound, StorageUnavailable
from kms.core.lease import lent_for
from kms.core.lifecycle import Use
from kms.core.names import KeyName, KeyUid, Principal, TenantUid
from kms.core.ports import Storage
from kms.core.suites import Purpose
from kms.services.keyrings import NO_WORD, Grant, Keyrings
from kms.services.ready_versions import Lendable, ReadyVersion
from kms.services.rings import Ring

_log = structlog.get_logger(__name__)

_PURPOSES: Final = frozenset({Purpose.ENCRYPT})
# Others change the same record: a rotation, a re-wrap, the first lease on another node.
_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True, repr=False)
class LeasedVersion:
    """A DEK in the clear, 32 bytes, and for how long, from before it was asked for, it may be used, and to what."""

    key: bytes
    version: int
    encrypts: bool
    key_uid: KeyUid
    tenant_uid: TenantUid
    lease: timedelta


class Leases:
    """Lends DEKs of leasable keys."""

    def __init__(
        self,
        storage: Storage,
        keyrings: Keyrings,
        deadline: timedelta,
        now: Callable[[], datetime],
        boottime: Callable[[], float],
    ) -> None:
        """*deadline* is that of revocations."""
        self._storage = storage
        self._keyrings = keyrings
        self._deadline = deadline
        self._now = now
        self._boottime = boottime

    async def lease(self, caller: Principal, name: KeyName, number: int) -> LeasedVersion:
        """Lend the DEK of one version, 0: the primary one; any other only decrypts.

        Raises:
            NotFound: no such key or version, or another tenant's.
            WrongKeyState: the key's state, or the version's, does not allow the use.
            FailedPrecondition: the key is not leasable.
            StorageUnavailable: this node's own lease is over, or the exposure could not be stored.
        """
        ring = await self._keyrings.find(caller, name, _PURPOSES, Use.DECRYPT, seen=number)
        if not ring.key.leasable:
            raise FailedPrecondition(f"{name} is not leasable: its DEKs do not leave the daemon")
        version, use = await self._chosen(ring, number)
        lease = lent_for(self._keyrings.lease, self._boottime(), self._deadline)
        if lease <= timedelta(0):
            raise StorageUnavailable(NO_WORD)
        if use is Use.ENCRYPT:
            await version.usage.take(1)  # nothing counts what is encrypted outside; but that something is, is known
            version.marks.used = True
        version.marks.decrypted = True
        await self._expose(ring, version.version, version.lendable)
        key = version.lendable.dek.expose_secret_dek_material()
        leased = LeasedVersion(key, version.version, use is Use.ENCRYPT, ring.key.uid, ring.tenant.uid, lease)
        await self._keyrings.confirm([Grant(ring, use, [version.version])])
        return leased

    async def _chosen(self, ring: Ring, number: int) -> tuple[ReadyVersion, Use]:
        """Return the version, and what it may be used for; what encrypts also decrypts."""
        encrypts = Use.ENCRYPT in ring.uses
        if encrypts and number == 0:
            return await self._keyrings.primary(ring), Use.ENCRYPT
        primary = ring.key.primary_version
        header = Header(ring.key.suite, ring.key.uid, number or primary)
        try:
            version = await self._keyrings.named(ring, header, Use.DECRYPT)
        except CannotDecrypt as error:
            raise NotFound(ring.key.name(ring.tenant).version(header.version)) from error
        encrypts = encrypts and version.version == primary and Use.ENCRYPT in version.uses
        return version, Use.ENCRYPT if encrypts else Use.DECRYPT

    async def _expose(self, ring: Ring, number: int, lendable: Lendable) -> None:
        """Mark a version as exposed; that is written once, by whichever node is first.

        Raises:
            Conflict: others kept changing the version.
        """
        name = ring.key.name(ring.tenant).version(number)
        for attempt in range(1, _ATTEMPTS + 1):
            if lendable.exposed:
                return
            try:
                written = await self._mark(ring, number)
            except Conflict:
                if attempt == _ATTEMPTS:
                    raise
            else:
                lendable.exposed = True
                if written:
                    _log.info("key_version.exposed", name=name)

    async def _mark(self, ring: Ring, number: int) -> bool:
        async with self._storage.transaction(ring.tenant.uid, write=True) as work:
            version = await work.key_versions.get(ring.tenant.uid, ring.key.uid, number)
            if version is None:
                raise NotFound(ring.key.name(ring.tenant).version(number))
            if version.exposed_at is not None:
                return False
            await work.key_versions.replace(replace(version, exposed_at=self._now()))
        return True
