"""Reports and quotes: read as they were written, and whatever is read is written the same again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave.attestation_errors import MalformedQuote, MalformedReport, UnknownVendor
from enclave.identity import Identity
from enclave.quotes import Quote, challenge_binding, parse_quote
from enclave.report import BODY_LENGTH, ReportBody, parse_body

identities = st.builds(
    Identity,
    mrenclave=st.binary(min_size=32, max_size=32),
    mrsigner=st.binary(min_size=32, max_size=32),
    isv_prod_id=st.integers(0, 2**16 - 1),
    isv_svn=st.integers(0, 2**16 - 1),
    cpu_svn=st.binary(min_size=16, max_size=16),
    flags=st.integers(0, 2**64 - 1),
    xfrm=st.integers(0, 2**64 - 1),
    misc_select=st.integers(0, 2**32 - 1),
    config_id=st.binary(min_size=64, max_size=64),
    config_svn=st.integers(0, 2**16 - 1),
    isv_family_id=st.binary(min_size=16, max_size=16),
    isv_ext_prod_id=st.binary(min_size=16, max_size=16),
)
bodies = st.builds(ReportBody, identities, st.binary(min_size=64, max_size=64))
certificates = st.binary(min_size=1, max_size=300)
quotes = st.builds(
    Quote,
    qe_svn=st.integers(0, 2**16 - 1),
    platform_id=st.binary(min_size=16, max_size=16),
    body=bodies,
    signature=st.binary(min_size=64, max_size=64),
    attestation_key=st.binary(min_size=64, max_size=64),
    qe_body=bodies,
    qe_signature=st.binary(min_size=64, max_size=64),
    auth_data=st.binary(min_size=32, max_size=32),
    chain=st.tuples(certificates, certificates, certificates),
)


@given(bodies)
def test_a_body_is_read_as_it_was_written(body):
    assert parse_body(body.encode()) == body


@given(st.one_of(st.binary(min_size=BODY_LENGTH, max_size=BODY_LENGTH), st.binary(max_size=500)))
def test_a_body_that_is_read_is_written_the_same_again(data):
    try:
        body = parse_body(data)
    except MalformedReport:
        return
    assert body.encode() == data


@given(bodies, st.integers(0, BODY_LENGTH - 1), st.integers(1, 255))
def test_a_body_with_another_byte_is_refused_or_another_body(body, at, difference):
    changed = bytearray(body.encode())
    changed[at] ^= difference
    try:
        parsed = parse_body(bytes(changed))
    except MalformedReport:
        return
    assert parsed != body
    assert parsed.encode() == bytes(changed)


@given(quotes)
def test_a_quote_is_read_as_it_was_written(quote):
    assert parse_quote(quote.encode()) == quote


@given(quotes, st.data())
def test_whatever_is_read_is_written_the_same_again(quote, data):
    changed = bytearray(quote.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        parsed = parse_quote(bytes(changed))
    except (MalformedQuote, UnknownVendor):
        return
    assert parsed.encode() == bytes(changed)


@given(st.binary(max_size=1200))
def test_bytes_that_are_no_quote_are_refused(data):
    with pytest.raises((MalformedQuote, UnknownVendor)):
        parse_quote(data)


@given(quotes, st.binary(min_size=1, max_size=100))
def test_bytes_that_trail_are_refused(quote, more):
    with pytest.raises(MalformedQuote, match="signature data length"):
        parse_quote(quote.encode() + more)


@given(
    st.tuples(st.binary(max_size=4), st.binary(max_size=4), st.binary(max_size=4)),
    st.tuples(st.binary(max_size=4), st.binary(max_size=4), st.binary(max_size=4)),
)
def test_other_parts_are_another_answer_even_if_they_are_the_same_bytes_together(one, other):
    assert (challenge_binding(*one) == challenge_binding(*other)) == (one == other)
