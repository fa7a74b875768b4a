"""Who has sealed a key, which seals an enclave opens, and how many there are of each kind.

A key version of level ENCLAVE and the key of a blob are stored as KEK-wrap(seal(key)). What stands beside the seal tells who
made it, so that an upgrade of the enclave knows what to seal anew. It decides nothing but that: what a seal opens in is the
seal's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Sealing(StrEnum):
    """Which enclaves open a sealed key."""

    MRENCLAVE = "mrenclave"
    MRSIGNER = "mrsigner"
    HYBRID = "hybrid"


@dataclass(frozen=True, slots=True)
class SealedBy:
    """The enclave that has sealed, or that runs."""

    mrenclave: bytes  # 32 bytes
    mrsigner: bytes  # 32 bytes
    isv_svn: int
    simulated: bool

    def opens(self, policy: Sealing, sealer: SealedBy | None) -> bool:
        """Whether this enclave opens what *sealer* has sealed under *policy*, as far as is known of it; None: nothing is.

        Platform, product and attributes are not asked for. Source: docs/enclave.md, who unseals what.
        """
        if sealer is None:
            return True
        if sealer.isv_svn > self.isv_svn:
            return False
        if policy is Sealing.MRENCLAVE:
            return sealer.mrenclave == self.mrenclave
        if policy is Sealing.MRSIGNER:
            return sealer.mrsigner == self.mrsigner
        return (sealer.mrenclave, sealer.mrsigner) == (self.mrenclave, self.mrsigner)


class SealKind(StrEnum):
    """What a sealed key is the key of."""

    KEY_VERSION = "key_version"  # of level ENCLAVE, and not destroyed
    BLOB = "blob"
    UPLOAD = "upload"  # a blob that is not whole yet


@dataclass(frozen=True, slots=True)
class SealCount:
    """How many keys of one kind are sealed alike."""

    kind: SealKind
    wanted: Sealing
    policy: Sealing  # which the seal has now
    by: SealedBy | None  # None: sealed before that was recorded
    count: int
