"""A formatted value that is encrypted keeps its form, comes back exactly, and depends on key and tweak."""

from __future__ import annotations

import os
from itertools import accumulate

from hypothesis import assume, given
from hypothesis import strategies as st

from kms.core.alphabets import LONGEST_FORMATTED, SEPARATORS, Alphabet, Layout
from kms.core.masking import LEAST_HIDDEN, mask
from kms.crypto.ff1 import Ff1

KEY, OTHER_KEY = os.urandom(32), os.urandom(32)
GAPS = st.text(st.sampled_from(sorted(SEPARATORS)), max_size=3)


@st.composite
def formatted(draw: st.DrawFn) -> tuple[Layout, str]:
    alphabet = draw(st.sampled_from(Alphabet))
    first, last = draw(st.integers(0, 6)), draw(st.integers(0, 6))
    count = first + last + alphabet.fewest + draw(st.integers(0, 40))
    symbols = draw(st.lists(st.sampled_from(alphabet.symbols), min_size=count, max_size=count))
    gaps = draw(st.lists(GAPS, min_size=count + 1, max_size=count + 1))
    return Layout(alphabet, first, last), gaps[0] + "".join(map("".join, zip(symbols, gaps[1:], strict=True)))


def encrypted(layout: Layout, value: str, key: bytes = KEY, tweak: bytes = b"") -> str:
    parted = layout.part(value)
    return parted.filled(Ff1(key, layout.alphabet.radix).encrypt(tweak, parted.numbers))


@given(formatted(), st.binary(max_size=40))
def test_it_comes_back_exactly(case: tuple[Layout, str], tweak: bytes):
    layout, value = case
    parted = layout.part(encrypted(layout, value, tweak=tweak))
    assert parted.filled(Ff1(KEY, layout.alphabet.radix).decrypt(tweak, parted.numbers)) == value


@given(formatted())
def test_the_form_and_what_is_kept_stay(case: tuple[Layout, str]):
    layout, value = case
    made = encrypted(layout, value)
    symbols = layout.alphabet.symbols
    assert len(made) == len(value)
    seen, total = 0, sum(character in symbols for character in value)
    for before, after in zip(value, made, strict=True):
        if before not in symbols:
            assert after == before
            continue
        assert after in symbols
        if seen < layout.keep_first or seen >= total - layout.keep_last:
            assert after == before
        seen += 1
    assert layout.part(made).kept == layout.part(value).kept


@given(formatted(), st.binary(max_size=8), st.binary(max_size=8))
def test_another_key_or_tweak_gives_another_result(case: tuple[Layout, str], tweak: bytes, other: bytes):
    layout, value = case
    # Of 1,000,000 strings two can be the same by chance, and in a thousand runs of this would be.
    assume(tweak != other and len(layout.part(value).places) >= 3 * layout.alphabet.fewest)
    made = {encrypted(layout, value, tweak=tweak), encrypted(layout, value, tweak=other)}
    assert len({*made, encrypted(layout, value, OTHER_KEY, tweak)}) == 3


@given(formatted())
def test_separators_do_not_matter_to_the_symbols(case: tuple[Layout, str]):
    layout, value = case
    bare = "".join(character for character in value if character in layout.alphabet.symbols)
    made = encrypted(layout, value)
    assert encrypted(layout, bare) == "".join(c for c in made if c in layout.alphabet.symbols)


@given(st.text(max_size=LONGEST_FORMATTED), st.integers(0, 20))
def test_a_mask_hides_all_but_the_last(value: str, keep_last: int):
    masked = mask(value, keep_last=keep_last)
    assert len(masked) == len(value)
    hidden = [
        index
        for index, (before, after) in enumerate(zip(value, masked, strict=True))
        if before not in SEPARATORS and after == "*"
    ]
    shown = [index for index, before in enumerate(value) if before not in SEPARATORS and index not in hidden]
    assert all(value[index] == masked[index] for index in range(len(value)) if index not in hidden)
    assert len(shown) in (0, keep_last)
    assert not shown or (len(hidden) >= LEAST_HIDDEN and max(hidden) < min(shown))
    counts = list(accumulate(character not in SEPARATORS for character in value))
    assert len(hidden) + len(shown) == (counts[-1] if counts else 0)
