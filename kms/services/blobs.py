"""Blobs by their names: shown, changed, deleted; and what the other use cases of blobs need of them.

Deleting shreds: the record with the wrapped key goes first, in one transaction with a signed receipt, and from then on the
body is noise. The body goes next; what a crash leaves of it is swept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from kms.core.blobs import NEVER, Blob, BlobAccess, BlobUse
from kms.core.body_ports import BodyName
from kms.core.enclave_ports import SealedInput
from kms.core.errors import Conflict, FailedPrecondition, KmsError, NotFound
from kms.core.keyring import Tenant
from kms.core.names import BlobName, Principal, TenantName
from kms.core.ports import Storage
from kms.core.receipts import moment
from kms.core.repositories import UnitOfWork
from kms.failpoints import reach
from kms.services.blob_keys import BlobKeys
from kms.services.body_stores import BodyStores
from kms.services.gathering import Gathering
from kms.services.receipts import Receipts
from kms.services.visibility import ready_tenant, require_own, visible_tenant

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ShownBlob:
    """A blob as callers see it."""

    tenant: Tenant
    blob: Blob
    use: BlobUse = NEVER


@dataclass(frozen=True, slots=True)
class BlobChanges:
    """What may be changed of a blob, all of it as given."""

    description: str
    labels: Mapping[str, str]
    access: BlobAccess
    expires_at: datetime | None
    legal_hold: bool


class Blobs:
    """The records of blobs, and what each of them has in its store."""

    def __init__(
        self,
        storage: Storage,
        stores: BodyStores,
        keys: BlobKeys,
        receipts: Receipts,
        now: Callable[[], datetime],
    ) -> None:
        self._storage = storage
        self._receipts = receipts
        self.stores = stores
        self.keys = keys
        self.now = now
        self._tenants: Gathering[TenantName, None, Tenant] = Gathering(self._tenant)

    async def get(self, caller: Principal, name: BlobName) -> ShownBlob:
        """Return one blob.

        Raises:
            NotFound: no such blob, or not the caller's.
        """
        tenant = await self.tenant(caller, name)
        async with self._storage.transaction(tenant.uid) as work:
            blob = await found(work, tenant, name)
            uses = await work.blobs.uses(tenant.uid, [blob.uid])
        return ShownBlob(tenant, blob, uses.get(blob.uid, NEVER))

    async def list_after(self, caller: Principal, parent: TenantName, after: str, limit: int) -> list[ShownBlob]:
        """Return at most *limit* blobs with ids greater than *after*, ordered.

        Raises:
            NotFound: no such tenant, or not the caller's.
        """
        tenant = await visible_tenant(self._storage, caller, parent)
        async with self._storage.transaction(tenant.uid) as work:
            blobs = await work.blobs.list_after(tenant.uid, after, limit)
            uses = dict(await work.blobs.uses(tenant.uid, [blob.uid for blob in blobs[:1000]]))
        return [ShownBlob(tenant, blob, uses.get(blob.uid, NEVER)) for blob in blobs]

    async def update(self, caller: Principal, name: BlobName, changes: BlobChanges, etag: str) -> ShownBlob:
        """Change what may be changed; *etag*, where it is given, is that of the state to be changed.

        Raises:
            NotFound: no such blob, or not the caller's.
            Conflict: it is in another state.
        """
        tenant = await self.tenant(caller, name)
        async with self._storage.transaction(tenant.uid, write=True) as work:
            blob = await found(work, tenant, name, etag)
            changed = await work.blobs.replace(
                replace(
                    blob,
                    description=changes.description,
                    labels=changes.labels,
                    access=changes.access,
                    expires_at=changes.expires_at,
                    legal_hold=changes.legal_hold,
                )
            )
            uses = await work.blobs.uses(tenant.uid, [blob.uid])
        return ShownBlob(tenant, changed, uses.get(blob.uid, NEVER))

    async def delete(self, caller: Principal, name: BlobName, etag: str) -> None:
        """Destroy a blob's key, with a receipt, and then its body.

        Raises:
            NotFound: no such blob, or not the caller's.
            FailedPrecondition: it is under a legal hold.
            Conflict: it is in another state, or was changed meanwhile.
            HsmUnavailable: the token does not sign the receipt; nothing has been done.
        """
        tenant = await self.tenant(caller, name)
        async with self._storage.transaction(tenant.uid) as work:
            blob = await found(work, tenant, name, etag)
        await self.shred(tenant, blob, f"deleted by {caller}")

    async def shred(self, tenant: Tenant, blob: Blob, reason: str) -> None:
        """Destroy the key of a blob in this state, with a receipt, and then its body.

        Raises:
            As delete().
        """
        if blob.legal_hold:
            raise FailedPrecondition(f"{blob.name(tenant.name)} is under a legal hold")
        subject = f"{blob.name(tenant.name)}/{blob.uid}"
        receipt = await self._receipts.make(
            tenant,
            subject,
            None,
            {
                "act": "key of a sealed blob destroyed",
                "reason": reason,
                "generation": blob.generation,
                "blob_created_at": moment(blob.created_at),
                "content_sha256": blob.sha256.hex(),
                "kek_version": blob.key.kek_version,
            },
        )
        async with self._storage.transaction(tenant.uid, write=True) as work:
            await work.blobs.remove(blob)
            await work.receipts.add(receipt)
            reach("delete_blob.before_commit")
        reach("delete_blob.committed")
        _log.info("blob.deleted", blob=str(blob.name(tenant.name)), uid=str(blob.uid), reason=reason)
        await self.drop(blob.store, bodies_of(blob))

    async def drop(self, store: str, bodies: Iterable[BodyName]) -> None:
        """Remove bodies that no record names any more; what cannot be removed now is swept later."""
        for body in bodies:
            try:
                await self.stores.of(store).delete(body)
            except KmsError as error:
                _log.warning("blob.body_left", store=store, body=str(body), reason=str(error))
                return

    async def open_key(self, tenant: Tenant, blob: Blob) -> SealedInput:
        """Return a blob's key as the enclave takes it; BlobKeys.open() has the errors."""
        return await self.keys.open(tenant, blob.uid, blob.generation, blob.key)

    async def tenant(self, caller: Principal, name: BlobName) -> Tenant:
        """Return the tenant of a blob that is the caller's.

        Raises:
            NotFound: it is not, or is not there.
        """
        try:
            require_own(caller, name.parent)
            return await self._tenants.ask(name.parent, None)
        except NotFound as error:
            raise NotFound(str(name)) from error

    async def _tenant(self, name: TenantName, asked: Sequence[None]) -> Sequence[Tenant]:
        return [await ready_tenant(self._storage, name)] * len(asked)


async def found(work: UnitOfWork, tenant: Tenant, name: BlobName, etag: str = "") -> Blob:
    """Return a blob in the state that *etag* names, where it names one.

    Raises:
        NotFound: there is none.
        Conflict: it is in another state.
    """
    blob = await work.blobs.get(tenant.uid, name.blob)
    if blob is None:
        raise NotFound(str(name))
    if etag and etag != blob.etag:
        raise Conflict(f"{name} was changed in between")
    return blob


def bodies_of(blob: Blob) -> Sequence[BodyName]:
    """Return where a blob's segments are kept."""
    return [BodyName(blob.tenant, blob.uid, blob.generation, segment.number) for segment in blob.manifest]
