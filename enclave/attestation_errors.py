"""Why a report or a quote is refused: one error for each check, so that a refusal says which one failed.

AttestationError
|-- ReportRefused
|   |-- MalformedReport         a report's bytes are not of its structure
|   `-- ForgedReport            its MAC is not of this platform and this target
|-- ChallengeRefused
|   |-- UnknownNonce            never issued, used before, or forgotten
|   |-- NonceExpired            issued too long ago
|   |-- ClockWentBack           issued later than now
|   `-- TooManyChallenges       no room for another one; retry later
|-- QuoteRefused                evidence does not show what the policy asks for
|   |-- MalformedQuote          a quote's bytes are not of its structure
|   |-- UnknownVendor           the quoting enclave is of nobody known
|   |-- SimulatedNotAllowed     the policy does not name the backend SIMULATED
|   |-- UntrustedRoot           the root is not the pinned one
|   |-- BrokenChain             names, constraints, extensions or signatures of the certificates
|   |-- CertificateNotCurrent   a certificate is not valid yet, or no longer
|   |-- BadRevocationList       a list is missing, of somebody else, unsigned or older than one seen
|   |-- RevocationListExpired   a list is not valid yet, or no longer
|   |-- CertificateRevoked      a list names the platform's or the quoting certificate
|   |-- WrongPlatform           quote and certificates are of different platforms
|   |-- BadQuotingReport        the certified key has not signed the quoting enclave's report
|   |-- UnboundKey              the quoting enclave's report does not name the attestation key
|   |-- WrongQuotingEnclave     the quoting enclave is not the policy's
|   |-- BadSignature            the attestation key has not signed the quote
|   |-- WrongAttestationKey     the TPM's attestation key is not the pinned one
|   |-- WrongPcr                the TPM was not extended with this measurement, or with more
|   |-- BadApproval             the signer has not approved this measurement for this security version
|   |-- NotInitialised          INIT is not set
|   |-- DebugEnclave            DEBUG is set: its host reads its memory
|   |-- UnexpectedFeatures      MISCSELECT or configuration are not the policy's
|   |-- EnclaveRevoked          the policy revokes the measurement
|   |-- PlatformRevoked         the policy revokes the platform
|   |-- EnclaveNotAllowed       neither measurement nor signer and product are the policy's
|   |-- SecurityVersionTooLow   signer and product are, the security version is below the least
|   |-- PlatformTooOld          a component of CPUSVN is below the least
|   `-- WrongReportData         it answers another nonce, channel or claims
`-- BadPolicy                   a policy has a field out of its range
"""

from __future__ import annotations


class AttestationError(Exception):
    """Attestation failed; the message holds no secret."""


class ReportRefused(AttestationError):
    """A local report shows nothing."""


class MalformedReport(ReportRefused):
    """A report has another length, or bytes where zeros are required."""


class ForgedReport(ReportRefused):
    """A report's MAC was not made on this platform for this target, or the report was changed since."""


class ChallengeRefused(AttestationError):
    """A nonce cannot be issued, or does not count."""


class UnknownNonce(ChallengeRefused):
    """A nonce was never issued, was used before, or was forgotten."""


class NonceExpired(ChallengeRefused):
    """A nonce was issued too long ago."""


class ClockWentBack(ChallengeRefused):
    """A nonce was issued later than now: the age of the answer is not known."""


class TooManyChallenges(ChallengeRefused):
    """Too many nonces wait for an answer; one of them has to be used, or to expire, first."""


class QuoteRefused(AttestationError):
    """A quote does not show what the policy asks for."""


class MalformedQuote(QuoteRefused):
    """A quote's bytes are not of its structure."""


class UnknownVendor(QuoteRefused):
    """The quoting enclave's vendor id is not known."""


class SimulatedNotAllowed(QuoteRefused):
    """The quote is SIMULATED, and the policy does not name that backend."""


class UntrustedRoot(QuoteRefused):
    """The chain's root is not the pinned one."""


class BrokenChain(QuoteRefused):
    """A certificate has another form, name or constraint than its place in the chain asks for, or another signer."""


class CertificateNotCurrent(QuoteRefused):
    """A certificate is not valid yet, or no longer."""


class BadRevocationList(QuoteRefused):
    """A revocation list is none, is not of the right issuer, or is older than one seen before."""


class RevocationListExpired(QuoteRefused):
    """A revocation list is not valid yet, or no longer."""


class CertificateRevoked(QuoteRefused):
    """A revocation list names a certificate of the chain."""


class WrongPlatform(QuoteRefused):
    """The quote names another platform than its certificates."""


class BadQuotingReport(QuoteRefused):
    """The quoting enclave's report is not signed by the certified key."""


class UnboundKey(QuoteRefused):
    """The quoting enclave's report does not name the attestation key."""


class WrongQuotingEnclave(QuoteRefused):
    """The quoting enclave has another signer, product, version or mode than the policy asks for."""


class BadSignature(QuoteRefused):
    """The quote is not signed by its attestation key."""


class WrongAttestationKey(QuoteRefused):
    """A TPM's quote is by another attestation key than the pinned one."""


class WrongPcr(QuoteRefused):
    """A TPM's PCR has another value than the quoted measurement alone gives it."""


class BadApproval(QuoteRefused):
    """The signer that a TPM's quote names has not approved this measurement, product and security version."""


class NotInitialised(QuoteRefused):
    """INIT is not set in the quoted enclave's attributes."""


class DebugEnclave(QuoteRefused):
    """DEBUG is set in the quoted enclave's attributes."""


class UnexpectedFeatures(QuoteRefused):
    """MISCSELECT or the configuration differ from the policy's."""


class EnclaveRevoked(QuoteRefused):
    """The policy revokes the measurement."""


class PlatformRevoked(QuoteRefused):
    """The policy revokes the platform."""


class EnclaveNotAllowed(QuoteRefused):
    """The policy allows neither the measurement nor the signer's product."""


class SecurityVersionTooLow(QuoteRefused):
    """The policy allows the signer's product from a higher security version only."""


class PlatformTooOld(QuoteRefused):
    """A component of CPUSVN is below the policy's."""


class WrongReportData(QuoteRefused):
    """The quote answers another nonce, channel or claims."""


class BadPolicy(AttestationError):
    """A policy has a field out of its range; the message names field and rule."""
