"""What every enclave can do, whatever it is made of.

A backend says in its description what it is worth: a simulated one protects nothing against the machine that it runs
on (docs/enclave.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from .identity import Identity

# A seal is for keys and small state: a large body is encrypted under a key that is sealed.
MAX_SEALED: Final = 1 << 16  # bytes of data
MAX_ASSOCIATED_DATA: Final = 1 << 14  # bytes
# To a function and back from it: a field of 1 MiB with its associated data, and what frames them.
MAX_ARGUMENT: Final = 3 << 19  # bytes
MAX_INPUTS: Final = 8  # sealed inputs of one function
REPORT_DATA_LENGTH: Final = 64  # bytes


class Policy(StrEnum):
    """Who may unseal."""

    MRENCLAVE = "mrenclave"  # the same code, whoever signed it
    MRSIGNER = "mrsigner"  # the same signer's same product, of the same or a newer security version
    HYBRID = "hybrid"  # both: the same code by the same signer; no other release ever opens it


class Freshness(StrEnum):
    """What a counter is worth against somebody who puts older state back."""

    NONE = "none"  # whoever can write its file can put an older one back
    LOCAL = "local"  # held by hardware of this machine
    QUORUM = "quorum"  # held by several machines


@dataclass(frozen=True, slots=True)
class Description:
    """What a backend says of itself."""

    backend: str
    simulated: bool
    identity: Identity
    freshness: Freshness


@dataclass(frozen=True, slots=True)
class SealedInput:
    """A sealed blob and the associated data that it was sealed with."""

    blob: bytes
    associated_data: bytes


class Enclave(Protocol):
    """An enclave, from outside; every method may raise EnclaveError."""

    def describe(self) -> Description:
        """Tell who it is and what it is worth."""

    def attest(self, report_data: bytes) -> bytes:
        """Return a quote over *report_data*, 64 bytes that bind the verifier's nonce.

        Raises:
            Unsupported: this backend cannot quote.
        """

    def seal(self, data: bytes, policy: Policy, associated_data: bytes) -> bytes:
        """Return a blob that only enclaves under *policy* open, and only with the same associated data.

        No function takes it: what a function works with, a function has sealed (domains.py).

        Args:
            data: 1 to 65,536 bytes.
            policy: who may unseal.
            associated_data: at most 16,384 bytes; not in the blob.
        """

    def unseal(self, blob: bytes, associated_data: bytes) -> bytes:
        """Undo seal(); what a function has sealed it does not open.

        Raises:
            InvalidIsvSvn: sealed by a newer version.
            InvalidCpuSvn: sealed on a newer platform.
            MacMismatch: anything else.
        """

    def create_counter(self, name: str) -> int:
        """Make a counter and return its first value.

        It is 0, or what the platform begins with: a TPM never gives a value again that a counter of it has had.

        Raises:
            InvalidParameter: the name is taken or malformed, or there are as many as there may be.
        """

    def read_counter(self, name: str) -> int:
        """Return a counter's value.

        Raises:
            UnknownCounter: no such counter.
        """

    def increment_counter(self, name: str) -> int:
        """Add one, durably, and return the new value.

        Raises:
            UnknownCounter: no such counter.
            CounterFault: it could not be made durable; the value is not given out.
        """

    def execute(self, function: str, inputs: Sequence[SealedInput], argument: bytes) -> bytes:
        """Unseal the inputs inside and run a registered function on them; the inputs' data do not come out.

        Raises:
            UnknownFunction: no such function.
            InvalidParameter: the function refuses its argument.
        """
