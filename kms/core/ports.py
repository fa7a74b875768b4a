"""What the services need from the outside, as Protocols; adapters translate their library's errors at their own edge."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from .census import Uses
from .errors import CorruptRecord
from .integrity import Page, ScrubCursor
from .keyring import Kek, Key, Tenant
from .names import KekUid, KeyUid, TenantUid
from .outbox import OutboxItem, Topic
from .repositories import UnitOfWork
from .tokens import TokenUid, TokenUse
from .wrapping import WrapMechanism


@dataclass(frozen=True, slots=True)
class CreatedKek:
    """What the vault tells of a KEK version that it has made, or found already made."""

    mechanism: WrapMechanism
    canary: bytes  # a known value encrypted under it; shows after every reopen that the key is still the same
    hsm_key_id: str  # PKCS#11 URI (RFC 7512), no secrets, at most 256 characters


class KekVault(Protocol):
    """Holds KEKs that never leave it. Every call has a deadline of its own.

    Raises (all methods):
        HsmUnavailable: the vault does not answer, has lost its token, or a KEK's canary is wrong.
    """

    async def create_kek(self, uid: KekUid, version: int) -> CreatedKek:
        """Make the KEK version, or find the one already made: calling twice makes one. Hold Storage.exclusive."""
        ...

    async def wrap(self, kek: Kek, dek: bytes, bound: bytes) -> bytes:
        """Wrap a DEK under an active KEK, bound to *bound*; returns a WrappedDek blob.

        A DEK has 32 or 64 bytes; one that an enclave has sealed has more, and at most 1,024.
        """
        ...

    async def unwrap(self, kek: Kek, wrapped: bytes, bound: bytes) -> bytes:
        """Undo wrap().

        Raises:
            CorruptRecord: it was wrapped elsewhere, under another KEK or with another binding, or altered.
        """
        ...

    async def random(self, length: int) -> bytes:
        """Return 1 to 1,024 random bytes from the token (SP 800-90A, as far as the token has it)."""
        ...


@dataclass(frozen=True, slots=True)
class RewrapItem:
    """One wrapped DEK that is to come under another KEK: its blob, its binding there, and the binding that it gets."""

    wrapped: bytes
    bound: bytes
    new_bound: bytes


class KekRewrapper(Protocol):
    """Brings many DEKs from one KEK version to another inside the vault; a vault's second ability."""

    async def rewrap(self, old: Kek, new: Kek, items: Sequence[RewrapItem]) -> list[bytes | CorruptRecord]:
        """Return, in order, the new blob of each of 1 to 256 items, or why it does not unwrap.

        Raises:
            HsmUnavailable: as all calls of a vault; nothing is known of any item then.
        """
        ...


class KekDestroyer(Protocol):
    """Destroys KEKs; a vault's third ability."""

    async def destroy_kek(self, kek: Kek) -> None:
        """Destroy the KEK of that canary; one that is already gone is no error. Hold Storage.exclusive.

        Raises:
            HsmUnavailable: also where the token shows no KEK at all, since a lost token looks so.
        """
        ...


class Signer(Protocol):
    """Signs with one ECDSA P-256 key that never leaves the token."""

    async def public_key(self) -> bytes:
        """Return the public key as DER SubjectPublicKeyInfo (RFC 5480); the first call makes it, so hold Storage.exclusive."""
        ...

    async def sign(self, message: bytes) -> bytes:
        """Sign the SHA-256 of *message*; returns DER (RFC 3279, section 2.2.3).

        Raises:
            HsmUnavailable: the token does not answer, or public_key() has never been called on it.
        """
        ...


class RecordKeys(Protocol):
    """Derives keys from one HMAC-SHA-256 key that never leaves the token."""

    async def record_key_exists(self) -> bool:
        """Whether the token shows that key.

        Raises:
            HsmUnavailable: the token does not answer, or shows several, or one that must not be used.
        """
        ...

    async def make_record_key(self) -> None:
        """Make that key in a token that has none. Hold Storage.exclusive.

        Raises:
            HsmUnavailable: also where there is one, or where there are anchors, so that there was one.
        """
        ...

    async def derive(self, label: str, installation: UUID) -> bytes:
        """Return the key of that label for an installation, 32 bytes.

        Raises:
            HsmUnavailable: also where the token shows no such key.
        """
        ...


class AnchorObjects(Protocol):
    """Keeps small values in the token, each in a named slot."""

    async def read_anchors(self) -> list[tuple[str, bytes]]:
        """Return the label and value of each, in no order; a slot that a crash has left twice is there twice."""
        ...

    async def write_anchor(self, label: str, value: bytes) -> None:
        """Put a value into a slot, whose old one stays until the new one is there. Hold Storage.exclusive.

        Raises:
            HsmUnavailable: also where the token takes none; the slot then has its old value, its new one, or both.
        """
        ...


@dataclass(frozen=True, slots=True)
class Counter:
    """What is counted: encryptions under a key version, or wraps under a KEK version."""

    tenant: TenantUid
    subject: KeyUid | KekUid
    version: int


class Counters(Protocol):
    """Durable counters, reserved in blocks, each in a transaction of its own."""

    async def reserve(self, counter: Counter, amount: int, stop_at: int | None) -> int | None:
        """Add *amount* durably and return the sum; None, and nothing is added, where that would pass *stop_at*."""
        ...

    async def reserved(self, counters: list[Counter]) -> list[int]:
        """Return what has been reserved of each so far, 0 for one never reserved; at most 5,000 of them."""
        ...


class UseRecords(Protocol):
    """When versions were last used, each in a transaction of its own."""

    async def add_uses(self, uses: Mapping[Counter, Uses]) -> None:
        """Merge what this node has seen: the later of two times, the sum of refusals. At most 1,000 at once."""
        ...

    async def uses(self, counters: list[Counter]) -> list[Uses]:
        """Return what has been seen of each; at most 1,000 of them."""
        ...


class TokenUseRecords(Protocol):
    """How often API tokens have been used, written in a transaction of its own."""

    async def add_token_uses(self, uses: Mapping[tuple[TenantUid, TokenUid], TokenUse]) -> None:
        """Merge what this node has seen: the sum of the counts, the later of two times. At most 1,000 at once."""
        ...


class DueWork(Protocol):
    """Shares due work between nodes: what one has claimed, no other gets until the claim is over."""

    async def claim_keys(self, node: UUID, now: datetime, until: datetime, limit: int) -> list[tuple[Tenant, Key]]:
        """Claim at most *limit* keys (1,000) that are due, the longest due first, or whose schedule lies beyond CLOCK_SLACK.

        Raises:
            CorruptRecord: nothing is due but damaged records; among others, they are left out.
        """
        ...

    async def claim_tenants(self, node: UUID, now: datetime, until: datetime, limit: int) -> list[Tenant]:
        """Claim at most *limit* tenants (1,000) whose KEK versions are due, the longest due first.

        Raises:
            CorruptRecord: as claim_keys().
        """
        ...

    async def release(self, node: UUID, subjects: Sequence[KeyUid | TenantUid]) -> None:
        """Give claims back, at most 1,000; the subjects may be claimed again at once where they are still due."""
        ...


@dataclass(frozen=True, slots=True)
class TenantEpoch:
    """How often a tenant's records have changed, and the epoch of its last revocation (0 for none)."""

    changes: int
    revoked: int


@dataclass(frozen=True, slots=True)
class Node:
    """One daemon of the installation, and the newest revocation that it has acted on."""

    uid: UUID
    name: str
    started_at: datetime
    seen_at: datetime
    acknowledged: int


class Nodes(Protocol):
    """How nodes hear of changes, and of each other."""

    @property
    def shared(self) -> bool:
        """Whether other nodes may use this database; without them nothing changes but by this process."""
        ...

    async def join(self, node: Node) -> None:
        """Enter a node, before it serves; what is entered of it already is replaced."""
        ...

    async def epochs(self) -> tuple[int, Mapping[TenantUid, TenantEpoch]]:
        """Return the newest revocation's epoch, and the epoch of every tenant that has one, in one snapshot."""
        ...

    async def acknowledge(self, node: UUID, epoch: int, now: datetime) -> bool:
        """Note that a node has been seen, and has acted on all revocations up to *epoch*; False for one struck out."""
        ...

    async def nodes(self) -> list[Node]:
        """Return all nodes that have joined and not left."""
        ...

    async def leave(self, node: UUID) -> None:
        """Strike out a node that no longer serves."""
        ...

    async def leave_all(self) -> None:
        """Strike out all nodes and end their claims: where the database is not shared, whoever starts is alone."""
        ...

    async def last_seen(self) -> datetime | None:
        """Return when any node was last seen, struck out or not; None for a new installation."""
        ...

    def changes(self) -> AbstractAsyncContextManager[ChangeSignal]:
        """Listen for changes of epochs; a signal is only a hint to look sooner."""
        ...


class SinkSource(Protocol):
    """What sinks are told from, each at its own pace; every call is a transaction of its own."""

    async def claim_sink(self, sink: str, node: UUID, now: datetime, until: datetime) -> int | None:
        """Let *node* alone deliver to a sink until a time; returns the sink's position, None while another node delivers.

        A new sink begins at the end: what was there before it is not told.
        """
        ...

    async def outbox_items(self, after: int, topics: Collection[Topic], limit: int) -> list[OutboxItem]:
        """Return at most *limit* items (1,000) of all tenants and of these topics beyond a position, in order."""
        ...

    async def advance_sink(self, sink: str, node: UUID, position: int, until: datetime) -> bool:
        """Note that a sink has got all up to a position; False where another node has taken over."""
        ...

    async def release_sink(self, sink: str, node: UUID, now: datetime) -> None:
        """Let any node deliver to a sink."""
        ...


class Outbox(SinkSource, Protocol):
    """What transactions have put there for sinks, until it is old."""

    async def prune_outbox(self, before: datetime, limit: int) -> int:
        """Remove at most *limit* items (1,000) of all tenants that are older; returns how many."""
        ...


class ChangeSignal(Protocol):
    """Wakes a node that waits for changes."""

    async def wait(self, seconds: float) -> None:
        """Return at the next signal, or after that many *seconds*."""
        ...


class Storage(Counters, UseRecords, TokenUseRecords, DueWork, Nodes, Outbox, Protocol):
    """The database. Every operation has a bound that holds even when the database is frozen.

    Raises (all methods):
        StorageUnavailable: it does not answer in time, is full, read-only or gone; a write's outcome is then unknown.
    """

    def transaction(
        self, tenant: TenantUid | None = None, *, write: bool = False
    ) -> AbstractAsyncContextManager[UnitOfWork]:
        """Begin a transaction; *tenant* is told to the database, None for work over tenants.

        Without *write* it is a snapshot to read from.
        """
        ...

    def exclusive(self, name: str) -> AbstractAsyncContextManager[None]:
        """Hold a lock of that name on all nodes of the installation; a crash of the holder releases it."""
        ...

    async def scrub(self, tenant: TenantUid, cursor: ScrubCursor) -> Page:
        """Look at some of a tenant's records, first each row and then each place in its tree; says what is wrong."""
        ...

    async def check(self) -> None:
        """Make one cheap round trip, for health."""
        ...


class HealthStatus(StrEnum):
    """Health of one part."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PartHealth:
    """The health of one part, why, and in how many seconds it answered.

    *error_rate*: of what was asked of it lately the part that failed, 0 to 1, where it counts that itself.
    """

    status: HealthStatus
    reason: str = ""
    response_time: float = 0.0
    error_rate: float | None = None
