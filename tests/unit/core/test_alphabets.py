"""Formatted values: what of them is encrypted, and which are refused."""

from __future__ import annotations

import pytest

from kms.core.alphabets import LONGEST_FORMATTED, MINIMUM_DOMAIN, Alphabet, Layout, fewest_symbols
from kms.core.errors import InvalidRequest

TAKEN = [
    (Layout(Alphabet.DIGITS), "4111 1111 1111 1234", "4111111111111234", ("", "")),
    (Layout(Alphabet.DIGITS, keep_last=4), "4111 1111 1111 1234", "411111111111", ("", "1234")),
    (Layout(Alphabet.DIGITS, 3), "+351 912 345 678", "912345678", ("351", "")),
    (Layout(Alphabet.DIGITS, 6, 4), "4111-1122-2222-3334", "222222", ("411111", "3334")),
    (Layout(Alphabet.UPPER_ALPHANUMERIC, 4), "PT50 0002 0123", "00020123", ("PT50", "")),
    (Layout(Alphabet.ALPHANUMERIC), "a.B_c(9)0", "aBc90", ("", "")),
    (Layout(Alphabet.LOWER), "doe,john", "doejohn", ("", "")),
    (Layout(Alphabet.UPPER), "  ABCDE", "ABCDE", ("", "")),
]


@pytest.mark.parametrize(("layout", "value", "chosen", "kept"), TAKEN)
def test_what_is_encrypted(layout: Layout, value: str, chosen: str, kept: tuple[str, str]):
    parted = layout.part(value)
    assert "".join(value[place] for place in parted.places) == chosen
    assert "".join(layout.alphabet.symbols[number] for number in parted.numbers) == chosen
    assert parted.kept == kept
    assert parted.filled(parted.numbers) == value


def test_only_the_chosen_places_are_filled():
    parted = Layout(Alphabet.DIGITS, keep_last=4).part("4111 1111 1111 1234")
    assert parted.filled([0, 9] * 6) == "0909 0909 0909 1234"
    with pytest.raises(ValueError, match="zip"):
        parted.filled([0])


@pytest.mark.parametrize("alphabet", Alphabet)
def test_the_fewest_symbols_have_the_minimum_domain(alphabet: Alphabet):
    assert alphabet.radix**alphabet.fewest >= MINIMUM_DOMAIN > alphabet.radix ** (alphabet.fewest - 1)
    assert 10 <= alphabet.radix <= 62
    assert len(set(alphabet.symbols)) == alphabet.radix
    layout, value = Layout(alphabet, 1, 2), alphabet.symbols[1] * (alphabet.fewest + 3)
    assert len(layout.part(value).places) == alphabet.fewest
    with pytest.raises(InvalidRequest, match=f"values.7.: must have at least {alphabet.fewest} symbols"):
        layout.part(value[1:], "values[7]")


def test_halves_are_never_empty():
    assert fewest_symbols(62, 1) == 2


@pytest.mark.parametrize("value", ["", "-", "1", "12345", " 1-2-3-4-5 "])
def test_too_few_symbols_are_refused(value: str):
    with pytest.raises(InvalidRequest, match="at least 6 symbols"):
        Layout(Alphabet.DIGITS).part(value)


@pytest.mark.parametrize(
    "value",
    ["123456a", "123456A", "1234567\u0668", "1234567\xb2", "1234567\0", "1234567\t", "1234567\xa0", "123456\uff17"],
)
def test_letters_digits_and_spaces_that_would_stay_in_the_clear_are_refused(value: str):
    with pytest.raises(InvalidRequest, match="value: must have symbols of alphabet DIGITS") as caught:
        Layout(Alphabet.DIGITS).part(value)
    assert value not in str(caught.value)


def test_a_value_has_at_most_so_many_characters():
    assert len(Layout(Alphabet.DIGITS).part("1" * LONGEST_FORMATTED).places) == LONGEST_FORMATTED
    with pytest.raises(InvalidRequest, match="at most 1024 characters, has 1025"):
        Layout(Alphabet.DIGITS).part("1" * LONGEST_FORMATTED + " ")


@pytest.mark.parametrize(("first", "last"), [(-1, 0), (0, -1), (LONGEST_FORMATTED + 1, 0)])
def test_numbers_of_symbols_to_keep_have_bounds(first: int, last: int):
    with pytest.raises(InvalidRequest, match=r"rule.keep_(first|last): must be 0 to 1024 symbols"):
        Layout(Alphabet.DIGITS, first, last)


def test_it_does_not_show_the_value():
    assert "4111" not in repr(Layout(Alphabet.DIGITS).part("4111 1111"))


def test_the_order_of_symbols_is_for_ever():
    assert {alphabet.name: (alphabet.value, alphabet.symbols) for alphabet in Alphabet} == {
        "DIGITS": (1, "0123456789"),
        "LOWER": (2, "abcdefghijklmnopqrstuvwxyz"),
        "UPPER": (3, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        "ALPHANUMERIC": (4, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"),
        "UPPER_ALPHANUMERIC": (5, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    }
