r"""The structure that says whose an enclave on a TPM is: for this backend what sigstruct.py is for the simulated one.

    "kms/v1/tpm-release\0" (19) | MRENCLAVE (32) | ISVPRODID u16 | ISVSVN u16 | PCR u8 | x, y of the signer's key (64)
    | for each security version from 0 to ISVSVN: the approval, ECDSA on P-256 with SHA-256, r || s (64)

Big endian. An approval signs the policy of the PCR's value and a reference (tpm_policy.py), so that the TPM itself
verifies it before it unseals: an older release has no approval for a newer security version. MRSIGNER is the digest in the
Name of the signer's key, by which the TPM knows it. A key on P-256 and not the RSA of sigstruct.py, because a TPM
need not take RSA with another exponent than 65,537.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from .errors import InvalidParameter, InvalidSignature
from .identity import INIT, Identity
from .signatures import key_of_raw, raw_key, sign_raw, verify_raw
from .tpm_policy import (
    GREATEST_PCR,
    LEAST_PCR,
    SIGNER_ATTRIBUTES,
    ApprovedBy,
    PcrIs,
    digest_of,
    ecc_public,
    event_of,
    name_of,
    pcr_after,
    reference_of,
)

MAX_SVN: Final = 255  # there is an approval for each
# PCR 13: of those that only a reset clears the one that least software uses (systemd-stub: system extensions).
# Source: UAPI Group, Linux TPM PCR Registry.
DEFAULT_PCR: Final = 13
_LABEL: Final = b"kms/v1/tpm-release\0"
_HEADER: Final = struct.Struct(">19s32sHHB64s")
_SIGNATURE: Final = 64


@dataclass(frozen=True, slots=True)
class Release:
    """A verified release: who the enclave is, and what unseals for it."""

    identity: Identity
    signer: bytes  # 64: x || y of the signer's key
    event: bytes  # 32: what the start extends the PCR with
    pcr: PcrIs
    approvals: tuple[ApprovedBy, ...]  # by security version, from 0


def sign_release(
    mrenclave: bytes, isv_prod_id: int, isv_svn: int, key: ec.EllipticCurvePrivateKey, pcr: int = DEFAULT_PCR
) -> bytes:
    """Return the signed structure, 120 bytes and 64 for each security version.

    Args:
        mrenclave: what is measured at the start, 32 bytes.
        isv_prod_id: product of the signer, 16 bits.
        isv_svn: its security version, at most 255; it opens what this and lower ones have sealed.
        key: the signer's, on P-256.
        pcr: which PCR the start extends, 0 to 15.

    Raises:
        InvalidParameter: a field does not fit.
    """
    if not isinstance(key.curve, ec.SECP256R1):
        raise InvalidParameter("signing key: on P-256")
    if len(mrenclave) != 32 or not 0 <= isv_prod_id < 1 << 16 or not 0 <= isv_svn <= MAX_SVN:
        raise InvalidParameter(f"release: mrenclave has 32 bytes, isv_prod_id 16 bits, isv_svn is at most {MAX_SVN}")
    if not LEAST_PCR <= pcr <= GREATEST_PCR:
        raise InvalidParameter(f"pcr: {LEAST_PCR} to {GREATEST_PCR}; anybody clears the others")
    approved = _policy_of(mrenclave, isv_prod_id, pcr)
    header = _HEADER.pack(_LABEL, mrenclave, isv_prod_id, isv_svn, pcr, raw_key(key.public_key()))
    return header + b"".join(
        sign_raw(key, approved + reference_of(isv_prod_id, version)) for version in range(isv_svn + 1)
    )


def parse_release(data: bytes, mrenclave: bytes) -> Release:
    """Return what a structure says of the measured code.

    Args:
        data: the signed structure.
        mrenclave: what has been measured, 32 bytes.

    Raises:
        InvalidSignature: it is no such structure, is of other code, or an approval is not the signer's.
    """
    release = verified_release(data)
    if release.identity.mrenclave != mrenclave:
        raise InvalidSignature("MRENCLAVE: the release was signed for other code")
    return release


def verified_release(data: bytes) -> Release:
    """Return what a structure says, of whatever code.

    Raises:
        InvalidSignature: it is no such structure, or an approval is not the signer's.
    """
    if len(data) < _HEADER.size:
        raise InvalidSignature("release: too short")
    label, mrenclave, product, svn, pcr, raw = _HEADER.unpack_from(data)
    if label != _LABEL or svn > MAX_SVN or not LEAST_PCR <= pcr <= GREATEST_PCR:
        raise InvalidSignature("release: is not one of this format")
    if len(data) != _HEADER.size + (svn + 1) * _SIGNATURE:
        raise InvalidSignature("release: has one approval for each security version from 0 to its own")
    try:
        key = key_of_raw(raw)
    except ValueError:
        raise InvalidSignature("release: the signer's key is no point on P-256") from None
    approvals = tuple(
        read_approval(key, mrenclave, product, version, pcr, data[at : at + _SIGNATURE])
        for version, at in enumerate(range(_HEADER.size, len(data), _SIGNATURE))
    )
    identity = Identity(
        mrenclave=mrenclave,
        mrsigner=signer_of(key),
        isv_prod_id=product,
        isv_svn=svn,
        cpu_svn=bytes(16),
        flags=INIT,
        xfrm=0,
    )
    event = event_of(mrenclave, product)
    return Release(identity, raw, event, PcrIs(pcr, pcr_after(event)), approvals)


def read_approval(
    key: ec.EllipticCurvePublicKey, mrenclave: bytes, isv_prod_id: int, isv_svn: int, pcr: int, signature: bytes
) -> ApprovedBy:
    """Return an approval (64 bytes) that is the key's for this code, product and security version.

    Raises:
        InvalidSignature: it is not.
    """
    approved, reference = _policy_of(mrenclave, isv_prod_id, pcr), reference_of(isv_prod_id, isv_svn)
    if not verify_raw(key, signature, approved + reference):
        raise InvalidSignature(f"release: the approval for security version {isv_svn} is not the signer's")
    return ApprovedBy(ecc_public(key, SIGNER_ATTRIBUTES), approved, reference, signature)


def signer_of(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return MRSIGNER of a signer's key, 32 bytes."""
    return name_of(ecc_public(key, SIGNER_ATTRIBUTES))[2:]


def _policy_of(mrenclave: bytes, isv_prod_id: int, pcr: int) -> bytes:
    return digest_of((PcrIs(pcr, pcr_after(event_of(mrenclave, isv_prod_id))),))
