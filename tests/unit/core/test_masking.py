"""Masks: the form stays, the end is shown, and no more of a short value."""

from __future__ import annotations

import pytest

from kms.core.errors import InvalidRequest
from kms.core.masking import mask

MASKED = [
    ("4111 1111 1111 1234", 4, "**** **** **** 1234"),
    ("+351 912 345 678", 4, "+*** *** **5 678"),
    ("ada@example.org", 0, "***@*******.***"),
    ("12345678", 4, "****5678"),
    ("1234567", 4, "*******"),
    ("1234", 4, "****"),
    ("", 4, ""),
    (" - ", 4, " - "),
    ("Jose\u0301 Álvarez", 4, "***** ***arez"),
    ("\u0661\u0662\u0663\u0664\u0665", 1, "****\u0665"),
]


@pytest.mark.parametrize(("value", "keep_last", "masked"), MASKED)
def test_all_but_the_last_is_hidden(value: str, keep_last: int, masked: str):
    assert mask(value, keep_last=keep_last) == masked


def test_the_last_four_are_shown_unless_asked_otherwise():
    assert mask("123456789") == "*****6789"
    assert mask("123456789", character="x") == "xxxxx6789"


@pytest.mark.parametrize(("keep_last", "character"), [(-1, "*"), (4, ""), (4, "**")])
def test_what_makes_no_sense_is_refused(keep_last: int, character: str):
    with pytest.raises(InvalidRequest, match=r"keep_last|character"):
        mask("123456789", keep_last=keep_last, character=character)
