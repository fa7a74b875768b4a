"""The signed structure of an enclave on a TPM."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from enclave.errors import InvalidParameter, InvalidSignature
from enclave.interface import Policy
from enclave.tpm_policy import (
    SIGNER_ATTRIBUTES,
    OneOf,
    PcrIs,
    counter_branch,
    digest_of,
    ecc_public,
    name_of,
    pcr_after,
    selection,
    steps_for,
)
from enclave.tpm_release import parse_release, sign_release

KEY = ec.generate_private_key(ec.SECP256R1())
MRENCLAVE = hashlib.sha256(b"E1").digest()


def test_a_release_says_what_was_signed():
    release = parse_release(sign_release(MRENCLAVE, 7, 3, KEY), MRENCLAVE)
    assert (release.identity.mrenclave, release.identity.isv_prod_id, release.identity.isv_svn) == (MRENCLAVE, 7, 3)
    assert release.identity.mrsigner == name_of(ecc_public(KEY.public_key(), SIGNER_ATTRIBUTES))[2:]
    assert release.pcr == PcrIs(13, pcr_after(release.event))
    assert len(release.approvals) == 4  # for each security version from 0
    assert len({one.reference for one in release.approvals}) == 4


def test_no_bit_of_a_release_can_be_changed():
    data = sign_release(MRENCLAVE, 1, 2, KEY)
    parse_release(data, MRENCLAVE)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        with pytest.raises(InvalidSignature):
            parse_release(bytes(changed), MRENCLAVE)
    for other in (b"", data[:-1], data + b"\0", data[:-64], data + data[-64:]):
        with pytest.raises(InvalidSignature):
            parse_release(other, MRENCLAVE)


def test_a_release_of_other_code_does_not_start():
    with pytest.raises(InvalidSignature, match=r"^MRENCLAVE: "):
        parse_release(sign_release(MRENCLAVE, 1, 5, KEY), hashlib.sha256(b"E2").digest())


def test_an_older_releases_approvals_do_not_make_a_newer_one():
    older, newer = sign_release(MRENCLAVE, 1, 4, KEY), sign_release(MRENCLAVE, 1, 5, KEY)
    header = len(older) - 5 * 64
    with pytest.raises(InvalidSignature, match="approval for security version 5"):
        parse_release(newer[:header] + older[header:] + older[-64:], MRENCLAVE)


def test_what_cannot_be_signed_is_refused():
    for arguments in (
        (bytes(31), 1, 5, KEY),
        (MRENCLAVE, 1 << 16, 5, KEY),
        (MRENCLAVE, -1, 5, KEY),
        (MRENCLAVE, 1, 256, KEY),
        (MRENCLAVE, 1, -1, KEY),
        (MRENCLAVE, 1, 5, ec.generate_private_key(ec.SECP384R1())),
    ):
        with pytest.raises(InvalidParameter):
            sign_release(*arguments)


def test_a_pcr_that_anybody_clears_is_refused():
    for pcr in (-1, 16, 23, 24):
        with pytest.raises(InvalidParameter, match=r"^pcr: "):
            sign_release(MRENCLAVE, 1, 5, KEY, pcr)


def test_every_policy_has_a_digest_of_its_own():
    release = parse_release(sign_release(MRENCLAVE, 1, 5, KEY), MRENCLAVE)
    steps = [steps_for(policy, release.pcr, approval) for policy in Policy for approval in release.approvals[4:]]
    counters = [(*steps[2], OneOf((digest_of(steps[2]), counter_branch(name)))) for name in ("a", "b")]
    # Under a measurement the security version makes no difference: the measured code itself looks at it.
    assert len({digest_of(one) for one in [*steps, *counters]}) == 2 * 3 - 1 + 2


def test_the_selection_of_a_pcr_is_as_the_tpm_writes_it():
    # Source: TCG TPM 2.0 Library, Part 2, TPML_PCR_SELECTION: one bank, SHA-256, three bytes, bit 13.
    assert selection(13).hex() == "00000001000b03002000"
