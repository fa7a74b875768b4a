from __future__ import annotations

import pytest

from kms.core.errors import InvalidRequest, Unauthenticated
from kms.core.names import SLUG_RULE, KeyName, Principal, TenantName, parse_slug, parse_trust_domain

GOOD_SLUGS = ["ab", "a1", "a-b", "a--b", "a" * 63]
BAD_SLUGS = ["", "a", "a" * 64, "1a", "-a", "a-", "Ab", "a_b", "a b", "a\n", "ab\n", "ä1", "a/b", "a\0b"]


@pytest.mark.parametrize("slug", GOOD_SLUGS)
def test_a_slug_is_taken_as_it_is(slug: str):
    assert parse_slug(slug, "key_id") == slug


@pytest.mark.parametrize("slug", BAD_SLUGS)
def test_what_is_no_slug_is_refused_naming_field_and_rule(slug: str):
    with pytest.raises(InvalidRequest) as caught:
        parse_slug(slug, "key_id")
    (violation,) = caught.value.violations
    assert (violation.field, violation.rule) == ("key_id", SLUG_RULE)


@pytest.mark.parametrize("slug", GOOD_SLUGS)
def test_names_print_as_they_were_parsed(slug: str):
    assert str(TenantName.parse(f"tenants/{slug}")) == f"tenants/{slug}"
    assert str(KeyName.parse(f"tenants/{slug}/keys/k-{slug[:61]}")) == f"tenants/{slug}/keys/k-{slug[:61]}"
    assert str(Principal.parse(f"operators/{slug}")) == f"operators/{slug}"


def test_the_longest_names_are_legal():
    longest = "a" * 63
    assert KeyName.parse(f"tenants/{longest}/keys/{longest}") == KeyName(longest, longest)
    assert Principal.parse(f"tenants/{longest}/principals/{longest}") == Principal(longest, longest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tenants",
        "tenants/",
        "tenant/acme",
        "tenants/acme/",
        "/tenants/acme",
        "tenants/acme/keys",
        "tenants/-",
        "tenants/*",
        "tenants/../x",
        "Tenants/acme",
        "tenants//acme",
        "tenants/acme\n",
        "operators/acme",
        "tenants/" + "a" * 1000,
    ],
)
def test_another_form_is_no_tenant(text: str):
    with pytest.raises(InvalidRequest) as caught:
        TenantName.parse(text, "parent")
    (violation,) = caught.value.violations
    assert violation.field == "parent"
    assert violation.rule.startswith("must have the form tenants/{tenant}")
    assert len(violation.rule) < 100  # a refused name is not echoed


@pytest.mark.parametrize("text", ["tenants/acme", "tenants/acme/key/pay", "tenants/acme/keys/P", "keys/pay", "a" * 257])
def test_another_form_is_no_key(text: str):
    with pytest.raises(InvalidRequest, match=r"must have the form tenants/\{tenant\}/keys/\{key\}"):
        KeyName.parse(text)


def test_a_bad_segment_is_named_with_its_rule():
    with pytest.raises(InvalidRequest) as caught:
        KeyName.parse("tenants/acme/keys/P")
    assert caught.value.violations[0].rule.endswith("; {key} " + SLUG_RULE)


def test_names_of_children():
    key = KeyName("acme", "pay")
    assert key.parent == TenantName("acme")
    assert key.version(7) == "tenants/acme/keys/pay/versions/7"
    assert key.parent.kek(2) == "tenants/acme/keks/2"


@pytest.mark.parametrize(
    ("name", "principal"),
    [
        ("tenants/acme/principals/web-app", Principal("acme", "web-app")),
        ("operators/admin", Principal(None, "admin")),
    ],
)
def test_a_principal_survives_its_spiffe_id(name: str, principal: Principal):
    assert Principal.parse(name) == principal
    assert principal.spiffe_id("kms.test") == f"spiffe://kms.test/{name}"
    assert Principal.from_spiffe_id(f"spiffe://kms.test/{name}", "kms.test") == principal


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://kms.tests/operators/admin",
        "spiffe://kms.test.evil/operators/admin",
        "spiffe://evil/kms.test/operators/admin",
        "spiffe://KMS.test/operators/admin",
        "https://kms.test/operators/admin",
        "SPIFFE://kms.test/operators/admin",
        "",
    ],
)
def test_another_trust_domain_is_no_identity(uri: str):
    with pytest.raises(Unauthenticated, match="another trust domain"):
        Principal.from_spiffe_id(uri, "kms.test")


@pytest.mark.parametrize(
    "path", ["", "operators/", "operators/admin/x", "operators/admin?x", "tenants/acme", "tenants/acme/principals/A"]
)
def test_a_path_that_names_no_principal_is_no_identity(path: str):
    with pytest.raises(Unauthenticated, match="names no principal"):
        Principal.from_spiffe_id(f"spiffe://kms.test/{path}", "kms.test")


@pytest.mark.parametrize("text", ["a", "kms.test", "a_b-c.d", "0", "a" * 255])
def test_a_trust_domain_is_taken_as_it_is(text: str):
    assert parse_trust_domain(text) == text


@pytest.mark.parametrize("text", ["", ".a", "-a", "A", "a/b", "a" * 256, "a\n", "a:1"])
def test_what_is_no_trust_domain_is_refused(text: str):
    with pytest.raises(InvalidRequest, match="trust_domain"):
        parse_trust_domain(text)
