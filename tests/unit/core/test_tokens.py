"""API tokens: their text, what is kept of it, and when one may be used."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from ipaddress import ip_address, ip_network
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.core.callers import Scope
from kms.core.errors import FailedPrecondition, InvalidRequest, Unauthenticated
from kms.core.names import Principal, TenantName, TenantUid, TokenName
from kms.core.tokens import (
    RANDOM_BYTES,
    ApiToken,
    PresentedToken,
    TokenRefusal,
    TokenUid,
    check_usable_for_change,
    make_token,
    parse_network,
    parse_origin,
    parse_token,
    read_bearer,
    refusal,
    replaced,
    revoked,
    usable,
)
from tests.keyrings import NOW

DAY = timedelta(days=1)
ACME = TenantName("acme")
HOME = ip_address("192.0.2.7")

random = st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES)


def token(kept: PresentedToken | None = None, **changes) -> ApiToken:
    kept = kept or make_token(bytes(range(RANDOM_BYTES)))[1]
    made = ApiToken(
        uid=TokenUid(uuid4()),
        tenant=TenantUid(uuid4()),
        principal=Principal("acme", "app"),
        prefix=kept.prefix,
        digest=kept.digest,
        display_name="",
        scopes=frozenset({Scope.READ}),
        created_at=NOW,
        created_by="tenants/acme/principals/admin",
        expires_at=NOW + DAY,
    )
    return replace(made, **changes)


def test_a_token_is_made_of_its_random_bytes_alone():
    text, kept = make_token(bytes(16) + bytes(range(32)))
    secret = base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")
    assert text == f"kms_000000000000_{secret}"
    assert len(text) == 60
    assert kept == PresentedToken("000000000000", sha256(text.encode()).digest())
    with pytest.raises(ValueError):
        make_token(bytes(RANDOM_BYTES - 1))


@given(random)
def test_what_is_made_is_read_again(random):
    text, kept = make_token(random)
    assert parse_token(text) == kept
    assert read_bearer([f"Bearer {text}"]) == kept == read_bearer([f"bearer {text}"])
    assert refusal(token(kept), kept, NOW, None, "") is None


@given(random, st.data())
def test_every_change_of_one_character_is_refused(random, data):
    text, kept = make_token(random)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters().filter(lambda character: character != text[place]))
    for changed in (
        text[:place] + other + text[place + 1 :],
        text[:place] + text[place + 1 :],
        text[:place] + other + text[place:],
        text + other,
    ):
        if changed == text:
            continue
        shown = parse_token(changed)
        assert shown is None or refusal(token(kept), shown, NOW, None, "") is TokenRefusal.WRONG_SECRET


@given(random)
def test_the_same_bytes_have_one_text_only(random):
    text, _ = make_token(random)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert [character for character in alphabet if parse_token(text[:-1] + character)] == [
        character for character in alphabet if alphabet.index(character) % 4 == 0
    ]
    assert parse_token(text.upper()) is None
    assert parse_token(f"{text}\n") is None
    assert parse_token(f"{text}=") is None


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        ["Bearer"],
        ["Bearer "],
        ["Bearer  {}"],
        ["{}"],
        ["Basic {}"],
        ["Bearer {}", "Bearer {}"],
        ["Bearer {},Bearer {}"],
        ["Bearer {} "],
        [" Bearer {}"],
        ["Bearer kms_x"],
        ["x" * 8000],
    ],
)
def test_anything_but_one_bearer_token_is_refused_in_one_way(values):
    text, _ = make_token(bytes(range(RANDOM_BYTES)))
    with pytest.raises(Unauthenticated, match=r"^the API token is not valid$"):
        read_bearer([value.replace("{}", text) for value in values])


def test_no_repr_shows_a_digest():
    kept = make_token(bytes(range(RANDOM_BYTES)))[1]
    for shown in (repr(kept), repr(token(kept))):
        assert "digest" not in shown
        assert repr(kept.digest) not in shown


@pytest.mark.parametrize(
    ("changes", "at", "why"),
    [
        ({}, NOW, None),
        ({}, NOW + DAY - timedelta(microseconds=1), None),
        ({}, NOW + DAY, TokenRefusal.EXPIRED),
        ({"networks": (ip_network("192.0.2.0/24"),)}, NOW, None),
        ({"networks": (ip_network("2001:db8::/32"), ip_network("192.0.2.7"))}, NOW, None),
        ({"networks": (ip_network("192.0.2.8/29"), ip_network("2001:db8::/32"))}, NOW, TokenRefusal.NETWORK),
        ({"origins": ("https://a.example", "https://b.example")}, NOW, None),
        ({"origins": ("https://a.example",)}, NOW, TokenRefusal.ORIGIN),
        ({"overlap_until": NOW, "replaced_by": "b" * 12}, NOW, TokenRefusal.REPLACED),
        ({"overlap_until": NOW + DAY / 2, "replaced_by": "b" * 12}, NOW, None),
        ({"overlap_until": NOW + 2 * DAY, "replaced_by": "b" * 12}, NOW + DAY, TokenRefusal.EXPIRED),
    ],
)
def test_a_token_is_used_in_its_time_from_its_networks_and_by_its_origins(changes, at, why):
    assert usable(token(**changes), at, HOME, "https://b.example") is why


def test_who_has_no_address_is_in_no_network_and_who_says_no_origin_has_none():
    assert usable(token(networks=(ip_network("0.0.0.0/0"),)), NOW, None, "") is TokenRefusal.NETWORK
    assert usable(token(origins=("https://a.example",)), NOW, HOME, "") is TokenRefusal.ORIGIN
    assert usable(token(), NOW, None, "") is None


def test_a_revoked_token_ends_and_keeps_its_first_reason():
    once = revoked(token(), NOW, "operators/a", "lost")
    assert usable(once, NOW, HOME, "") is TokenRefusal.REVOKED
    assert revoked(once, NOW + DAY, "operators/b", "found") is once
    assert (once.revoked_at, once.revoked_by, once.revoked_reason) == (NOW, "operators/a", "lost")


def test_only_a_token_that_works_and_has_no_successor_is_rotated():
    check_usable_for_change(token(), NOW, ACME)
    for ended in (revoked(token(), NOW, "", ""), token(expires_at=NOW), replaced(token(), "b" * 12, NOW, DAY)):
        with pytest.raises(FailedPrecondition):
            check_usable_for_change(ended, NOW, ACME)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "192.0.2.1/24",
        "192.0.2.0/33",
        "2001:db8::1/32",
        "192.0.2.0/255.255.255.0",
        "fe80::1%eth0",
        "a.example",
        "1" * 99,
    ],
)
def test_what_is_no_network_is_refused(text):
    with pytest.raises(InvalidRequest, match="allowed_networks"):
        parse_network(text, "allowed_networks")


@pytest.mark.parametrize("text", ["192.0.2.1", "192.0.2.0/24", "0.0.0.0/0", "2001:db8::1", "2001:db8::/32"])
def test_an_address_and_a_network_are_read(text):
    assert parse_network(text, "") == ip_network(text)


@pytest.mark.parametrize(
    "text", ["https://app.example.com", "http://localhost:8080", "https://192.0.2.1:8443", "https://[2001:db8::1]:444"]
)
def test_an_origin_is_taken_as_user_agents_send_it(text):
    assert parse_origin(text, "") == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "*",
        "https://",
        "https://app.example.com/",
        "https://App.example.com",
        "HTTPS://app.example.com",
        "https://app.example.com:443",
        "http://app.example.com:80",
        "https://app.example.com:0",
        "https://user@app.example.com",
        "https://*.example.com",
        "https://-a",
        "app.example.com",
        "https://app.example.com\n",
        f"https://{'a' * 250}",
    ],
)
def test_what_no_user_agent_sends_is_no_origin(text):
    with pytest.raises(InvalidRequest, match="allowed_origins"):
        parse_origin(text, "allowed_origins")


def test_a_tokens_name_ends_in_its_prefix():
    name = TokenName.parse("tenants/acme/tokens/0a1b2c3d4e5f")
    assert (name.parent, name.token, str(name)) == (ACME, "0a1b2c3d4e5f", "tenants/acme/tokens/0a1b2c3d4e5f")
    for text in (
        "",
        "0a1b2c3d4e5f",
        "tenants/acme/tokens/",
        "tenants/acme/tokens/0a1b2c3d4e5",
        "tenants/acme/tokens/0A1b2c3d4e5f",
        "tenants/acme/tokens/0a1b2c3d4e5f\n",
        "tenants/A/tokens/0a1b2c3d4e5f",
        "tenants/acme/keys/k/tokens/0a1b2c3d4e5f",
    ):
        with pytest.raises(InvalidRequest, match=r"tenants/\{tenant\}/tokens/\{token\}"):
            TokenName.parse(text)
