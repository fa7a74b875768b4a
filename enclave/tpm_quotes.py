r"""What a TPM says of the enclave that runs upon it, signed by its attestation key; and the judgement on it.

    quote  = claims (248) | length of the attestation u16 | TPMS_ATTEST | r || s (64)
    claims = label (16) | version u16 = 1 | ISVPRODID u16 | ISVSVN u16 | PCR u8 | zero (1) | MRENCLAVE (32)
             | x, y of the signer's key (64) | the signer's approval, r || s (64) | REPORTDATA (64)
    label  = "SIMULATED TPM2\0\0", or "TPM2" and zeros

Big endian. The extraData of TPMS_ATTEST are SHA-256("kms/v1/tpm-quote\0" || claims). The TPM itself vouches for the PCR, and
so for MRENCLAVE and ISVPRODID; the signer's approval for MRSIGNER and ISVSVN; the code that the PCR names for the rest.

Source: TCG TPM 2.0 Library, Part 2: TPMS_ATTEST, TPMS_QUOTE_INFO; Part 3: TPM2_Quote.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from .attestation_errors import (
    BadApproval,
    BadPolicy,
    BadSignature,
    EnclaveRevoked,
    MalformedQuote,
    SimulatedNotAllowed,
    UnknownVendor,
    WrongAttestationKey,
    WrongPcr,
)
from .attestation_policy import MAX_AGE, MAX_RULES, MAX_VALIDITY, SignerRule, check_lengths, check_time
from .errors import InvalidSignature
from .identity import INIT, Identity
from .nonces import Challenge
from .signatures import key_of_raw, low_s, verify_raw
from .tpm_policy import (
    ATTESTATION_ATTRIBUTES,
    GREATEST_PCR,
    LEAST_PCR,
    ecc_public,
    event_of,
    pcr_after,
    qualified_name_of,
    selection,
)
from .tpm_release import DEFAULT_PCR, read_approval, signer_of
from .verifier import Attested, judge_challenge, judge_signer

BACKEND: Final = "TPM2"
SIMULATED: Final = "SIMULATED TPM2"
LABEL_LENGTH: Final = 16
VERSION: Final = 1
MAX_QUOTE: Final = 1024  # bytes; those of today have 459

_CLAIMS: Final = struct.Struct(">16sHHHBx32s64s64s64s")
_ATTEST_LENGTH: Final = struct.Struct(">H")
_SIGNATURE: Final = 64
_QUALIFYING_LABEL: Final = b"kms/v1/tpm-quote\0"
_GENERATED: Final = 0xFF544347  # "\xffTCG": nothing but the TPM signs what begins so
_ATTEST_QUOTE: Final = 0x8018
_ATTEST_HEAD: Final = struct.Struct(">IH")
# clock u64, reset count u32, restart count u32, safe u8, firmware version u64: not judged
_CLOCK: Final = struct.Struct(">QIIBQ")
_NONE: Final[frozenset[bytes]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmPolicy:
    """What the quote of a TPM must show; whatever is not named here is refused.

    attestation_key is the pinned key, x || y (64 bytes), and pcr the number of the PCR. The rest is as in
    AttestationPolicy; allow_simulated has to be said for a software TPM.

    Raises:
        BadPolicy: a field is out of its range.
    """

    attestation_key: bytes
    pcr: int = DEFAULT_PCR
    measurements: frozenset[bytes] = _NONE
    signers: tuple[SignerRule, ...] = ()
    revoked_measurements: frozenset[bytes] = _NONE
    allow_simulated: bool = False
    max_age: timedelta = timedelta(minutes=1)
    validity: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        check_lengths("attestation_key", (self.attestation_key,), 64)
        check_lengths("measurements", self.measurements, 32)
        check_lengths("revoked_measurements", self.revoked_measurements, 32)
        check_time("max_age", self.max_age, MAX_AGE)
        check_time("validity", self.validity, MAX_VALIDITY)
        if self.validity < self.max_age:
            raise BadPolicy("validity: must not be below max_age")
        if not LEAST_PCR <= self.pcr <= GREATEST_PCR:
            raise BadPolicy(f"pcr: must be {LEAST_PCR} to {GREATEST_PCR}")
        if not self.measurements and not self.signers:
            raise BadPolicy("measurements, signers: one of them must have an entry")
        if len(self.signers) > MAX_RULES:
            raise BadPolicy(f"signers: must have at most {MAX_RULES} entries")


@dataclass(frozen=True, slots=True)
class Claims:
    """What is said of an enclave, of which nothing is verified yet."""

    simulated: bool
    isv_prod_id: int
    isv_svn: int
    pcr: int
    mrenclave: bytes  # 32
    signer: bytes  # 64: x || y
    approval: bytes  # 64: r || s
    report_data: bytes  # 64

    def encode(self) -> bytes:
        """Return the claims, 248 bytes."""
        return _CLAIMS.pack(
            label_of(simulated=self.simulated),
            VERSION,
            self.isv_prod_id,
            self.isv_svn,
            self.pcr,
            self.mrenclave,
            self.signer,
            self.approval,
            self.report_data,
        )


def label_of(*, simulated: bool) -> bytes:
    """Return the label (16 bytes) of what this backend makes."""
    return (SIMULATED if simulated else BACKEND).encode().ljust(LABEL_LENGTH, b"\0")


def qualifying_data(claims: bytes) -> bytes:
    """Return what the TPM is to sign besides its PCR, 32 bytes."""
    return hashlib.sha256(_QUALIFYING_LABEL + claims).digest()


def encode_quote(claims: bytes, attest: bytes, r: int, s: int) -> bytes:
    """Return a quote, its signature in the one form that is taken."""
    return claims + _ATTEST_LENGTH.pack(len(attest)) + attest + r.to_bytes(32, "big") + low_s(s).to_bytes(32, "big")


def verify_tpm_quote(quote: bytes, policy: TpmPolicy, challenge: Challenge, now: datetime) -> Attested:
    """Return what the quote of a TPM shows; the platform is known by the first 16 bytes of SHA-256 of its key.

    Raises:
        QuoteRefused: a check failed; each has an error of its own.
        ChallengeRefused: the answer came too late, or the clock went back.
    """
    claims, attest, signature = _parse(quote)
    if claims.simulated and not policy.allow_simulated:
        raise SimulatedNotAllowed("backends: the policy must allow a simulated TPM")
    try:
        pinned = key_of_raw(policy.attestation_key)
    except ValueError:
        raise WrongAttestationKey("attestation key: must be a point on P-256") from None
    if not verify_raw(pinned, signature, attest):
        raise BadSignature("quote: is not signed by the pinned attestation key")
    _judge_attest(attest, pinned, policy.pcr, claims)
    identity = _identity(claims)
    if identity.mrenclave in policy.revoked_measurements:
        raise EnclaveRevoked("MRENCLAVE: is revoked by the policy")
    if identity.mrenclave not in policy.measurements:
        judge_signer(identity, policy.signers)
    judge_challenge(claims.report_data, challenge, policy.max_age, now)
    return Attested(
        identity=identity,
        platform_id=hashlib.sha256(policy.attestation_key).digest()[:16],
        backend=SIMULATED if claims.simulated else BACKEND,
        expires=challenge.issued + policy.validity,
    )


def _parse(quote: bytes) -> tuple[Claims, bytes, bytes]:
    fixed = _CLAIMS.size + _ATTEST_LENGTH.size
    if not fixed + _SIGNATURE <= len(quote) <= MAX_QUOTE:
        raise MalformedQuote(f"quote: must be {fixed + _SIGNATURE} to {MAX_QUOTE} bytes")
    (length,) = _ATTEST_LENGTH.unpack_from(quote, _CLAIMS.size)
    if len(quote) != fixed + length + _SIGNATURE:
        raise MalformedQuote("attestation length: must be that of the rest")
    label, version, product, svn, pcr, mrenclave, signer, approval, report_data = _CLAIMS.unpack_from(quote)
    if label not in {label_of(simulated=True), label_of(simulated=False)}:
        raise UnknownVendor("label: must be of the backend TPM2")
    if version != VERSION:
        raise MalformedQuote(f"version: must be {VERSION}")
    claims = Claims(
        simulated=label == label_of(simulated=True),
        isv_prod_id=product,
        isv_svn=svn,
        pcr=pcr,
        mrenclave=mrenclave,
        signer=signer,
        approval=approval,
        report_data=report_data,
    )
    if claims.encode() != quote[: _CLAIMS.size]:
        raise MalformedQuote("claims: reserved bytes must be zero")
    return claims, quote[fixed : fixed + length], quote[-_SIGNATURE:]


def _judge_attest(attest: bytes, pinned: ec.EllipticCurvePublicKey, pcr: int, claims: Claims) -> None:
    try:
        magic, kind = _ATTEST_HEAD.unpack_from(attest)
        key, rest = _sized(attest[_ATTEST_HEAD.size :])
        extra, rest = _sized(rest)
        _CLOCK.unpack_from(rest)
        quoted = rest[_CLOCK.size :]
    except struct.error:
        raise MalformedQuote("TPMS_ATTEST: too short") from None
    if magic != _GENERATED or kind != _ATTEST_QUOTE:
        raise MalformedQuote("TPMS_ATTEST: must be a quote that the TPM has generated")
    if key != qualified_name_of(ecc_public(pinned, ATTESTATION_ATTRIBUTES)):
        raise WrongAttestationKey("qualifiedSigner: must be the pinned key, restricted, of the endorsement hierarchy")
    if extra != qualifying_data(claims.encode()):
        raise BadSignature("extraData: must be the hash of what the quote claims")
    value = pcr_after(event_of(claims.mrenclave, claims.isv_prod_id))
    expected = selection(pcr) + b"\0\x20" + hashlib.sha256(value).digest()
    if claims.pcr != pcr or quoted != expected:
        raise WrongPcr(f"PCR {pcr}: must have been extended with this measurement, and with nothing else")


def _sized(data: bytes) -> tuple[bytes, bytes]:
    (length,) = struct.unpack_from(">H", data)
    if len(data) < 2 + length:
        raise struct.error
    return data[2 : 2 + length], data[2 + length :]


def _identity(claims: Claims) -> Identity:
    try:
        signer = key_of_raw(claims.signer)
        read_approval(signer, claims.mrenclave, claims.isv_prod_id, claims.isv_svn, claims.pcr, claims.approval)
    except (ValueError, InvalidSignature):
        raise BadApproval("approval: the signer must have approved this measurement and security version") from None
    return Identity(
        mrenclave=claims.mrenclave,
        mrsigner=signer_of(signer),
        isv_prod_id=claims.isv_prod_id,
        isv_svn=claims.isv_svn,
        cpu_svn=bytes(16),
        flags=INIT,
        xfrm=0,
    )
