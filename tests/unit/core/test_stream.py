"""The header of a stream, its nonces and its lengths: FORMATS section 4."""

from __future__ import annotations

import hashlib
from uuid import UUID

import pytest

from kms.core.context import Context
from kms.core.errors import InvalidRequest, NotSupported
from kms.core.names import KeyUid, TenantUid
from kms.core.stream import StreamHeader, check_chunk_bits, nonce, plain_length, sealed_length

KEY = KeyUid(UUID("0b8a7c6d-5e4f-4a3b-9c2d-1e0f9a8b7c6d"))
SALT = bytes(range(32))
HEADER = StreamHeader(KEY, 258, SALT, 16)
GOOD = bytes.fromhex("0110" + KEY.hex + "00000102" + SALT.hex() + "10000000") + bytes(32)


def test_a_header_is_these_bytes():
    assert HEADER.encode() == GOOD[:58]
    assert StreamHeader.parse(GOOD[:58] + SALT) == (HEADER, SALT)


def test_the_derivation_covers_label_header_and_context():
    context = Context.of(TenantUid(UUID(int=1)), [("file", b"1")])
    assert HEADER.info(context) == b"kms/v1/suite-10\0" + GOOD[:58] + hashlib.sha256(context.encode()).digest()


@pytest.mark.parametrize(
    ("at", "value", "rule"),
    [
        (0, 2, "byte 0 (format) must be 1"),
        (1, 1, "byte 1 (suite) must be 16"),
        (8, 0x1A, "key id) must be a UUIDv4"),
        (54, 11, "must be 12 to 22"),
        (54, 23, "must be 12 to 22"),
        (55, 2, "bytes 55 to 57"),
        (55, 3, "bytes 55 to 57"),
        (56, 1, "bytes 55 to 57"),
        (57, 1, "bytes 55 to 57"),
    ],
)
def test_an_impossible_header_is_refused(at: int, value: int, rule: str):
    with pytest.raises(InvalidRequest, match=r"^stream") as caught:
        StreamHeader.parse(GOOD[:at] + bytes([value]) + GOOD[at + 1 :])
    assert rule in str(caught.value)


def test_version_0_is_refused():
    with pytest.raises(InvalidRequest, match="key version"):
        StreamHeader.parse(GOOD[:18] + bytes(4) + GOOD[22:])


@pytest.mark.parametrize("length", [0, 89, 91])
def test_another_length_is_refused(length: int):
    with pytest.raises(InvalidRequest, match="90 bytes"):
        StreamHeader.parse((GOOD + bytes(1))[:length])


def test_a_compressed_stream_is_not_supported():
    with pytest.raises(NotSupported, match="zstd"):
        StreamHeader.parse(GOOD[:55] + b"\x01" + GOOD[56:])


def test_a_nonce_is_the_counter_and_whether_it_is_the_last():
    assert nonce(0, last=False) == bytes(12)
    assert nonce(258, last=True) == bytes(9) + b"\x01\x02\x01"
    assert nonce(2**32 - 1, last=True) == bytes(7) + b"\xff" * 4 + b"\x01"


@pytest.mark.parametrize("counter", [-1, 2**32])
def test_there_is_no_chunk_beyond_the_limit(counter: int):
    with pytest.raises(InvalidRequest, match="at most 4294967296 chunks"):
        nonce(counter, last=False)


@pytest.mark.parametrize(
    ("plain", "sealed"), [(0, 16), (1, 17), (4096, 4112), (4097, 4129), (8192, 8224), (2**44, 2**44 + 2**36)]
)
def test_lengths_with_chunks_of_4_kib(plain: int, sealed: int):
    assert sealed_length(plain, 12) == sealed
    assert plain_length(sealed, 12) == plain


@pytest.mark.parametrize("sealed", [0, 15, 4113, 4112 + 16, 2**44 + 2**36 + 17])
def test_impossible_lengths_with_chunks_of_4_kib(sealed: int):
    with pytest.raises(InvalidRequest):
        plain_length(sealed, 12)


def test_the_length_of_a_chunk_is_bounded():
    assert [check_chunk_bits(bits, "x") for bits in (12, 22)] == [12, 22]
    for bits in (11, 23):
        with pytest.raises(InvalidRequest, match="x: must be 12 to 22"):
            check_chunk_bits(bits, "x")
