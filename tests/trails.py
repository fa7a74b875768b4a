"""Audit events in a database: stored as the writer stores them, without what a writer needs."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert, text

from kms.core.audit import AuditEvent, Category, Outcome, Phase, StreamUid, body_of, canonical, first_hash, next_hash
from kms.core.names import INSTALLATION_UID, TenantUid
from storage.audit_log import COLUMNS
from storage.audit_tables import audit_log
from storage.database import Database
from tests.keyrings import NOW

INSTALLATION = uuid.UUID(int=77)
NODE = "vault-1:0a1b2c3d"


def act(tenant: TenantUid = INSTALLATION_UID, **fields: Any) -> AuditEvent:
    """An event as a call that reads makes it; *at* is its time."""
    given: dict[str, Any] = {
        "action": "/kms.v1.CryptoService/Decrypt",
        "category": Category.DATA_ACCESS,
        "phase": Phase.ACT,
        "outcome": Outcome.SUCCESS,
        "code": "OK",
        "principal": "tenants/acme/principals/app",
        "node": NODE,
        "at": NOW,
    }
    return AuditEvent(**{**given, "tenant": tenant, **fields})


@dataclass
class Trail:
    """One stream of events."""

    storage: Database
    stream: StreamUid = field(default_factory=lambda: StreamUid(uuid.uuid4()))
    events: list[AuditEvent] = field(default_factory=list)
    hash: bytes = b""

    async def add(self, *events: AuditEvent) -> list[AuditEvent]:
        """Store events, each with the next number; returns them as they are stored."""
        rows, made = [], []
        self.hash = self.hash or first_hash(INSTALLATION, self.stream)
        for event in events:
            stored = replace(event, stream=self.stream, sequence=len(self.events) + 1)
            rows.append(self._row(stored))
            self.events.append(stored)
            made.append(stored)
        await store_rows(self.storage, rows)
        return made

    def _row(self, event: AuditEvent) -> dict[str, Any]:
        data = canonical(event.stream, event.sequence, event.at, body_of(event))
        self.hash = next_hash(self.hash, data)
        return {column: getattr(event, name) for name, column in COLUMNS.items()} | {
            "canonical": data,
            "hash": self.hash,
        }


async def store_rows(storage: Database, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows as whoever owns the database; months that are missing on PostgreSQL are made."""
    await as_owner(
        storage,
        *[text(f"SELECT audit.add_partition('{month:%Y-%m-%d}')") for month in sorted({_month(row) for row in rows})],
        insert(audit_log).values(rows) if len(rows) < 20 else (insert(audit_log), rows),
    )


async def as_owner(storage: Database, *statements: Any) -> None:
    """Execute statements without the roles and the row-level security of the daemon."""
    engine = storage._line.engine
    async with engine.connect() as connection:
        await connection.execution_options(kms_begin="BEGIN")
        async with connection.begin():
            for statement in statements:
                if "add_partition" in str(statement) and engine.dialect.name == "sqlite":
                    continue
                await (
                    connection.execute(*statement) if isinstance(statement, tuple) else connection.execute(statement)
                )


def _month(row: dict[str, Any]) -> datetime:
    moment: datetime = row["at"]
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


SECOND = timedelta(seconds=1)
