"""The scheduler of a node, over clocks that show what the test sets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from kms.core.clock import ClockWatch
from kms.core.keyring import Key, KeyVersion, Tenant
from kms.core.names import KeyName
from kms.core.policy import NEVER, NamedPolicy, Overrides, Policy
from kms.core.ports import Storage
from kms.core.rotation import planned
from kms.services.due_keys import Destruction, DueKeys
from kms.services.lineages import lineage_of
from kms.services.rotation import KekWork, Rotation
from tests.node import Node

START = datetime(2024, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
CLAIM_OVER = timedelta(seconds=61)
INTERVAL = 1000.0  # seconds: what a test waits for does not come by itself


class Wall:
    """The wall clock and the boot-time clock."""

    def __init__(self) -> None:
        self.now = START
        self.boot = 0.0

    def __call__(self) -> datetime:
        return self.now

    def wait(self, period: timedelta) -> None:
        """Let time pass."""
        self.now += period
        self.boot += period.total_seconds()

    def jump(self, period: timedelta) -> None:
        """Set the wall clock."""
        self.now += period


async def _no_kek(tenant: Tenant, seen: int) -> None:
    raise AssertionError(f"nobody asked for a KEK of {tenant.slug} after {seen}")


def rotation_of(
    node: Node,
    wall: Wall,
    destruction: Destruction | None = None,
    keks: KekWork | None = None,
    rotate_kek: Callable[[Tenant, int], Awaitable[object]] = _no_kek,
) -> Rotation:
    """The scheduler of a node, which has just started."""
    rotation = Rotation(
        node.storage,
        DueKeys(node.storage, node.rotator, destruction, node.keyrings.forget, wall),
        keks,
        rotate_kek,
        uuid4(),
        INTERVAL,
        ClockWatch.started(wall.now, wall.boot, None),
        wall,
        lambda: wall.boot,
    )
    node.usage.watch(rotation.request)
    return rotation


async def carry_out(rotation: Rotation, most: int = 50) -> int:
    """Do all that is due; returns the number of steps that did something, of which there may be at most *most*."""
    for steps in range(most):
        if not await rotation.step():
            return steps
    raise AssertionError(f"there was something to do in each of {most} steps")


async def stored(storage: Storage, name: KeyName) -> tuple[Tenant, Key, list[KeyVersion]]:
    """A key with all its versions."""
    async with storage.transaction() as work:
        tenant = await work.tenants.get(name.tenant)
    assert tenant is not None
    async with storage.transaction(tenant.uid) as work:
        key = await work.keys.get(tenant.uid, name.key)
        assert key is not None
        return tenant, key, await work.key_versions.list_by_version(tenant.uid, key.uid, 0, 1000)


async def change(storage: Storage, name: KeyName, *versions: KeyVersion, **changes: object) -> Key:
    """Change a key, and versions of it, and plan it."""
    tenant, key, _ = await stored(storage, name)
    async with storage.transaction(tenant.uid, write=True) as work:
        for version in versions:
            await work.key_versions.replace(version)
        key = replace(key, **changes)  # type: ignore[arg-type]
        return await work.keys.replace(planned(await lineage_of(work, key)) if "due_at" not in changes else key)


async def override(storage: Storage, name: KeyName, **overrides: object) -> Key:
    """Give a key a rule of its own."""
    return await change(storage, name, overrides=Overrides(**overrides))  # type: ignore[arg-type]


async def never(storage: Storage, name: KeyName) -> Key:
    """Put a key under a policy that does not rotate by time."""
    tenant, _, _ = await stored(storage, name)
    async with storage.transaction(tenant.uid, write=True) as work:
        if await work.policies.get(tenant.uid, "never") is None:
            policy = NamedPolicy(tenant.uid, "never", 1, Policy(rotation=NEVER), START, "operators/root")
            await work.policies.add(policy)
    return await change(storage, name, policy="never")
