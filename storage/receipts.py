"""Receipts of destruction in the database."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Row, or_, select

from kms.core.canonical import Value
from kms.core.errors import Conflict
from kms.core.names import TenantUid
from kms.core.receipts import Receipt

from .records import find, store
from .session import Session
from .tables import receipts as r


def _receipt(row: Row[Any]) -> Receipt:
    return Receipt(
        uid=row.id,
        tenant=row.tenant_id,
        subject=row.subject,
        key=row.key_uid,
        body=row.body,
        signature=row.signature,
        created_at=row.created_at,
        revision=row.revision,
    )


class Receipts:
    """ReceiptRepository on one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def list_of_subject(self, tenant: TenantUid, prefix: str, after: str, limit: int) -> list[Receipt]:
        """Return at most *limit* receipts whose subject is *prefix* or lies below it, with subjects greater than *after*."""
        # Everything below `a` begins with `a/` and sorts before `a0`, the character after the slash.
        below = (r.c.subject > f"{prefix}/") & (r.c.subject < f"{prefix}0")
        query = select(r).where(r.c.tenant_id == tenant, or_(r.c.subject == prefix, below), r.c.subject > after)
        return await find(self._session, r, query.order_by(r.c.subject).limit(limit), _receipt)

    async def add(self, receipt: Receipt) -> Receipt:
        """Store a receipt with revision 1 and return it so.

        Raises:
            Conflict: the subject has one.
        """
        row: dict[str, Value] = {
            "tenant_id": receipt.tenant,
            "id": receipt.uid,
            "subject": receipt.subject,
            "key_uid": receipt.key,
            "body": receipt.body,
            "signature": receipt.signature,
            "created_at": receipt.created_at,
        }
        otherwise = Conflict(f"{receipt.subject} has a receipt already")
        return replace(receipt, revision=await store(self._session, r, row, 0, otherwise=otherwise))
