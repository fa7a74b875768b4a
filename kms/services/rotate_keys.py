"""Rotating every key of a tenant that encrypts: the Runner of OperationKind.ROTATE_KEYS."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

import structlog

from kms.core.errors import Conflict, CorruptRecord, EnclaveUnavailable, KmsError, Unavailable, WrongKeyState
from kms.core.keyring import Key, Tenant
from kms.core.lifecycle import KeyState
from kms.core.names import KeyName
from kms.core.operations import Operation
from kms.core.ports import Storage
from kms.core.suites import ROTATED_BY_HAND
from kms.services.operations import Batch
from kms.services.rotating import Rotator

_log = structlog.get_logger(__name__)

BATCH: Final = 100  # keys
# Each key costs the token two operations: one that answers slowly gets smaller batches, so that progress is told in time.
BATCH_TIME: Final = 2.0  # seconds
_ATTEMPTS: Final = 3
_ENCRYPTS: Final = frozenset({KeyState.ACTIVE, KeyState.ROTATING})
# The last slug that was looked at, and how many keys could not be rotated so far.
_CURSOR: Final = re.compile(r"([a-z0-9-]*) ([0-9]+)")


class RotateKeys:
    """Rotates each key once; one that was rotated or made since the operation began has it behind it."""

    def __init__(
        self,
        storage: Storage,
        rotator: Rotator,
        forget: Callable[[KeyName], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage = storage
        self._rotator = rotator
        self._forget = forget
        self._clock = clock

    async def batch(self, operation: Operation) -> Batch:
        """Rotate the next keys after the cursor. A key that cannot be rotated is logged, and does not hold up the others.

        Raises:
            Unavailable: no DEK can be made or stored; the keys before are rotated.
        """
        after, failed = _parsed(operation.cursor)
        async with self._storage.transaction(operation.tenant) as work:
            tenant = await work.tenants.by_uid(operation.tenant)
            keys = await work.keys.list_by_slug(operation.tenant, after, BATCH)
        if tenant is None:
            raise CorruptRecord(f"operation {operation.uid} is of a tenant that is not there")
        end, done = self._clock() + BATCH_TIME, 0
        for key in keys:
            if done and self._clock() >= end:
                break
            failed += not await self._rotate(operation, tenant, key)
            after, done = key.slug, done + 1
        if done < len(keys) or len(keys) == BATCH:
            return Batch(f"{after} {failed}", done, finished=False)
        if failed:
            # Resumed, it begins anew and passes over what it has rotated.
            return Batch(
                "", done, finished=True, error=f"not rotated: {failed} keys, which the log names (key.not_rotated)"
            )
        return Batch(f"{after} 0", done, finished=True)

    async def _rotate(self, operation: Operation, tenant: Tenant, key: Key | None) -> bool:
        """Rotate a key where it is wanted; False where it cannot be."""
        for attempt in range(1, _ATTEMPTS + 1):
            if key is None or not _wanted(operation, key):
                return True
            try:
                await self._rotator.rotate(tenant, key, operation.requested_by)
            except (Conflict, WrongKeyState) as error:
                if attempt == _ATTEMPTS:
                    return _told(tenant, key, error)
                async with self._storage.transaction(tenant.uid) as work:
                    key = await work.keys.by_uid(tenant.uid, key.uid)
            except EnclaveUnavailable as error:  # keys of other levels need none
                return _told(tenant, key, error)
            except Unavailable:
                raise
            except KmsError as error:
                return _told(tenant, key, error)
            else:
                self._forget(key.name(tenant))
                return True
        raise AssertionError("the last attempt returns")


def _parsed(cursor: str) -> tuple[str, int]:
    if not cursor:
        return "", 0
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise CorruptRecord("the cursor of an operation makes no sense")
    return match[1], int(match[2])


def _wanted(operation: Operation, key: Key) -> bool:
    by_hand = key.purpose in ROTATED_BY_HAND  # it is for its owner to decide
    return key.state in _ENCRYPTS and not by_hand and key.rotated_at < operation.created_at


def _told(tenant: Tenant, key: Key, error: KmsError) -> bool:
    _log.error("key.not_rotated", name=str(key.name(tenant)), reason=str(error))
    return False
