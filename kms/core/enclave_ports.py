"""What the services need of an enclave: FORMATS section 9. kms/enclave_host.py implements it; enclave/ has what runs there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Protocol

from .ports import PartHealth
from .seals import SealedBy

# What one call of a function takes; a test compares them with the enclave's own.
MAX_ITEMS: Final = 1000  # of encrypt and decrypt
MAX_ARGUMENT: Final = 3 << 19  # bytes of msgpack


@dataclass(frozen=True, slots=True)
class EnclaveFacts:
    """Who the enclave that runs now says it is, from its greeting."""

    backend: str
    simulated: bool
    freshness: str  # what its counters are worth: none, local or quorum
    mrenclave: bytes  # 32 bytes
    mrsigner: bytes  # 32 bytes
    isv_prod_id: int
    isv_svn: int
    cpu_svn: bytes  # 16 bytes
    debug: bool
    measures: tuple[tuple[str, bool, str], ...]  # what closes it off: name, whether it took effect, detail

    @property
    def sealer(self) -> SealedBy:
        """What is recorded beside what it seals."""
        return SealedBy(self.mrenclave, self.mrsigner, self.isv_svn, self.simulated)


@dataclass(frozen=True, slots=True)
class SealedInput:
    """A sealed blob, and the associated data that it was sealed with."""

    blob: bytes
    associated_data: bytes


@dataclass(frozen=True, slots=True)
class EnclaveShown:
    """What the enclave has last shown in a quote that was verified here."""

    platform_id: bytes  # 16 bytes
    time: datetime
    expires: datetime  # it has to be shown again by then


class AttestationState(StrEnum):
    """What the last attestation of an enclave has come to."""

    PENDING = "pending"  # its process has not answered yet
    VALID = "valid"
    INVALID = "invalid"  # it has not shown what the policy asks for, or could not be judged
    EXPIRED = "expired"  # what it has shown counts no longer; by the time of whoever looks
    REVOKED = "revoked"  # a revocation list, or the policy's own, names it, its platform or a certificate


@dataclass(frozen=True, slots=True)
class Verdict:
    """The last attestation of a process: what came of it, why it was refused, the quote, when it was and ends."""

    state: AttestationState = AttestationState.PENDING
    reason: str = ""
    quote: bytes = b""  # as it came; empty where none did
    time: datetime | None = None
    expires: datetime | None = None


NOT_YET: Final = Verdict()


@dataclass(frozen=True, slots=True)
class EnclaveStatus:
    """How the enclave of this node is."""

    state: str  # of its process, such as "running"
    reason: str  # why it is not in use, or why the process before ended
    restarts: int
    simulated: bool
    facts: EnclaveFacts | None  # None where it is not in use
    shown: EnclaveShown | None
    greeted: EnclaveFacts | None = None  # who runs, in use or not
    verdict: Verdict = NOT_YET


@dataclass(frozen=True, slots=True)
class EnclaveAnswer:
    """An answer to a challenge, and the lists that it is verified with: empty where its kind has none."""

    quote: bytes
    root_list: bytes = b""  # DER
    platform_list: bytes = b""  # DER


class Enclave(Protocol):
    """The enclave of this node; each method may raise EnclaveUnavailable."""

    @property
    def facts(self) -> EnclaveFacts | None:
        """Who runs; None while nobody does."""

    async def health(self) -> PartHealth:
        """Tell whether it answers."""

    async def attest(self, report_data: bytes) -> bytes:
        """Return a quote over 64 bytes of report data.

        Raises:
            NotSupported: this backend cannot quote.
        """

    async def execute(self, function: str, inputs: Sequence[SealedInput], argument: object) -> Any:
        """Run a function that is registered in enclave/functions.py; argument and answer are what msgpack carries.

        Raises:
            CorruptRecord: an input does not open in this enclave, for whatever reason.
            FailedPrecondition: it was sealed by a newer version of the enclave or on a newer platform.
            NotSupported: this enclave has no such function.
        """


class NodeEnclave(Enclave, Protocol):
    """The enclave that the daemon itself keeps running; each method may raise EnclaveUnavailable."""

    @property
    def platform_id(self) -> bytes:
        """The platform that it runs on by the settings, 16 bytes."""

    def overview(self) -> EnclaveStatus:
        """Tell how it is, without asking it."""

    def watch(self, changed: Callable[[], None]) -> None:
        """Call *changed*, which must not wait, whenever the overview has changed."""

    async def answer(self, nonce: bytes, channel_key: bytes, claims: bytes) -> EnclaveAnswer:
        """Answer a challenge of somebody else: a nonce of 32 bytes, the public key of a channel, and claims.

        Raises:
            NotSupported: this backend cannot quote.
        """
