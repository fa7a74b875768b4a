"""The enclaves of an installation, as their nodes tell of them; and what their words are worth now."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, NewType, Protocol
from uuid import UUID

from .enclave_ports import AttestationState, EnclaveFacts, Verdict
from .names import TenantUid
from .ports import HealthStatus, Node
from .seals import SealedBy

EnclaveUid = NewType("EnclaveUid", UUID)

# A node says every ten seconds that it is there (kms/services/membership.py); so several may fail, and clocks differ.
HEARD_WITHIN: Final = timedelta(seconds=60)
MAX_QUOTE: Final = 16_384  # bytes; a test compares it with the enclave's own
# Where the attestation key's signature stands in a quote: docs/attestation.md.
SGX_SIGNATURE: Final = slice(436, 500)  # version 3
TPM_SIGNATURE: Final = slice(-64, None)
_TPM_LABELS: Final = (b"SIMULATED TPM2", b"TPM2")
LONGEST_REASON: Final = 1_024  # characters


@dataclass(frozen=True, slots=True)
class EnclaveRecord:
    """The enclave of one node on one platform, as that node last told of it."""

    uid: EnclaveUid
    node: str  # the node's stable name
    node_uid: UUID  # of the daemon that told this, new at every start
    platform_id: bytes  # 16 bytes, by the settings: a simulated platform's own, of a TPM that of its storage root key
    facts: EnclaveFacts
    verdict: Verdict
    state: str  # of its process, such as "running"
    restarts: int
    active: bool  # whether its process runs
    health: HealthStatus
    health_reason: str
    started_at: datetime  # when this daemon first told of this measurement
    changed_at: datetime
    revision: int = 0

    def __post_init__(self) -> None:
        if len(self.platform_id) != 16 or len(self.facts.mrenclave) != 32 or len(self.facts.mrsigner) != 32:
            raise ValueError("a platform has 16 bytes, a measurement and a signer 32")
        if len(self.verdict.quote) > MAX_QUOTE:
            raise ValueError(f"a quote has at most {MAX_QUOTE} bytes")

    @property
    def name(self) -> str:
        """Its resource name."""
        return f"enclaves/{self.uid}"

    @property
    def signature(self) -> bytes:
        """The attestation key's signature in the quote, 64 bytes; empty where there is no quote."""
        quote = self.verdict.quote
        return quote[TPM_SIGNATURE if quote.startswith(_TPM_LABELS) else SGX_SIGNATURE]


class EnclaveRepository(Protocol):
    """The enclaves of the installation; *tenant* is its uid."""

    async def find(self, tenant: TenantUid, node: str, platform_id: bytes) -> EnclaveRecord | None:
        """Return the enclave of a node on a platform."""
        ...

    async def list_after(
        self, tenant: TenantUid, after: EnclaveUid | None, limit: int, living: Collection[UUID] | None
    ) -> list[EnclaveRecord]:
        """Return at most *limit* enclaves beyond one, by uid: all, or those that run on one of *living*, daemons' uids."""
        ...

    async def of_nodes(self, tenant: TenantUid, nodes: Collection[UUID]) -> list[EnclaveRecord]:
        """Return what these daemons (1,000) have told, running or not, by uid."""
        ...

    async def put(self, tenant: TenantUid, record: EnclaveRecord) -> EnclaveRecord:
        """Store a new enclave, or a changed one over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another, or the node has one on this platform.
        """
        ...

    async def remove_ended(
        self, tenant: TenantUid, living: Collection[UUID], before: datetime, keep: int, limit: int
    ) -> int:
        """Remove enclaves that none of *living* tells of: told last before a time, or beyond the *keep* newest of them.

        At most *limit* (1,000) at once; returns how many.
        """
        ...


def living(nodes: Iterable[Node], now: datetime) -> dict[UUID, Node]:
    """Return the nodes that have been heard of lately, by their uids; a time ahead of ours is lately."""
    return {node.uid: node for node in nodes if now - node.seen_at <= HEARD_WITHIN}


def as_of(record: EnclaveRecord, alive: Collection[UUID], now: datetime) -> EnclaveRecord:
    """Return what a record is worth now: what was shown may have expired, and who told it may be gone."""
    verdict = record.verdict
    if verdict.state is AttestationState.VALID and verdict.expires is not None and verdict.expires <= now:
        record = replace(record, verdict=replace(verdict, state=AttestationState.EXPIRED))
    if record.active and record.node_uid not in alive:
        reason = f"nothing has been heard of its node for {HEARD_WITHIN.total_seconds():g} seconds, or it has left"
        record = replace(record, active=False, health=HealthStatus.UNHEALTHY, health_reason=reason)
    return record


@dataclass(frozen=True, slots=True)
class LiveNode:
    """A node that is heard of, and its enclave: None where it has none, or has not told of it yet."""

    node: Node
    enclave: EnclaveRecord | None


def others_than(nodes: Sequence[LiveNode], runs: SealedBy) -> list[EnclaveRecord]:
    """Return the enclaves among those of live nodes that are another one, running or not."""
    return [one.enclave for one in nodes if one.enclave is not None and one.enclave.facts.sealer != runs]
