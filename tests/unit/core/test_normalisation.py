"""What is made equal, what stays apart, and that the rules are those of Unicode 14.0 whatever tables there are."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.core import normalisation
from kms.core.errors import InvalidRequest
from kms.core.normalisation import MAX_NORMALISED, IndexNormaliser, normalise
from kms.core.suites import MAX_PLAINTEXT
from kms.core.unicode_14 import BOUNDS, ZEROS

ROOT = Path(__file__).parents[3]
NONE, TEXT, CASELESS, EMAIL, PHONE = IndexNormaliser
OF_14 = pytest.mark.skipif(unicodedata.unidata_version != "14.0.0", reason="compares with tables of Unicode 14.0")

texts = st.text(st.characters(codec="utf-8"), max_size=40)
# Texts in which marks, unassigned code points, cases, digits and separators come close to each other.
tricky = st.text(
    st.sampled_from(
        "aA\u0301\u0323\u0345\u03b1\u0130\u1e9e\ufb01\u0378\U000e0080 @.+0\u0660()-\u3000\u00ad\u1100\u1161"
    ),
    max_size=20,
)


def normalised(normaliser: IndexNormaliser, text: str) -> str:
    return normalise(normaliser, text.encode()).decode()


def test_the_numbers_never_change():
    assert {n.slug: n.value for n in IndexNormaliser} == {"none": 1, "text": 2, "caseless": 3, "email": 4, "phone": 5}


# normaliser, what is equal to the first of each row
EQUAL = [
    (TEXT, ["José", "Jose\u0301", "  José\u3000", "\tJosé\r\n", "\u2028José"]),
    (TEXT, ["fi", "\ufb01", "\uff46\uff49"]),
    (TEXT, ["", " ", "\u2003\u205f"]),
    (CASELESS, ["strasse", "STRASSE", "Straße", "STRA\u1e9eE", " straße "]),
    (CASELESS, ["\u03c3\u03c3", "\u03a3\u03c2", "\u03a3\u03a3"]),
    (CASELESS, ["\u03ac\u03b9", "\u0386\u0345", "\u1fb4"]),
    (EMAIL, ["ada@example.org", " Ada@Example.ORG", "ada @ example.org", "ada@example.org.", "ADA\uff20example.org"]),
    (EMAIL, ["müller@bücher.example", "Mu\u0308ller@BÜCHER.example"]),
    (EMAIL, ["no address", "No Address "]),
    (PHONE, ["+493012345", "+49 (0)30 12345", "0049 30/123-45", "+49\u00a030\u2011123\u201145", " (+49) 30 12345"]),
    (PHONE, ["+493012345", "\uff0b\u0664\u0669\u0663\u0660\u0661\u0662\u0663\u0664\u0665", "\u202a+493012345\u202c"]),
    (PHONE, ["03012345", "(030) 123 45", "030.123.45"]),
    (PHONE, ["12ext7", "12 EXT. 7"]),
]
APART = [
    (NONE, ["a", "A", " a", "a ", "a\0", "é", "e\u0301", ""]),
    (TEXT, ["a", "A", "a b", "a  b", "ab"]),
    (CASELESS, ["i", "\u0131", "a b", "ab"]),
    (
        EMAIL,
        ["ada@example.org", "a.da@example.org", "ada+x@example.org", "ada@xn--bcher-kva.example", "ada@bücher.example"],
    ),
    (PHONE, ["+4930", "4930", "030", "30", "+49 (1)30", "(0)30 1", ""]),
]


@pytest.mark.parametrize(("normaliser", "values"), EQUAL)
def test_what_a_normaliser_makes_equal(normaliser, values):
    assert {normalised(normaliser, value) for value in values} == {values[0]}


@pytest.mark.parametrize(("normaliser", "values"), APART)
def test_what_a_normaliser_keeps_apart(normaliser, values):
    assert len({normalised(normaliser, value) for value in values}) == len(values)


@pytest.mark.parametrize("value", [b"", b"\xff\xfe\0", bytes(range(256)) * 4_096])
def test_without_a_normaliser_every_byte_counts(value):
    assert normalise(NONE, value) == value


@pytest.mark.parametrize("normaliser", [TEXT, CASELESS, EMAIL, PHONE])
@pytest.mark.parametrize("value", [b"caf\xe9-secret", b"\xed\xa0\x80secret", b"\xf4\x90\x80\x80secret"])
def test_what_is_no_text_is_refused_and_not_shown(normaliser, value):
    with pytest.raises(InvalidRequest, match=rf"values\[3\]: must be UTF-8 for normaliser {normaliser.slug}") as caught:
        normalise(normaliser, value, "values[3]")
    assert caught.value.__cause__ is None
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("normaliser", "most"), [(NONE, MAX_PLAINTEXT), (TEXT, MAX_NORMALISED), (PHONE, MAX_NORMALISED)]
)
def test_the_length_is_bounded(normaliser, most):
    assert len(normalise(normaliser, b"1" * most)) == most
    with pytest.raises(InvalidRequest, match=f"at most {most} bytes"):
        normalise(normaliser, b"1" * (most + 1))


@given(texts | tricky, st.sampled_from(IndexNormaliser))
def test_every_text_has_a_form_and_normalising_that_changes_nothing_more(text, normaliser):
    once = normalised(normaliser, text)
    assert normalised(normaliser, once) == once


@given(texts | tricky)
def test_all_forms_of_a_text_are_equal(text):
    for normaliser in (TEXT, CASELESS, EMAIL, PHONE):
        forms = {unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")}
        assert len({normalised(normaliser, form) for form in (*forms, text)}) == 1


@given(texts | tricky)
def test_case_does_not_count(text):
    for normaliser in (CASELESS, EMAIL, PHONE):
        # Decomposed first, as D145 has it: folding makes a letter of the mark U+0345, wherever it stands among others.
        folded = unicodedata.normalize("NFD", text).casefold()
        assert normalised(normaliser, folded) == normalised(normaliser, text)


@OF_14
@given(texts | tricky)
def test_cutting_at_unassigned_code_points_is_what_unicode_14_does_with_the_whole(text):
    assert normalised(TEXT, text) == unicodedata.normalize("NFKC", text).strip(normalisation._SPACE)


@given(texts | tricky)
def test_a_code_point_that_14_has_not_assigned_is_left_alone_even_if_this_python_knows_it(text):
    changed = normalisation._each_piece(text, lambda _: "")
    assert all(not normalisation._assigned(character) for character in changed)
    assert changed == "".join(c for c in text if not normalisation._assigned(c))


@OF_14
def test_the_table_is_that_of_unicode_14():
    everything = range(sys.maxunicode + 1)
    assert [c for c in everything if normalisation._assigned(chr(c)) != (unicodedata.category(chr(c)) != "Cn")] == []
    assert [c for c in everything if unicodedata.decimal(chr(c), None) == 0] == list(ZEROS)
    digits = {zero + digit: digit for zero in ZEROS for digit in range(10)}
    assert {c: d for c in everything if (d := unicodedata.decimal(chr(c), None)) is not None} == digits
    assert BOUNDS[0] == 0


@OF_14
def test_the_table_is_what_its_script_writes():
    code = "import runpy; print(runpy.run_path('scripts/unicode-14')['source'](), end='')"
    made = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60, capture_output=True, text=True
    )
    assert made.stdout == (ROOT / "kms/core/unicode_14.py").read_text()


@OF_14
def test_folding_twice_is_enough_for_every_code_point():
    for code in range(sys.maxunicode + 1):
        if 0xD800 <= code < 0xE000:
            continue
        once = normalisation._caseless("x" + chr(code) + "x")
        assert normalisation._caseless(once) == once, hex(code)
