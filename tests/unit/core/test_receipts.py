"""A receipt is one text for one content, so that what was signed can be checked by anybody."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from kms.core.receipts import RECEIPT_LABEL, body_of, moment, signed_bytes
from tests.keyrings import texts, times

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
bodies = st.dictionaries(texts, values, max_size=8)


def test_a_body_has_sorted_keys_no_spaces_and_text_as_it_is():
    body = body_of({"version": 3, "place": "Zürich", "b": {"y": [1, None, True], "x": "a b"}, "a": ""})
    assert body == '{"a":"","b":{"x":"a b","y":[1,null,true]},"place":"Zürich","version":3}'


@given(bodies)
def test_a_body_reads_back_as_what_it_was_made_of(fields):
    assert json.loads(body_of(fields)) == fields


@given(bodies, st.randoms(use_true_random=False))
def test_the_order_of_fields_does_not_matter(fields, random):
    items = list(fields.items())
    random.shuffle(items)
    assert body_of(dict(items)) == body_of(fields)


@given(bodies, bodies)
def test_bodies_are_the_same_only_where_the_fields_are(one, two):
    # As JSON has it: 1 and true are equal in Python only.
    same = json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)
    assert (body_of(one) == body_of(two)) is same


@given(bodies)
def test_a_body_is_one_line_without_spaces_between(fields):
    body = body_of(fields)
    assert "\n" not in body
    assert json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"), ensure_ascii=False) == body


def test_what_is_signed_begins_with_its_label_and_a_nul():
    assert signed_bytes('{"a":"é"}') == b'kms/v1/destruction-receipt\0{"a":"\xc3\xa9"}'
    assert RECEIPT_LABEL.endswith(b"\0")


def test_a_moment_is_utc_to_the_microsecond():
    there = datetime(2024, 2, 29, 23, 30, 1, 42, tzinfo=timezone(-timedelta(hours=2)))
    assert moment(there) == "2024-03-01T01:30:01.000042Z"
    assert moment(datetime(2024, 1, 1, tzinfo=UTC)) == "2024-01-01T00:00:00.000000Z"


@given(times)
def test_a_moment_reads_back_as_the_same_time(time):
    text = moment(time)
    assert datetime.fromisoformat(text) == time
    assert len(text) == len("2024-01-01T00:00:00.000000Z")
