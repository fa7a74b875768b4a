"""The repository of upgrades of enclaves, as a Protocol, and what counts seals."""

from __future__ import annotations

from typing import Protocol

from .enclave_upgrades import EnclaveUpgrade, UpgradeUid
from .names import TenantUid
from .seals import SealCount


class EnclaveUpgradeRepository(Protocol):
    """Upgrades of enclaves, and how a tenant's keys are sealed."""

    async def get(self, tenant: TenantUid, uid: UpgradeUid) -> EnclaveUpgrade | None:
        """Return one upgrade."""
        ...

    async def find_open(self, tenant: TenantUid) -> EnclaveUpgrade | None:
        """Return the upgrade that has not ended, if there is one."""
        ...

    async def list_all(self, tenant: TenantUid) -> list[EnclaveUpgrade]:
        """Return all upgrades of a tenant, at most MOST_UPGRADES, the newest first."""
        ...

    async def add(self, upgrade: EnclaveUpgrade) -> EnclaveUpgrade:
        """Store a new upgrade with revision 1 and return it so.

        Raises:
            Conflict: the tenant has one that has not ended.
        """
        ...

    async def replace(self, upgrade: EnclaveUpgrade) -> EnclaveUpgrade:
        """Store a changed upgrade over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        ...

    async def count_seals(self, tenant: TenantUid) -> list[SealCount]:
        """Count the tenant's sealed keys by kind, policies and sealer."""
        ...
