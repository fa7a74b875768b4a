"""Tenants whose records are known to lie, and are not served until somebody has looked."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .errors import RolledBack
from .names import TenantUid


class Refused:
    """One set for the whole daemon, shared by reference; belongs to one event loop."""

    def __init__(self) -> None:
        self._reasons: dict[TenantUid, str] = {}

    def refuse(self, tenant: TenantUid, reason: str) -> None:
        """Serve a tenant no more; the first reason stays."""
        self._reasons.setdefault(tenant, reason)

    def check(self, tenant: TenantUid) -> None:
        """Let a tenant pass that is not refused.

        Raises:
            RolledBack: it is.
        """
        if tenant in self._reasons:
            error = RolledBack(f"the records of this tenant are not what was anchored: {self._reasons[tenant]}")
            error.metadata = MappingProxyType({"tenant_uid": str(tenant)})
            raise error

    @property
    def reasons(self) -> Mapping[TenantUid, str]:
        """Which tenants are refused, and why."""
        return MappingProxyType(self._reasons)
