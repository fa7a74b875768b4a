"""An audit trail as its writer leaves it, of any time that a test wants, put straight into the database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, create_engine, event, insert, text
from sqlalchemy.pool import NullPool

from kms.core.audit import FIELDS, AuditEvent, Category, StreamUid, body_of, canonical, first_hash, next_hash
from kms.core.names import INSTALLATION_UID, TenantUid
from kms.core.retention import Month
from storage.audit_tables import audit_log
from storage.schemas import SCHEMAS

_COLUMNS = {"tenant": "tenant_id", "key": "key_uid"}


@dataclass
class WrittenStream:
    """One stream; events are written when the trail is told to."""

    trail: WrittenTrail
    uid: StreamUid
    hash: bytes
    sequence: int = 0
    hashes: list[bytes] = field(default_factory=list)

    def add(self, at: datetime, tenant: TenantUid = INSTALLATION_UID, **fields: Any) -> AuditEvent:
        self.sequence += 1
        new = AuditEvent(
            action="/kms.v1.KeyService/GetKey",
            category=Category.DATA_ACCESS,
            tenant=tenant,
            **{"node": "a:00000000", "request_id": f"r{self.sequence}", **fields},
        )
        new.stream, new.sequence, new.at = self.uid, self.sequence, at
        octets = canonical(self.uid, self.sequence, at, body_of(new))
        self.hash = next_hash(self.hash, octets)
        self.hashes.append(self.hash)
        row = {_COLUMNS.get(name, name): getattr(new, name) for name in FIELDS}
        self.trail.rows.append(
            row | {"stream_id": self.uid, "sequence": self.sequence, "at": at, "canonical": octets, "hash": self.hash}
        )
        return new


@dataclass
class WrittenTrail:
    """Streams in one database."""

    engine: Engine
    installation: UUID = field(default_factory=uuid4)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def stream(self) -> WrittenStream:
        uid = StreamUid(uuid4())
        return WrittenStream(self, uid, first_hash(self.installation, uid))

    def write(self) -> None:
        """Bring what was added to the database, and make the months that it needs."""
        months = {Month.of(row["at"]) for row in self.rows}
        with self.engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                for month in sorted(months):
                    connection.execute(text(f"SELECT audit.add_partition('{month}-01')"))
            if self.rows:
                connection.execute(insert(audit_log), self.rows)
        self.rows = []

    def month(self, month: Month) -> None:
        """Make a month, though nothing is in it."""
        with self.engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text(f"SELECT audit.add_partition('{month}-01')"))

    def execute(self, statement: str) -> list[Any]:
        """Execute a statement past the daemon, as whoever owns the database."""
        with self.engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                statement = statement.replace("audit_log", "audit.audit_log")
                statement = statement.replace("audit_archives", "security_internal.audit_archives")
            result = connection.execute(text(statement))
            return list(result) if result.returns_rows else []

    def count(self, month: Month | None = None) -> int:
        rows = self.execute("SELECT canonical FROM audit_log")
        if month is None:
            return len(rows)
        start = len(b"kms/v1/audit-event\0") + 16 + 8
        times = [int.from_bytes(row[0][start : start + 8], "big") for row in rows]
        return sum(month.first.timestamp() <= at / 1e6 < month.end.timestamp() for at in times)


def year(trail: WrittenTrail, first: Month, months: int, *tenants: TenantUid, daily: int = 1) -> list[WrittenStream]:
    """Write so many months: a process that is started anew every seven weeks, events of the tenants by turns."""
    streams = [trail.stream()]
    at, begun, number, end = first.first, first.first, 0, first
    for _ in range(months):
        end = end.next
    owners = (INSTALLATION_UID, *tenants)
    while at < end.first:
        if at - begun > timedelta(weeks=7):
            streams.append(trail.stream())
            begun = at
        streams[-1].add(at, owners[number % len(owners)])
        number += 1
        at += timedelta(days=1) / daily
    trail.write()
    return streams


@pytest.fixture
def trail(request: pytest.FixtureRequest, storage: object) -> Iterator[WrittenTrail]:
    """The trail of `storage`, whichever it is."""
    if type(storage).__name__ == "SqliteDatabase":
        engine = create_engine(
            f"sqlite:///{request.getfixturevalue('hostile').path}",
            poolclass=NullPool,
            execution_options={"schema_translate_map": dict.fromkeys(SCHEMAS)},
        )
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout = 5000"))
    else:
        url = request.getfixturevalue("postgresql_url").replace("postgresql://", "postgresql+psycopg://")
        engine = create_engine(url, poolclass=NullPool)
    yield WrittenTrail(engine)
    engine.dispose()
