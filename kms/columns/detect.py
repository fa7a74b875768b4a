"""What a sampled value looks like: an e-mail address, a card number, a token, ...

Pure; looks decide what is proposed to a person, and nothing else. Values come in, kinds and shares go out.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final

LEAST: Final = 3  # values, before anything is said of them
SHARE: Final = 0.5  # of the values, before a column is taken for such
LONGEST: Final = 512  # characters of a value that are looked at
SHORTEST: Final = 7

_EMAIL: Final = re.compile(r"[^\s@\"<>()]{1,64}@[^\s@.]{1,63}(\.[^\s@.]{1,63})+")
_PHONE: Final = re.compile(r"\+?[0-9(][0-9 ().\-/]{5,22}[0-9]")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d|\d\d?[./]\d\d?[./]\d{4}")
_CARD: Final = re.compile(r"\d{4}([ -]?\d{4}){2}([ -]?\d{1,7})|\d{13,19}|3\d{3}[ -]\d{6}[ -]\d{5}")
_IBAN: Final = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}")
_TOTP: Final = re.compile(r"[A-Z2-7]{16,128}={0,6}")
_VERIFIER: Final = re.compile(
    r"\$(2[abxy]|argon2(id|i|d)|scrypt|pbkdf2[a-z0-9-]*|[156y])\$.+|pbkdf2[_:$].+|\{S?SHA\d*\}.+|SCRAM-SHA-256\$.+"
)
_JWT: Final = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
# Prefixes that issuers give their secrets, so that they can be found.
_KEY_PREFIX: Final = re.compile(
    r"(sk|pk|rk)_(live|test)_|gh[pousr]_|github_pat_|glpat-|xox[abprs]-|AKIA|ASIA|AIza|SG\.|npm_|pypi-|hvs\.|sk-|shpat_|dop_v1_"
)
_OPAQUE: Final = re.compile(r"[A-Za-z0-9_\-+/=.~]{20,}")
_KEY_ENTROPY: Final = 3.5  # bits a character; English text without spaces has about 4 in 27 letters, but no mixed case
# Lengths of an IBAN by country differ; the check digits decide (ISO 13616, ISO 7064 MOD 97-10).
_IBAN_LENGTHS: Final = range(15, 35)


class Kind(StrEnum):
    """What values look like; the text is what a proposal says of them."""

    EMAIL = "e-mail addresses"
    PHONE = "phone numbers"
    CARD = "card numbers (their Luhn digit is right)"
    IBAN = "IBANs (their check digits are right)"
    TOTP = "second-factor secrets"
    VERIFIER = "password verifiers"
    PRIVATE_KEY = "private keys"
    API_KEY = "API keys or tokens"
    ADDRESS = "network addresses"


def kind_of(value: str) -> Kind | None:
    """Return what one value looks like, or None."""
    text = value[:LONGEST].strip()
    if len(text) < SHORTEST:
        return None
    return next((kind for kind, looks in _LOOKS if looks(text)), None)


def kinds_of(values: Iterable[str]) -> tuple[dict[Kind, float], int]:
    """Return the share of each kind among the values that are not empty, and how many those are."""
    seen = [value for value in values if value.strip()]
    kinds = Counter(kind for kind in map(kind_of, seen) if kind is not None)
    return {kind: number / len(seen) for kind, number in kinds.most_common()}, len(seen)


def likely(values: Iterable[str]) -> tuple[Kind, float] | None:
    """Return what most of a column's values look like with their share, or None."""
    shares, number = kinds_of(values)
    if number < LEAST or not shares:
        return None
    kind, share = next(iter(shares.items()))
    return (kind, share) if share >= SHARE else None


def luhn(digits: str) -> bool:
    """Return whether the last digit checks the others.

    Source: ISO/IEC 7812-1, annex B.
    """
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return bool(digits.strip("0")) and sum(one - 9 if one > 9 else one for one in doubled) % 10 == 0


def is_iban(text: str) -> bool:
    """Return whether it is an IBAN, with spaces or without.

    Source: ISO 13616-1; ISO 7064, MOD 97-10.
    """
    bare = text.replace(" ", "")
    if len(bare) not in _IBAN_LENGTHS or not _IBAN.fullmatch(bare):
        return False
    return int("".join(str(int(one, 36)) for one in bare[4:] + bare[:4])) % 97 == 1


def is_totp(text: str) -> bool:
    """Return whether it is a second-factor secret: base32 as authenticators take it, or their URI.

    Source: RFC 4648, section 6; RFC 6238; the Key URI Format of authenticators.
    """
    if text.startswith(("otpauth://totp/", "otpauth://hotp/")):
        return True
    # Words in capital letters are base32, too; secrets of some length have a digit.
    return bool(_TOTP.fullmatch(text)) and any(one in "234567" for one in text) and entropy(text) > 2.5


def is_phone(text: str) -> bool:
    """Return whether it is a phone number: 7 to 15 digits with a plus sign or separators.

    Source: ITU-T E.164, section 6 (at most 15 digits).
    """
    digits = sum(one.isdigit() for one in text)
    if not 7 <= digits <= 15 or not _PHONE.fullmatch(text) or _DATE.match(text):
        return False
    return text.startswith("+") or any(one in " ()-" for one in text)


def is_address(text: str) -> bool:
    """Return whether it is an IPv4 or IPv6 address or network."""
    if "." not in text and ":" not in text:
        return False
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        return False
    return True


def is_api_key(text: str) -> bool:
    """Return whether it is an API key or a token: an issuer's prefix, a JWT, or mixed characters of high entropy."""
    if _JWT.fullmatch(text):
        return True
    if not _OPAQUE.fullmatch(text) or text.count("/") > 2 or text.count(".") > 2:
        return False
    if _KEY_PREFIX.match(text):
        return True
    mixed = (
        any(one.islower() for one in text) and any(one.isupper() for one in text) and any(one.isdigit() for one in text)
    )
    return mixed and entropy(text) >= _KEY_ENTROPY


def entropy(text: str) -> float:
    """Return the empirical entropy of a text's characters, in bits a character (Shannon)."""
    counts = Counter(text)
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts.values())


# The first that fits: a card number is digits with separators like a phone number, and a secret is opaque like a key.
_LOOKS: Final[tuple[tuple[Kind, Callable[[str], object]], ...]] = (
    (Kind.EMAIL, _EMAIL.fullmatch),
    (Kind.PRIVATE_KEY, lambda text: text.startswith("-----BEGIN ") and "PRIVATE KEY-----" in text),
    (Kind.VERIFIER, _VERIFIER.fullmatch),
    (Kind.ADDRESS, is_address),
    (Kind.CARD, lambda text: _CARD.fullmatch(text) and luhn(re.sub(r"[ -]", "", text))),
    (Kind.IBAN, is_iban),
    (Kind.TOTP, is_totp),
    (Kind.PHONE, is_phone),
    (Kind.API_KEY, is_api_key),
)
