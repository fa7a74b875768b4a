"""Wraps by the token against the same ones by `cryptography`, under KEKs whose bytes the test knows.

SP 800-38D (GCM), RFC 3394 (AES-KW) and RFC 2104 (HMAC), put together as FORMATS section 5 says; nothing of kms.hsm is
used on this side.
"""

import hashlib
import hmac
import os
import struct
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap

from kms.core.errors import CorruptRecord, HsmUnavailable
from kms.core.keyring import Kek, KekState
from kms.core.names import KekUid, TenantUid
from kms.core.wrapping import WrapMechanism

pytestmark = pytest.mark.softhsm

CANARY = b"kms/v1 canary of a KEK, 32 bytes"
BOUND = b"kms/v1/dek-wrap\0" + bytes(range(66))

IMPORT = """
for key_type, value, uses, label, id_ in KEYS:
    session.create_object({Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.KEY_TYPE: KeyType[key_type],
        Attribute.VALUE: bytes.fromhex(value), Attribute.TOKEN: True, Attribute.PRIVATE: True,
        Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.LABEL: label,
        Attribute.ID: bytes.fromhex(id_),
        **{attribute: attribute.name in uses for attribute in (Attribute.ENCRYPT, Attribute.DECRYPT, Attribute.WRAP,
            Attribute.UNWRAP, Attribute.SIGN, Attribute.VERIFY)}})
"""


def header(kek: Kek, iv: bytes) -> bytes:
    return struct.pack(">BB16sIB", 1, kek.mechanism, kek.uid.bytes, kek.version, len(iv)) + iv


def gcm_blob(kek: Kek, key: bytes, dek: bytes, bound: bytes) -> bytes:
    iv = os.urandom(12)
    return header(kek, iv) + AESGCM(key).encrypt(iv, dek, bound)


def kw_blob(kek: Kek, key: bytes, bind: bytes, dek: bytes, bound: bytes) -> bytes:
    wrapped = aes_key_wrap(key, dek)
    tag = hmac.digest(bind, b"kms/v1/kw-bind\0" + bound + struct.pack(">H", len(wrapped)) + wrapped, hashlib.sha256)
    return header(kek, b"") + wrapped + tag


def make_record(mechanism: WrapMechanism, make_canary) -> Kek:
    kek = Kek(TenantUid(uuid4()), KekUid(uuid4()), 3, KekState.ACTIVE, datetime.now(UTC), "operators/test", mechanism)
    canary = make_canary(kek, CANARY, b"kms/v1/kek-canary\0" + kek.uid.bytes + struct.pack(">I", kek.version))
    return Kek(kek.tenant, kek.uid, 3, kek.state, kek.created_at, kek.created_by, mechanism, canary)


def import_keys(token, *keys) -> None:
    token.run(f"KEYS = {keys!r}\n" + IMPORT)


def id_of(kek: Kek) -> str:
    return (kek.uid.bytes + struct.pack(">I", kek.version)).hex()


@pytest.mark.parametrize("length", [32, 64])
async def test_aes_gcm_wraps_are_those_of_cryptography(fresh_token, length):
    key, dek = os.urandom(32), os.urandom(length)
    kek = make_record(WrapMechanism.AES_GCM, lambda kek, *rest: gcm_blob(kek, key, *rest))
    import_keys(fresh_token, ("AES", key.hex(), ["ENCRYPT", "DECRYPT"], "imported", id_of(kek)))
    vault = fresh_token.vault()
    await vault.start()
    try:
        blob = await vault.wrap(kek, dek, BOUND)
        assert blob[:23] == header(kek, bytes(12))[:23]
        assert len(blob) == 23 + 12 + length + 16
        assert AESGCM(key).decrypt(blob[23:35], blob[35:], BOUND) == dek
        assert (await vault.wrap(kek, dek, BOUND))[23:35] != blob[23:35]
        assert await vault.unwrap(kek, gcm_blob(kek, key, dek, BOUND), BOUND) == dek
        with pytest.raises(CorruptRecord):
            await vault.unwrap(kek, gcm_blob(kek, os.urandom(32), dek, BOUND), BOUND)
        with pytest.raises(CorruptRecord):
            await vault.unwrap(kek, gcm_blob(kek, key, bytes(48), BOUND), BOUND)
    finally:
        await vault.stop()


@pytest.mark.parametrize("length", [32, 64])
async def test_aes_kw_wraps_are_those_of_cryptography(fresh_token, length):
    key, bind, dek = os.urandom(32), os.urandom(32), os.urandom(length)
    kek = make_record(WrapMechanism.AES_KW, lambda kek, *rest: kw_blob(kek, key, bind, *rest))
    import_keys(
        fresh_token,
        ("AES", key.hex(), ["WRAP", "UNWRAP"], "imported", id_of(kek)),
        ("GENERIC_SECRET", bind.hex(), ["SIGN", "VERIFY"], "kms-bind", ""),
    )
    vault = fresh_token.vault()
    await vault.start()
    try:
        blob = await vault.wrap(kek, dek, BOUND)
        assert blob == kw_blob(kek, key, bind, dek, BOUND)
        assert aes_key_unwrap(key, blob[23:-32]) == dek
        assert await vault.unwrap(kek, kw_blob(kek, key, bind, dek, BOUND), BOUND) == dek
        with pytest.raises(CorruptRecord):  # the tag is right, the wrap is not
            await vault.unwrap(kek, kw_blob(kek, os.urandom(32), bind, dek, BOUND), BOUND)
        with pytest.raises(CorruptRecord):  # the other way round
            await vault.unwrap(kek, kw_blob(kek, key, os.urandom(32), dek, BOUND), BOUND)
        with pytest.raises(CorruptRecord):
            await vault.unwrap(kek, kw_blob(kek, key, bind, bytes(48), BOUND), BOUND)
    finally:
        await vault.stop()


@pytest.mark.parametrize("wrong", ["plaintext", "binding"])
async def test_a_canary_of_other_bytes_or_another_place_is_refused(fresh_token, wrong):
    key = os.urandom(32)

    def make_canary(kek, plaintext, bound):
        if wrong == "plaintext":
            return gcm_blob(kek, key, bytes(32), bound)
        return gcm_blob(kek, key, plaintext, BOUND)

    kek = make_record(WrapMechanism.AES_GCM, make_canary)
    import_keys(fresh_token, ("AES", key.hex(), ["ENCRYPT", "DECRYPT"], "imported", id_of(kek)))
    vault = fresh_token.vault()
    await vault.start()
    try:
        with pytest.raises(HsmUnavailable, match="canary"):
            await vault.wrap(kek, bytes(32), BOUND)
    finally:
        await vault.stop()
