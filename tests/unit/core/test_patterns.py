"""Patterns over resource names."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.core.errors import InvalidRequest
from kms.core.patterns import LONGEST, Pattern, parse_resource
from tests.keyrings import patterns

KEY = "tenants/acme/keys/payroll"


@pytest.mark.parametrize(
    ("text", "name", "matches"),
    [
        (KEY, KEY, True),
        (KEY, f"{KEY}/versions/1", False),
        (KEY, f"{KEY}2", False),
        (KEY, "tenants/acme/keys/payrol", False),
        ("tenants/acme/keys/*", KEY, True),
        ("tenants/acme/keys/*", f"{KEY}/versions/1", False),
        ("tenants/acme/keys/*", "tenants/acme/keys", False),
        ("tenants/acme/*/payroll", KEY, True),
        ("tenants/acme/*/payroll", "tenants/acme/keys/other", False),
        ("tenants/acme/**", "tenants/acme", True),
        ("tenants/acme/**", KEY, True),
        ("tenants/acme/**", f"{KEY}/versions/1", True),
        ("tenants/acme/**", "tenants/acmeco", False),
        ("tenants/acme/**", "tenants/acmeco/keys/payroll", False),
        ("tenants/acme/**", "tenants/acm", False),
        ("tenants/acme/keys/*/**", KEY, True),
        ("tenants/acme/keys/*/**", f"{KEY}/versions/1", True),
        ("tenants/acme/keys/*/**", "tenants/acme/policies/gold", False),
        ("tenants/acme/keys/a.b", "tenants/acme/keys/axb", False),
        ("tenants/acme/*/a.b", "tenants/acme/keys/axb", False),
        ("**", "installation", True),
        ("*", "installation", True),
        ("*", KEY, False),
    ],
)
def test_a_pattern_matches_whole_segments(text, name, matches):
    assert Pattern.parse(text).matches(name) is matches


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "tenants//keys",
        "tenants/acme/",
        "/tenants/acme",
        "tenants/acme/keys/pay*",
        "tenants/**/keys",
        "tenants/acme/***",
        "tenants/acme/keys/..",
        "tenants/acme/keys/.",
        "tenants/acme/keys/a b",
        "tenants/acme/keys/a\n",
        "tenants/\N{CYRILLIC SMALL LETTER A}cme/keys/a",
        "tenants/acme/keys/[a]",
        "tenants/acme/" + "a" * LONGEST,
    ],
)
def test_what_is_no_pattern_is_refused_and_its_field_named(text):
    with pytest.raises(InvalidRequest, match=r"^grant\.resource: must be segments"):
        Pattern.parse(text, "grant.resource")


@pytest.mark.parametrize("text", ["tenants/acme/keys/*", "tenants/acme/**", "", "a//b"])
def test_a_resource_is_no_pattern(text):
    with pytest.raises(InvalidRequest, match=r"^resource: "):
        parse_resource(text)
    assert parse_resource(KEY) == KEY


@pytest.mark.parametrize(
    ("text", "within"),
    [
        ("tenants/acme", True),
        ("tenants/acme/**", True),
        (KEY, True),
        ("tenants/acmeco/**", False),
        ("tenants/*/keys/payroll", False),
        ("tenants/**", False),
        ("**", False),
    ],
)
def test_a_pattern_within_a_tenant_matches_nothing_of_another(text, within):
    assert Pattern.parse(text).within("tenants/acme") is within


segments = st.sampled_from(["tenants", "acme", "acmeco", "keys", "a", "b-1", "7"])
names = st.lists(segments, min_size=1, max_size=6).map("/".join)


def plainly(pattern, name):
    """Match as the words say it, segment by segment."""
    wanted, given = pattern.split("/"), name.split("/")
    if wanted[-1] == "**":
        wanted.pop()
        given = given[: len(wanted)]
    return len(wanted) == len(given) and all(w in ("*", g) for w, g in zip(wanted, given, strict=True))


@given(
    pattern=st.lists(segments | st.just("*"), min_size=1, max_size=5).flatmap(
        lambda found: st.sampled_from(["/".join(found), "/".join([*found, "**"])])
    ),
    name=names,
)
def test_a_pattern_matches_what_its_words_say(pattern, name):
    assert Pattern.parse(pattern).matches(name) is plainly(pattern, name)


@given(pattern=patterns, name=names)
def test_what_lies_within_a_tenant_stays_there(pattern, name):
    if pattern.within("tenants/acme") and pattern.matches(name):
        assert re.match(r"tenants/acme(/|$)", name)
