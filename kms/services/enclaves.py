"""The enclaves of all nodes: what this node tells of its own, and what is known of the others'.

It is told apart from every call, so that an enclave is used as ever while the database is away; what is told late is
told by the next sign of life.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

import structlog

from kms.core.enclave_ports import EnclaveFacts, NodeEnclave
from kms.core.enclave_upgrades import spoken
from kms.core.enclaves import LONGEST_REASON, EnclaveRecord, EnclaveUid, LiveNode, as_of, living, others_than
from kms.core.errors import Conflict, KmsError
from kms.core.names import INSTALLATION_UID
from kms.core.ports import HealthStatus, PartHealth, Storage
from kms.core.seals import SealedBy
from kms.services.membership import HEARTBEAT

_log = structlog.get_logger(__name__)

HEALTH_DEADLINE: Final = 5.0  # seconds for an enclave to say how it is
KEPT: Final = timedelta(days=7)  # after the last word of a node that is gone
MOST_ENDED: Final = 1_000  # enclaves of nodes that are gone; the newest are kept
AT_ONCE: Final = 1_000
_LEFT: Final = PartHealth(HealthStatus.UNHEALTHY, "its daemon has stopped")


class EnclaveRegister:
    """Writes down how the enclave of this node is: where something changes, and else with each sign of life."""

    def __init__(
        self, storage: Storage, enclave: NodeEnclave, node: str, node_uid: UUID, now: Callable[[], datetime]
    ) -> None:
        """*node* is the stable name of this node, *node_uid* what Membership has entered it by."""
        self._storage = storage
        self._enclave = enclave
        self._node = node
        self._node_uid = node_uid
        self._now = now
        self._stored: EnclaveRecord | None = None
        self._facts: EnclaveFacts | None = None  # of the process that runs, or of the last one that did
        self._signal = asyncio.Event()
        self._failing = False
        enclave.watch(self._signal.set)

    async def run(self) -> None:
        """Tell until cancelled, and then that it runs no more."""
        try:
            while True:
                self._signal.clear()
                await self._try(await self._health())
                with suppress(TimeoutError):
                    async with asyncio.timeout(HEARTBEAT):
                        await self._signal.wait()
        finally:
            await self._try(_LEFT, left=True)

    async def tell(self, health: PartHealth, *, left: bool = False) -> None:
        """Write down how it is, where that is not written yet; *left*: and that its daemon has stopped.

        Raises:
            StorageUnavailable, Conflict: it is not written.
            CorruptRecord: what is stored of it is not what was written.
        """
        if self._stored is None:
            async with self._storage.transaction(INSTALLATION_UID) as work:
                self._stored = await work.enclaves.find(INSTALLATION_UID, self._node, self._enclave.platform_id)
            await self._remove_ended()
        record = self._record(health, left=left)
        if record is None or record == self._stored:
            return
        try:
            async with self._storage.transaction(INSTALLATION_UID, write=True) as work:
                changed = replace(record, changed_at=self._now())
                stored = await work.enclaves.put(INSTALLATION_UID, changed)
        except Conflict:
            self._stored = None  # read again before the next try
            raise
        self._stored = stored

    def _record(self, health: PartHealth, *, left: bool) -> EnclaveRecord | None:
        """Return how it is now; None as long as no process of it has said who it is."""
        status, before, now = self._enclave.overview(), self._stored, self._now()
        self._facts = status.greeted or self._facts
        if self._facts is None:
            return None
        same = before is not None and before.node_uid == self._node_uid
        known = same and before is not None and before.facts.mrenclave == self._facts.mrenclave
        return EnclaveRecord(
            uid=EnclaveUid(uuid4()) if before is None else before.uid,
            node=self._node,
            node_uid=self._node_uid,
            platform_id=self._enclave.platform_id,
            facts=self._facts,
            verdict=replace(status.verdict, reason=_shortened(status.verdict.reason)),
            state=status.state,
            restarts=status.restarts,
            active=status.greeted is not None and not left,
            health=health.status,
            health_reason=_shortened(health.reason),
            started_at=before.started_at if known and before is not None else now,
            changed_at=now if before is None else before.changed_at,
            revision=0 if before is None else before.revision,
        )

    async def _health(self) -> PartHealth:
        try:
            async with asyncio.timeout(HEALTH_DEADLINE):
                return await self._enclave.health()
        except TimeoutError:
            return PartHealth(HealthStatus.UNHEALTHY, f"did not answer within {HEALTH_DEADLINE:g} s")

    async def _try(self, health: PartHealth, *, left: bool = False) -> None:
        try:
            await self.tell(health, left=left)
        except KmsError as error:
            if not self._failing:
                _log.warning("enclave.not_told", reason=str(error))
            self._failing = True
        else:
            self._failing = False

    async def _remove_ended(self) -> None:
        alive = {node.uid for node in await self._storage.nodes()} | {self._node_uid}
        async with self._storage.transaction(INSTALLATION_UID, write=True) as work:
            await work.enclaves.remove_ended(INSTALLATION_UID, alive, self._now() - KEPT, MOST_ENDED, AT_ONCE)


class Enclaves:
    """The enclaves of the installation."""

    def __init__(self, storage: Storage, now: Callable[[], datetime]) -> None:
        self._storage = storage
        self._now = now

    async def list_after(self, after: EnclaveUid | None, limit: int, *, active: bool) -> list[EnclaveRecord]:
        """Return at most *limit* enclaves beyond one, by uid, as they are now; with *active* those that run."""
        now = self._now()
        alive = living(await self._storage.nodes(), now)
        async with self._storage.transaction(INSTALLATION_UID) as work:
            found = await work.enclaves.list_after(INSTALLATION_UID, after, limit, list(alive) if active else None)
        return [as_of(one, alive, now) for one in found]

    async def of_live_nodes(self) -> list[LiveNode]:
        """Return the nodes that are heard of now, each with its enclave.

        Raises:
            StorageUnavailable: it is not known.
            CorruptRecord: what is stored of one is not what was written.
        """
        now = self._now()
        alive = living(await self._storage.nodes(), now)
        async with self._storage.transaction(INSTALLATION_UID) as work:
            told = {one.node_uid: one for one in await work.enclaves.of_nodes(INSTALLATION_UID, list(alive))}
        return [
            LiveNode(node, as_of(told[uid], alive, now) if uid in told else None)
            for uid, node in sorted(alive.items(), key=lambda one: one[1].name)
        ]

    async def elsewhere(self, runs: SealedBy) -> Sequence[str]:
        """Tell which live nodes have another enclave than *runs*, and which one; a node that has told of none has none.

        Raises:
            StorageUnavailable, CorruptRecord: as of_live_nodes().
        """
        others = others_than(await self.of_live_nodes(), runs)
        return [f"{one.node} ({spoken(one.facts.mrenclave, one.facts.isv_svn)})" for one in others]


def _shortened(reason: str) -> str:
    return reason[:LONGEST_REASON].replace("\0", "\ufffd")
