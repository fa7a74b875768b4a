"""Sizes and tokens of pages at their bounds; tests/property/test_paging.py walks through whole lists."""

from __future__ import annotations

import base64

import pytest

from kms.core.errors import InvalidRequest
from kms.rpc.paging import DEFAULT_SIZE, LARGEST_SIZE, Page, parse_page
from kms.v1 import keys_pb2 as pb


def page(size: int = 0, token: str = "") -> Page:
    return parse_page(pb.ListKeysRequest(page_size=size, page_token=token))


@pytest.mark.parametrize(("asked", "size"), [(0, 100), (1, 1), (1000, 1000), (1001, 1000), (2**31 - 1, 1000)])
def test_a_size_is_defaulted_and_bounded(asked: int, size: int):
    assert (DEFAULT_SIZE, LARGEST_SIZE) == (100, 1000)
    assert page(asked).size == size


@pytest.mark.parametrize("asked", [-1, -(2**31)])
def test_a_negative_size_is_refused(asked: int):
    with pytest.raises(InvalidRequest, match="page_size: must not be negative"):
        page(asked)


@pytest.mark.parametrize("text", ["tenants/acme", "A", "a", "a b", "../../x", "ab\n"])
def test_a_token_of_another_list_is_no_name(text: str):
    token = base64.urlsafe_b64encode(text.encode()).decode()
    with pytest.raises(InvalidRequest, match="same list"):
        _ = page(1, token).after_slug


@pytest.mark.parametrize("text", ["ab", "-1", "1.5", "1e3", "٣", "12345678901", " 1"])
def test_a_token_of_another_list_is_no_number(text: str):
    token = base64.urlsafe_b64encode(text.encode()).decode()
    with pytest.raises(InvalidRequest, match="same list"):
        _ = page(1, token).after_number
