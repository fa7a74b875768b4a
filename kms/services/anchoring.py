"""The look at the start: is the database what was anchored outside of it?

The steps of a start, which docs/audit.md numbers the same:

1. find(): the newest anchor says which installation this is; where there is none at all, and nothing in the database says
   otherwise, the record key is made and serial 0 is anchored;
2. the daemon derives its keys for that installation;
3. compare(): the database must hold the anchored checkpoint and nothing forged after it; at serial 0 the records are sealed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol
from uuid import UUID

import structlog

from kms.core.anchors import REFUSED, Standing, Verify, first_anchor, standing
from kms.core.audit_ports import Anchor, AnchorStore, Roots, TenantRoot
from kms.core.checkpoint_ports import CheckpointRecords
from kms.core.checkpoints import SignedCheckpoint, roots_digest
from kms.core.errors import HsmUnavailable, RolledBack
from kms.core.names import INSTALLATION_UID, TenantUid
from kms.core.ports import RecordKeys
from kms.core.refused import Refused
from kms.services.anchor_stores import LOCK

_log = structlog.get_logger(__name__)

PAGE: Final = 1_000  # checkpoints that are read at once
MOST_AHEAD: Final = 100_000  # checkpoints after the anchor that are verified at a start
TOLD: Final = 20  # tenants that an error names

_WHY: Final = MappingProxyType(
    {
        Standing.BEHIND: "the database is behind what was anchored: an older state of it has been restored",
        Standing.FOREIGN: "the database is another installation's",
        Standing.FORKED: "the database holds another history than the one that was anchored",
        Standing.FORGED: "the database holds a checkpoint that the token has not signed",
    }
)


class AnchoringStorage(CheckpointRecords, Protocol):
    """The database, as far as the look at the start needs it."""

    def exclusive(self, name: str) -> AbstractAsyncContextManager[None]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the database stands to the newest anchor, and what is wrong with single tenants."""

    anchor: Anchor
    standing: Standing
    found: SignedCheckpoint | None
    tenants: dict[TenantUid, str]  # which lie, and how
    roots_forged: bool = False  # the stored roots are not those that the newest checkpoint has signed

    @property
    def why(self) -> str:
        """Why nothing may be served; empty where it may."""
        if self.standing in REFUSED:
            return _WHY[self.standing]
        if self.roots_forged:
            return "the stored roots of tenants are not those that the newest checkpoint covers"
        if INSTALLATION_UID in self.tenants:
            return f"the records of the installation are not what was anchored: {self.tenants[INSTALLATION_UID]}"
        return ""


class Anchoring:
    """Compares the database with its anchors, once, before anything is served."""

    def __init__(
        self,
        storage: AnchoringStorage,
        keys: RecordKeys,
        anchors: AnchorStore,
        verify: Verify,
        new_installation: Callable[[], UUID],
    ) -> None:
        """*verify* belongs to the token's signing key; *new_installation* makes 16 random bytes."""
        self._storage = storage
        self._keys = keys
        self._anchors = anchors
        self._verify = verify
        self._new_installation = new_installation

    async def find(self) -> UUID:
        """Return the installation; at the very first start, make it.

        Raises:
            RolledBack: the database has checkpoints and there is no anchor.
            CorruptRecord: the anchors contradict each other.
            HsmUnavailable, StorageUnavailable, Unavailable: what is needed does not answer; also where there are anchors
                and the token shows no record key.
        """
        async with self._storage.exclusive(LOCK):
            anchor = await self._anchors.newest()
            there = await self._keys.record_key_exists()
            if anchor is not None:
                if not there:
                    raise HsmUnavailable("there are anchors, and the token does not show the record key that made them")
                return anchor.installation
            found = await self._storage.newest_checkpoint()
            if found is not None:
                error = RolledBack(
                    f"the database has checkpoints up to {found.serial} of installation {found.checkpoint.installation}, "
                    "and there is no anchor: the token is another one, or has lost what was in it"
                )
                error.metadata = MappingProxyType({"what": "anchor missing", "found_serial": str(found.serial)})
                raise error
            if not there:
                await self._keys.make_record_key()
            installation = self._new_installation()
            await self._anchors.put(first_anchor(installation))
            _log.warning("anchor.first_start", installation=str(installation))
            return installation

    async def look(self, roots: Roots | None) -> Comparison:
        """Compare without changing anything; without *roots* tenants are not looked at.

        Raises:
            RolledBack: there is no anchor.
            HsmUnavailable, StorageUnavailable, Unavailable, CorruptRecord: as find().
        """
        anchor = await self._anchors.newest()
        if anchor is None:
            raise RolledBack("there is no anchor")
        found = await self._storage.newest_checkpoint()
        between: list[SignedCheckpoint] = []
        if found is not None and found.serial > anchor.serial:
            between = [each async for each in self._between(max(anchor.serial - 1, 0))]
        result = standing(anchor, found, between, self._verify)
        if found is None or result in REFUSED:
            return Comparison(anchor, result, found, {})
        covered = await self._storage.checkpoint_roots()
        forged = roots_digest(covered) != found.checkpoint.roots
        present = [] if roots is None or forged else await roots.roots()
        tenants = {} if roots is None or forged else lies(covered, present)
        return Comparison(anchor, result, found, tenants, forged)

    async def compare(self, roots: Roots, refused: Refused, adopt: Callable[[], Awaitable[object]]) -> Comparison:
        """Compare, and do what follows.

        At the first start *adopt* seals all records, what a crash has left unanchored is anchored, and tenants that lie
        are refused.

        Raises:
            RolledBack: nothing may be served; a quorum has to look (docs/operations.md).
            HsmUnavailable, StorageUnavailable, Unavailable, CorruptRecord: as find().
        """
        async with self._storage.exclusive(LOCK):
            seen = await self.look(roots)
            if seen.why:
                raise rolled_back(seen)
            if seen.standing is Standing.AHEAD and seen.found is not None:
                await self._anchors.put(Anchor(seen.anchor.installation, seen.found.serial, seen.found.hash))
                _log.warning("anchor.behind", anchored=seen.anchor.serial, found=seen.found.serial)
        if seen.standing is Standing.ADOPTING:
            _log.warning("anchor.adopting", installation=str(seen.anchor.installation))
            async with self._storage.exclusive("adoption"):  # another node may have begun at the same time
                await adopt()
        for tenant, reason in seen.tenants.items():
            refused.refuse(tenant, reason)
            _log.critical("anchor.tenant_refused", tenant_uid=str(tenant), reason=reason)
        return seen

    async def _between(self, after: int) -> AsyncIterator[SignedCheckpoint]:
        count = 0
        while page := await self._storage.checkpoints_after(after, PAGE):
            for each in page:
                yield each
            after = page[-1].serial
            count += len(page)
            if count > MOST_AHEAD:
                raise RolledBack(f"the database is more than {MOST_AHEAD} checkpoints ahead of its anchor")


def lies(covered: list[TenantRoot], present: list[TenantRoot]) -> dict[TenantUid, str]:
    """Return the tenants whose records are older than the newest checkpoint covers, or others, and how."""
    now = {root.tenant: root for root in present}
    wrong: dict[TenantUid, str] = {}
    for root in covered:
        found = now.get(root.tenant)
        if found is None:
            wrong[root.tenant] = f"its records are gone, epoch {root.epoch} was anchored"
        elif found.epoch < root.epoch:
            wrong[root.tenant] = f"its records are of epoch {found.epoch}, {root.epoch} was anchored"
        elif found.epoch == root.epoch and found.root != root.root:
            wrong[root.tenant] = f"its records of epoch {root.epoch} are not those that were anchored"
    return wrong


def rolled_back(seen: Comparison) -> RolledBack:
    """Make the error that ends a start."""
    serial = 0 if seen.found is None else seen.found.serial
    error = RolledBack(
        f"{seen.why}; anchored is checkpoint {seen.anchor.serial}, the newest in the database is {serial}. "
        "Nothing is served: see `kmsd integrity explain`"
    )
    error.metadata = MappingProxyType(
        {
            "what": seen.standing.value if seen.standing in REFUSED else "roots",
            "anchored_serial": str(seen.anchor.serial),
            "found_serial": str(serial),
            "tenants": ",".join(str(tenant) for tenant in list(seen.tenants)[:TOLD]),
        }
    )
    return error
