"""What of a formatted value is encrypted, and what of it stays where it is.

A value is a text of ASCII. Its symbols are the characters of one alphabet; spaces and punctuation between them stay in
place. Letters and digits of another alphabet are refused: they would stay in the clear without anybody having asked for it.
The first or last symbols can be kept, with all that stands among them; the others are what is encrypted.

    "4111 1111 1111 1234"   DIGITS, last 4 kept     411111111111 is encrypted, 1234 and the spaces stay
    "+351 912 345 678"      DIGITS, first 3 kept    912345678

A check digit (Luhn, mod 97) is a symbol like the others: the result of a valid number is seldom valid.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from .errors import invalid

LONGEST_FORMATTED: Final = 1_024  # characters of a value, separators included
# SP 800-38G, revision 1, second draft, 5.1: fewer different strings can be attacked at little cost, or all be tried.
MINIMUM_DOMAIN: Final = 1_000_000

FEWEST_SYMBOLS: Final = 2  # FF1 works on two halves

SEPARATORS: Final = frozenset(" " + string.punctuation)  # what stays where it is


class Alphabet(IntEnum):
    """The symbols of a value; the numbers are those of the derivation (u16), and the order of symbols is for ever."""

    DIGITS = 1  # 0-9
    LOWER = 2  # a-z
    UPPER = 3  # A-Z
    ALPHANUMERIC = 4  # 0-9 A-Z a-z
    UPPER_ALPHANUMERIC = 5  # 0-9 A-Z, as of an IBAN

    @property
    def slug(self) -> str:
        """The name as plans and command lines spell it."""
        return self.name.lower()

    @property
    def symbols(self) -> str:
        """The characters; the place of one is its number."""
        return _SYMBOLS[self]

    @property
    def radix(self) -> int:
        """How many characters there are, 10 to 62."""
        return len(_SYMBOLS[self])

    @property
    def fewest(self) -> int:
        """How many symbols have to be encrypted, so that there are 1,000,000 different strings of them."""
        return _FEWEST[self]


_SYMBOLS: Final = MappingProxyType(
    {
        Alphabet.DIGITS: string.digits,
        Alphabet.LOWER: string.ascii_lowercase,
        Alphabet.UPPER: string.ascii_uppercase,
        Alphabet.ALPHANUMERIC: string.digits + string.ascii_uppercase + string.ascii_lowercase,
        Alphabet.UPPER_ALPHANUMERIC: string.digits + string.ascii_uppercase,
    }
)


def fewest_symbols(radix: int, minimum_domain: int = MINIMUM_DOMAIN) -> int:
    """Return the length from which on there are at least so many different strings; 2 at the least."""
    length = FEWEST_SYMBOLS
    while radix**length < minimum_domain:
        length += 1
    return length


_FEWEST: Final = MappingProxyType({alphabet: fewest_symbols(len(symbols)) for alphabet, symbols in _SYMBOLS.items()})
_NUMBERS: Final = MappingProxyType(
    {
        alphabet: MappingProxyType({symbol: number for number, symbol in enumerate(symbols)})
        for alphabet, symbols in _SYMBOLS.items()
    }
)


@dataclass(frozen=True, slots=True)
class Layout:
    """Which symbols of values are encrypted."""

    alphabet: Alphabet
    keep_first: int = 0  # symbols, not characters
    keep_last: int = 0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InvalidRequest: a number below 0 or above 1,024.
        """
        for name, count in (("keep_first", self.keep_first), ("keep_last", self.keep_last)):
            if not 0 <= count <= LONGEST_FORMATTED:
                raise invalid(f"rule.{name}", f"must be 0 to {LONGEST_FORMATTED} symbols")

    def part(self, value: str, field: str = "value") -> Parted:
        """Take a value apart.

        Args:
            value: at most 1,024 characters.
            field: what errors call the value.

        Raises:
            InvalidRequest: too long, a character of no kind that is allowed, or too few symbols left to be encrypted.
        """
        if len(value) > LONGEST_FORMATTED:
            raise invalid(field, f"must have at most {LONGEST_FORMATTED} characters, has {len(value)}")
        numbers = _NUMBERS[self.alphabet]
        places = [place for place, character in enumerate(value) if character in numbers]
        if len(places) < len(value) and any(c not in numbers and c not in SEPARATORS for c in value):
            raise invalid(
                field, f"must have symbols of alphabet {self.alphabet.name}, ASCII punctuation and spaces only"
            )
        count = len(places) - self.keep_first - self.keep_last
        if count < self.alphabet.fewest:
            raise invalid(
                field,
                f"must have at least {self.alphabet.fewest} symbols of alphabet {self.alphabet.name} beside"
                f" those that are kept ({MINIMUM_DOMAIN:,} different strings), has {max(count, 0)}",
            )
        end = len(places) - self.keep_last
        kept = _at(value, places[: self.keep_first]), _at(value, places[end:])
        places = places[self.keep_first : end]
        return Parted(self.alphabet, value, places, [numbers[value[place]] for place in places], kept)


@dataclass(frozen=True, slots=True, repr=False)
class Parted:
    """A value taken apart."""

    alphabet: Alphabet
    value: str
    places: Sequence[int]  # of what is encrypted, within the value
    numbers: Sequence[int]  # what stands there, as numbers below the radix
    kept: tuple[str, str]  # the symbols that are kept, at the beginning and at the end

    def filled(self, numbers: Sequence[int]) -> str:
        """Return the value with other symbols at the places.

        Raises:
            ValueError: not as many numbers as places.
        """
        characters, symbols = list(self.value), self.alphabet.symbols
        for place, number in zip(self.places, numbers, strict=True):
            characters[place] = symbols[number]
        return "".join(characters)


def _at(value: str, places: Sequence[int]) -> str:
    return "".join([value[place] for place in places])
