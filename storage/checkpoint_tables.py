"""The tables of checkpoints: a chain that is added to and never changed, and the roots that the newest one covers."""

from __future__ import annotations

from typing import Final

from sqlalchemy import CheckConstraint, PrimaryKeyConstraint, Table

from .schemas import AUDIT, column, metadata
from .types import Bytes, Int64, Small, Timestamp, Uid, Words

checkpoints: Final = Table(
    "checkpoints",
    metadata,
    column("serial", Int64),
    column("previous_hash", Bytes),
    column("body", Bytes),
    column("signature", Bytes),
    column("hash", Bytes),
    column("at", Timestamp),
    column("node", Words),
    PrimaryKeyConstraint("serial", name="pk_checkpoints"),
    CheckConstraint("serial > 0", name="ck_checkpoints_serial"),
    CheckConstraint("length(hash) = 32 AND length(previous_hash) = 32", name="ck_checkpoints_hash"),
    schema=AUDIT,
    sqlite_strict=True,
)

# Of the newest checkpoint alone, whose signature covers their digest.
checkpoint_roots: Final = Table(
    "checkpoint_roots",
    metadata,
    column("tenant_id", Uid),
    column("epoch", Int64),
    column("root", Bytes),
    PrimaryKeyConstraint("tenant_id", name="pk_checkpoint_roots"),
    CheckConstraint("length(root) = 32", name="ck_checkpoint_roots_root"),
    schema=AUDIT,
    sqlite_strict=True,
)

# One row: the newest serial. Its lock, which a transaction holds to its end, makes one chain of what all nodes add.
checkpoint_head: Final = Table(
    "checkpoint_head",
    metadata,
    column("id", Small),
    column("serial", Int64),
    PrimaryKeyConstraint("id", name="pk_checkpoint_head"),
    CheckConstraint("id = 1", name="ck_checkpoint_head_id"),
    schema=AUDIT,
    sqlite_strict=True,
)
