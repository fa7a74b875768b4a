"""Checkpoints and the roots that the newest one covers, and where the streams of the audit trail end.

The head's row is changed first in the transaction that adds a checkpoint: its lock makes one chain of what all nodes add.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, delete, func, select

from kms.core.audit import StreamUid
from kms.core.audit_checks import StoredCheckpoint
from kms.core.audit_ports import Position, TenantRoot
from kms.core.checkpoint_ports import StreamEnd
from kms.core.checkpoints import SignedCheckpoint
from kms.core.checkpoints import read as read_checkpoint
from kms.core.errors import Conflict, CorruptRecord
from kms.core.names import TenantUid

from .audit_tables import audit_log as a
from .checkpoint_tables import checkpoint_head as h
from .checkpoint_tables import checkpoint_roots as r
from .checkpoint_tables import checkpoints as c
from .records import AT_ONCE, IN_ONE_STEP, read
from .session import Session, insertion

MOST_STREAMS: Final = 10_000  # of which the ends are looked for at once

_COLUMNS: Final = (c.c.serial, c.c.previous_hash, c.c.body, c.c.signature, c.c.hash, c.c.at, c.c.node)


async def newest(session: Session) -> SignedCheckpoint | None:
    """Return the one with the highest serial."""
    rows = await session.rows(select(*_COLUMNS).order_by(c.c.serial.desc()).limit(1))
    return next(iter(read(rows, _checkpoint)), None)


async def after(session: Session, serial: int, limit: int) -> list[SignedCheckpoint]:
    """Return those with higher serials, in order."""
    query = select(*_COLUMNS).where(c.c.serial > serial).order_by(c.c.serial).limit(min(limit, AT_ONCE))
    return read(await session.rows(query), _checkpoint)


async def as_stored(session: Session, serial: int, limit: int) -> list[StoredCheckpoint]:
    """Return at most *limit* (1,000) with higher serials, in order, whatever is wrong with them."""
    query = select(*_COLUMNS).where(c.c.serial > serial).order_by(c.c.serial).limit(min(limit, AT_ONCE))
    return [_as_stored(row) for row in await session.rows(query)]


def _as_stored(row: Row[Any]) -> StoredCheckpoint:
    try:
        found = read_checkpoint(row.body, row.signature)
    except (ValueError, TypeError, OverflowError) as error:
        return StoredCheckpoint(row.serial, None, str(error))
    try:
        _checkpoint(row)
    except CorruptRecord as error:
        return StoredCheckpoint(row.serial, found, str(error))
    return StoredCheckpoint(row.serial, found)


def _checkpoint(row: Row[Any]) -> SignedCheckpoint:
    found = read_checkpoint(row.body, row.signature)
    said = found.checkpoint
    if (row.serial, row.previous_hash, row.at, row.node) != (said.serial, said.previous, said.at, said.node):
        raise CorruptRecord(f"the columns of checkpoint {row.serial} differ from its bytes")
    if row.hash != found.hash:
        raise CorruptRecord(f"the hash of checkpoint {row.serial} is another one")
    return found


async def roots(session: Session) -> list[TenantRoot]:
    """Return the roots that the newest one covers, ordered by tenant."""
    rows = await session.rows(select(r.c.tenant_id, r.c.epoch, r.c.root))
    found = read(rows, lambda row: TenantRoot(TenantUid(row.tenant_id), row.epoch, row.root))
    return sorted(found, key=lambda root: root.tenant.bytes)


async def stream_ends(session: Session, known: Collection[StreamUid], since: datetime) -> list[StreamEnd]:
    """Return where these streams end, and those that have begun since a time."""
    begun = select(a.c.stream_id).where(a.c.sequence == 1, a.c.at >= since).limit(MOST_STREAMS)
    streams = sorted({*known, *(row.stream_id for row in await session.rows(begun))}, key=lambda uid: uid.bytes)
    ends = []
    for stream in streams:
        last = select(a.c.sequence, a.c.hash).where(a.c.stream_id == stream).order_by(a.c.sequence.desc()).limit(1)
        rows = await session.rows(last)
        if rows:
            ends.append(Position(StreamUid(stream), rows[0].sequence, rows[0].hash))
    succeeded: dict[UUID, StreamUid | None] = {}
    for start in range(0, len(ends), IN_ONE_STEP):
        part = [end.stream for end in ends[start : start + IN_ONE_STEP]]
        first = select(a.c.stream_id, a.c.details).where(a.c.stream_id.in_(part), a.c.sequence == 1)
        succeeded |= {row.stream_id: predecessor(row.details) for row in await session.rows(first)}
    return [StreamEnd(end, succeeded.get(end.stream)) for end in ends]


def predecessor(details: str) -> StreamUid | None:
    """Return the stream that the details of a stream's first event name as the one before."""
    try:
        named = json.loads(details).get("previous_stream")
        return None if named is None else StreamUid(UUID(named))
    except (ValueError, AttributeError, TypeError):
        return None  # whoever verifies the trail says so; a checkpoint only covers one stream longer


async def add(session: Session, made: SignedCheckpoint, before: int, covered: Sequence[TenantRoot]) -> None:
    """Store a checkpoint after the one with the serial *before*, and the roots that it covers.

    Raises:
        Conflict: another one has been stored meanwhile.
    """
    said = made.checkpoint
    first = insertion(session, h).values(id=1, serial=said.serial)
    advance = first.on_conflict_do_update(
        index_elements=[h.c.id], set_={"serial": said.serial}, where=h.c.serial == before
    )
    taken = await session.change(advance)
    [[newest_serial]] = await session.rows(select(func.coalesce(func.max(c.c.serial), 0)))
    if taken != 1 or newest_serial != before:
        conflict = Conflict("another checkpoint has been stored meanwhile")
        session.spoil(conflict)
        raise conflict
    row = {
        "serial": said.serial,
        "previous_hash": said.previous,
        "body": made.body,
        "signature": made.signature,
        "hash": made.hash,
        "at": said.at,
        "node": said.node,
    }
    await session.change(insertion(session, c).values(**row))
    await _replace_roots(session, covered)


async def _replace_roots(session: Session, covered: Sequence[TenantRoot]) -> None:
    """Store these roots and no others; most are as they were."""
    stored = {root.tenant: root for root in await roots(session)}
    wanted = {root.tenant: root for root in covered}
    changed = [root for root in covered if stored.get(root.tenant) != root]
    entry = insertion(session, r)
    upsert = entry.on_conflict_do_update(
        index_elements=[r.c.tenant_id], set_={"epoch": entry.excluded.epoch, "root": entry.excluded.root}
    )
    for start in range(0, len(changed), AT_ONCE):
        rows = [
            {"tenant_id": root.tenant, "epoch": root.epoch, "root": root.root}
            for root in changed[start : start + AT_ONCE]
        ]
        await session.change(upsert, rows)
    gone = [tenant for tenant in stored if tenant not in wanted]
    for start in range(0, len(gone), IN_ONE_STEP):
        await session.change(delete(r).where(r.c.tenant_id.in_(gone[start : start + IN_ONE_STEP])))
