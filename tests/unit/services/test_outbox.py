"""Approvers are told through the outbox, and what is old leaves it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from kms.core.errors import Conflict
from kms.core.outbox import KEPT, Topic
from kms.services.outbox import OutboxNotifier, OutboxPruner, approval_item
from tests.contract.storage_approvals import new_request
from tests.keyrings import NOW, new_item
from tests.node import with_tenants


@pytest.fixture
async def acme(storage):
    [tenant] = await with_tenants(storage, "acme")
    return tenant


@pytest.fixture
def tenant(acme):
    return acme.uid


async def test_a_wanted_approval_is_told_to_sinks_once_it_is_stored(storage, acme, wall):
    woken = []
    notifier = OutboxNotifier(wall, lambda: woken.append(True))
    request = new_request(acme, reason="rotation")
    async with storage.transaction(acme.uid, write=True) as work:
        await notifier.approval_requested(work, acme, request)
    assert not woken
    notifier.committed()
    [item] = await storage.outbox_items(0, (Topic.APPROVALS,), 10)
    assert json.loads(item.body) == {
        "step": "approval_requested",
        "approval": f"tenants/acme/approvals/{request.uid}",
        "method": request.method,
        "resources": ["tenants/acme/keys/k1"],
        "requester": "tenants/acme/principals/a",
        "reason": "rotation",
        "digest": request.digest.hex(),
        "approvals_needed": 2,
        "expire_time": "2024-03-01T00:00:00.999999Z",
    }
    assert (item.tenant, item.created_at, woken) == (acme.uid, NOW, [True])


async def test_an_approval_that_is_not_stored_is_told_to_nobody(storage, acme, wall):
    notifier = OutboxNotifier(wall, lambda: None)
    request = new_request(acme)

    async def ask():
        async with storage.transaction(acme.uid, write=True) as work:
            await notifier.approval_requested(work, acme, request)
            await work.approvals.replace(replace(request, revision=1))  # which is not there

    with pytest.raises(Conflict):
        await ask()
    assert await storage.outbox_items(0, (Topic.APPROVALS,), 10) == []


async def test_an_item_may_be_part_of_the_transaction_that_it_tells_of(storage, tenant):
    async with storage.transaction(tenant, write=True) as work:
        await work.outbox.add_all([approval_item(tenant, "approved", {"name": "x"}, NOW)])
    [item] = await storage.outbox_items(0, tuple(Topic), 10)
    assert json.loads(item.body)["step"] == "approved"


async def test_what_is_older_than_it_is_kept_goes_however_much_that_is(storage, tenant, wall):
    old = [replace(new_item(tenant), created_at=NOW - KEPT - timedelta(seconds=1)) for _ in range(1_500)]
    async with storage.transaction(tenant, write=True) as work:
        await work.outbox.add_all(old[:750])
        await work.outbox.add_all(old[750:])
        await work.outbox.add_all([replace(new_item(tenant), created_at=NOW - KEPT)])
    assert await OutboxPruner(storage, wall).prune() == 1_500
    assert len(await storage.outbox_items(0, tuple(Topic), 10)) == 1
