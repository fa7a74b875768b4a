"""What reports say of the last verification of the trail, and of the last pass over a tenant's records."""

from __future__ import annotations

from collections.abc import Callable

from kms.core.names import TenantUid
from kms.core.report_ports import RecordCheck, TrailCheck


class KnownEvidence:
    """Evidence as this node has it; after a restart nothing is known until the next verification."""

    def __init__(
        self, trail: Callable[[], TrailCheck | None], records: Callable[[TenantUid], RecordCheck | None]
    ) -> None:
        self._trail = trail
        self._records = records

    async def trail_check(self, tenant: TenantUid) -> TrailCheck | None:
        """Return the last verification, which is of the events of all tenants."""
        del tenant
        return self._trail()

    async def record_check(self, tenant: TenantUid) -> RecordCheck | None:
        """Return the last whole pass over the tenant's records."""
        return self._records(tenant)
