"""The judgement on a quote: bytes, policy, collateral, challenge and time in; who it is, or the check that failed, out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from .attestation_errors import (
    BadQuotingReport,
    BadSignature,
    ClockWentBack,
    DebugEnclave,
    EnclaveNotAllowed,
    EnclaveRevoked,
    NonceExpired,
    NotInitialised,
    PlatformRevoked,
    PlatformTooOld,
    SecurityVersionTooLow,
    SimulatedNotAllowed,
    UnboundKey,
    UnexpectedFeatures,
    WrongQuotingEnclave,
    WrongReportData,
)
from .attestation_policy import AttestationPolicy, SignerRule
from .chain import Collateral, verify_chain
from .identity import Identity
from .nonces import Challenge
from .quotes import SIMULATED, Quote, challenge_binding, key_binding, parse_quote
from .signatures import key_of_raw, verify_raw

BACKEND: Final = SIMULATED


@dataclass(frozen=True, slots=True)
class Attested:
    """What a quote has shown: who the enclave is, on which platform (16 bytes) of which backend, and until when.

    It is known by these fields, never by a hash of the quote's bytes.
    """

    identity: Identity
    platform_id: bytes
    backend: str
    expires: datetime


def verify(
    quote: bytes, policy: AttestationPolicy, collateral: Collateral, challenge: Challenge, now: datetime
) -> Attested:
    """Return what a quote shows; the numbers in the comments are those of the checks in docs/attestation.md.

    Source: intel/SGX-TDX-DCAP-QuoteVerificationLibrary, QuoteVerifier, and what it leaves to its caller.

    Raises:
        QuoteRefused: a check failed; each has an error of its own.
        ChallengeRefused: the answer came too late, or the clock went back.
    """
    parsed = parse_quote(quote)  # 1
    if BACKEND not in policy.backends:  # 2
        raise SimulatedNotAllowed(f"backends: the policy must name {BACKEND}")
    certified, ends = verify_chain(  # 3 to 6
        parsed.chain,
        parsed.platform_id,
        policy.root,
        collateral,
        (policy.least_root_list, policy.least_platform_list),
        now,
    )
    if not verify_raw(certified, parsed.qe_signature, parsed.qe_body.encode()):  # 7
        raise BadQuotingReport("QE report: is not signed by the certified key")
    if parsed.qe_body.report_data != key_binding(parsed.attestation_key, parsed.auth_data):  # 8
        raise UnboundKey("QE report: must name the attestation key")
    _judge_quoting(parsed, policy)  # 9
    _judge_signature(parsed)  # 10
    _judge_enclave(parsed.body.identity, policy)  # 11 to 14
    if parsed.platform_id in policy.revoked_platforms:  # 15
        raise PlatformRevoked("platform: is revoked by the policy")
    judge_challenge(parsed.body.report_data, challenge, policy.max_age, now)  # 16, 17
    return Attested(
        identity=parsed.body.identity,
        platform_id=parsed.platform_id,
        backend=BACKEND,
        expires=min(ends, challenge.issued + policy.validity),
    )


def _judge_quoting(quote: Quote, policy: AttestationPolicy) -> None:
    identity = quote.qe_body.identity
    if not identity.initialised or identity.debug:
        raise WrongQuotingEnclave("QE report: must be initialised and not in debug mode")
    if not policy.quoting.same_product(identity) or identity.isv_svn < policy.quoting.least_isv_svn:
        raise WrongQuotingEnclave("QE report: must be of the policy's signer, product and security version")
    if not _reaches(identity.cpu_svn, policy.least_cpu_svn):
        raise WrongQuotingEnclave("QE report: must be of a platform with the policy's CPUSVN")
    if quote.qe_svn != identity.isv_svn:
        raise WrongQuotingEnclave("QE SVN: must be that of the QE report")


def _judge_signature(quote: Quote) -> None:
    try:
        key = key_of_raw(quote.attestation_key)
    except ValueError:
        raise BadSignature("attestation key: must be a point on P-256") from None
    if not verify_raw(key, quote.signature, quote.signed):
        raise BadSignature("quote: is not signed by its attestation key")


def _judge_enclave(identity: Identity, policy: AttestationPolicy) -> None:
    if not identity.initialised:
        raise NotInitialised("attributes: INIT must be set")
    if identity.debug:
        raise DebugEnclave("attributes: DEBUG must not be set")
    if identity.misc_select != policy.misc_select:
        raise UnexpectedFeatures("MISCSELECT: must be the policy's")
    if identity.config_id not in policy.config_ids or identity.config_svn < policy.least_config_svn:
        raise UnexpectedFeatures("CONFIGID, CONFIGSVN: must be the policy's")
    if identity.mrenclave in policy.revoked_measurements:
        raise EnclaveRevoked("MRENCLAVE: is revoked by the policy")
    if identity.mrenclave not in policy.measurements:
        judge_signer(identity, policy.signers)
    if not _reaches(identity.cpu_svn, policy.least_cpu_svn):
        raise PlatformTooOld("CPUSVN: each component must reach the policy's")


def judge_signer(identity: Identity, rules: tuple[SignerRule, ...]) -> None:
    """Refuse an enclave whose product, or whose security version, no rule allows.

    Raises:
        QuoteRefused: EnclaveNotAllowed or SecurityVersionTooLow.
    """
    of_product = [rule for rule in rules if rule.same_product(identity)]
    if not of_product:
        raise EnclaveNotAllowed("MRENCLAVE, MRSIGNER, ISVPRODID: must be the policy's")
    if all(identity.isv_svn < rule.least_isv_svn for rule in of_product):
        raise SecurityVersionTooLow("ISVSVN: must reach the policy's")


def _reaches(cpu_svn: bytes, least: bytes) -> bool:
    """Return whether each of the 16 components reaches its least: CPUSVN has no order as a number."""
    return all(one >= other for one, other in zip(cpu_svn, least, strict=True))


def judge_challenge(report_data: bytes, challenge: Challenge, max_age: timedelta, now: datetime) -> None:
    """Refuse report data (64 bytes) that do not answer the challenge, or an answer that came too late.

    Raises:
        WrongReportData: another nonce, channel or claims.
        ChallengeRefused: ClockWentBack or NonceExpired.
    """
    if report_data != challenge_binding(challenge.nonce, challenge.channel_key, challenge.claims):
        raise WrongReportData("REPORTDATA: must answer this nonce, channel and claims")
    if now < challenge.issued:
        raise ClockWentBack("nonce: was issued later than now")
    if now - challenge.issued > max_age:
        raise NonceExpired(f"nonce: must be answered within {max_age}")
