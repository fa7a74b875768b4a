"""The migration of a tenant's seals from one enclave to its successor, as a value.

    PREPARING --prepare--> PREPARED --finish--> FINISHING --complete--> COMPLETED
        |                     |                    |
        +-------force---------+---> FINISHING      |
        +--------cancel-------+--------------------+---> CANCELLED

The old enclave prepares: what only its own code opens it seals anew so that any enclave of the signer opens it. The new one
finishes: it brings all to the policy that was asked for, its own measurement and security version. ADR 0014.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NewType
from uuid import UUID

from .errors import FailedPrecondition
from .names import EnclaveUpgradeName, TenantUid
from .operations import OperationUid
from .seals import SealedBy, Sealing

UpgradeUid = NewType("UpgradeUid", UUID)

MEASUREMENT_LENGTH: Final = 32  # bytes
LARGEST_SVN: Final = 0xFFFF
MOST_UPGRADES: Final = 1_000  # of one tenant, ever: they are few, and are read whole


class UpgradeState(StrEnum):
    """How an upgrade stands."""

    PREPARING = "preparing"  # the old enclave seals to the signer what is sealed to its measurement
    PREPARED = "prepared"  # nothing of a tenant's is sealed to the old measurement; the package may be replaced
    FINISHING = "finishing"  # the new enclave seals everything anew
    COMPLETED = "completed"
    CANCELLED = "cancelled"  # what was prepared is brought back


class UpgradeEvent(StrEnum):
    """What may happen to an upgrade."""

    PREPARE = "prepare"  # nothing is left to be prepared
    FINISH = "finish"
    FORCE = "force"  # finish, whatever does not open in the new enclave
    COMPLETE = "complete"
    CANCEL = "cancel"


_S = UpgradeState
_E = UpgradeEvent

TRANSITIONS: Final = MappingProxyType(
    {
        (_S.PREPARING, _E.PREPARE): _S.PREPARED,
        (_S.PREPARED, _E.FINISH): _S.FINISHING,
        (_S.PREPARING, _E.FORCE): _S.FINISHING,
        (_S.PREPARED, _E.FORCE): _S.FINISHING,
        # Asked for again, it goes on.
        (_S.FINISHING, _E.FINISH): _S.FINISHING,
        (_S.FINISHING, _E.FORCE): _S.FINISHING,
        (_S.FINISHING, _E.COMPLETE): _S.COMPLETED,
        (_S.PREPARING, _E.CANCEL): _S.CANCELLED,
        (_S.PREPARED, _E.CANCEL): _S.CANCELLED,
        # Where the target is no more: what is not sealed to it yet can be brought to another one.
        (_S.FINISHING, _E.CANCEL): _S.CANCELLED,
    }
)
OPEN: Final = (_S.PREPARING, _S.PREPARED, _S.FINISHING)


@dataclass(frozen=True, slots=True)
class EnclaveUpgrade:
    """One upgrade of one tenant's seals."""

    uid: UpgradeUid
    tenant: TenantUid
    mrenclave: bytes  # 32 bytes: of the enclave that finishes
    isv_svn: int
    from_mrenclave: bytes  # 32 bytes: of the one that ran when it was asked for
    from_isv_svn: int
    state: UpgradeState
    state_at: datetime
    created_at: datetime
    created_by: str
    operation: OperationUid | None = None  # the last one that works on it
    forced_by: str = ""  # who has it finished whatever does not open
    revision: int = 0

    def name(self, tenant_slug: str) -> EnclaveUpgradeName:
        """The resource name."""
        return EnclaveUpgradeName(tenant_slug, self.uid)

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.state in OPEN

    def is_target(self, running: SealedBy) -> bool:
        """Whether this enclave is the one that was approved."""
        return (running.mrenclave, running.isv_svn) == (self.mrenclave, self.isv_svn)

    def is_source(self, running: SealedBy) -> bool:
        """Whether this enclave is the one that prepares."""
        return running.mrenclave == self.from_mrenclave

    def after(self, event: UpgradeEvent, now: datetime) -> EnclaveUpgrade:
        """Return the upgrade after *event*.

        Raises:
            FailedPrecondition: its state does not allow that.
        """
        state = TRANSITIONS.get((self.state, event))
        if state is None:
            raise FailedPrecondition(f"the upgrade is {self.state}: it cannot {event}")
        return replace(self, state=state, state_at=self.state_at if state is self.state else now)


def policy_for(wanted: Sealing, upgrade: EnclaveUpgrade | None, running: SealedBy) -> Sealing:
    """Return the policy that a seal of the running enclave takes, *upgrade* being the one that is open, if any.

    Until the new enclave runs, nothing is sealed so that only the old one opens it.
    """
    if upgrade is not None and upgrade.is_open and not upgrade.is_target(running):
        return Sealing.MRSIGNER
    return wanted


def due(upgrade: EnclaveUpgrade, wanted: Sealing, policy: Sealing, by: SealedBy | None, running: SealedBy) -> bool:
    """Whether a seal that has *policy* now, made by *by*, is to be made anew for this upgrade as it stands."""
    match upgrade.state:
        case UpgradeState.PREPARING:
            return policy is not Sealing.MRSIGNER
        case UpgradeState.FINISHING:
            return policy is not wanted or by != running
        case UpgradeState.CANCELLED:
            return policy is not wanted
        case UpgradeState.PREPARED | UpgradeState.COMPLETED:
            return False


def check_enclave(upgrade: EnclaveUpgrade, running: SealedBy) -> None:
    """Let only the enclave that was approved for it seal anew.

    Raises:
        FailedPrecondition: another one runs.
    """
    if upgrade.state is UpgradeState.FINISHING:
        right = upgrade.is_target(running)
    elif upgrade.state is UpgradeState.CANCELLED:
        right = upgrade.is_source(running) or upgrade.is_target(running)
    else:
        right = upgrade.is_source(running)
    if not right:
        raise FailedPrecondition(
            f"the enclave that runs ({spoken(running.mrenclave, running.isv_svn)}) is not the one for this:"
            f" the upgrade is {upgrade.state}, from {spoken(upgrade.from_mrenclave, upgrade.from_isv_svn)}"
            f" to {spoken(upgrade.mrenclave, upgrade.isv_svn)}"
        )


def spoken(mrenclave: bytes, isv_svn: int) -> str:
    """Name an enclave in a message."""
    return f"mrenclave {mrenclave.hex()}, isv_svn {isv_svn}"
