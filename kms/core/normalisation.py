"""What is made equal before a value is hashed for search: the normalisers of FORMATS section 6.

A normaliser's number stands for one rule for ever: all are of Unicode 14.0, whatever tables the interpreter has. Text is
cut at code points that 14.0 has not assigned; these stay as they are, and the pieces between them are normalised alone.
Unicode's stability policies promise that every later version does the same with assigned code points, and 14.0 itself
neither composes nor reorders across others.

No value is refused for what it says: what is no address, or no number, is made equal as CASELESS does, and hashed.

Source: UAX 15, revision 51 (NFKC); Unicode 14.0, section 3.13, D146 (caseless matching); Unicode Character Encoding
Stability Policies (normalisation; case folding of NFKC text).
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Callable
from enum import IntEnum
from itertools import groupby
from types import MappingProxyType
from typing import Final

from .errors import invalid
from .suites import MAX_PLAINTEXT
from .unicode_14 import BOUNDS, ZEROS

# CPython sorts a run of marks in quadratic time: the worst value of this length takes 4 ms, ten times as much 0.4 s.
MAX_NORMALISED: Final = 4_096  # bytes of a value of any normaliser but NONE

# White_Space of Unicode 14.0, PropList.txt.
_SPACE: Final = (
    "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
)
# Dashes, and marks that show nothing and come along when a number is copied.
_MARKS: Final = "\xad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
_SEPARATORS: Final = _SPACE + _MARKS + "-./\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
_NO_SEPARATORS: Final = dict.fromkeys(map(ord, _SEPARATORS))
_NO_BRACKETS: Final = dict.fromkeys(map(ord, "()"))
_DIGITS: Final = {zero + digit: str(digit) for zero in ZEROS for digit in range(10)}


class IndexNormaliser(IntEnum):
    """How values are normalised before they are hashed; the numbers are those of the hash's derivation (u16)."""

    NONE = 1  # byte for byte
    TEXT = 2  # NFKC, white space at both ends
    CASELESS = 3  # as TEXT, and case
    EMAIL = 4  # as CASELESS, and white space around the last @, and dots at the end
    PHONE = (
        5  # as CASELESS, digits of all scripts, separators; 00 at the beginning is +, (0) of a number with + is nothing
    )

    @property
    def slug(self) -> str:
        """The name as plans and command lines spell it."""
        return self.name.lower()


def normalise(normaliser: IndexNormaliser, value: bytes, field: str = "value") -> bytes:
    """Return the bytes that stand for all values which *normaliser* makes equal.

    Args:
        normaliser: the rule.
        value: for NONE any, at most 1,048,576 bytes; else UTF-8, at most 4,096 bytes.
        field: what errors call the value.

    Raises:
        InvalidRequest: too long, or no UTF-8.
    """
    most = MAX_PLAINTEXT if normaliser is IndexNormaliser.NONE else MAX_NORMALISED
    if len(value) > most:
        raise invalid(field, f"must have at most {most} bytes for normaliser {normaliser.slug}, has {len(value)}")
    if normaliser is IndexNormaliser.NONE:
        return value
    try:
        text = value.decode()
    except UnicodeDecodeError:
        # Without the cause, which holds the value.
        raise invalid(field, f"must be UTF-8 for normaliser {normaliser.slug}") from None
    return _RULES[normaliser](text).encode()


def _text(text: str) -> str:
    return _composed(text).strip(_SPACE)


def _caseless(text: str) -> str:
    if text.isascii():
        return text.lower().strip(_SPACE)
    for _ in range(
        2
    ):  # folding can make what NFKC changes, and that has a case again; a test shows that two are enough
        text = _each_piece(text, lambda piece: unicodedata.normalize("NFKC", piece).casefold())
    return _text(text)


def _email(text: str) -> str:
    text = _caseless(text)
    local, at, domain = text.rpartition("@")
    if not at:
        return text
    return local.rstrip(_SPACE) + at + domain.lstrip(_SPACE).rstrip(_SPACE + ".")


def _phone(text: str) -> str:
    text = _caseless(text).translate(_DIGITS).translate(_NO_SEPARATORS)
    if text.lstrip("(").startswith(("+", "00")):
        text = text.replace("(0)", "", 1)
    text = text.translate(_NO_BRACKETS)
    text = "+" + text[2:] if text.startswith("00") else text
    return _caseless(text)  # what is no number may have marks that follow another character now


def _composed(text: str) -> str:
    return _each_piece(text, lambda piece: unicodedata.normalize("NFKC", piece))


def _each_piece(text: str, change: Callable[[str], str]) -> str:
    """Change what stands between code points that Unicode 14.0 has not assigned."""
    if text.isascii():
        return change(text)
    # A look at each distinct character: a text has few of them.
    strange = {character for character in set(text) if not _assigned(character)}
    if not strange:
        return change(text)
    runs = groupby(text, strange.__contains__)
    return "".join("".join(run) if untouched else change("".join(run)) for untouched, run in runs)


def _assigned(character: str) -> bool:
    return bisect_right(BOUNDS, ord(character)) % 2 == 1


_RULES: Final = MappingProxyType(
    {
        IndexNormaliser.TEXT: _text,
        IndexNormaliser.CASELESS: _caseless,
        IndexNormaliser.EMAIL: _email,
        IndexNormaliser.PHONE: _phone,
    }
)
