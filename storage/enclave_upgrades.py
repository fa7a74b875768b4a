"""Upgrades of enclaves in the database, and how keys are sealed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, Table, func, select

from kms.core.canonical import Value
from kms.core.enclave_upgrades import MOST_UPGRADES, OPEN, EnclaveUpgrade, UpgradeState, UpgradeUid
from kms.core.errors import Conflict, KmsError
from kms.core.lifecycle import KeyState
from kms.core.names import TenantUid
from kms.core.seals import SealCount, SealedBy, Sealing, SealKind
from kms.core.suites import ProtectionLevel

from .blob_tables import blob_uploads, blobs
from .enclave_upgrade_tables import enclave_upgrades as e
from .integrity import page
from .records import find, find_one, read, store
from .session import Session
from .tables import encryption_keys as k
from .tables import key_versions as v

_OPEN: Final = tuple(state.value for state in OPEN)
_BLOBS: Final = ((SealKind.BLOB, blobs), (SealKind.UPLOAD, blob_uploads))


def _upgrade(row: Row[Any]) -> EnclaveUpgrade:
    return EnclaveUpgrade(
        uid=row.id,
        tenant=row.tenant_id,
        mrenclave=row.mrenclave,
        isv_svn=row.isv_svn,
        from_mrenclave=row.from_mrenclave,
        from_isv_svn=row.from_isv_svn,
        state=UpgradeState(row.status),
        state_at=row.status_at,
        created_at=row.created_at,
        created_by=row.created_by,
        operation=row.operation_id,
        forced_by=row.forced_by,
        revision=row.revision,
    )


class EnclaveUpgrades:
    """EnclaveUpgradeRepository on one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, tenant: TenantUid, uid: UpgradeUid) -> EnclaveUpgrade | None:
        """Return one upgrade."""
        return await find_one(
            self._session,
            e,
            select(e).where(e.c.tenant_id == tenant, e.c.id == uid),
            _upgrade,
            groups=[()],
            wanted=lambda there: [one for one in there if one == (uid,)],
        )

    async def find_open(self, tenant: TenantUid) -> EnclaveUpgrade | None:
        """Return the upgrade that has not ended, if there is one."""
        query = select(e).where(e.c.tenant_id == tenant, e.c.status.in_(_OPEN))
        return await find_one(self._session, e, query, _upgrade)

    async def list_all(self, tenant: TenantUid) -> list[EnclaveUpgrade]:
        """Return all upgrades of a tenant, at most MOST_UPGRADES, the newest first."""
        query = select(e).where(e.c.tenant_id == tenant).order_by(e.c.id).limit(MOST_UPGRADES)
        found = await find(self._session, e, query, _upgrade, groups=[()], wanted=page(None, MOST_UPGRADES))
        return sorted(found, key=lambda one: (one.created_at, one.uid), reverse=True)

    async def add(self, upgrade: EnclaveUpgrade) -> EnclaveUpgrade:
        """Store a new upgrade with revision 1 and return it so.

        Raises:
            Conflict: the tenant has one that has not ended.
        """
        return await self._store(upgrade, 0, Conflict("the tenant has an upgrade of the enclave that has not ended"))

    async def replace(self, upgrade: EnclaveUpgrade) -> EnclaveUpgrade:
        """Store a changed upgrade over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        otherwise = Conflict(f"the upgrade {upgrade.uid} was changed in between")
        return await self._store(upgrade, upgrade.revision, otherwise)

    async def count_seals(self, tenant: TenantUid) -> list[SealCount]:
        """Count the tenant's sealed keys by kind, policies and sealer."""
        found = read(await self._session.rows(_versions(tenant)), _version_count)
        for kind, table in _BLOBS:
            rows = await self._session.rows(_of_blobs(table, tenant))
            found += read(rows, lambda row, kind=kind: _blob_count(kind, row))  # type: ignore[misc]
        return found

    async def _store(self, upgrade: EnclaveUpgrade, came_from: int, otherwise: KmsError) -> EnclaveUpgrade:
        row: dict[str, Value] = {
            "tenant_id": upgrade.tenant,
            "id": upgrade.uid,
            "mrenclave": upgrade.mrenclave,
            "isv_svn": upgrade.isv_svn,
            "from_mrenclave": upgrade.from_mrenclave,
            "from_isv_svn": upgrade.from_isv_svn,
            "status": upgrade.state.value,
            "status_at": upgrade.state_at,
            "created_at": upgrade.created_at,
            "created_by": upgrade.created_by,
            "operation_id": upgrade.operation,
            "forced_by": upgrade.forced_by,
        }
        return replace(upgrade, revision=await store(self._session, e, row, came_from, otherwise=otherwise))


def _versions(tenant: TenantUid) -> Select[Any]:
    sealer = (v.c.seal_mrenclave, v.c.seal_mrsigner, v.c.seal_isv_svn, v.c.seal_simulated)
    sealed = select(k.c.id).where(k.c.tenant_id == tenant, k.c.protection_level == ProtectionLevel.ENCLAVE.value)
    query = select(*sealer, func.count().label("seals")).where(
        v.c.tenant_id == tenant, v.c.key_uid.in_(sealed), v.c.status != KeyState.DESTROYED.value
    )
    return query.group_by(*sealer).order_by(*sealer)


def _version_count(row: Row[Any]) -> SealCount:
    by = None
    if row.seal_mrenclave is not None:
        by = SealedBy(row.seal_mrenclave, row.seal_mrsigner, row.seal_isv_svn, bool(row.seal_simulated))
    return SealCount(SealKind.KEY_VERSION, Sealing.MRSIGNER, Sealing.MRSIGNER, by, row.seals)


def _of_blobs(table: Table, tenant: TenantUid) -> Select[Any]:
    names = ("sealing_policy", "present_policy", "mrenclave", "mrsigner", "isv_svn", "simulated")
    alike: list[ColumnElement[Any]] = [table.c[name] for name in names]
    query = select(*alike, func.count().label("seals")).where(table.c.tenant_id == tenant)
    return query.group_by(*alike).order_by(*alike)


def _blob_count(kind: SealKind, row: Row[Any]) -> SealCount:
    wanted = Sealing(row.sealing_policy)
    by = SealedBy(row.mrenclave, row.mrsigner, row.isv_svn, bool(row.simulated))
    return SealCount(kind, wanted, Sealing(row.present_policy) if row.present_policy else wanted, by, row.seals)
