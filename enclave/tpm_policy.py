r"""What a TPM asks for before it gives something out: policies as values, and their digests as the TPM computes them.

    event       = SHA-256("kms/v1/tpm-measurement\0" || MRENCLAVE (32) || ISVPRODID u16)
    PCR         = SHA-256(32 zeros || event)          once extended after the reset of the TPM
    reference   = "kms/v1/tpm-release\0" || ISVPRODID u16 || ISVSVN u16
    signed      = policy digest of the PCR (32) || reference, ECDSA with SHA-256 by the signer

    mrenclave   PolicyPCR                             the TPM has been extended with this code, and nothing else
    mrsigner    PolicyPCR, PolicyAuthorize            ... with any code that the signer approved for this security version
    hybrid      PolicyPCR, PolicyAuthorize, PolicyPCR both: PolicyAuthorize begins the digest anew, the last PCR adds to it
    counter     as mrsigner for version 0, PolicyOR   the other branch is a digest that nobody reaches: it names the counter

Integers are big endian. Source: TCG TPM 2.0 Library, Part 3: PolicyPCR, PolicyAuthorize, PolicyOR; Part 1, section 16 (Names).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec

from .interface import Policy
from .signatures import raw_key

# PCRs that only a reset of the TPM clears; 16 and 23 anybody clears at any time. Source: TCG PC Client Platform TPM Profile.
LEAST_PCR: Final = 0
GREATEST_PCR: Final = 15
DIGEST_LENGTH: Final = 32

_SHA256: Final = (0x000B).to_bytes(2, "big")
_POLICY_AUTHORIZE: Final = (0x16A).to_bytes(4, "big")
_POLICY_OR: Final = (0x171).to_bytes(4, "big")
_POLICY_PCR: Final = (0x17F).to_bytes(4, "big")
_ENDORSEMENT: Final = (0x4000000B).to_bytes(4, "big")
_MEASUREMENT_LABEL: Final = b"kms/v1/tpm-measurement\0"
_RELEASE_LABEL: Final = b"kms/v1/tpm-release\0"
_COUNTER_LABEL: Final = b"kms/v1/tpm-counter\0"

# TPMT_PUBLIC of an ECDSA key on P-256: type ECC, name algorithm SHA-256, attributes, no policy, no symmetric algorithm,
# ECDSA with SHA-256, curve P-256, no KDF; then x and y, each with its length.
_ECC_PUBLIC: Final = struct.Struct(">HHIHHHHHH")
_FIXED_TPM, _FIXED_PARENT, _SENSITIVE_ORIGIN, _USER_WITH_AUTH = 1 << 1, 1 << 4, 1 << 5, 1 << 6
_NO_DA, _RESTRICTED, _SIGN = 1 << 10, 1 << 16, 1 << 18
SIGNER_ATTRIBUTES: Final = _USER_WITH_AUTH | _SIGN
# Restricted: it signs only what the TPM itself has made, so that nobody can have it sign a quote of his own making.
ATTESTATION_ATTRIBUTES: Final = (
    _FIXED_TPM | _FIXED_PARENT | _SENSITIVE_ORIGIN | _USER_WITH_AUTH | _NO_DA | _RESTRICTED | _SIGN
)


@dataclass(frozen=True, slots=True)
class PcrIs:
    """PolicyPCR: the PCR of this number has this value, 32 bytes."""

    pcr: int
    value: bytes


@dataclass(frozen=True, slots=True)
class ApprovedBy:
    """PolicyAuthorize: the key (TPMT_PUBLIC) has signed the policy reached so far, for this reference."""

    public: bytes
    approved: bytes  # 32: digest of the policy reached so far
    reference: bytes
    signature: bytes  # 64: r || s


@dataclass(frozen=True, slots=True)
class OneOf:
    """PolicyOR: the digest reached so far is one of these, 32 bytes each."""

    branches: tuple[bytes, ...]


Step: TypeAlias = PcrIs | ApprovedBy | OneOf


def digest_of(steps: Sequence[Step]) -> bytes:
    """Return the digest (32 bytes) of the policy that these steps, in this order, satisfy."""
    digest = bytes(DIGEST_LENGTH)
    for step in steps:
        match step:
            case PcrIs(pcr, value):
                digest = _sha256(digest, _POLICY_PCR, selection(pcr), _sha256(value))
            case ApprovedBy(public, _, reference, _):
                digest = _sha256(_sha256(bytes(DIGEST_LENGTH), _POLICY_AUTHORIZE, name_of(public)), reference)
            case OneOf(branches):
                digest = _sha256(bytes(DIGEST_LENGTH), _POLICY_OR, *branches)
    return digest


def selection(pcr: int) -> bytes:
    """Return TPML_PCR_SELECTION of one PCR in the bank of SHA-256."""
    return (1).to_bytes(4, "big") + _SHA256 + b"\x03" + (1 << pcr).to_bytes(3, "little")


def event_of(mrenclave: bytes, isv_prod_id: int) -> bytes:
    """Return what a start extends the PCR with, 32 bytes."""
    return _sha256(_MEASUREMENT_LABEL, mrenclave, isv_prod_id.to_bytes(2, "big"))


def pcr_after(event: bytes) -> bytes:
    """Return the value of a PCR that was extended with *event* alone since the TPM was reset."""
    return _sha256(bytes(DIGEST_LENGTH), event)


def reference_of(isv_prod_id: int, isv_svn: int) -> bytes:
    """Return what an approval is for."""
    return _RELEASE_LABEL + isv_prod_id.to_bytes(2, "big") + isv_svn.to_bytes(2, "big")


def counter_branch(name: str) -> bytes:
    """Return the branch (32 bytes) that names a counter; no session ever has this digest."""
    return _sha256(_COUNTER_LABEL, name.encode("ascii"))


def steps_for(policy: Policy, pcr: PcrIs, approval: ApprovedBy) -> tuple[Step, ...]:
    """Return what unsealing under *policy* takes."""
    match policy:
        case Policy.MRENCLAVE:
            return (pcr,)
        case Policy.MRSIGNER:
            return (pcr, approval)
        case Policy.HYBRID:
            return (pcr, approval, pcr)


def ecc_public(key: ec.EllipticCurvePublicKey, attributes: int) -> bytes:
    """Return TPMT_PUBLIC of an ECDSA key on P-256.

    Source: TCG TPM 2.0 Library, Part 2, TPMT_PUBLIC.
    """
    point = raw_key(key)
    return _ecc_head(attributes) + b"".join(b"\0\x20" + point[at : at + 32] for at in (0, 32))


def name_of(public: bytes) -> bytes:
    """Return the Name (34 bytes) of a public area: the algorithm and the hash."""
    return _SHA256 + _sha256(public)


def qualified_name_of(public: bytes) -> bytes:
    """Return the qualified Name (34 bytes) of a primary key of the endorsement hierarchy."""
    return _SHA256 + _sha256(_ENDORSEMENT, name_of(public))


def _ecc_head(attributes: int) -> bytes:
    return _ECC_PUBLIC.pack(0x0023, 0x000B, attributes, 0, 0x0010, 0x0018, 0x000B, 0x0003, 0x0010)


# What the TPM derives the attestation key from: empty x and y.
ATTESTATION_TEMPLATE: Final = _ecc_head(ATTESTATION_ATTRIBUTES) + bytes(4)


def _sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()
