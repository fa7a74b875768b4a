"""Making key versions: the one way in which a key gets a new primary version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from kms.core.errors import CorruptRecord
from kms.core.keyring import Key, KeyVersion, Tenant
from kms.core.lifecycle import KeyState
from kms.core.ports import Storage
from kms.core.rotation import Lineage, rotated
from kms.failpoints import reach
from kms.services.lineages import lineage_of
from kms.services.wrapping import DekWrapping, hold_kek


@dataclass(frozen=True, slots=True)
class Rotated:
    """The key after its rotation, the version that was replaced, and the epoch of its revocation (0 for none)."""

    key: Key
    replaced: KeyVersion
    epoch: int = 0


class Rotator:
    """Rotates keys, whoever asks: a caller, the scheduler, or a revocation."""

    def __init__(self, storage: Storage, wrapping: DekWrapping, now: Callable[[], datetime]) -> None:
        self._storage = storage
        self._wrapping = wrapping
        self._now = now

    async def rotate(
        self, tenant: Tenant, key: Key, by: str, *, slot: datetime | None = None, revoked_for: str = ""
    ) -> Rotated:
        """Make a new primary version of a key as last read; *slot* is the scheduled time that it is due for.

        With *revoked_for*, the reason, the version that it replaces is compromised.

        Raises:
            WrongKeyState: the key's state does not allow that.
            Conflict: the key has changed since, or the slot has its version already.
        """
        async with self._storage.transaction(tenant.uid) as work:
            lineage = await lineage_of(work, key)
            primary = await work.key_versions.get(tenant.uid, key.uid, key.primary_version)
        return await self.replace(tenant, lineage, primary, by, slot=slot, revoked_for=revoked_for)

    async def replace(
        self,
        tenant: Tenant,
        lineage: Lineage,
        primary: KeyVersion | None,
        by: str,
        *,
        slot: datetime | None = None,
        revoked_for: str = "",
    ) -> Rotated:
        """As rotate(), of a key that has been read together with its primary version.

        Raises:
            WrongKeyState, Conflict: as rotate().
            CorruptRecord: the primary version is not there.
        """
        now, key = self._now(), lineage.key
        if primary is None:
            raise CorruptRecord(f"{key.name(tenant).version(key.primary_version)} is not there")
        changed, replaced = rotated(lineage, primary, now, slot or now, revoked_for)
        version = await self.new_version(tenant, changed, by, now, slot=slot)
        reach("rotate_key.dek_wrapped")
        async with self._storage.transaction(tenant.uid, write=True) as work:
            # The key first: its revision decides which of two concurrent rotations wins.
            changed = await work.keys.replace(changed)
            replaced = await work.key_versions.replace(replaced)
            await work.key_versions.add(version)
            await hold_kek(work, tenant, version.kek_version)
            epoch = 0
            if revoked_for:
                epoch = await work.epochs.revoked(tenant.uid)
            else:
                await work.epochs.changed(tenant.uid)
            reach("rotate_key.before_commit")
        reach("rotate_key.committed")
        return Rotated(changed, replaced, epoch)

    async def new_version(
        self,
        tenant: Tenant,
        key: Key,
        by: str,
        now: datetime,
        *,
        state: KeyState = KeyState.ACTIVE,
        slot: datetime | None = None,
    ) -> KeyVersion:
        """Make the DEK of the key's primary version; nothing is stored."""
        dek = await self._wrapping.generate(tenant, key, key.primary_version)
        return KeyVersion(
            tenant=tenant.uid,
            key=key.uid,
            version=key.primary_version,
            wrapped=dek.wrapped,
            kek_version=dek.kek_version,
            created_at=now,
            created_by=by,
            state=state,
            state_at=now,
            due_at=slot,
            sealed_by=dek.sealed_by,
        )
