"""Where anchors are kept: in the token, and in several places at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final, Protocol
from uuid import UUID

import structlog

from kms.core.anchors import SLOTS, NodeAnchor, claimed_installation, newest_of, node_digest, open_value, value_of
from kms.core.audit_ports import Anchor, AnchorStore
from kms.core.errors import CorruptRecord
from kms.core.ports import AnchorObjects, RecordKeys

_log = structlog.get_logger(__name__)

ANCHOR_LABEL: Final = "anchor"  # of the key that anchors are MACed under
# Held by whoever calls put(): SoftHSM breaks objects that several processes make at once.
LOCK: Final = "token objects"


class AnchorToken(AnchorObjects, RecordKeys, Protocol):
    """A token that keeps anchors, and the key that they are MACed under."""


class AnchorKeys:
    """The key for anchors of each installation that is met, derived in the token once."""

    def __init__(self, keys: RecordKeys) -> None:
        self._keys = keys
        self._known: dict[UUID, bytes] = {}

    async def of(self, installation: UUID) -> bytes:
        """Return it, 32 bytes.

        Raises:
            HsmUnavailable: the token does not answer, or shows no record key.
        """
        if installation not in self._known:
            self._known[installation] = await self._keys.derive(ANCHOR_LABEL, installation)
        return self._known[installation]


class TokenAnchors:
    """AnchorStore in data objects of the token: two slots for each node, written in turn."""

    def __init__(self, token: AnchorToken, node: str) -> None:
        self._token = token
        self._keys = AnchorKeys(token)
        self._node = node
        self._digest = node_digest(node)
        self._slot: int | None = None  # which is written next: never the one that holds the newest

    async def newest(self) -> Anchor | None:
        """Return the newest of all nodes; None where the token holds none.

        Raises:
            HsmUnavailable: it cannot be read.
            CorruptRecord: a node has slots and none that is genuine, or they contradict each other.
        """
        found: dict[str, list[tuple[int, Anchor]]] = defaultdict(list)
        for label, value in await self._token.read_anchors():
            digest, _, slot = label.rpartition("-")
            entries = found[digest]
            if (anchor := await self._opened(digest, value)) is not None:
                entries.append((int(slot) if slot.isdecimal() else 0, anchor))
        for digest, entries in found.items():
            if not entries:
                raise CorruptRecord(f"no anchor of the node {digest} in the token is genuine")
        own = max(found.get(self._digest, []), key=lambda entry: entry[1].serial, default=None)
        self._slot = 0 if own is None else (own[0] + 1) % SLOTS
        return newest_of(anchor for entries in found.values() for _, anchor in entries)

    async def put(self, anchor: Anchor) -> None:
        """Remember a checkpoint in this node's slot that does not hold its newest. Hold LOCK.

        Raises:
            HsmUnavailable: it is not known to be remembered; the other slot is as it was.
        """
        if self._slot is None:
            await self.newest()
        slot = self._slot or 0
        value = value_of(NodeAnchor(anchor, self._node), await self._keys.of(anchor.installation))
        await self._token.write_anchor(f"{self._digest}-{slot}", value)
        self._slot = (slot + 1) % SLOTS

    async def _opened(self, digest: str, value: bytes) -> Anchor | None:
        try:
            entry = open_value(value, await self._keys.of(claimed_installation(value)))
        except ValueError as error:
            _log.warning("anchor.unreadable", node=digest, reason=str(error))
            return None
        if node_digest(entry.node) != digest:
            _log.warning("anchor.unreadable", node=digest, reason="it is another node's")
            return None
        return entry.anchor


class CombinedAnchors:
    """AnchorStore in several places: the newest of all counts, and each has to remember."""

    def __init__(self, stores: Sequence[AnchorStore]) -> None:
        """At least one; they are written in this order."""
        self._stores = tuple(stores)

    async def newest(self) -> Anchor | None:
        """Return the newest in any of them.

        Raises:
            HsmUnavailable, Unavailable: one cannot be read.
            CorruptRecord: one is damaged, or they contradict each other.
        """
        found = [await store.newest() for store in self._stores]
        return newest_of(anchor for anchor in found if anchor is not None)

    async def put(self, anchor: Anchor) -> None:
        """Remember a checkpoint everywhere.

        Raises:
            HsmUnavailable, Unavailable: one of them is not known to remember it.
        """
        for store in self._stores:
            await store.put(anchor)
