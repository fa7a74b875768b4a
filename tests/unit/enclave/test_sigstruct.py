"""The signed structure: who signed an enclave, and what a start may choose."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from enclave.errors import InvalidParameter, InvalidSignature
from enclave.identity import DEBUG, INIT, MODE64BIT, InvalidIdentity
from enclave.sigstruct import LENGTH, Release, Start, sign, start
from tests.enclaves import signing_key

CODE = os.urandom(32)
RELEASE = Release(
    mrenclave=CODE,
    isv_prod_id=0x0102,
    isv_svn=0x0304,
    date=20260101,
    flags=MODE64BIT,
    flags_mask=(1 << 64) - 1,
    misc_select=1,
    isv_family_id=bytes([7]) * 16,
    isv_ext_prod_id=bytes([8]) * 16,
)
START = Start(cpu_svn=bytes(16), flags=MODE64BIT, misc_select=1)


@pytest.fixture(scope="module")
def structure():
    return sign(RELEASE, signing_key())


def test_the_identity_is_what_was_measured_signed_and_chosen(structure):
    identity = start(structure, CODE, replace(START, config_id=bytes([9]) * 64, config_svn=3))
    modulus = signing_key().public_key().public_numbers().n.to_bytes(384, "little")
    assert identity.mrenclave == CODE
    assert identity.mrsigner == hashlib.sha256(modulus).digest()
    assert (identity.isv_prod_id, identity.isv_svn) == (0x0102, 0x0304)
    assert identity.flags == MODE64BIT | INIT
    assert (identity.isv_family_id, identity.isv_ext_prod_id) == (bytes([7]) * 16, bytes([8]) * 16)
    assert (identity.config_id, identity.config_svn) == (bytes([9]) * 64, 3)


def test_the_fields_lie_where_sgx_has_them(structure):
    assert len(structure) == LENGTH == 1808
    assert structure.startswith(b"SIMULATED")
    assert structure[512:516] == (3).to_bytes(4, "little")
    assert structure[960:992] == CODE
    assert structure[1024:1028] == bytes([0x02, 0x01, 0x04, 0x03])


def test_no_byte_of_the_structure_can_be_changed(structure):
    for at in range(LENGTH):
        changed = bytearray(structure)
        changed[at] ^= 0x01
        with pytest.raises(InvalidSignature):
            start(bytes(changed), CODE, START)


def test_a_structure_of_another_length_is_refused(structure):
    for changed in (b"", structure[:-1], structure + b"\0"):
        with pytest.raises(InvalidSignature):
            start(changed, CODE, START)


def test_a_structure_for_other_code_is_refused(structure):
    with pytest.raises(InvalidSignature, match="ENCLAVEHASH"):
        start(structure, os.urandom(32), START)


@pytest.mark.parametrize(
    "chosen",
    [
        replace(START, flags=MODE64BIT | DEBUG),
        replace(START, flags=0),
        replace(START, flags=MODE64BIT | INIT),
        replace(START, misc_select=0),
    ],
)
def test_a_start_that_the_signer_does_not_allow_is_refused(structure, chosen):
    with pytest.raises(InvalidSignature, match=r"ATTRIBUTES|MISCSELECT"):
        start(structure, CODE, chosen)


def test_what_the_mask_leaves_open_may_be_chosen():
    structure = sign(replace(RELEASE, flags_mask=~DEBUG & (1 << 64) - 1), signing_key())
    assert start(structure, CODE, replace(START, flags=MODE64BIT | DEBUG, xfrm=0xE7)).debug
    assert not start(structure, CODE, START).debug


def test_a_chosen_field_of_another_length_is_refused(structure):
    with pytest.raises(InvalidIdentity, match="cpu_svn"):
        start(structure, CODE, replace(START, cpu_svn=bytes(15)))


@pytest.mark.parametrize(
    "wrong",
    [{"mrenclave": bytes(31)}, {"isv_svn": 1 << 16}, {"flags": -1}, {"isv_family_id": b""}, {"date": 1 << 32}],
)
def test_a_release_that_does_not_fit_is_not_signed(wrong):
    with pytest.raises(InvalidParameter):
        sign(replace(RELEASE, **wrong), signing_key())


def test_another_kind_of_key_does_not_sign():
    with pytest.raises(InvalidParameter, match="3,072 bits with exponent 3"):
        sign(RELEASE, rsa.generate_private_key(65537, 3072))
