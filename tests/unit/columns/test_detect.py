"""What values look like: those that are made so are known, and those that only seem so are not."""

import base64
import secrets
import string
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.columns.detect import LEAST, Kind, entropy, is_iban, kind_of, kinds_of, likely, luhn

KNOWN = [
    ("ana.lima+news@example.org", Kind.EMAIL),
    ("zoë@müller.example", Kind.EMAIL),
    ("+351 912 345 678", Kind.PHONE),
    ("(020) 7946-0018", Kind.PHONE),
    ("+15550001111", Kind.PHONE),
    ("4111 1111 1111 1111", Kind.CARD),  # the test number that all acquirers publish
    ("378282246310005", Kind.CARD),
    ("3782 822463 10005", Kind.CARD),
    ("GB82 WEST 1234 5698 7654 32", Kind.IBAN),  # ISO 13616's own examples
    ("DE89370400440532013000", Kind.IBAN),
    ("MT84MALT011000012345MTLCAST001S", Kind.IBAN),
    ("192.0.2.17", Kind.ADDRESS),
    ("2001:db8::1/64", Kind.ADDRESS),
]


def _random(characters: str, count: int) -> str:
    return "".join(secrets.choice(characters) for _ in range(count))


def _digit_in(text: str) -> str:
    """A text that holds a digit for certain, as one of that length does all but always."""
    return f"7{text[1:]}"


_ALPHANUMERIC = string.ascii_letters + string.digits
_BASE32 = string.ascii_uppercase + "234567"
_BASE64 = _ALPHANUMERIC + "-_"
# What looks like a secret is made anew by every run: none stands in this file, not even an invalid one.
SECRETS = {
    "base32 of 10 bytes": (lambda: _digit_in(_random(_BASE32, 16)), Kind.TOTP),
    "base32 of 20 bytes": (lambda: _digit_in(_random(_BASE32, 32)), Kind.TOTP),
    "otpauth": (lambda: f"otpauth://totp/Acme:ana?secret={_random(_BASE32, 16)}", Kind.TOTP),
    "bcrypt": (lambda: f"$2b$12${_random(_ALPHANUMERIC + './', 53)}", Kind.VERIFIER),
    "argon2": (
        lambda: f"$argon2id$v=19$m=65536,t=3,p=4${_random(_BASE64, 11)}${_random(_BASE64, 22)}",
        Kind.VERIFIER,
    ),
    "pem": (lambda: "-----BEGIN {0}-----\nMC4CAQ\n-----END {0}-----".format("PRIVATE KEY"), Kind.PRIVATE_KEY),
    "github": (lambda: f"ghp_{_random(_ALPHANUMERIC, 36)}", Kind.API_KEY),
    "stripe": (lambda: f"sk_live_{_random(_ALPHANUMERIC, 24)}", Kind.API_KEY),
    "jwt": (lambda: f"eyJ{_random(_BASE64, 17)}.eyJ{_random(_BASE64, 16)}.{_random(_BASE64, 40)}", Kind.API_KEY),
}
NOTHING = [
    "",
    "Lisboa",
    "a@b",
    "@example.org",
    "2024-02-29",
    "29.02.2024",
    "20240229",
    "1234567",  # digits alone are an identifier
    "4111 1111 1111 1112",  # one digit off
    "0000000000000000",
    "GB82 WEST 1234 5698 7654 33",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ",  # letters in capitals are no secret
    "AAAAAAAAAAAAAAA2",
    "123e4567-e89b-12d3-a456-426614174000",
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",  # a digest, of what nobody knows
    "cjld2cjxh0000qzrmn831i7rn",  # an identifier
    "/var/lib/Postgresql/15/Main/base1",
    "The quick brown fox jumps over 13 lazy dogs",
    "12:30:45.250",
]


@pytest.mark.parametrize(("value", "kind"), KNOWN, ids=lambda one: str(one)[:24])
def test_a_value_of_a_kind_is_known(value, kind):
    assert kind_of(value) is kind


@pytest.mark.parametrize("form", SECRETS)
def test_a_secret_of_a_kind_is_known(form):
    make, kind = SECRETS[form]
    for _ in range(50):
        value = make()
        assert kind_of(value) is kind, value


@pytest.mark.parametrize("value", NOTHING, ids=lambda one: one[:24])
def test_a_value_of_no_kind_is_taken_for_none(value):
    assert kind_of(value) is None


@given(st.text(alphabet=string.digits, min_size=12, max_size=18))
def test_one_check_digit_of_ten_is_right(digits):
    right = [check for check in string.digits if luhn(digits + check)]
    assert len(right) == (1 if digits.strip("0") else 0)


@given(st.text(alphabet=string.ascii_uppercase + string.digits, min_size=11, max_size=30))
def test_one_pair_of_check_digits_of_97_is_right(account):
    # ISO 7064, MOD 97-10: 98 less the remainder, computed here with the digits 00 in place.
    rest = int("".join(str(int(one, 36)) for one in f"{account}DE00")) % 97
    assert is_iban(f"DE{98 - rest:02d}{account}")
    assert not is_iban(f"DE{(98 - rest) % 97 + 1:02d}{account}")


@given(st.integers(0, 2**128 - 1))
def test_no_uuid_is_taken_for_a_key(number):
    assert kind_of(str(uuid.UUID(int=number))) is None
    assert kind_of(str(uuid.UUID(int=number)).upper()) is None


def test_random_tokens_are_taken_for_keys():
    tokens = [secrets.token_urlsafe(32) for _ in range(200)]
    assert kinds_of(tokens)[0][Kind.API_KEY] > 0.9
    second_factors = [base64.b32encode(secrets.token_bytes(20)).decode() for _ in range(200)]
    assert kinds_of(second_factors)[0][Kind.TOTP] > 0.9


def test_a_column_is_taken_for_what_most_of_its_values_are():
    mails = ["a@example.org", "b@example.org", "c@example.org"]
    assert likely([*mails, "nobody", "", " "]) == (Kind.EMAIL, 0.75)
    assert likely([*mails, *["nobody"] * 4]) is None
    assert likely(mails[: LEAST - 1]) is None
    assert likely([]) is None


def test_entropy_is_that_of_the_characters():
    assert entropy("aaaa") == 0
    assert entropy("abab") == 1
    assert entropy("abcdefgh") == 3
