"""Who unseals what: SGX's rules as a table of sealers and unsealers, each row decided by the real derivation."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from enclave.domains import MAX_BOUND
from enclave.errors import EnclaveError, InvalidIsvSvn, InvalidParameter, MacMismatch
from enclave.identity import DEBUG, INIT, KSS, MODE64BIT, PROVISIONKEY, Identity
from enclave.interface import MAX_SEALED, Policy
from enclave.sealing import HEADER_LENGTH, LABEL, SealOptions, options_for, seal, unseal
from enclave.sgx_keys import KeyPolicy, Platform, egetkey, parse_key_request

ALL_ONES = (1 << 64) - 1
FUSE, OTHER_FUSE = os.urandom(32), os.urandom(32)
E1, E2, S1, S2 = (bytes([number]) * 32 for number in (0xE1, 0xE2, 0x51, 0x52))
FAMILY_1, FAMILY_2 = bytes([1]) * 16, bytes([2]) * 16
CONFIG_1, CONFIG_2 = bytes([1]) * 64, bytes([2]) * 64
CODE, SIGNER = KeyPolicy.MRENCLAVE, KeyPolicy.MRSIGNER
YES = "yes"
MAC, SVN, CPU = "MAC_MISMATCH", "INVALID_ISVSVN", "INVALID_CPUSVN"


@dataclass(frozen=True)
class Side:
    """An enclave on a machine."""

    code: bytes = E1
    signer: bytes = S1
    product: int = 1
    svn: int = 5
    flags: int = 0
    xfrm: int = 7
    cpu: tuple[int, ...] = (4, 4)
    fuse: bytes = FUSE
    epoch: bytes = bytes(16)
    config: bytes = bytes(64)
    config_svn: int = 0
    family: bytes = bytes(16)

    @property
    def platform(self) -> Platform:
        return Platform(self.fuse, self.epoch)

    @property
    def identity(self) -> Identity:
        return Identity(
            mrenclave=self.code,
            mrsigner=self.signer,
            isv_prod_id=self.product,
            isv_svn=self.svn,
            cpu_svn=bytes(self.cpu).ljust(16, b"\0"),
            flags=INIT | MODE64BIT | self.flags,
            xfrm=self.xfrm,
            config_id=self.config,
            config_svn=self.config_svn,
            isv_family_id=self.family,
        )


PLAIN = Side()
CONFIGURED = Side(flags=KSS, config=CONFIG_1, config_svn=3, family=FAMILY_1)

# number, policy, sealer, unsealer, what the sealer asks for besides, what comes of it
ROWS = [
    (1, CODE, PLAIN, PLAIN, {}, YES),
    (2, CODE, PLAIN, Side(code=E2), {}, MAC),
    (3, CODE, PLAIN, Side(code=E2, svn=6), {}, MAC),
    (4, CODE, PLAIN, Side(signer=S2), {}, YES),
    (5, CODE, PLAIN, Side(product=2), {}, MAC),
    (6, CODE, PLAIN, Side(svn=6), {}, YES),
    (7, CODE, PLAIN, Side(svn=4), {}, SVN),
    (8, CODE, PLAIN, Side(flags=DEBUG), {}, MAC),
    (9, CODE, PLAIN, Side(fuse=OTHER_FUSE), {}, MAC),
    (10, SIGNER, PLAIN, PLAIN, {}, YES),
    (11, SIGNER, PLAIN, Side(code=E2), {}, YES),
    (12, SIGNER, PLAIN, Side(code=E2, svn=6), {}, YES),
    (13, SIGNER, PLAIN, Side(code=E2, svn=4), {}, SVN),
    (14, SIGNER, PLAIN, Side(signer=S2), {}, MAC),
    (15, SIGNER, PLAIN, Side(product=2), {}, MAC),
    (16, SIGNER, PLAIN, Side(flags=DEBUG), {}, MAC),
    (17, SIGNER, Side(flags=DEBUG), PLAIN, {}, MAC),
    (18, SIGNER, Side(flags=DEBUG), Side(code=E2, flags=DEBUG), {}, YES),
    (19, SIGNER, PLAIN, Side(cpu=(5, 4)), {}, YES),
    (20, SIGNER, PLAIN, Side(cpu=(3, 4)), {}, CPU),
    (21, SIGNER, PLAIN, Side(cpu=(5, 3)), {}, CPU),
    (22, SIGNER, PLAIN, Side(epoch=bytes([2]) * 16), {}, MAC),
    (23, SIGNER, PLAIN, Side(fuse=OTHER_FUSE), {}, MAC),
    (24, SIGNER, PLAIN, Side(svn=4), {"isv_svn": 3}, YES),
    (25, SIGNER, PLAIN, Side(flags=PROVISIONKEY), {}, YES),
    (26, SIGNER, PLAIN, Side(flags=PROVISIONKEY), {"flags_mask": ALL_ONES}, MAC),
    (27, SIGNER, PLAIN, Side(xfrm=0xE7), {}, YES),
    (28, SIGNER, PLAIN, Side(xfrm=0xE7), {"xfrm_mask": ALL_ONES}, MAC),
    (29, CODE | SIGNER, PLAIN, PLAIN, {}, YES),
    (30, CODE | SIGNER, PLAIN, Side(code=E2), {}, MAC),
    (31, CODE | SIGNER, PLAIN, Side(signer=S2), {}, MAC),
    (32, CODE | SIGNER, PLAIN, Side(svn=6), {}, YES),
    (33, CODE | SIGNER, PLAIN, Side(svn=4), {}, SVN),
    (34, SIGNER | KeyPolicy.CONFIGID, CONFIGURED, replace(CONFIGURED, config_svn=4), {}, YES),
    (35, SIGNER | KeyPolicy.CONFIGID, CONFIGURED, replace(CONFIGURED, config_svn=2), {}, SVN),
    (36, SIGNER | KeyPolicy.CONFIGID, CONFIGURED, replace(CONFIGURED, config=CONFIG_2), {}, MAC),
    (37, SIGNER, CONFIGURED, replace(CONFIGURED, config=CONFIG_2), {}, YES),
    (38, SIGNER | KeyPolicy.NOISVPRODID, CONFIGURED, replace(CONFIGURED, product=2), {}, YES),
    (39, SIGNER | KeyPolicy.ISVFAMILYID, CONFIGURED, replace(CONFIGURED, family=FAMILY_2), {}, MAC),
    (40, SIGNER, PLAIN, Side(flags=KSS), {}, YES),
    (41, SIGNER | KeyPolicy.CONFIGID, CONFIGURED, PLAIN, {}, MAC),
    # The configuration's version is looked at even where its id does not enter the key.
    (42, SIGNER, CONFIGURED, replace(CONFIGURED, config_svn=2), {}, SVN),
]


def outcome(policy, sealer, unsealer, asked):
    data = os.urandom(32)
    blob = seal(sealer.platform, sealer.identity, SealOptions(policy=policy, **asked), data, b"bound")
    try:
        opened = unseal(unsealer.platform, unsealer.identity, blob, b"bound")
    except EnclaveError as error:
        return error.code
    assert opened == data
    return YES


@pytest.mark.parametrize(("number", "policy", "sealer", "unsealer", "asked", "expected"), ROWS)
def test_who_unseals_what(number, policy, sealer, unsealer, asked, expected):
    assert outcome(policy, sealer, unsealer, asked) == expected


def test_the_table_is_whole():
    assert [row[0] for row in ROWS] == list(range(1, 43))
    results = {row[0]: outcome(*row[1:5]) for row in ROWS}
    assert sum(result == YES for result in results.values()) == 17
    assert set(results.values()) == {YES, MAC, SVN, CPU}


@pytest.mark.parametrize(("policy", "row"), [(Policy.MRENCLAVE, CODE), (Policy.MRSIGNER, SIGNER), (Policy.HYBRID, 3)])
def test_the_named_policies_are_the_rows_of_the_table(policy, row):
    assert options_for(policy) == SealOptions(policy=KeyPolicy(row))


def sealed(data=b"data to be sealed", associated=b"bound", policy=SIGNER):
    return seal(PLAIN.platform, PLAIN.identity, SealOptions(policy=policy), data, associated)


def opened(blob, associated=b"bound", side=PLAIN):
    return unseal(side.platform, side.identity, blob, associated)


def test_no_byte_of_a_blob_can_be_changed():
    blob = sealed()
    refused = 0
    for at in range(len(blob)):
        for flip in (0x01, 0x80, 0xFF):
            changed = bytearray(blob)
            changed[at] ^= flip
            with pytest.raises(EnclaveError) as caught:
                opened(bytes(changed))
            assert caught.value.code in (MAC, SVN, CPU)
            refused += 1
    assert refused == 3 * (HEADER_LENGTH + len(b"data to be sealed") + 16)


@pytest.mark.parametrize("at", [18, 19, HEADER_LENGTH - 16, HEADER_LENGTH - 1])
def test_reserved_bytes_are_zero_even_where_they_are_authenticated(at):
    header = bytearray(sealed()[:HEADER_LENGTH])
    key = egetkey(PLAIN.platform, PLAIN.identity, parse_key_request(bytes(header[20:532])))

    def blob():
        return bytes(header) + AESGCM(key).encrypt(bytes(12), b"data to be sealed", bytes(header) + b"bound")

    assert opened(blob()) == b"data to be sealed"
    header[at] = 1
    with pytest.raises(MacMismatch):
        opened(blob())


def test_versions_lowered_in_the_blob_do_not_open_it():
    blob = bytearray(sealed())
    at = blob.index(LABEL) + 20 + 4  # ISVSVN in the key request
    assert blob[at : at + 2] == (5).to_bytes(2, "little")
    blob[at] = 4
    with pytest.raises(MacMismatch):
        opened(bytes(blob))


def test_a_blob_that_is_shortened_or_lengthened_does_not_open():
    blob = sealed()
    for changed in (b"", blob[:1], blob[:HEADER_LENGTH], blob[:-1], blob + b"\0", blob[1:]):
        with pytest.raises(MacMismatch):
            opened(changed)


def test_associated_data_are_bound_and_not_in_the_blob():
    blob = sealed(associated=b"tenant and key")
    assert b"tenant and key" not in blob
    assert opened(blob, b"tenant and key") == b"data to be sealed"
    for other in (b"", b"tenant and kez", b"tenant and key\0", b"tenant and ke"):
        with pytest.raises(MacMismatch):
            opened(blob, other)


def test_a_byte_moved_between_data_and_associated_data_does_not_open():
    blob = sealed(b"ab", b"c")
    with pytest.raises(MacMismatch):
        opened(blob, b"")


def test_every_seal_has_a_key_of_its_own():
    first, second = sealed(), sealed()
    at = 20 + 40  # KEYID in the key request
    assert first[at : at + 32] != second[at : at + 32]
    assert first[HEADER_LENGTH:] != second[HEADER_LENGTH:]


def test_a_blob_says_that_it_is_simulated_and_its_data_are_not_in_it():
    blob = sealed()
    assert blob.startswith(b"SIMULATED")
    assert b"data to be sealed" not in blob


@pytest.mark.parametrize(
    "options",
    [
        SealOptions(policy=KeyPolicy(0)),
        SealOptions(policy=SIGNER, flags_mask=ALL_ONES & ~DEBUG),
        SealOptions(policy=SIGNER, flags_mask=ALL_ONES & ~INIT),
        SealOptions(policy=KeyPolicy.CONFIGID),
        SealOptions(policy=SIGNER | KeyPolicy.CONFIGID),  # in an enclave without KSS
        SealOptions(policy=KeyPolicy(0x42)),
    ],
)
def test_a_seal_that_would_bind_too_little_is_refused(options):
    with pytest.raises(InvalidParameter):
        seal(PLAIN.platform, PLAIN.identity, options, b"data", b"")


def test_a_seal_to_a_newer_version_than_its_own_is_refused():
    with pytest.raises(InvalidIsvSvn):
        seal(PLAIN.platform, PLAIN.identity, SealOptions(policy=SIGNER, isv_svn=6), b"data", b"")


def test_the_bounds_of_a_seal_are_kept():
    assert opened(sealed(bytes(MAX_SEALED), bytes(MAX_BOUND)), bytes(MAX_BOUND)) == bytes(MAX_SEALED)
    for data, associated in ((b"", b""), (bytes(MAX_SEALED + 1), b""), (b"x", bytes(MAX_BOUND + 1))):
        with pytest.raises(InvalidParameter):
            sealed(data, associated)
