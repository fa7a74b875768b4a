"""Audit logs of tests: opened on either database, read by other means, and verified without the code under test."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import struct
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from kms.core.audit import FIELDS, AuditEvent, Category, Outcome, Phase, Retention, Sensitivity, StreamUid, parse
from kms.core.names import KeyUid, TenantUid
from storage.audit_writer import GroupCommit
from storage.audit_writer_postgresql import open_postgresql_audit
from storage.audit_writer_sqlite import open_sqlite_audit
from tests.sealing import open_unsealed

NODE = "host-1:0123abcd"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CALLED = {"tenant": "tenant_id", "key": "key_uid", "stream": "stream_id"}  # columns that are not called as their field


def wall() -> datetime:
    return datetime.now(UTC)


def new_event(number: int = 0, **fields: Any) -> AuditEvent:
    """An event of an ordinary call."""
    named: dict[str, Any] = {
        "action": "/kms.v1.CryptoService/Encrypt",
        "category": Category.DATA_ACCESS,
        "outcome": Outcome.SUCCESS,
        "code": "OK",
        "tenant": TenantUid(UUID(int=number % 3 + 1)),
        "principal": "tenants/acme/principals/app",
        "request_id": f"{number}",
        "items": number,
        "node": NODE,
    }
    return AuditEvent(**named | fields)


def full_event() -> AuditEvent:
    """An event with a value of its own in every field."""
    return AuditEvent(
        action="a",
        category=Category.SECURITY,
        phase=Phase.OUTCOME,
        outcome=Outcome.PARTIAL,
        code="c",
        error="e",
        error_message="größer\n🔑",
        severity="high",
        risk=-(2**63),
        tenant=TenantUid(uuid.uuid4()),
        principal="p",
        roles="r,s",
        credential_kind="ck",
        credential_id="ci",
        address="[::1]:1",
        user_agent="ua",
        request_id="ri",
        correlation_id="co",
        approval="ap",
        reason="'; DROP TABLE audit_log; --",
        intent_stream=StreamUid(uuid.uuid4()),
        intent_sequence=7,
        node="n",
        release="re",
        region="rg",
        resource_type="rt",
        resource="rs",
        key=KeyUid(uuid.uuid4()),
        key_version=2**32 - 1,
        context='{"a":"{b},\\"c\\""}',
        context_digest=bytes(range(32)),
        classification="cl",
        sensitivity=Sensitivity.HIGHLY_SENSITIVE,
        items=2**63 - 1,
        failures=3,
        items_digest=b"\0" * 32,
        bytes_in=4,
        bytes_out=5,
        duration_us=6,
        details='{"d":null}',
        changes=b"\xff\0\1",
        retention=Retention.EXTENDED,
        kept_until=datetime(2031, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    )


@dataclass
class AuditLog:
    """The log of one installation, on one database."""

    target: Path | str
    installation: UUID = field(default_factory=uuid.uuid4)

    @asynccontextmanager
    async def opened(
        self,
        *,
        node: str = NODE,
        now: Callable[[], datetime] = wall,
        reach: Callable[[str], None] = lambda _: None,
        details: Mapping[str, object] | None = None,
        url: str | None = None,
        patience: float = 5.0,
    ) -> AsyncIterator[GroupCommit]:
        """A writer of a new stream."""
        options: dict[str, Any] = {"node": node, "now": now, "reach": reach, "details": details, "release": "1.2.3"}
        if isinstance(self.target, Path):
            database = await open_unsealed(self.target)
            try:
                writer = await open_sqlite_audit(database, installation=self.installation, **options)
                yield writer
                await writer.close(patience)
            finally:
                await database.close()
        else:
            writer = await open_postgresql_audit(url or self.target, installation=self.installation, **options)
            yield writer
            await writer.close(patience)

    def execute(self, statement: str, *values: Any) -> None:
        """Run a statement as who owns the tables."""
        if isinstance(self.target, Path):
            connection = sqlite3.connect(self.target)
            try:
                with connection:
                    connection.execute(statement.replace("audit.audit_log", "audit_log").replace("%s", "?"), values)
            finally:
                connection.close()
        else:
            with psycopg.connect(self.target) as connection:
                connection.execute(statement, values)

    def rows(self, stream: UUID | None = None) -> list[dict[str, Any]]:
        """All rows in the order of their numbers, with values as an event has them."""
        found: list[dict[str, Any]]
        if isinstance(self.target, Path):
            connection = sqlite3.connect(self.target)
            connection.row_factory = sqlite3.Row
            found = [_as_values(dict(row)) for row in connection.execute("SELECT * FROM audit_log ORDER BY sequence")]
            connection.close()
        else:
            with psycopg.connect(self.target, row_factory=dict_row) as connection:
                found = connection.execute("SELECT * FROM audit.audit_log ORDER BY sequence").fetchall()
        return [row for row in found if stream is None or row["stream_id"] == stream]

    def streams(self) -> set[UUID]:
        return {row["stream_id"] for row in self.rows()}

    def verified(self, stream: UUID) -> list[AuditEvent]:
        """The events of a stream, whose chain is whole and whose columns say what the canonical bytes say."""
        digest = hashlib.sha256(b"kms/v1/audit-stream\0" + self.installation.bytes + stream.bytes).digest()
        events: list[AuditEvent] = []
        for number, row in enumerate(self.rows(stream), 1):
            data = row["canonical"]
            at = (row["at"] - EPOCH) // timedelta(microseconds=1)
            assert data.startswith(b"kms/v1/audit-event\0" + stream.bytes + struct.pack(">Qq", number, at))
            digest = hashlib.sha256(digest + data).digest()
            assert row["hash"] == digest
            assert row["sequence"] == number
            event = parse(data)
            for name in (*FIELDS, "stream", "sequence", "at"):
                assert row[CALLED.get(name, name)] == getattr(event, name), name
            assert not events or events[-1].at <= event.at
            events.append(event)
        return events


def _as_values(row: dict[str, Any]) -> dict[str, Any]:
    for name in ("tenant_id", "stream_id", "intent_stream", "key_uid"):
        row[name] = row[name] and UUID(row[name])
    for name in ("at", "kept_until"):
        row[name] = None if row[name] is None else EPOCH + timedelta(microseconds=row[name])
    return row


def told(event: AuditEvent) -> Any:
    """The details of an event."""
    return json.loads(event.details)
