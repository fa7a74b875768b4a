"""Approvers are told through the outbox, and what is old leaves it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from kms.core.outbox import KEPT, Topic
from kms.services.outbox import OutboxNotifier, OutboxPruner, approval_item
from tests.keyrings import NOW, new_item, new_tenant


@pytest.fixture
async def tenant(storage):
    new = new_tenant()
    async with storage.transaction(new.uid, write=True) as work:
        return (await work.tenants.add(new)).uid


async def test_a_wanted_approval_is_told_to_sinks(storage, tenant, wall):
    woken = []
    notifier = OutboxNotifier(storage, wall, lambda: woken.append(True))
    await notifier.approval_requested(
        tenant, {"name": "tenants/acme/approvals/x", "requester": "tenants/acme/principals/a"}
    )
    [item] = await storage.outbox_items(0, (Topic.APPROVALS,), 10)
    assert json.loads(item.body) == {
        "step": "approval_requested",
        "name": "tenants/acme/approvals/x",
        "requester": "tenants/acme/principals/a",
    }
    assert (item.tenant, item.created_at, woken) == (tenant, NOW, [True])


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
