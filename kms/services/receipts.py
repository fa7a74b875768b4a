"""Signed receipts of what was destroyed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from uuid import uuid4

from kms.core.errors import NotFound
from kms.core.keyring import Tenant
from kms.core.names import KeyName, KeyUid, Principal, TenantName
from kms.core.ports import Signer, Storage
from kms.core.receipts import JsonValue, Receipt, ReceiptUid, body_of, moment, signed_bytes
from kms.services.visibility import visible_tenant


class Receipts:
    """Makes receipts with the token's signing key, and shows those that are stored."""

    def __init__(self, storage: Storage, signer: Signer, now: Callable[[], datetime]) -> None:
        self._storage = storage
        self._signer = signer
        self._now = now
        self._public_key = b""

    async def public_key(self) -> bytes:
        """Return the key that verifies receipts, as DER SubjectPublicKeyInfo; the first call of all makes it."""
        if not self._public_key:
            # A lock of its own: the receipt of a KEK is made by whoever holds that of the KEKs.
            async with self._storage.exclusive("signing key"):
                self._public_key = await self._signer.public_key()
        return self._public_key

    async def make(self, tenant: Tenant, subject: str, key: KeyUid | None, fields: Mapping[str, JsonValue]) -> Receipt:
        """Sign a receipt for what is about to be destroyed; the caller stores it in the transaction that does so."""
        now = self._now()
        public_key = await self.public_key()
        body = body_of(
            {
                **fields,
                "format": 1,
                "subject": subject,
                "tenant_uid": str(tenant.uid),
                "destroyed_at": moment(now),
                "signing_key_sha256": hashlib.sha256(public_key).hexdigest(),
            }
        )
        signature = await self._signer.sign(signed_bytes(body))
        return Receipt(ReceiptUid(uuid4()), tenant.uid, subject, key, body, signature, now)

    async def of_kek(self, tenant: Tenant, subject: str, fields: Mapping[str, JsonValue]) -> Receipt:
        """Sign a receipt for a KEK version."""
        return await self.make(tenant, subject, None, {**fields, "act": "KEK version destroyed"})

    async def list_below(
        self, caller: Principal, parent: TenantName | KeyName, after: str, limit: int
    ) -> list[Receipt]:
        """Return at most *limit* receipts of *parent* and what lay below it, with subjects greater than *after*.

        Raises:
            NotFound: no such tenant, or not the caller's.
        """
        owner = parent.parent if isinstance(parent, KeyName) else parent
        try:
            tenant = await visible_tenant(self._storage, caller, owner)
        except NotFound as error:
            raise NotFound(str(parent)) from error
        async with self._storage.transaction(tenant.uid) as work:
            return await work.receipts.list_of_subject(tenant.uid, str(parent), after, limit)
