"""The tables of blobs' bodies, for installations that keep them in the database."""

from __future__ import annotations

from typing import Final

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, PrimaryKeyConstraint, Table

from .schemas import INTERNAL, column, metadata
from .types import Bytes, Int64, Timestamp, Uid, Words

# No records: what they hold is encrypted, and the manifest of the blob says what it has to be.
blob_bodies: Final = Table(
    "blob_bodies",
    metadata,
    column("tenant_id", Uid),
    column("id", Uid),  # of one writing: a body that is written again is another one
    column("blob_id", Uid),
    column("generation", Int64),
    column("segment", Int64),
    column("status", Words),  # only a whole one is seen
    column("length", Int64),
    column("written_at", Timestamp),  # the last piece
    PrimaryKeyConstraint("tenant_id", "id", name="pk_blob_bodies"),
    ForeignKeyConstraint(["tenant_id"], [f"{INTERNAL}.tenants.tenant_id"], name="fk_blob_bodies_tenants"),
    CheckConstraint("status IN ('writing', 'whole', 'gone')", name="ck_blob_bodies_status"),
    CheckConstraint("length >= 0", name="ck_blob_bodies_length"),
    schema=INTERNAL,
    sqlite_strict=True,
)
Index(
    "uq_blob_bodies_whole",
    blob_bodies.c.tenant_id,
    blob_bodies.c.blob_id,
    blob_bodies.c.generation,
    blob_bodies.c.segment,
    unique=True,
    postgresql_where=blob_bodies.c.status == "whole",
    sqlite_where=blob_bodies.c.status == "whole",
)
Index("ix_blob_bodies_written_at", blob_bodies.c.status, blob_bodies.c.written_at)

blob_chunks: Final = Table(
    "blob_chunks",
    metadata,
    column("tenant_id", Uid),
    column("body_id", Uid),
    column("number", Int64),
    column("content", Bytes),
    PrimaryKeyConstraint("tenant_id", "body_id", "number", name="pk_blob_chunks"),
    ForeignKeyConstraint(
        ["tenant_id", "body_id"],
        [f"{INTERNAL}.blob_bodies.tenant_id", f"{INTERNAL}.blob_bodies.id"],
        name="fk_blob_chunks_blob_bodies",
    ),
    CheckConstraint("length(content) BETWEEN 1 AND 1048576", name="ck_blob_chunks_content"),
    schema=INTERNAL,
    sqlite_strict=True,
)
