"""Suite 0x01 against the cases of NIST and Wycheproof for 256-bit keys, 96-bit nonces and 128-bit tags."""

from __future__ import annotations

from kms.core.suites import Suite
from tests.vectors import nist, wycheproof
from tests.vectors.fixed_nonce import decrypt, encrypt

SECTIONS = frozenset({"Keylen", "IVlen", "PTlen", "AADlen", "Taglen"})
SHAPE = frozenset({"Count", "Key", "IV", "CT", "AAD", "Tag", "PT"})
FAILING = frozenset({"Count", "Key", "IV", "CT", "AAD", "Tag", "FAIL"})
FORM = wycheproof.Form(
    algorithm="AES-GCM",
    schema="aead_test_schema_v1.json",
    group_type="AeadTest",
    sources=frozenset({("google-wycheproof", "0.9rc5")}),
    group_numbers=frozenset({"ivSize", "keySize", "tagSize"}),
    case_bytes=frozenset({"key", "iv", "aad", "msg", "ct", "tag"}),
    flags=frozenset(
        {
            "CounterWrap",
            "Ktv",
            "LongIv",
            "ModifiedTag",
            "Pseudorandom",
            "SmallIv",
            "SpecialCase",
            "ZeroLengthIv",
        }
    ),
)


def ours(case: nist.Case) -> bool:
    return case.sections["IVlen"] == 96 and case.sections["Taglen"] == 128


def test_nist_cavp_encryption():
    cases = nist.load("ciphers/AES/GCM/gcmEncryptExtIV256.rsp", SECTIONS, SHAPE)
    for case in filter(ours, cases):
        body = encrypt(Suite.AES_256_GCM, case.data("Key"), case.data("IV"), case.data("AAD"), case.data("PT"))
        assert body == case.data("CT") + case.data("Tag")
    assert (len(cases), sum(map(ours, cases))) == (7875, 375)


def test_nist_cavp_decryption():
    cases = nist.load("ciphers/AES/GCM/gcmDecrypt256.rsp", SECTIONS, SHAPE, FAILING)
    chosen = list(filter(ours, cases))
    for case in chosen:
        body = case.data("CT") + case.data("Tag")
        plaintext = decrypt(Suite.AES_256_GCM, case.data("Key"), case.data("IV"), case.data("AAD"), body)
        assert plaintext == (None if case.failed else case.data("PT"))
    assert (len(cases), len(chosen), sum(case.failed for case in chosen)) == (7875, 375, 191)


def test_wycheproof():
    cases = wycheproof.load("aes_gcm_test.json", FORM)
    chosen = [case for case in cases if case.numbers == {"keySize": 256, "ivSize": 96, "tagSize": 128}]
    for case in chosen:
        data = case.data
        decrypted = decrypt(Suite.AES_256_GCM, data["key"], data["iv"], data["aad"], data["ct"] + data["tag"])
        encrypted = encrypt(Suite.AES_256_GCM, data["key"], data["iv"], data["aad"], data["msg"])
        if case.result == "valid":
            assert decrypted == data["msg"], case.number
            assert encrypted == data["ct"] + data["tag"], case.number
        else:
            assert decrypted is None, case.number
            assert encrypted != data["ct"] + data["tag"], case.number
    assert (len(cases), len(chosen), sum(case.result == "invalid" for case in chosen)) == (316, 66, 27)


def test_wycheproof_nonces_of_other_lengths_do_not_decrypt():
    # The cipher takes the nonce by its place, so that one of another length cannot be meant.
    cases = wycheproof.load("aes_gcm_test.json", FORM)
    chosen = [case for case in cases if case.numbers["keySize"] == 256 and case.numbers["ivSize"] != 96]
    for case in chosen:
        data = case.data
        body = data["ct"] + data["tag"]
        assert decrypt(Suite.AES_256_GCM, data["key"], data["iv"], data["aad"], body) is None, case.number
    assert len(chosen) == 39
