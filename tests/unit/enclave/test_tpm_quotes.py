"""The judgement on a TPM's quote, over quotes that a key in the test signs: no TPM is needed."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from enclave import attestation_errors as e
from enclave.attestation_policy import SignerRule
from enclave.nonces import Challenge
from enclave.quotes import challenge_binding
from enclave.signatures import raw_key, sign_raw
from enclave.tpm_policy import (
    ATTESTATION_ATTRIBUTES,
    SIGNER_ATTRIBUTES,
    ecc_public,
    event_of,
    pcr_after,
    qualified_name_of,
    selection,
)
from enclave.tpm_quotes import Claims, TpmPolicy, encode_quote, qualifying_data, verify_tpm_quote
from enclave.tpm_release import parse_release, sign_release, signer_of
from tests.attestation import DAY, NOW

SIGNER, KEY = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
MRENCLAVE = hashlib.sha256(b"E1").digest()
PCR = 13
CHALLENGE = Challenge(b"n" * 32, NOW, b"channel", b"claims")
RULE = SignerRule(mrsigner=signer_of(SIGNER.public_key()), isv_prod_id=1, least_isv_svn=5)
POLICY = TpmPolicy(attestation_key=raw_key(KEY.public_key()), measurements=frozenset({MRENCLAVE}), allow_simulated=True)


def claims(approver: ec.EllipticCurvePrivateKey = SIGNER, svn: int = 5, **changes: object) -> Claims:
    release = parse_release(sign_release(MRENCLAVE, 1, svn, approver), MRENCLAVE)
    said = Claims(
        simulated=True,
        isv_prod_id=1,
        isv_svn=svn,
        pcr=PCR,
        mrenclave=MRENCLAVE,
        signer=release.signer,
        approval=release.approvals[svn].signature,
        report_data=challenge_binding(CHALLENGE.nonce, CHALLENGE.channel_key, CHALLENGE.claims),
    )
    return replace(said, **changes)


def attestation(of: bytes, **changes: object) -> bytes:
    """TPMS_ATTEST as a TPM makes it, or with something else in one place."""
    fields = {
        "magic": 0xFF544347,
        "kind": 0x8018,
        "key": qualified_name_of(ecc_public(KEY.public_key(), ATTESTATION_ATTRIBUTES)),
        "extra": qualifying_data(of),
        "selection": selection(PCR),
        "value": pcr_after(event_of(MRENCLAVE, 1)),
    } | changes
    head = struct.pack(">IH", fields["magic"], fields["kind"])
    sized = b"".join(len(fields[name]).to_bytes(2, "big") + fields[name] for name in ("key", "extra"))
    digest = hashlib.sha256(fields["value"]).digest()
    return head + sized + bytes(25) + fields["selection"] + b"\0\x20" + digest


def quoted(said: Claims, by: ec.EllipticCurvePrivateKey = KEY, **changes: object) -> bytes:
    attest = attestation(said.encode(), **changes)
    signature = sign_raw(by, attest)
    numbers = (int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    return encode_quote(said.encode(), attest, *numbers)


def judge(quote: bytes, policy: TpmPolicy = POLICY, after: timedelta = timedelta(seconds=1)):
    return verify_tpm_quote(quote, policy, CHALLENGE, NOW + after)


def test_a_quote_that_is_right_shows_who_it_is_and_until_when():
    attested = judge(quoted(claims()))
    assert attested.identity.mrenclave == MRENCLAVE
    assert attested.identity.mrsigner == signer_of(SIGNER.public_key())
    assert (attested.identity.isv_prod_id, attested.identity.isv_svn) == (1, 5)
    assert attested.backend == "SIMULATED TPM2"
    assert attested.expires == NOW + POLICY.validity


def test_a_signer_is_allowed_from_a_security_version_on():
    by_signer = replace(POLICY, measurements=frozenset(), signers=(RULE,))
    assert judge(quoted(claims()), by_signer).identity.isv_svn == 5
    assert judge(quoted(claims(svn=6)), by_signer).identity.isv_svn == 6
    with pytest.raises(e.SecurityVersionTooLow):
        judge(quoted(claims(svn=4)), by_signer)
    with pytest.raises(e.EnclaveNotAllowed):
        judge(quoted(claims(ec.generate_private_key(ec.SECP256R1()))), by_signer)


def test_the_backend_is_told_apart():
    hardware = claims(simulated=False)
    assert judge(quoted(hardware), replace(POLICY, allow_simulated=False)).backend == "TPM2"
    with pytest.raises(e.SimulatedNotAllowed):
        judge(quoted(claims()), replace(POLICY, allow_simulated=False))


# What each change is refused as; all are signed by the pinned key.
CHANGES = [
    ({"magic": 0}, e.MalformedQuote),  # what a TPM was made to sign, and not made itself
    ({"kind": 0x8017}, e.MalformedQuote),  # a certificate of a key, and no quote
    ({"key": qualified_name_of(ecc_public(KEY.public_key(), SIGNER_ATTRIBUTES))}, e.WrongAttestationKey),
    ({"key": b""}, e.WrongAttestationKey),
    ({"extra": bytes(32)}, e.BadSignature),
    ({"extra": b""}, e.BadSignature),
    ({"selection": selection(PCR + 1)}, e.WrongPcr),
    ({"selection": bytes(4)}, e.WrongPcr),  # of no PCR at all
    ({"value": bytes(32)}, e.WrongPcr),  # before the start
    (
        {"value": hashlib.sha256(pcr_after(event_of(MRENCLAVE, 1)) + bytes(32)).digest()},
        e.WrongPcr,
    ),  # extended with more
    ({"value": pcr_after(event_of(MRENCLAVE, 2))}, e.WrongPcr),
]


@pytest.mark.parametrize(("changes", "error"), CHANGES, ids=lambda value: getattr(value, "__name__", None))
def test_what_the_tpm_has_attested_is_looked_at_in_each_part(changes: dict[str, object], error: type[Exception]):
    with pytest.raises(error):
        judge(quoted(claims(), **changes))


def test_claims_that_the_signer_has_not_approved_are_refused():
    other = parse_release(sign_release(MRENCLAVE, 1, 5, ec.generate_private_key(ec.SECP256R1())), MRENCLAVE)
    for said in (
        claims(isv_svn=6),  # a version above the approved one
        claims(signer=other.signer),
        claims(approval=other.approvals[5].signature),
        claims(signer=bytes(64)),
        claims(approval=bytes(64)),
    ):
        with pytest.raises(e.BadApproval):
            judge(quoted(said))


def test_a_policy_for_another_pcr_does_not_take_this_one():
    with pytest.raises(e.WrongPcr):
        judge(quoted(claims()), replace(POLICY, pcr=12))


def test_the_key_is_the_pinned_one():
    with pytest.raises(e.BadSignature):
        judge(quoted(claims(), by=ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(e.WrongAttestationKey):
        judge(quoted(claims()), replace(POLICY, attestation_key=bytes(64)))


def test_a_revoked_measurement_is_refused_whoever_signed_it():
    with pytest.raises(e.EnclaveRevoked):
        judge(quoted(claims()), replace(POLICY, revoked_measurements=frozenset({MRENCLAVE}), signers=(RULE,)))


def test_the_answer_is_to_this_challenge_and_in_time():
    with pytest.raises(e.WrongReportData):
        judge(quoted(claims(report_data=bytes(64))))
    with pytest.raises(e.NonceExpired):
        judge(quoted(claims()), after=timedelta(seconds=61))
    with pytest.raises(e.ClockWentBack):
        judge(quoted(claims()), after=timedelta(seconds=-1))


def test_bytes_that_are_no_quote_are_refused_as_that():
    quote = quoted(claims())
    for other in (b"", quote[:-1], quote + b"\0", bytes(2000), quote[:248] + b"\0\0" + quote[-64:]):
        with pytest.raises(e.QuoteRefused):
            judge(other)
    with pytest.raises(e.UnknownVendor):
        judge(b"TPM1".ljust(16, b"\0") + quote[16:])
    with pytest.raises(e.MalformedQuote, match=r"^version: "):
        judge(quote[:16] + b"\0\x02" + quote[18:])
    with pytest.raises(e.MalformedQuote, match=r"^claims: reserved"):
        judge(quote[:23] + b"\1" + quote[24:])


BAD_POLICIES = [
    {"attestation_key": bytes(63)},
    {"measurements": frozenset({bytes(31)})},
    {"measurements": frozenset()},
    {"revoked_measurements": frozenset({b""})},
    {"pcr": 16},
    {"pcr": -1},
    {"max_age": timedelta(0)},
    {"max_age": timedelta(minutes=11)},
    {"validity": 31 * DAY},
    {"validity": timedelta(seconds=59)},
    {"signers": (RULE,) * 1025},
]


@pytest.mark.parametrize("changes", BAD_POLICIES, ids="-".join)
def test_a_policy_out_of_its_range_is_refused(changes: dict[str, object]):
    with pytest.raises(e.BadPolicy):
        replace(POLICY, **changes)
