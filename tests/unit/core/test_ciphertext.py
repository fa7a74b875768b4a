from __future__ import annotations

from uuid import UUID

import pytest

from kms.core.ciphertext import FORMAT, HEADER_LENGTH, MAX_VERSION, Header, from_text, to_text
from kms.core.errors import InvalidRequest
from kms.core.names import KeyUid
from kms.core.suites import CIPHERS, MAX_PLAINTEXT, RULES, Suite

UID = KeyUid(UUID("00112233-4455-4677-8899-aabbccddeeff"))
UID_BYTES = bytes.fromhex("00112233445546778899aabbccddeeff")


def rule_of(data: bytes) -> str:
    with pytest.raises(InvalidRequest) as caught:
        Header.parse(data, "ciphertexts[3]")
    (violation,) = caught.value.violations
    assert violation.field == "ciphertexts[3]"
    return violation.rule


@pytest.mark.parametrize(
    ("suite", "version", "expected"),
    [
        (Suite.AES_256_GCM, 1, b"\x01\x01" + UID_BYTES + b"\x00\x00\x00\x01"),
        (Suite.XAES_256_GCM, 258, b"\x01\x02" + UID_BYTES + b"\x00\x00\x01\x02"),
        (Suite.AES_SIV, MAX_VERSION, b"\x01\x03" + UID_BYTES + b"\xff\xff\xff\xff"),
    ],
)
def test_the_header_is_these_22_bytes(suite: Suite, version: int, expected: bytes):
    assert len(expected) == HEADER_LENGTH == 22
    assert FORMAT == 1
    header = Header(suite, UID, version)
    assert header.encode() == expected
    assert Header.parse(expected + bytes(RULES[suite].overhead)) == header


@pytest.mark.parametrize("suite", sorted(set(Suite) - set(CIPHERS)))
def test_a_header_of_a_suite_without_ciphertexts_is_refused(suite: Suite):
    head = Header(suite, UID, 1).encode()
    with pytest.raises(InvalidRequest, match=r"byte 1 \(suite\) must be one of 1, 2, 3$"):
        Header.parse(head + bytes(100))


@pytest.mark.parametrize("suite", CIPHERS)
def test_a_header_reads_at_the_shortest_and_longest_length_only(suite: Suite):
    head = Header(suite, UID, 1).encode()
    shortest = 22 + {1: 28, 2: 40, 3: 16}[suite]
    assert Header.parse(head + bytes(shortest - 22)).suite is suite
    assert Header.parse(head + bytes(shortest - 22 + MAX_PLAINTEXT)).suite is suite
    assert rule_of(head + bytes(shortest - 23)) == f"must have at least {shortest} bytes, has {shortest - 1}"
    assert rule_of(head + bytes(shortest - 22 + MAX_PLAINTEXT + 1)) == "must hold at most 1048576 bytes of plaintext"


@pytest.mark.parametrize("length", [0, 1, 21])
def test_less_than_a_header_is_refused(length: int):
    assert rule_of(b"\x01" * length) == f"must have at least 22 bytes, has {length}"


@pytest.mark.parametrize("form", [0, 2, 0x6B, 255])
def test_another_format_is_refused(form: int):
    assert rule_of(bytes([form, 1]) + UID_BYTES + bytes(50)) == "byte 0 (format) must be 1"


@pytest.mark.parametrize("suite", [0, 4, 0x10, 255])
def test_an_unknown_suite_is_refused(suite: int):
    assert rule_of(bytes([1, suite]) + UID_BYTES + b"\0\0\0\1" + bytes(50)) == "byte 1 (suite) must be one of 1, 2, 3"


@pytest.mark.parametrize(
    "key",
    [
        "00112233-4455-1677-8899-aabbccddeeff",  # version 1
        "00112233-4455-7677-8899-aabbccddeeff",  # version 7
        "00112233-4455-4677-0899-aabbccddeeff",  # variant of NCS
        "00112233-4455-4677-c899-aabbccddeeff",  # variant of Microsoft
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
    ],
)
def test_a_key_id_that_is_no_uuid_of_version_4_is_refused(key: str):
    assert rule_of(b"\1\1" + UUID(key).bytes + b"\0\0\0\1" + bytes(50)) == "bytes 2 to 17 (key id) must be a UUIDv4"


def test_version_0_is_refused():
    assert rule_of(b"\1\1" + UID_BYTES + bytes(54)) == "bytes 18 to 21 (key version) must be 1 or more"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "kms:1:"),
        (b"\0", "kms:1:AA"),
        (b"\xfb\xff", "kms:1:-_8"),
        (b"\xfb\xff\xbf", "kms:1:-_-_"),
        (b"\x01\x01\x00", "kms:1:AQEA"),
    ],
)
def test_the_text_form(data: bytes, text: str):
    assert to_text(data) == text
    assert from_text(text) == data


@pytest.mark.parametrize(
    "text",
    [
        "",
        "kms:1",
        "kms:2:AA",
        "KMS:1:AA",
        " kms:1:AA",
        "AA",
        "kms:1:A",  # no length of base64
        "kms:1:AB",  # bits after the last byte
        "kms:1:AA==",
        "kms:1:AA=",
        "kms:1:+/8",  # the other alphabet
        "kms:1:AA\n",
        "kms:1:A A",
        "kms:1:AA AA",
        "kms:1:ÄÄ",
        "kms:1:kms:1:AA",
        "kms:1:AAA\0",
        "kms:1:\udcff\udcff",
    ],
)
def test_a_text_that_is_not_canonical_is_refused(text: str):
    with pytest.raises(InvalidRequest) as caught:
        from_text(text, "value")
    (violation,) = caught.value.violations
    assert (violation.field, violation.rule) == (
        "value",
        "must be kms:1: and canonical base64url without padding",
    )
