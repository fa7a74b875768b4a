"""The enclave of a daemon, its answer to a challenge, and the migration of sealed keys to another one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class EnclaveMeasure:
    """One thing that closes an enclave's process off, and whether it took effect."""

    name: str
    done: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Enclave:
    """Who the enclave of the daemon that answers is; the fields of its identity are empty while it is not in use."""

    backend: str
    simulated: bool  # SIMULATED: it protects nothing from the machine that it runs on
    in_use: bool
    state: str  # of its process; none where the daemon has no enclave
    reason: str  # why it is not in use, or why the process before ended
    restarts: int
    mrenclave: bytes  # 32 bytes
    mrsigner: bytes  # 32 bytes
    isv_prod_id: int
    isv_svn: int
    cpu_svn: bytes  # 16 bytes
    debug: bool
    freshness: str  # of its counters: none, local or quorum
    measures: tuple[EnclaveMeasure, ...]
    platform_id: bytes  # 16 bytes, of the last quote that the daemon has verified
    attest_time: datetime | None
    attest_expire_time: datetime | None


@dataclass(frozen=True, slots=True)
class NodeEnclave:
    """The enclave of one daemon on one platform, as that daemon last told of it."""

    name: str  # enclaves/{uid}
    node: str  # the daemon's stable name
    node_uid: str  # of the daemon's process, as list_nodes() has it while it runs
    backend: str
    simulated: bool  # SIMULATED: it protects nothing from the machine that it runs on
    mrenclave: bytes  # 32 bytes
    mrsigner: bytes  # 32 bytes
    isv_prod_id: int
    isv_svn: int
    cpu_svn: bytes  # 16 bytes
    debug: bool
    freshness: str  # of its counters: none, local or quorum
    platform_id: bytes  # 16 bytes
    measures: tuple[EnclaveMeasure, ...]
    attestation_status: str  # pending, valid, invalid, expired or revoked
    attestation_reason: str
    quote: bytes  # the last one; nothing of it has been verified here
    signature: bytes  # of the attestation key, which is in the quote
    attest_time: datetime | None
    attest_expire_time: datetime | None
    state: str  # of its process
    restarts: int
    active: bool  # whether its process runs, by the word of a daemon that is heard of
    health: str  # healthy, degraded or unhealthy
    health_reason: str
    create_time: datetime | None  # when this daemon first told of this measurement
    update_time: datetime | None
    revision: int


@dataclass(frozen=True, slots=True)
class EnclaveQuote:
    """A quote and the revocation lists (DER; a TPM has none) that it is verified with; nothing has been verified."""

    quote: bytes
    root_list: bytes
    platform_list: bytes


@dataclass(frozen=True, slots=True)
class EnclaveUpgrade:
    """The migration of a tenant's sealed keys: `tenants/{tenant}/enclaveUpgrades/{upgrade}`."""

    name: str
    mrenclave: bytes  # 32 bytes: of the enclave that finishes
    isv_svn: int
    from_mrenclave: bytes  # 32 bytes: of the one that ran when it was asked for
    from_isv_svn: int
    state: str  # `preparing`, `prepared`, `finishing`, `completed` or `cancelled`
    state_time: datetime
    create_time: datetime
    creator: str
    operation: str  # the last one that works on it; empty where there was nothing to do
    forced_by: str  # who has it finished though keys do not open in the new enclave


@dataclass(frozen=True, slots=True)
class SealCount:
    """How many keys of one kind are sealed alike."""

    kind: str  # `key_version`, `blob` or `upload`
    wanted_policy: str  # `mrenclave`, `mrsigner` or `hybrid`
    policy: str  # as it is now
    recorded: bool  # whether it is known who has sealed them; what follows is empty where it is not
    mrenclave: bytes  # 32 bytes
    mrsigner: bytes  # 32 bytes
    isv_svn: int
    simulated: bool
    this_enclave: bool  # whether the enclave of the daemon that answers has this measurement
    count: int
