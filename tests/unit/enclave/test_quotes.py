from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from enclave.attestation_errors import MalformedQuote, UnknownVendor
from enclave.quotes import MAX_CERTIFICATE, MAX_QUOTE, VENDOR, Quote, challenge_binding, key_binding, parse_quote
from enclave.report import ReportBody
from tests.attestation import identity

QUOTE = Quote(
    qe_svn=0x0102,
    platform_id=b"P" * 16,
    body=ReportBody(identity(), b"D" * 64),
    signature=b"S" * 64,
    attestation_key=b"K" * 64,
    qe_body=ReportBody(identity(b"QE"), b"E" * 64),
    qe_signature=b"T" * 64,
    auth_data=b"A" * 32,
    chain=(b"leaf", b"platform", b"root"),
)


def test_a_quote_has_the_layout_of_sgx_and_says_that_it_is_simulated():
    encoded = QUOTE.encode()
    assert encoded[0:2] == b"\x03\x00"
    assert encoded[2:4] == b"\x02\x00"
    assert encoded[4:8] == bytes(4)
    assert encoded[8:10] == b"\x02\x01"
    assert encoded[10:12] == bytes(2)
    assert encoded[12:28] == VENDOR == b"SIMULATED kmsd\0\0"
    assert encoded[28:44] == b"P" * 16
    assert encoded[44:48] == bytes(4)
    assert encoded[48:432] == QUOTE.body.encode()
    assert encoded[432:436] == (len(encoded) - 436).to_bytes(4, "little")
    assert encoded[436:500] == b"S" * 64
    assert encoded[500:564] == b"K" * 64
    assert encoded[564:948] == QUOTE.qe_body.encode()
    assert encoded[948:1012] == b"T" * 64
    assert encoded[1012:1014] == b"\x20\x00"
    assert encoded[1014:1046] == b"A" * 32
    assert encoded[1046:1048] == b"\x05\x80"
    assert encoded[1048:1052] == (len(encoded) - 1052).to_bytes(4, "little")
    assert encoded[1052:] == b"\x04\x00leaf\x08\x00platform\x04\x00root"
    assert QUOTE.signed == encoded[:432]


def test_no_verifier_of_sgx_takes_it():
    """Intel's vendor id and the certification types that its library reads are others."""
    assert bytes.fromhex("939a7233f79c4ca9940a0db3957f0607") not in QUOTE.encode()
    assert int.from_bytes(QUOTE.encode()[1046:1048], "little") not in range(1, 8)


def test_a_quote_cut_short_anywhere_is_refused():
    encoded = QUOTE.encode()
    for length in range(len(encoded)):
        with pytest.raises(MalformedQuote):
            parse_quote(encoded[:length])


FIELDS = [
    (0, b"\x04\x00", "version: must be 3"),
    (2, b"\x03\x00", "attestation key type: must be 2"),
    (4, b"\x81\0\0\0", "header: reserved bytes and PCE SVN must be zero"),  # 0x81 is TDX
    (10, b"\x01\x00", "header: reserved bytes and PCE SVN must be zero"),
    (44, b"\0\0\0\x01", "header: reserved bytes and PCE SVN must be zero"),
    (48 + 20, b"\x01", "body: body: reserved bytes must be zero"),
    (432, b"\x00\x00", "signature data length: must be that of the rest"),
    (564 + 303, b"\x01", "QE report: body: reserved bytes must be zero"),
    (1012, b"\x1f\x00", "auth data length: must be 32"),
    (1046, b"\x05\x00", "certification type: must be 0x8005"),  # a chain in PEM
    (1048, b"\x00\x00", "certification data size: must be that of the rest"),
    (1052, b"\x00\x00", "chain: the length of a certificate must be its own"),
    (1052, b"\x05\x00", "chain: the length of a certificate must be its own"),
    (1052, b"\xff\xff", "chain: the length of a certificate must be its own"),
    (len(QUOTE.encode()) - 6, b"\x03\x00", "chain: bytes trail"),
]


@pytest.mark.parametrize(("offset", "value", "message"), FIELDS)
def test_a_field_that_is_not_as_it_must_be_is_named(offset, value, message):
    changed = bytearray(QUOTE.encode())
    changed[offset : offset + len(value)] = value
    with pytest.raises(MalformedQuote) as raised:
        parse_quote(bytes(changed))
    assert str(raised.value) == message


def test_a_quote_of_intels_enclave_is_refused():
    changed = bytearray(QUOTE.encode())
    changed[12:28] = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
    with pytest.raises(UnknownVendor, match="SIMULATED"):
        parse_quote(bytes(changed))


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_a_chain_of_another_length_is_refused(count):
    encoded = QUOTE.encode()
    chain = b"\x04\x00cert" * count
    lengths = (1052 - 436 + len(chain)).to_bytes(4, "little"), len(chain).to_bytes(4, "little")
    changed = encoded[:432] + lengths[0] + encoded[436:1048] + lengths[1] + chain
    with pytest.raises(MalformedQuote, match="chain"):
        parse_quote(changed)


def test_quotes_and_certificates_are_bounded():
    longest = b"c" * MAX_CERTIFICATE
    most = replace(QUOTE, chain=(longest, longest, longest))
    assert len(most.encode()) == MAX_QUOTE
    assert parse_quote(most.encode()) == most
    with pytest.raises(MalformedQuote, match=str(MAX_QUOTE)):
        parse_quote(most.encode() + b"x")
    for wrong in (b"", longest + b"c"):
        with pytest.raises(MalformedQuote, match=str(MAX_CERTIFICATE)):
            replace(QUOTE, chain=(b"leaf", b"platform", wrong))


def test_the_attestation_key_is_bound_by_a_hash_and_zeros():
    """Source: SHA-256 over key and auth data, as in sgx_quote_3.h."""
    assert key_binding(b"K" * 64, b"A" * 32) == hashlib.sha256(b"K" * 64 + b"A" * 32).digest() + bytes(32)


def test_an_answer_binds_label_nonce_channel_and_claims():
    expected = hashlib.sha256(
        b"kms/v1/enclave-report-data\0" + b"\0\0\0\x02no" + b"\0\0\0\x01c" + b"\0\0\0\x03say"
    ).digest() + bytes(32)
    assert challenge_binding(b"no", b"c", b"say") == expected


LENGTHS = {"platform_id": 16, "signature": 64, "attestation_key": 64, "qe_signature": 64, "auth_data": 32}


@pytest.mark.parametrize(("field", "length"), LENGTHS.items())
def test_a_field_of_another_length_is_not_padded(field, length):
    for wrong in (length - 1, length + 1):
        with pytest.raises(MalformedQuote, match=rf"^{field}: must be {length} bytes$"):
            replace(QUOTE, **{field: bytes(wrong)})
