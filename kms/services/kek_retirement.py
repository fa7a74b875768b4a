"""The end of a KEK version: quarantine, and then its destruction in the token, each only where it wraps nothing.

A version's record is changed first and what it wraps is counted afterwards, in one transaction; whoever stores what it
wraps looks at the record in the same way (services.wrapping.hold_kek). So neither can miss the other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from kms.core.errors import CorruptRecord, FailedPrecondition
from kms.core.integrity import ScrubCursor
from kms.core.keyring import Kek, KekState, Tenant
from kms.core.ports import KekDestroyer, Storage
from kms.core.receipts import JsonValue, Receipt, moment
from kms.core.repositories import UnitOfWork
from kms.failpoints import reach
from kms.services.kek_lineages import wrapped_in
from kms.services.uninterrupted import Uninterrupted

_log = structlog.get_logger(__name__)

# Makes the signed receipt of what has been destroyed: of whom, the resource name, and on what grounds.
ReceiptMaker = Callable[[Tenant, str, Mapping[str, JsonValue]], Awaitable[Receipt]]


class KekRetirement:
    """Takes KEK versions out of service."""

    def __init__(
        self,
        storage: Storage,
        vault: KekDestroyer,
        quarantine: timedelta,
        now: Callable[[], datetime],
        receipt: ReceiptMaker | None = None,
    ) -> None:
        self._storage = storage
        self._vault = vault
        self._quarantine = quarantine
        self._now = now
        self._receipt = receipt
        self._acts = Uninterrupted()

    async def retire(self, tenant: Tenant, kek: Kek) -> Kek:
        """Begin the quarantine of an older version that wraps nothing.

        Raises:
            Conflict: it has changed since.
            FailedPrecondition: it wraps something.
        """
        destroy_at = self._now() + self._quarantine
        async with self._storage.transaction(tenant.uid, write=True) as work:
            retired = await work.keks.replace(replace(kek, state=KekState.DESTRUCTION_SCHEDULED, destroy_at=destroy_at))
            await _check_unused(work, tenant, kek)
        reach("retire_kek.committed")
        _log.info("kek.retired", tenant=tenant.slug, version=kek.version, destroy_at=moment(destroy_at))
        return retired

    async def restore(self, tenant: Tenant, kek: Kek) -> Kek:
        """End the quarantine of a version that wraps something after all.

        Raises:
            Conflict: it has changed since.
        """
        async with self._storage.transaction(tenant.uid, write=True) as work:
            restored = await work.keks.replace(replace(kek, state=KekState.ACTIVE, destroy_at=None))
        _log.warning("kek.restored", tenant=tenant.slug, version=kek.version)
        return restored

    async def destroy(self, tenant: Tenant, kek: Kek) -> None:
        """Destroy a version in the token after its quarantine, or carry the intent through that a crash has left.

        Raises:
            Conflict: it has changed since.
            FailedPrecondition: it wraps something.
            CorruptRecord: a record of the tenant is not what was written, or is missing.
            HsmUnavailable: the token does not answer; the intent stays.
        """
        await self._require_whole(tenant)
        # 1. The intent: from here on nothing may be wrapped or unwrapped by it, and there is no way back.
        if kek.state is not KekState.DESTROYING:
            async with self._storage.transaction(tenant.uid, write=True) as work:
                kek = await work.keks.replace(replace(kek, state=KekState.DESTROYING))
                await _check_unused(work, tenant, kek)
            reach("destroy_kek.intent_stored")
        await self._acts.run(self._destroy(tenant, kek.version))

    async def _require_whole(self, tenant: Tenant) -> None:
        """Look at all records of the tenant: one that somebody has taken away could be what the KEK still wraps."""
        cursor: ScrubCursor | None = ScrubCursor()
        while cursor is not None:
            page = await self._storage.scrub(tenant.uid, cursor)
            if page.lies:
                raise CorruptRecord(f"records of {tenant.name} are not what was written, so that no KEK is destroyed")
            cursor = page.after

    async def _destroy(self, tenant: Tenant, version: int) -> None:
        async with self._storage.exclusive("kek"):
            async with self._storage.transaction(tenant.uid) as work:
                kek = await work.keks.get(tenant.uid, version)
            if kek is None or kek.state not in {KekState.DESTROYING, KekState.DESTROYED}:
                raise CorruptRecord(f"{tenant.name.kek(version)} is not to be destroyed")
            if kek.state is KekState.DESTROYED:  # by another node, which held the lock before
                return
            # 2. The token; a key that is already gone is no error.
            await self._vault.destroy_kek(kek)
            reach("destroy_kek.in_token")
            # 3. The outcome, and its receipt with it.
            receipt = await self._receipt_of(tenant, kek)
            async with self._storage.transaction(tenant.uid, write=True) as work:
                await work.keks.replace(replace(kek, state=KekState.DESTROYED))
                if receipt is not None:
                    await work.receipts.add(receipt)
                reach("destroy_kek.before_commit")
            reach("destroy_kek.committed")
        _log.info("kek.destroyed", tenant=tenant.slug, version=version)

    async def _receipt_of(self, tenant: Tenant, kek: Kek) -> Receipt | None:
        if self._receipt is None:
            return None
        grounds: dict[str, JsonValue] = {
            "kek_uid": str(kek.uid),
            "hsm_key_id": kek.hsm_key_id,
            "created_at": moment(kek.created_at),
            "quarantine_ended_at": None if kek.destroy_at is None else moment(kek.destroy_at),
            "destroyed_at": moment(self._now()),
            "wrapped_key_versions": 0,
        }
        return await self._receipt(tenant, tenant.name.kek(kek.version), grounds)


async def _check_unused(work: UnitOfWork, tenant: Tenant, kek: Kek) -> None:
    wrapped = (await wrapped_in(work, tenant)).get(kek.version, 0)
    if wrapped:
        raise FailedPrecondition(f"{tenant.name.kek(kek.version)} wraps {wrapped} key versions or blobs")
