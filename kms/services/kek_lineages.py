"""The KEK versions of a tenant as they are now, with what hangs on each."""

from __future__ import annotations

from typing import Final

from kms.core.errors import CorruptRecord
from kms.core.keyring import Kek, KekState, Tenant
from kms.core.names import TenantUid
from kms.core.repositories import UnitOfWork
from kms.core.rotation import KekLineage

KEKS_AT_ONCE: Final = 100

IN_TOKEN: Final = frozenset({KekState.ACTIVE, KekState.DESTRUCTION_SCHEDULED, KekState.DESTROYING})
ACTIVE: Final = frozenset({KekState.ACTIVE})


async def kek_lineage_of(work: UnitOfWork, tenant_uid: TenantUid) -> KekLineage:
    """Return a tenant with the versions of its KEK that the token holds, and how many DEKs each wraps.

    Raises:
        CorruptRecord: there is no such tenant.
    """
    tenant = await work.tenants.by_uid(tenant_uid)
    if tenant is None:
        raise CorruptRecord(f"tenant {tenant_uid} is not there")
    return KekLineage(tenant, await keks_in(work, tenant, IN_TOKEN), await wrapped_in(work, tenant))


async def keks_in(work: UnitOfWork, tenant: Tenant, states: frozenset[KekState]) -> list[Kek]:
    """Return the tenant's KEK versions in one of these states, ordered by number."""
    found: list[Kek] = []
    after = 0
    while page := await work.keks.list_by_version(tenant.uid, after, KEKS_AT_ONCE):
        found += [kek for kek in page if kek.state in states]
        after = page[-1].version
    return found


async def wrapped_in(work: UnitOfWork, tenant: Tenant) -> dict[int, int]:
    """Return how many DEKs of key versions and of blobs each KEK version of the tenant wraps; without those that wrap none."""
    wrapped = dict(await work.key_versions.count_by_kek(tenant.uid))
    for version, blobs in (await work.blobs.count_by_kek(tenant.uid)).items():
        wrapped[version] = wrapped.get(version, 0) + blobs
    return wrapped
