from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from kms.core.errors import CorruptRecord
from kms.core.names import KekUid, KeyUid, TenantUid
from kms.core.suites import ProtectionLevel, Purpose, Suite
from kms.core.wrapping import DekPlace, WrapMechanism, WrappedDek, binding, kw_bind_input, seal_binding

TENANT = TenantUid(UUID("11111111-1111-4111-8111-111111111111"))
KEY = KeyUid(UUID("22222222-2222-4222-8222-222222222222"))
KEK = KekUid(UUID("33333333-3333-4333-8333-333333333333"))
OTHER = UUID("44444444-4444-4444-8444-444444444444")
PLACE = DekPlace(TENANT, KEY, 0x01020304, Purpose.DETERMINISTIC, Suite.AES_SIV, ProtectionLevel.SOFTWARE)
BOUND = (
    b"kms/v1/dek-wrap\0"
    + bytes.fromhex("11111111111141118111111111111111")
    + bytes.fromhex("22222222222242228222222222222222")
    + bytes.fromhex("01020304 02 03 01")
    + bytes.fromhex("33333333333343338333333333333333")
    + bytes.fromhex("00000007 01 0040")
)
WRAPPED = WrappedDek(WrapMechanism.AES_GCM, KEK, 7, b"i" * 12, b"b" * 48)
BLOB = b"\1\1" + bytes.fromhex("33333333333343338333333333333333") + b"\0\0\0\7\x0c" + b"i" * 12 + b"b" * 48


def test_the_binding_is_these_bytes():
    assert binding(PLACE, KEK, 7, WrapMechanism.AES_GCM, 64) == BOUND
    assert len(BOUND) == 16 + 62


def test_every_part_of_the_place_changes_the_binding():
    places = [
        PLACE,
        replace(PLACE, tenant=TenantUid(OTHER)),
        replace(PLACE, key=KeyUid(OTHER)),
        replace(PLACE, version=1),
        replace(PLACE, purpose=Purpose.ENCRYPT),
        replace(PLACE, suite=Suite.AES_256_GCM),
        replace(PLACE, level=ProtectionLevel.HSM),
    ]
    assert len({seal_binding(place) for place in places}) == len(places)
    bound = {binding(place, KEK, 7, WrapMechanism.AES_GCM, 64) for place in places}
    bound.add(binding(PLACE, KekUid(OTHER), 7, WrapMechanism.AES_GCM, 64))
    bound.add(binding(PLACE, KEK, 8, WrapMechanism.AES_GCM, 64))
    bound.add(binding(PLACE, KEK, 7, WrapMechanism.AES_KW, 64))
    bound.add(binding(PLACE, KEK, 7, WrapMechanism.AES_GCM, 32))
    assert len(bound) == len(places) + 4


def test_a_seal_is_bound_to_these_bytes():
    assert seal_binding(PLACE) == b"kms/v1/dek-seal\0" + BOUND[16:55]
    assert len(seal_binding(PLACE)) == 16 + 39


def test_the_bind_key_signs_these_bytes():
    assert kw_bind_input(BOUND, b"w" * 40) == b"kms/v1/kw-bind\0" + BOUND + b"\0\x28" + b"w" * 40


def test_the_blob_is_these_bytes():
    assert WRAPPED.encode() == BLOB
    assert WrappedDek.parse(BLOB) == WRAPPED


def test_key_wrap_has_no_iv():
    wrapped = WrappedDek(WrapMechanism.AES_KW, KEK, 1, b"", b"w" * 72)
    assert wrapped.encode()[1] == 2
    assert wrapped.encode()[22] == 0
    assert WrappedDek.parse(wrapped.encode()) == wrapped


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        BLOB[:22],
        BLOB[:23],
        BLOB[: 23 + 12 + 15],  # less than a tag
        b"\0" + BLOB[1:],
        b"\2" + BLOB[1:],
        BLOB[:1] + b"\0" + BLOB[2:],
        BLOB[:1] + b"\3" + BLOB[2:],
        BLOB[:18] + bytes(4) + BLOB[22:],  # KEK version 0
        BLOB[:22] + b"\xff" + BLOB[23:],  # an iv longer than the rest
    ],
)
def test_what_is_no_blob_is_a_corrupt_record(blob: bytes):
    with pytest.raises(CorruptRecord, match="a wrapped DEK has another format"):
        WrappedDek.parse(blob)
