"""Planning a tenant's keys anew after a change of their policy: the Runner of OperationKind.REPLAN."""

from __future__ import annotations

from typing import Final

from kms.core.errors import Conflict
from kms.core.names import PolicyName
from kms.core.operations import Operation
from kms.core.ports import Storage
from kms.core.rotation import Lineage, planned
from kms.services.lineages import policies_of
from kms.services.operations import Batch

# Keys in one transaction: some 50 ms of SQLite's one writer.
BATCH: Final = 100
_ATTEMPTS: Final = 5


def target_of(name: PolicyName, version: int) -> str:
    """Name one version of a policy: each has an operation of its own, since an earlier one may have passed a key already."""
    return f"{name}/versions/{version}"


class Replan:
    """Sets when the scheduler has to look next at each key that names the policy."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def batch(self, operation: Operation) -> Batch:
        """Plan the next keys after the cursor, a slug, by the newest version of the policy.

        Raises:
            Conflict: somebody else changed one of them, again and again.
        """
        for _ in range(_ATTEMPTS - 1):
            try:
                return await self._batch(operation)
            except Conflict:
                continue
        return await self._batch(operation)

    async def _batch(self, operation: Operation) -> Batch:
        tenant = operation.tenant
        slug = PolicyName.parse(operation.target.rpartition("/versions/")[0]).policy
        async with self._storage.transaction(tenant, write=True) as work:
            keys = await work.keys.list_by_slug(tenant, operation.cursor, BATCH)
            named = [key for key in keys if key.policy == slug]
            changed = False
            for key, (policy, _) in zip(named, await policies_of(work, named), strict=True):
                fresh = planned(Lineage(key, policy, await work.key_versions.list_timed(tenant, key.uid)))
                if fresh.due_at != key.due_at:
                    await work.keys.replace(fresh)
                    changed = True
            if changed:
                await work.epochs.changed(tenant)
        return Batch(keys[-1].slug if keys else operation.cursor, len(keys), len(keys) < BATCH)
