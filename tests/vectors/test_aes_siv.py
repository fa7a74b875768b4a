"""Suite 0x03 against the cases of OpenSSL and Wycheproof for 512-bit keys and one component of associated data."""

from __future__ import annotations

from kms.core.suites import Suite
from tests.vectors import nist, wycheproof
from tests.vectors.fixed_nonce import decrypt, encrypt

SHAPES = (
    frozenset({"COUNT", "Key", "AAD", "Tag", "Plaintext", "Ciphertext"}),
    frozenset({"COUNT", "Key", "AAD", "AAD2", "AAD3", "Tag", "Plaintext", "Ciphertext"}),
)
FORM = wycheproof.Form(
    algorithm="AES-SIV-CMAC",
    schema="daead_test_schema_v1.json",
    group_type="DaeadTest",
    sources=frozenset({("google-wycheproof", "0.8r12")}),
    group_numbers=frozenset({"keySize"}),
    case_bytes=frozenset({"key", "aad", "msg", "ct"}),
    flags=frozenset({"EdgeCaseSiv"}),
    flags_may_be_absent=True,
)


def test_openssl():
    cases = nist.load("ciphers/AES/SIV/openssl.txt", frozenset(), *SHAPES)
    chosen = [case for case in cases if len(case.data("Key")) == 64 and set(case.fields) == SHAPES[0]]
    for case in chosen:
        body = case.data("Tag") + case.data("Ciphertext")
        assert encrypt(Suite.AES_SIV, case.data("Key"), b"", case.data("AAD"), case.data("Plaintext")) == body
        assert decrypt(Suite.AES_SIV, case.data("Key"), b"", case.data("AAD"), body) == case.data("Plaintext")
    assert (len(cases), len(chosen)) == (4, 1)


def test_wycheproof():
    cases = wycheproof.load("aes_siv_cmac_test.json", FORM)
    chosen = [case for case in cases if case.numbers == {"keySize": 512}]
    for case in chosen:
        data = case.data
        decrypted = decrypt(Suite.AES_SIV, data["key"], b"", data["aad"], data["ct"])
        encrypted = encrypt(Suite.AES_SIV, data["key"], b"", data["aad"], data["msg"])
        if case.result == "valid":
            assert decrypted == data["msg"], case.number
            assert encrypted == data["ct"], case.number
        else:
            assert decrypted is None, case.number
            assert encrypted != data["ct"], case.number
    assert (len(cases), len(chosen), sum(case.result == "invalid" for case in chosen)) == (442, 147, 108)
