"""FF1 against NIST's published samples and the cases of Wycheproof for radix 10."""

from __future__ import annotations

import pytest

from kms.crypto.ff1 import Ff1
from tests.vectors import wycheproof

ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
# SP 800-38G allowed a domain of 100; both sets have such cases.
FIRST_MINIMUM = 100
KEYS = {
    128: bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"),
    192: bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3cef4359d8d580aa4f"),
    256: bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3cef4359d8d580aa4f7f036d6f04fc6a94"),
}
SHORT_TWEAK, LONG_TWEAK = "39383736353433323130", "3737373770717273373737"
DIGITS, LETTERS = "0123456789", "0123456789abcdefghi"
# NIST, "Examples with intermediate values", FF1samples.pdf: 1 to 9.
SAMPLES = [
    (128, 10, "", DIGITS, "2433477484"),
    (128, 10, SHORT_TWEAK, DIGITS, "6124200773"),
    (128, 36, LONG_TWEAK, LETTERS, "a9tv40mll9kdu509eum"),
    (192, 10, "", DIGITS, "2830668132"),
    (192, 10, SHORT_TWEAK, DIGITS, "2496655549"),
    (192, 36, LONG_TWEAK, LETTERS, "xbj3kv35jrawxv32ysr"),
    (256, 10, "", DIGITS, "6657667009"),
    (256, 10, SHORT_TWEAK, DIGITS, "1001623463"),
    (256, 36, LONG_TWEAK, LETTERS, "xs8a0azh2avyalyzuwd"),
]
FORM = wycheproof.Form(
    algorithm="AES-FF1",
    schema="fpe_str_test_schema.json",
    group_type="FpeStrTest",
    sources=frozenset({("google-wycheproof", "0.9rc5")}),
    group_numbers=frozenset({"keySize", "msgSize", "radix"}),
    group_texts=frozenset({"alphabet"}),
    case_bytes=frozenset({"key", "tweak"}),
    case_texts=frozenset({"msg", "ct"}),
    flags=frozenset(
        {
            "EdgeCasePrf",
            "EdgeCaseState",
            "InvalidKeySize",
            "InvalidMessageSize",
            "InvalidPlaintext",
            "LargeMessageSize",
            "NormalMessageSize",
            "SmallMessageSize",
        }
    ),
)


def numbers(text: str, alphabet: str = ALPHABET) -> list[int]:
    return [alphabet.find(character) for character in text]  # -1 for what is no symbol, which FF1 refuses


def text(made: list[int], alphabet: str = ALPHABET) -> str:
    return "".join(alphabet[number] for number in made)


@pytest.mark.parametrize(("size", "radix", "tweak", "plaintext", "ciphertext"), SAMPLES)
def test_nist_samples(size: int, radix: int, tweak: str, plaintext: str, ciphertext: str):
    cipher = Ff1(KEYS[size], radix, FIRST_MINIMUM)
    assert text(cipher.encrypt(bytes.fromhex(tweak), numbers(plaintext))) == ciphertext
    assert text(cipher.decrypt(bytes.fromhex(tweak), numbers(ciphertext))) == plaintext


def test_wycheproof():
    cases = wycheproof.load("aes_ff1_base10_test.json", FORM)
    for case in cases:
        alphabet, tweak = case.texts["alphabet"], case.data["tweak"]
        plaintext, ciphertext = (numbers(case.texts[name], alphabet) for name in ("msg", "ct"))
        if case.result == "valid":
            cipher = Ff1(case.data["key"], case.numbers["radix"], FIRST_MINIMUM)
            assert cipher.encrypt(tweak, plaintext) == ciphertext, case.number
            assert cipher.decrypt(tweak, ciphertext) == plaintext, case.number
        else:
            with pytest.raises(ValueError, match=r"symbol|key"):
                Ff1(case.data["key"], case.numbers["radix"], FIRST_MINIMUM).encrypt(tweak, plaintext)
    assert (len(cases), sum(case.result == "invalid" for case in cases)) == (3845, 533)


def test_wycheproof_under_the_minimum_of_revision_1():
    """The cases of a domain below 1,000,000 are refused, and no others."""
    cases = [case for case in wycheproof.load("aes_ff1_base10_test.json", FORM) if case.result == "valid"]
    small = [case for case in cases if "SmallMessageSize" in case.flags]
    for case in cases:
        cipher, plaintext = Ff1(case.data["key"], case.numbers["radix"]), numbers(case.texts["msg"])
        if case in small:
            with pytest.raises(ValueError, match="6 to 1024 symbols"):
                cipher.encrypt(case.data["tweak"], plaintext)
        else:
            assert cipher.encrypt(case.data["tweak"], plaintext) == numbers(case.texts["ct"])
    assert len(small) == 12
