"""Re-wrapping: all DEKs of a tenant come under its primary KEK version, in batches that may be repeated.

A pass goes through the older KEK versions, oldest first, and through what each wraps in the order of keys. What others
change at the same moment is left to the next pass, what does not unwrap stays where it is. The last pass is the one after
which nothing is left but that.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self
from uuid import UUID

import structlog

from kms.core.blobs import Blob
from kms.core.errors import CorruptRecord
from kms.core.keyring import Kek, Key, KeyVersion, Tenant
from kms.core.names import KeyUid
from kms.core.operations import Operation
from kms.core.ports import KekRewrapper, RewrapItem, Storage
from kms.failpoints import reach
from kms.services.blob_rewrap import BLOBS_AT_ONCE, rewrap_blobs
from kms.services.kek_lineages import ACTIVE, keks_in, wrapped_in
from kms.services.operations import Batch
from kms.services.wrapping import DekWrapping, dek_binding, hold_kek

_log = structlog.get_logger(__name__)

LARGEST_BATCH: Final = 256  # DEKs, as many as the vault takes
SMALLEST_BATCH: Final = 16
# For so long, in seconds, an interactive call may have to wait for the token because of a batch.
TOKEN_TIME: Final = 0.02
REMEMBERED: Final = 8  # batches


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a pass is: what this KEK version wraps up to this key version, and how many did not unwrap so far.

    With *blob* it is past all key versions, and up to this blob.
    """

    kek: int = 0
    after: tuple[KeyUid, int] | None = None
    corrupt: int = 0
    blob: str = ""

    def encode(self) -> str:
        """Return the text that an operation stores."""
        key, version = self.after or ("", 0)
        return f"{self.kek}:{key}:{version}:{self.corrupt}:{self.blob}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what encode() returned; empty for the beginning of a pass.

        Raises:
            CorruptRecord: it is something else.
        """
        if not text:
            return cls()
        try:
            kek, key, version, corrupt, *blob = text.split(":")  # none where the release before has begun it
            after = (KeyUid(UUID(key)), int(version)) if key else None
            return cls(int(kek), after, int(corrupt), "".join(blob))
        except ValueError as error:
            raise CorruptRecord("a re-wrap has a cursor that makes no sense") from error


@dataclass(frozen=True, slots=True)
class _Load:
    """What is next in a pass: DEKs that *old* wraps; none at the end of the pass, when *remaining* are left."""

    tenant: Tenant
    new: Kek
    old: Kek | None
    entries: Sequence[tuple[Key, KeyVersion]]
    remaining: int = 0
    blobs: Sequence[Blob] = ()  # where there are no more entries


class Rewrap:
    """The runner of OperationKind.REWRAP."""

    def __init__(
        self,
        storage: Storage,
        vault: KekRewrapper,
        wrapping: DekWrapping,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage = storage
        self._vault = vault
        self._wrapping = wrapping
        self._clock = clock
        self._size = LARGEST_BATCH
        self._costs: deque[float] = deque(maxlen=REMEMBERED)  # seconds for one DEK in the token

    async def batch(self, operation: Operation) -> Batch:
        """Bring the next DEKs under the primary KEK version."""
        cursor = Cursor.parse(operation.cursor)
        load = await self._load(operation, cursor)
        if load.old is None:
            return _end_of_pass(operation, load, cursor)
        if load.blobs:
            done, corrupt = await rewrap_blobs(self._storage, self._vault, self._wrapping, load)
            last_blob = load.blobs[-1].blob_id
            after = Cursor(load.old.version, None, cursor.corrupt + corrupt, last_blob)
            return Batch(after.encode(), done, finished=False)
        # 1. The token, outside any transaction.
        changed, corrupt = await self._rewrapped(load, load.old)
        reach("rewrap.in_token")
        # 2. One transaction; every DEK over the revision that was read, so that nobody's change is lost.
        done = await self._store(load, changed) if changed else 0
        reach("rewrap.committed")
        # 3. Where to go on becomes durable with the operation's progress.
        last = load.entries[-1][1]
        after = Cursor(load.old.version, (last.key, last.version), cursor.corrupt + corrupt)
        return Batch(after.encode(), done, finished=False)

    async def _load(self, operation: Operation, cursor: Cursor) -> _Load:
        async with self._storage.transaction(operation.tenant) as work:
            tenant = await work.tenants.by_uid(operation.tenant)
            if tenant is None:
                raise CorruptRecord("a re-wrap is for a tenant that is not there")
            keks = await keks_in(work, tenant, ACTIVE)
            new = next((kek for kek in keks if kek.version == tenant.primary_kek), None)
            if new is None:
                raise CorruptRecord(f"{tenant.name.kek(tenant.primary_kek)} is not there")
            older = [kek for kek in keks if kek.version < new.version]
            for old in older:
                if old.version < cursor.kek:
                    continue
                after, blob = (cursor.after, cursor.blob) if old.version == cursor.kek else (None, "")
                versions = (
                    [] if blob else await work.key_versions.list_wrapped_by(tenant.uid, old.version, after, self._size)
                )
                if versions:
                    keys = await work.keys.list_by_uid(tenant.uid, {version.key for version in versions})
                    by_uid = {key.uid: key for key in keys}
                    return _Load(tenant, new, old, [(by_uid[version.key], version) for version in versions])
                blobs = await work.blobs.list_wrapped_by(tenant.uid, old.version, blob, BLOBS_AT_ONCE)
                if blobs:
                    return _Load(tenant, new, old, (), blobs=blobs)
            wrapped = await wrapped_in(work, tenant)
        return _Load(tenant, new, None, (), sum(wrapped.get(kek.version, 0) for kek in older))

    async def _rewrapped(self, load: _Load, old: Kek) -> tuple[list[KeyVersion], int]:
        """Return the versions as they are to be stored, and how many do not unwrap."""
        tenant, new = load.tenant, load.new
        await self._wrapping.count(tenant, new, len(load.entries))
        items = [
            RewrapItem(version.wrapped, dek_binding(key, version.version, old), dek_binding(key, version.version, new))
            for key, version in load.entries
        ]
        began = self._clock()
        results = await self._vault.rewrap(old, new, items)
        self._fit(self._clock() - began, len(items))
        changed = []
        for (key, version), result in zip(load.entries, results, strict=True):
            if isinstance(result, CorruptRecord):
                name = key.name(tenant).version(version.version)
                _log.error("key_version.corrupt", name=name, reason=str(result))
            else:
                changed.append(replace(version, wrapped=result, kek_version=new.version))
        return changed, len(items) - len(changed)

    async def _store(self, load: _Load, changed: Sequence[KeyVersion]) -> int:
        async with self._storage.transaction(load.tenant.uid, write=True) as work:
            # What somebody else has changed meanwhile is met again by the next pass.
            done = await work.key_versions.replace_unchanged(changed)
            await hold_kek(work, load.tenant, load.new.version)
            reach("rewrap.before_commit")
        return done

    def _fit(self, seconds: float, items: int) -> None:
        """Choose the size of the next batch by the quickest of the last ones: what else is done only adds to a time."""
        self._costs.append(seconds / items)
        self._size = max(SMALLEST_BATCH, min(int(TOKEN_TIME / max(min(self._costs), 1e-9)), LARGEST_BATCH))


def _end_of_pass(operation: Operation, load: _Load, cursor: Cursor) -> Batch:
    if load.remaining == 0:
        # Nothing is left of what was counted when it began, though a crash may have kept a batch out of the count.
        return Batch("", max(operation.total - operation.done, 0), finished=True)
    if load.remaining <= cursor.corrupt:
        why = f"{load.remaining} DEKs of {load.tenant.name} do not unwrap and stay under their older KEK versions"
        return Batch("", 0, finished=True, error=f"{why}; the log names them (key_version.corrupt)")
    return Batch("", 0, finished=False)
