"""Re-wrapping the keys of blobs, as services.rewrap does it for those of keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol

import structlog

from kms.core.blobs import Blob
from kms.core.errors import CorruptRecord
from kms.core.keyring import Kek, Tenant
from kms.core.ports import KekRewrapper, RewrapItem, Storage
from kms.services.wrapping import DekWrapping, blob_binding, hold_kek

_log = structlog.get_logger(__name__)

BLOBS_AT_ONCE: Final = 32


class Load(Protocol):
    """What is next: blobs whose keys *old* wraps."""

    @property
    def tenant(self) -> Tenant: ...  # noqa: D102

    @property
    def new(self) -> Kek: ...  # noqa: D102

    @property
    def old(self) -> Kek | None: ...  # noqa: D102

    @property
    def blobs(self) -> Sequence[Blob]: ...  # noqa: D102


async def rewrap_blobs(storage: Storage, vault: KekRewrapper, wrapping: DekWrapping, load: Load) -> tuple[int, int]:
    """Bring the keys of these blobs under the new KEK version; returns how many are stored, and how many do not unwrap.

    Raises:
        HsmUnavailable, VersionExhausted: nothing has been done.
        Conflict: the new KEK version has been retired meanwhile.
    """
    tenant, new, old, blobs = load.tenant, load.new, load.old, load.blobs
    if old is None:
        raise ValueError("these blobs have a KEK")
    await wrapping.count(tenant, new, len(blobs))
    items = [
        RewrapItem(
            blob.key.wrapped,
            blob_binding(tenant, blob.uid, blob.generation, old),
            blob_binding(tenant, blob.uid, blob.generation, new),
        )
        for blob in blobs
    ]
    changed = []
    for blob, result in zip(blobs, await vault.rewrap(old, new, items), strict=True):
        if isinstance(result, CorruptRecord):
            _log.error("blob.corrupt", name=str(blob.name(tenant.name)), reason=str(result))
        else:
            changed.append(replace(blob, key=replace(blob.key, wrapped=result, kek_version=new.version)))
    async with storage.transaction(tenant.uid, write=True) as work:
        # What somebody else has changed meanwhile is met again by the next pass.
        done = await work.blobs.replace_unchanged(changed)
        await hold_kek(work, tenant, new.version)
    return done, len(blobs) - len(changed)
