"""What the audit trail and the integrity of records need from outside, and give to others, as Protocols."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from .audit import AuditEvent, StreamUid
from .canonical import Value
from .names import TenantUid


@dataclass(frozen=True, slots=True)
class Position:
    """Where an event stands: its stream, its number in it from 1, and its hash."""

    stream: StreamUid
    sequence: int
    hash: bytes


class AuditWriter(Protocol):
    """Writes one stream of events, many in one commit; belongs to one event loop."""

    def append(self, event: AuditEvent) -> Awaitable[Position]:
        """Give an event its place; the result, once awaited, says that it is durable. Not awaited, it is written all the same.

        Raises (from the call, or from the result):
            AuditUnavailable: it is not known to be durable: too many events wait, or the storage refuses, is full, or
                does not answer within the bound.
        """
        ...

    @property
    def head(self) -> Position:
        """The last event that is durable; sequence 0 before the first."""
        ...


class RecordSealer(Protocol):
    """Computes MACs of records under a key that the token guards."""

    def mac(self, message: bytes) -> bytes:
        """Return the HMAC-SHA-256, 32 bytes."""
        ...


@dataclass(frozen=True, slots=True)
class TenantRoot:
    """The root of one tenant's tree of records, whose MAC has been verified (FORMATS, section 7)."""

    tenant: TenantUid
    epoch: int
    root: bytes  # 32


class Roots(Protocol):
    """Shows the roots of all tenants."""

    async def roots(self) -> list[TenantRoot]:
        """Return them in one snapshot, ordered by tenant.

        Raises:
            CorruptRecord: the MAC of one is wrong.
            StorageUnavailable: the database does not answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class Anchor:
    """What an anchor remembers: of which installation, the newest checkpoint's serial and hash (FORMATS, section 8).

    Serial 0, with a hash of zeroes: the installation's records are being sealed for the first time.
    """

    installation: UUID
    serial: int
    hash: bytes  # 32


class AnchorStore(Protocol):
    """Remembers the newest checkpoint where whoever can write to the database cannot write."""

    async def newest(self) -> Anchor | None:
        """Return the newest of all nodes; None where there is none at all.

        Raises:
            HsmUnavailable, Unavailable: it cannot be read.
            CorruptRecord: what is there is none of this installation's.
        """
        ...

    async def put(self, anchor: Anchor) -> None:
        """Remember a checkpoint that is newer than this node's last one.

        Raises:
            HsmUnavailable, Unavailable: it is not known to be remembered.
        """
        ...


class Sealing(Protocol):
    """Makes checkpoints."""

    async def seal(self) -> None:
        """Return when a checkpoint that covers all that is durable now has been signed, stored and anchored.

        Calls at the same time share one.

        Raises:
            HsmUnavailable, StorageUnavailable: it is not known to be.
        """
        ...


@dataclass(frozen=True, slots=True)
class RecordChange:
    """One record that a transaction has written: what its columns were, as far as the transaction had read them, and are.

    Only columns that differ; a new record has no *before*, a removed one no *after*. Columns of bytes stand as their SHA-256.
    """

    table: str
    tenant: TenantUid
    identity: Mapping[str, Value]
    before: Mapping[str, Value]
    after: Mapping[str, Value]


class Trail(Protocol):
    """What services tell of what the daemon does by itself."""

    async def note(self, event: AuditEvent) -> Position:
        """Return when the event is durable; node, release and retention are filled in where they are empty.

        Raises:
            AuditUnavailable: it is not known to be.
        """
        ...
