from __future__ import annotations

from uuid import UUID

import pytest

from kms.core.errors import InvalidRequest, Unauthenticated
from kms.core.names import (
    SLUG_RULE,
    KeyName,
    KeyVersionName,
    OperationName,
    PlaceName,
    PolicyName,
    Principal,
    TenantName,
    parse_slug,
    parse_trust_domain,
)

UID = UUID("44444444-4444-4444-8444-444444444444")
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
    for text, kind in (
        (f"tenants/acme/keys/{slug}/versions/7", KeyVersionName),
        (f"tenants/{slug}/keys/pay/places/{slug}", PlaceName),
        (f"tenants/{slug}/policies/{slug}", PolicyName),
        (f"tenants/{slug}/operations/{UID}", OperationName),
    ):
        assert str(kind.parse(text)) == text


def test_the_longest_names_are_legal():
    longest = "a" * 63
    assert KeyName.parse(f"tenants/{longest}/keys/{longest}") == KeyName(longest, longest)
    assert Principal.parse(f"tenants/{longest}/principals/{longest}") == Principal(longest, longest)
    assert PolicyName.parse(f"tenants/{longest}/policies/{longest}") == PolicyName(longest, longest)
    assert PlaceName.parse(f"tenants/{longest}/keys/{longest}/places/{longest}") == PlaceName(longest, longest, longest)
    assert OperationName.parse(f"tenants/{longest}/operations/{UID}") == OperationName(longest, UID)
    version = f"tenants/{longest}/keys/{longest}/versions/{2**32 - 1}"
    assert KeyVersionName.parse(version) == KeyVersionName(KeyName(longest, longest), 2**32 - 1)


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


def refusal(kind, text: str) -> str:
    with pytest.raises(InvalidRequest) as caught:
        kind.parse(text, "parent")
    (violation,) = caught.value.violations
    assert violation.field == "parent"
    assert len(violation.rule) < 160  # a refused name is not echoed
    return violation.rule


@pytest.mark.parametrize(
    "number",
    [
        "0",
        "01",
        "-1",
        "+1",
        "1.0",
        "1e3",
        "",
        " 1",
        "1\n",
        "x",
        "\u00b2",
        "\u0661",
        "1\u0661",
        str(2**32),
        "9" * 11,
        "9" * 5000,
    ],
)
def test_what_is_no_number_of_a_version_is_refused(number: str):
    assert refusal(KeyVersionName, f"tenants/acme/keys/pay/versions/{number}") == (
        "must have the form tenants/{tenant}/keys/{key}/versions/{version}; {version} is a number from 1"
    )


@pytest.mark.parametrize(
    "text",
    [
        "/versions/1",
        "tenants/acme/versions/1",
        "tenants/acme/keys/P/versions/1",
        "tenants/acme/keys/pay/versions/1/versions/1",
        "tenants/acme/keys/pay//versions/1",
        "keys/pay/versions/1",
        "x" * 1000 + "/versions/1",
    ],
)
def test_a_version_of_what_is_no_key_is_refused(text: str):
    assert refusal(KeyVersionName, text) == (
        f"must have the form tenants/{{tenant}}/keys/{{key}}/versions/{{version}}; names {SLUG_RULE}"
    )


@pytest.mark.parametrize("text", ["", "tenants/acme/keys/pay", "tenants/acme/keys/pay/versions", "versions/1", "1"])
def test_another_form_is_no_version(text: str):
    assert refusal(KeyVersionName, text).startswith("must have the form tenants/{tenant}/keys/{key}/versions/{version}")


@pytest.mark.parametrize(
    "text",
    ["", "tenants/acme/keys/pay", "tenants/acme/keys/pay/place/x1", "tenants/acme/places/crm", "places/crm", "a" * 257],
)
def test_another_form_is_no_place(text: str):
    assert refusal(PlaceName, text) == "must have the form tenants/{tenant}/keys/{key}/places/{place}"


@pytest.mark.parametrize("text", ["", "tenants/acme", "tenants/acme/policy/strict", "policies/strict", "a" * 257])
def test_another_form_is_no_policy(text: str):
    assert refusal(PolicyName, text) == "must have the form tenants/{tenant}/policies/{policy}"


@pytest.mark.parametrize("kind", [PlaceName, PolicyName])
def test_a_bad_last_segment_is_named_with_its_rule(kind):
    name = {PlaceName: "tenants/acme/keys/pay/places/{}", PolicyName: "tenants/acme/policies/{}"}[kind]
    for slug in BAD_SLUGS:
        if "/" not in slug:
            assert refusal(kind, name.format(slug)).endswith("} " + SLUG_RULE)


@pytest.mark.parametrize(
    "uid",
    [
        "",
        "x",
        str(UID).upper().replace("4", "A"),
        str(UID).replace("-", ""),
        f"{{{UID}}}",
        f"urn:uuid:{UID}",
        f"{UID}\n",
        f" {UID}",
        f"{UID}/",
        "4" * 36,
        "g" + str(UID)[1:],
    ],
)
def test_an_operation_is_named_by_a_uuid_in_one_form(uid: str):
    assert refusal(OperationName, f"tenants/acme/operations/{uid}") == (
        "must have the form tenants/{tenant}/operations/{operation}; {operation} is a UUID in lower case with hyphens"
    )


@pytest.mark.parametrize("head", ["", "tenants/A", "tenants/acme/keys/pay", "operators/admin", "x" * 1000])
def test_an_operation_of_what_is_no_tenant_is_refused(head: str):
    assert refusal(OperationName, f"{head}/operations/{UID}") == (
        f"must have the form tenants/{{tenant}}/operations/{{operation}}; names {SLUG_RULE}"
    )


def test_parents():
    assert PlaceName("acme", "pay", "crm").parent == KeyName("acme", "pay")
    assert PolicyName("acme", "strict").parent == TenantName("acme")
    assert OperationName("acme", UID).parent == TenantName("acme")
    assert KeyVersionName(KeyName("acme", "pay"), 7).key.parent == TenantName("acme")


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
