"""The part of EnclaveService that is about upgrades and seals: parse, call, format."""

from __future__ import annotations

from uuid import UUID

from kms.core.enclave_upgrades import EnclaveUpgrade, UpgradeUid
from kms.core.errors import invalid
from kms.core.keyring import Tenant
from kms.core.names import EnclaveUpgradeName, Principal, TenantName
from kms.core.seals import SealCount, SealedBy
from kms.rpc.messages import timestamp
from kms.rpc.paging import Page, cut, parse_page
from kms.services.enclave_upgrades import EnclaveUpgrades
from kms.v1 import enclaves_pb2 as pb


class UpgradeCalls:
    """Serves the calls of kms.v1.EnclaveService that are about a tenant."""

    def __init__(self, upgrades: EnclaveUpgrades) -> None:
        self._upgrades = upgrades

    async def CreateEnclaveUpgrade(
        self, request: pb.CreateEnclaveUpgradeRequest, caller: Principal
    ) -> pb.EnclaveUpgrade:
        """Begin an upgrade."""
        parent = TenantName.parse(request.parent, "parent")
        return upgrade_message(*await self._upgrades.create(caller, parent, request.mrenclave, request.isv_svn))

    async def GetEnclaveUpgrade(self, request: pb.GetEnclaveUpgradeRequest, caller: Principal) -> pb.EnclaveUpgrade:
        """Return an upgrade."""
        return upgrade_message(*await self._upgrades.get(caller, EnclaveUpgradeName.parse(request.name)))

    async def ListEnclaveUpgrades(
        self, request: pb.ListEnclaveUpgradesRequest, caller: Principal
    ) -> pb.ListEnclaveUpgradesResponse:
        """List upgrades."""
        parent, page = TenantName.parse(request.parent, "parent"), parse_page(request)
        tenant, found = await self._upgrades.list_newest(caller, parent, _after(page), page.size + 1)
        upgrades, token = cut(found, page, lambda upgrade: str(upgrade.uid))
        return pb.ListEnclaveUpgradesResponse(
            enclave_upgrades=[upgrade_message(tenant, upgrade) for upgrade in upgrades], next_page_token=token
        )

    async def FinishEnclaveUpgrade(
        self, request: pb.FinishEnclaveUpgradeRequest, caller: Principal
    ) -> pb.EnclaveUpgrade:
        """Finish an upgrade."""
        name = EnclaveUpgradeName.parse(request.name)
        return upgrade_message(*await self._upgrades.finish(caller, name, force=request.force))

    async def CancelEnclaveUpgrade(
        self, request: pb.CancelEnclaveUpgradeRequest, caller: Principal
    ) -> pb.EnclaveUpgrade:
        """Cancel an upgrade."""
        return upgrade_message(*await self._upgrades.cancel(caller, EnclaveUpgradeName.parse(request.name)))

    async def GetSealCensus(self, request: pb.GetSealCensusRequest, caller: Principal) -> pb.SealCensus:
        """Count a tenant's seals."""
        _, census = await self._upgrades.census(caller, TenantName.parse(request.parent, "parent"))
        return pb.SealCensus(rows=[_row(one, census.running) for one in census.counts])


def upgrade_message(tenant: Tenant, upgrade: EnclaveUpgrade) -> pb.EnclaveUpgrade:
    """Format an upgrade."""
    return pb.EnclaveUpgrade(
        name=str(upgrade.name(tenant.slug)),
        mrenclave=upgrade.mrenclave,
        isv_svn=upgrade.isv_svn,
        from_mrenclave=upgrade.from_mrenclave,
        from_isv_svn=upgrade.from_isv_svn,
        state=upgrade.state.value,
        state_time=timestamp(upgrade.state_at),
        create_time=timestamp(upgrade.created_at),
        creator=upgrade.created_by,
        operation="" if upgrade.operation is None else f"{tenant.name}/operations/{upgrade.operation}",
        forced_by=upgrade.forced_by,
    )


def _row(one: SealCount, running: SealedBy | None) -> pb.SealCount:
    row = pb.SealCount(
        kind=one.kind.value,
        wanted_policy=one.wanted.value,
        policy=one.policy.value,
        count=one.count,
        recorded=one.by is not None,
    )
    if (by := one.by) is not None:
        row.mrenclave, row.mrsigner, row.isv_svn, row.simulated = by.mrenclave, by.mrsigner, by.isv_svn, by.simulated
        row.this_enclave = running is not None and by.mrenclave == running.mrenclave
    return row


def _after(page: Page) -> UpgradeUid | None:
    if not page.after:
        return None
    try:
        return UpgradeUid(UUID(page.after))
    except ValueError as error:
        raise invalid("page_token", "must be the next_page_token of the same list") from error
