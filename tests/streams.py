"""Audit trails of a test's own: streams of events with their bytes and chain, in memory or written into a database."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kms.core.audit import (
    FIELDS,
    AuditEvent,
    Category,
    Outcome,
    StreamUid,
    body_of,
    canonical,
    first_hash,
    next_hash,
)
from kms.core.audit_ports import Position, TenantRoot
from kms.core.checkpoints import NOTHING, Checkpoint, SignedCheckpoint, message_of, roots_digest
from kms.core.checkpoints import body_of as checkpoint_body
from storage.audit_tables import audit_log
from storage.database import Database
from tests import tenant_in_queries
from tests.keyrings import NOW

COLUMNS = {"tenant": "tenant_id", "key": "key_uid"}


@dataclass
class Stream:
    """One stream of events; *bytes* and *hashes* of event n stand at n - 1."""

    installation: UUID
    node: str = "host:01234567"
    after: Stream | None = None
    uid: StreamUid = field(default_factory=lambda: StreamUid(uuid4()))
    start: datetime = NOW
    bytes: list[bytes] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    events: list[AuditEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        last = self.after.head if self.after else None
        details = {
            "node": self.node,
            "previous_stream": str(last.stream) if last else None,
            "previous_sequence": last.sequence if last else 0,
            "previous_hash": last.hash.hex() if last else "",
        }
        self.append("daemon.started", details=json.dumps(details, sort_keys=True, separators=(",", ":")))

    def append(self, action: str = "/kms.v1.CryptoService/Encrypt", **values: Any) -> Position:
        """Add one event."""
        event = AuditEvent(
            action=action,
            category=Category.DATA_ACCESS,
            outcome=Outcome.SUCCESS,
            code="OK",
            principal="tenants/acme/principals/app",
            node=self.node,
            **values,
        )
        event.stream, event.sequence = self.uid, len(self.bytes) + 1
        event.at = self.start + timedelta(milliseconds=len(self.bytes))
        data = canonical(self.uid, event.sequence, event.at, body_of(event))
        before = self.hashes[-1] if self.hashes else first_hash(self.installation, self.uid)
        self.bytes.append(data)
        self.hashes.append(next_hash(before, data))
        self.events.append(event)
        return self.head

    def extend(self, count: int) -> Stream:
        """Add so many events."""
        for number in range(count):
            self.append(request_id=f"r{number}")
        return self

    @property
    def head(self) -> Position:
        """The last event."""
        return Position(self.uid, len(self.bytes), self.hashes[-1])

    async def store(self, storage: Database, first: int = 1, last: int | None = None) -> None:
        """Write events into the audit log, as the audit writer does."""
        rows = [
            _row(event, data, digest)
            for event, data, digest in list(zip(self.events, self.bytes, self.hashes, strict=True))[first - 1 : last]
        ]
        async with storage._session(None, write=True) as session:
            session_role = "SELECT set_config('role', 'none', true)"  # the superuser's, whom the tests connect as
            if session.dialect == "postgresql":
                await session.raw(session_role)
            await session.change(audit_log.insert(), rows)
            # Which the audit writer alone may do.
            seen = tenant_in_queries.found
            seen[:] = [line for line in seen if line != "INSERT on audit_log in a transaction over tenants"]


def _row(event: AuditEvent, data: bytes, digest: bytes) -> dict[str, Any]:
    row = {COLUMNS.get(name, name): getattr(event, name) for name in FIELDS}
    plain = {name: value.value if hasattr(value, "value") else value for name, value in row.items()}
    return plain | {
        "stream_id": event.stream,
        "sequence": event.sequence,
        "at": event.at,
        "canonical": data,
        "hash": digest,
    }


class TestKey:
    """A signing key of the test's own, in the place of the token's."""

    __test__ = False

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.public = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.pem = self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def signature(self, message: bytes) -> bytes:
        return self._key.sign(message, ec.ECDSA(SHA256()))

    async def sign(self, message: bytes) -> bytes:
        return self.signature(message)

    async def public_key(self) -> bytes:
        return self.public

    def checkpoint(
        self,
        installation: UUID,
        heads: Sequence[Position],
        after: SignedCheckpoint | None = None,
        roots: Sequence[TenantRoot] = (),
        **changes: Any,
    ) -> SignedCheckpoint:
        """Sign a checkpoint after another one."""
        values: dict[str, Any] = {
            "serial": 1 if after is None else after.serial + 1,
            "previous": NOTHING if after is None else after.hash,
            "installation": installation,
            "heads": tuple(sorted(heads, key=lambda head: head.stream.bytes)),
            "roots": roots_digest(roots),
            "at": NOW,
            "node": "host:01234567",
        }
        made = Checkpoint(**(values | changes))
        body = checkpoint_body(made)
        return SignedCheckpoint(made, body, self.signature(message_of(body)))


def some_hash(seed: int) -> bytes:
    return hashlib.sha256(b"%d" % seed).digest()
