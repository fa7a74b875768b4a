"""What is told to others, but for security events: approvers of what waits for them; and the end of what is old."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final
from uuid import uuid4

import structlog

from kms.core.approvals import ApprovalRequest
from kms.core.errors import KmsError
from kms.core.keyring import Tenant
from kms.core.names import TenantUid
from kms.core.outbox import KEPT, OutboxItem, OutboxUid, Topic
from kms.core.ports import Outbox
from kms.core.receipts import JsonValue, body_of, moment
from kms.core.repositories import UnitOfWork

_log = structlog.get_logger(__name__)

PRUNE_EVERY: Final = 3600.0  # seconds
PRUNE_AT_ONCE: Final = 1_000


def approval_item(tenant: TenantUid, step: str, fields: Mapping[str, JsonValue], now: datetime) -> OutboxItem:
    """Return what tells of a step of an approval, such as `approval_requested`, for the transaction that makes it."""
    return OutboxItem(OutboxUid(uuid4()), tenant, Topic.APPROVALS, body_of({**fields, "step": step}), now)


class OutboxNotifier:
    """Tells approvers through the sinks."""

    def __init__(self, now: Callable[[], datetime], stored: Callable[[], None]) -> None:
        """*stored* is called when sinks have something new to tell."""
        self._now = now
        self._stored = stored

    async def approval_requested(self, work: UnitOfWork, tenant: Tenant, request: ApprovalRequest) -> None:
        """Store, with the request itself, that an approval is wanted: what is asked for, by whom, until when."""
        fields: dict[str, JsonValue] = {
            "approval": str(request.name(tenant.slug)),
            "method": request.method,
            "resources": list(request.resources),
            "requester": request.requester,
            "reason": request.reason,
            "digest": request.digest.hex(),
            "approvals_needed": request.needed,
            "expire_time": moment(request.expires_at),
        }
        await work.outbox.add_all([approval_item(tenant.uid, "approval_requested", fields, self._now())])

    def committed(self) -> None:
        """Let sinks look for what is new."""
        self._stored()


class OutboxPruner:
    """Removes what is older than KEPT, told or not."""

    def __init__(self, outbox: Outbox, now: Callable[[], datetime]) -> None:
        self._outbox = outbox
        self._now = now

    async def run(self) -> None:
        """Prune again and again, until cancelled."""
        while True:
            try:
                await self.prune()
            except KmsError as error:
                _log.warning("outbox.not_pruned", reason=str(error))
            await asyncio.sleep(PRUNE_EVERY)

    async def prune(self) -> int:
        """Remove all that is too old; returns how many items that were."""
        removed = 0
        while (some := await self._outbox.prune_outbox(self._now() - KEPT, PRUNE_AT_ONCE)) > 0:
            removed += some
        return removed
