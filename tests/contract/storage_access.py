"""What every Storage promises of principals and grants."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.core.access import GrantUid
from kms.core.errors import AlreadyExists, Conflict
from kms.core.names import INSTALLATION_UID, TenantUid
from tests import keyrings
from tests.contract.storage import EVERY_FIELD
from tests.keyrings import new_grant, new_principal, new_tenant


async def with_principal(storage, slug=None):
    tenant = new_tenant()
    principal = new_principal(tenant, slug)
    async with storage.transaction(tenant.uid, write=True) as work:
        await work.tenants.add(tenant)
        return tenant, await work.principals.add(principal)


class AccessContract:
    """Subclasses give `storage`."""

    @EVERY_FIELD
    @given(data=st.data())
    async def test_principals_and_grants_are_read_again_exactly(self, storage, data):
        tenant = new_tenant()
        principal = data.draw(keyrings.principals(tenant))
        grant = data.draw(keyrings.grants(principal))
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.tenants.add(tenant)
            stored = [await work.principals.add(principal), await work.grants.add(grant)]
        async with storage.transaction(tenant.uid) as work:
            found = [
                await work.principals.get(tenant.uid, principal.slug),
                await work.grants.get(tenant.uid, grant.uid),
            ]
        assert found == stored
        assert [replace(value, revision=0) for value in found] == [principal, grant]

    async def test_a_principal_is_replaced_over_the_revision_that_it_came_from(self, storage):
        tenant, principal = await with_principal(storage)
        changed = replace(principal, blocked=True, blocked_reason="lost")
        async with storage.transaction(tenant.uid, write=True) as work:
            changed = await work.principals.replace(changed)
        assert changed.revision == 2
        async with storage.transaction(tenant.uid, write=True) as work:
            with pytest.raises(Conflict):
                await work.principals.replace(principal)
            with pytest.raises(AlreadyExists):
                await work.principals.add(replace(principal, revision=0))
            assert await work.principals.get(tenant.uid, principal.slug) == changed

    async def test_grants_are_listed_by_uid_of_one_principal_and_tenant(self, storage):
        tenant, first = await with_principal(storage, "bob")
        _, foreign = await with_principal(storage, "bob")
        second = new_principal(tenant)
        async with storage.transaction(first.tenant, write=True) as work:
            await work.principals.add(second)
            own = sorted([await work.grants.add(new_grant(first)) for _ in range(3)], key=lambda grant: grant.uid)
            await work.grants.add(new_grant(second))
        async with storage.transaction(foreign.tenant, write=True) as work:
            other = await work.grants.add(new_grant(foreign))
        async with storage.transaction(tenant.uid) as work:
            assert await work.grants.list_of_principal(tenant.uid, "bob", None, 10) == own
            assert await work.grants.list_of_principal(tenant.uid, "bob", own[0].uid, 1) == own[1:2]
            assert await work.grants.get(tenant.uid, other.uid) is None

    async def test_principals_are_listed_by_slug_of_one_tenant(self, storage):
        tenant, _ = await with_principal(storage, "b-0")
        await with_principal(storage, "b-1")
        async with storage.transaction(tenant.uid, write=True) as work:
            for slug in ("b1", "b-2", "a9"):
                await work.principals.add(new_principal(tenant, slug))
        async with storage.transaction(tenant.uid) as work:
            assert [p.slug for p in await work.principals.list_by_slug(tenant.uid, "", 10)] == [
                "a9",
                "b-0",
                "b-2",
                "b1",
            ]
            assert [p.slug for p in await work.principals.list_by_slug(tenant.uid, "a9", 2)] == ["b-0", "b-2"]

    async def test_a_grant_is_removed_once(self, storage):
        tenant, principal = await with_principal(storage)
        async with storage.transaction(tenant.uid, write=True) as work:
            grant = await work.grants.add(new_grant(principal))
            with pytest.raises(Conflict):
                await work.grants.add(replace(grant, revision=0))
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.grants.remove(grant)
        async with storage.transaction(tenant.uid) as work:
            assert await work.grants.get(tenant.uid, grant.uid) is None
        with pytest.raises(Conflict):
            async with storage.transaction(tenant.uid, write=True) as work:
                await work.grants.remove(grant)

    async def test_one_tenants_transaction_writes_no_principal_or_grant_of_another(self, storage):
        tenant, principal = await with_principal(storage)
        async with storage.transaction(tenant.uid, write=True) as work:
            grant = await work.grants.add(new_grant(principal))
        async with storage.transaction(TenantUid(uuid4()), write=True) as work:
            for act in (work.principals.replace(principal), work.grants.remove(grant)):
                with pytest.raises(RuntimeError, match="another's record"):
                    await act

    async def test_operators_belong_to_the_installation_which_is_no_tenant_that_anybody_sees(self, storage):
        operator = replace(new_principal(new_tenant(), "root"), tenant=INSTALLATION_UID)
        async with storage.transaction(INSTALLATION_UID, write=True) as work:
            await work.principals.add(operator)
        async with storage.transaction() as work:
            assert await work.tenants.list_ready("", 100) == []
            installation = await work.tenants.by_uid(INSTALLATION_UID)
            assert installation is not None
            assert not installation.ready
        async with storage.transaction(INSTALLATION_UID) as work:
            assert await work.principals.get(INSTALLATION_UID, "root") == replace(operator, revision=1)
            assert await work.grants.get(INSTALLATION_UID, GrantUid(uuid4())) is None
