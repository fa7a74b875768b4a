"""Pages show every entry once, in order, whatever their size; and a token is what this daemon made or it is refused."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st

from kms.core.errors import InvalidRequest
from kms.rpc.paging import LONGEST_TOKEN, Page, cut, parse_page
from kms.v1 import keys_pb2 as pb

SLUGS = st.from_regex(r"[a-z][a-z0-9-]{0,61}[a-z0-9]", fullmatch=True)


def page(size: int, token: str) -> Page:
    return parse_page(pb.ListKeysRequest(page_size=size, page_token=token))


def walk(entries: list, size: int, after, last) -> list[list]:
    """Read all pages as a client does, from a list as the storage does."""
    pages, token = [], ""
    while True:
        current = page(size, token)
        found = [entry for entry in entries if entry > after(current)][: current.size + 1]
        shown, token = cut(found, current, last)
        pages.append(list(shown))
        if not token:
            return pages
        assert len(token) <= LONGEST_TOKEN


@given(entries=st.sets(SLUGS, max_size=40), size=st.integers(1, 12))
def test_pages_of_names_show_each_once_in_order(entries: set[str], size: int):
    pages = walk(sorted(entries), size, lambda page: page.after_slug, str)
    assert [entry for shown in pages for entry in shown] == sorted(entries)
    assert all(len(shown) == size for shown in pages[:-1])
    assert pages[-1] or not entries


@given(count=st.integers(0, 60), first=st.sampled_from([1, 2**31, 2**32 - 61]), size=st.integers(1, 12))
def test_pages_of_versions_show_each_once_in_order(count: int, first: int, size: int):
    numbers = list(range(first, first + count))
    pages = walk(numbers, size, lambda page: page.after_number, str)
    assert [entry for shown in pages for entry in shown] == numbers
    assert all(len(shown) == size for shown in pages[:-1])


@given(token=st.one_of(st.text(max_size=300), st.binary(max_size=250).map(lambda raw: base64.b64encode(raw).decode())))
def test_any_token_is_read_or_refused_by_name(token: str):
    for read in (lambda page: page.after_slug, lambda page: page.after_number):
        assert outcome(read, token) in {"a value", "refused page_token"}


def outcome(read, token: str) -> str:
    try:
        value = read(page(1, token))
    except InvalidRequest as error:
        return f"refused {', '.join(violation.field for violation in error.violations)}"
    return "a value" if len(str(value)) <= 63 else "too long"
