"""Reports and quotes: read as they were written, and whatever is read is written the same again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from enclave.attestation_errors import MalformedQuote, MalformedReport, QuoteRefused, UnknownVendor
from enclave.chain import Collateral
from enclave.identity import Identity
from enclave.quotes import Quote, challenge_binding, parse_quote
from enclave.report import BODY_LENGTH, ReportBody, parse_body
from tests.attestation import identity, new_scene

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


SCENE = new_scene()
CHALLENGE = SCENE.challenge()
ANSWER = parse_quote(SCENE.answer(identity(), CHALLENGE))


@st.composite
def altered(draw, data: bytes) -> bytes:
    """Return other bytes: some replaced, left out or put in."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(changed)))
        changed[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    assume(bytes(changed) != data)
    return bytes(changed)


@given(altered(ANSWER.chain[0]), st.integers(0, 1))
def test_an_altered_certificate_is_refused_and_nothing_else_is_raised(certificate, place):
    chain = list(ANSWER.chain)
    chain[place] = certificate
    assume(certificate)
    with pytest.raises(QuoteRefused):
        SCENE.judge(replace(ANSWER, chain=tuple(chain)).encode(), CHALLENGE)


@given(altered(SCENE.collateral.root_list), st.booleans())
def test_an_altered_revocation_list_is_refused_and_nothing_else_is_raised(data, of_root):
    collateral = (
        Collateral(data, SCENE.collateral.platform_list) if of_root else Collateral(SCENE.collateral.root_list, data)
    )
    with pytest.raises(QuoteRefused):
        SCENE.judge(ANSWER.encode(), CHALLENGE, collateral=collateral)


@given(altered(ANSWER.encode()))
def test_an_altered_quote_is_refused_and_nothing_else_is_raised(quote):
    with pytest.raises(QuoteRefused):
        SCENE.judge(quote, CHALLENGE)
