"""Decisions by grants: deny wins, default deny, and what is not known helps nobody."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address, ip_network
from uuid import uuid4

import pytest

from kms.core.access import (
    MOST_CLASSES,
    MOST_CONTEXT_KEYS,
    MOST_NETWORKS,
    MOST_PERMISSIONS,
    MOST_VALUES,
    NO_ACCESS,
    Conditions,
    Decision,
    Effect,
    Facts,
    Grant,
    PrincipalKind,
    PrincipalRecord,
    Rule,
    built_in,
    compile_access,
    decide,
    decide_plainly,
    look,
    parse_network,
    parse_permission,
)
from kms.core.errors import InvalidRequest
from kms.core.names import Principal, TenantUid
from kms.core.patterns import Pattern
from kms.core.roles import GRANTABLE, PERMISSIONS, Role
from tests.keyrings import NOW

TENANT = TenantUid(uuid4())
KEY = "tenants/acme/keys/payroll"
BOB = PrincipalRecord(TENANT, "bob", PrincipalKind.PERSON, "", NOW, "operators/root")
FACTS = Facts(NOW, ip_address("192.0.2.7"), {"table": "salaries"}, "confidential")


def grant(permission="keys.encrypt", resource="tenants/acme/**", effect=Effect.ALLOW, **fields):
    return Grant(
        uid=uuid4(),
        tenant=TENANT,
        principal="bob",
        effect=effect,
        resource=Pattern.parse(resource),
        created_at=NOW,
        created_by="x",
        **({"permissions": frozenset({permission})} | fields),
    )


def deny(*args, **fields):
    return grant(*args, effect=Effect.DENY, **fields)


def decided(grants, permission="keys.encrypt", resource=KEY, facts=FACTS, record=BOB):
    return decide(compile_access(TENANT, record, grants), permission, resource, facts)


def test_without_a_grant_nothing_is_allowed():
    assert decide(NO_ACCESS, "keys.encrypt", KEY, FACTS) == Decision(allowed=False, rule=Rule.DEFAULT)
    assert decided([]) == Decision(allowed=False, rule=Rule.DEFAULT)


def test_the_grant_that_decides_is_told():
    allow, no = grant(), deny()
    assert decided([allow]) == Decision(allowed=True, rule=Rule.GRANT, grant=allow)
    assert decided([allow, no]) == Decision(allowed=False, rule=Rule.GRANT, grant=no)
    assert decided([no, allow]) == Decision(allowed=False, rule=Rule.GRANT, grant=no)


def test_a_permission_implies_no_other():
    assert not decided([grant("keys.encrypt")], "keys.decrypt").allowed
    assert not decided([grant("keys.decrypt")], "keys.encrypt").allowed
    assert not decided([grant("keys.create")], "keys.get").allowed


@pytest.mark.parametrize("role", GRANTABLE)
def test_a_role_gives_its_permissions_and_no_other(role):
    access = compile_access(TENANT, BOB, [grant(role=role, permissions=frozenset())])
    everything = frozenset().union(*PERMISSIONS.values())
    allowed = {permission for permission in everything if decide(access, permission, KEY, FACTS).allowed}
    assert allowed == PERMISSIONS[role]


def test_a_grant_is_for_its_resources_alone():
    assert decided([grant(resource=KEY)]).allowed
    assert not decided([grant(resource="tenants/acme/keys/other")]).allowed
    assert not decided([grant()], resource="tenants/globex/keys/payroll").allowed


@pytest.mark.parametrize(
    ("conditions", "holds"),
    [
        (Conditions({"table": frozenset({"salaries", "users"})}), True),
        (Conditions({"table": frozenset({"users"})}), False),
        (Conditions({"column": frozenset({"iban"})}), None),
        (Conditions({"table": frozenset({"users"}), "column": frozenset({"iban"})}), False),
        (Conditions({"table": frozenset({"salaries"}), "column": frozenset({"iban"})}), None),
        (Conditions(classes=frozenset({"confidential"})), True),
        (Conditions(classes=frozenset({"public"})), False),
        (Conditions(networks=(ip_network("192.0.2.0/24"),)), True),
        (Conditions(networks=(ip_network("2001:db8::/32"), ip_network("192.0.2.0/24"))), True),
        (Conditions(networks=(ip_network("198.51.100.0/24"),)), False),
    ],
)
def test_an_allow_needs_its_conditions_and_a_deny_that_they_do_not_fail(conditions, holds):
    assert decided([grant(conditions=conditions)]).allowed is (holds is True)
    assert decided([grant(), deny(conditions=conditions)]).allowed is (holds is False)


@pytest.mark.parametrize(
    "conditions",
    [
        Conditions({"table": frozenset({"salaries"})}),
        Conditions(classes=frozenset({"confidential"})),
        Conditions(networks=(ip_network("0.0.0.0/0"),)),
    ],
)
def test_what_is_not_known_makes_an_allow_fail_and_a_deny_hold(conditions):
    unknown = Facts(NOW)
    assert not decided([grant(conditions=conditions)], facts=unknown).allowed
    assert not decided([grant(), deny(conditions=conditions)], facts=unknown).allowed
    assert decided([grant(), deny("keys.decrypt", conditions=conditions)], facts=unknown).allowed


def test_an_ipv4_address_that_looks_like_ipv6_is_in_its_network():
    conditions = Conditions(networks=(ip_network("192.0.2.0/24"),))
    mapped = replace(FACTS, address=ip_address("::ffff:192.0.2.7"))
    assert decided([grant(conditions=conditions)], facts=mapped).allowed
    assert not decided([grant(), deny(conditions=conditions)], facts=mapped).allowed


def test_a_grant_counts_until_it_expires_and_not_at_that_moment():
    later = replace(FACTS, now=NOW + timedelta(hours=1))
    for ends, allowed in ((NOW + timedelta(hours=1), False), (NOW + timedelta(hours=1, microseconds=1), True)):
        assert decided([grant(expires_at=ends)]).allowed
        assert decided([grant(expires_at=ends)], facts=later).allowed is allowed
        assert decided([grant(), deny(expires_at=ends)], facts=later).allowed is not allowed


def test_who_is_blocked_may_do_nothing_until_the_block_ends():
    for until in (None, NOW + timedelta(seconds=1)):
        blocked = replace(BOB, blocked=True, blocked_until=until)
        assert decided([grant()], record=blocked) == Decision(allowed=False, rule=Rule.BLOCKED)
    over = replace(BOB, blocked=True, blocked_until=NOW)
    assert decided([grant()], record=over).allowed


def test_the_fast_way_decides_as_the_other_or_not_at_all():
    exact, wide, no = grant(resource=KEY), grant("keys.decrypt"), deny("keys.decrypt", resource="tenants/acme/keys/x")
    timed = grant("keys.rotate", expires_at=NOW + timedelta(days=1))
    access = compile_access(TENANT, BOB, [exact, wide, no, timed])
    for permission in ("keys.encrypt", "keys.decrypt", "keys.get"):
        for name in (KEY, "tenants/acme/keys/x", "tenants/globex/keys/x"):
            assert decide_plainly(access, permission, name) == decide(access, permission, name, FACTS)
    assert decide_plainly(access, "keys.rotate", KEY) is None
    blocked = compile_access(TENANT, replace(BOB, blocked=True), [exact])
    assert decide_plainly(blocked, "keys.encrypt", KEY) is None


def test_an_operator_has_the_role_operator_everywhere_but_credentials_only_of_operators():
    access = compile_access(None, None, (), built_in(Principal(None, "root"), open_tenants=False))

    def may(permission, resource):
        return decide(access, permission, resource, FACTS).allowed

    assert may("tenants.create", "tenants/new")
    assert not may("keks.rotate", "tenants/acme")
    assert may("nodes.list", "installation")
    assert may("tokens.create", "operators/root/tokens/x")
    assert may("principals.block", "operators/bob")
    for permission in ("tokens.create", "certificates.pin", "principals.block", "access.explain"):
        assert not may(permission, "tenants/acme/principals/bob")
    for permission in ("keys.get", "keys.encrypt", "keys.revoke", "grants.create", "approvals.approve"):
        assert not may(permission, KEY)
        assert not may(permission, "installation")


def test_in_an_open_tenant_everything_is_allowed_but_what_is_denied_and_what_is_anothers():
    implied = built_in(Principal("acme", "bob"), open_tenants=True)
    # Without that, everybody may still ask who they are, and nothing else.
    [(permissions, pattern)] = built_in(Principal("acme", "bob"), open_tenants=False)
    assert (permissions, str(pattern)) == ({"identity.get"}, "tenants/acme")
    access = compile_access(TENANT, BOB, [deny("keys.decrypt")], implied)
    assert decide(access, "keys.encrypt", KEY, FACTS) == Decision(allowed=True, rule=Rule.BUILT_IN)
    assert decide(access, "grants.create", "tenants/acme/principals/eve", FACTS).allowed
    assert not decide(access, "keys.decrypt", KEY, FACTS).allowed
    assert not decide(access, "keys.encrypt", "tenants/globex/keys/payroll", FACTS).allowed
    assert not decide(access, "tenants.create", "tenants/acme", FACTS).allowed
    blocked = compile_access(TENANT, replace(BOB, blocked=True), (), implied)
    assert not decide(blocked, "keys.encrypt", KEY, FACTS).allowed


@pytest.mark.parametrize(
    ("looked_at", "applies", "reason"),
    [
        (grant(), True, "all of it matches"),
        (grant("keys.decrypt"), False, "it is about other permissions"),
        (grant(resource="tenants/acme/keys/x"), False, "it is about other resources"),
        (grant(expires_at=NOW), False, "it has expired"),
        (grant(conditions=Conditions({"table": frozenset({"users"})})), False, "its conditions do not hold"),
        (grant(conditions=Conditions({"row": frozenset({"1"})})), False, "not all .* an allow fails then"),
        (deny(conditions=Conditions({"row": frozenset({"1"})})), True, "not all .* a deny holds then"),
    ],
)
def test_a_look_says_why(looked_at, applies, reason):
    seen = look(looked_at, "keys.encrypt", KEY, FACTS)
    assert seen.applies is applies
    assert re.search(reason, seen.reason)
    # What is said is what decides.
    with_allow = [] if looked_at.effect is Effect.ALLOW else [grant()]
    assert (decided([looked_at, *with_allow]).grant is looked_at) is applies


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"permissions": frozenset()}, "a role or permissions"),
        ({"role": Role.AUDITOR}, "and not both"),
        ({"role": Role.OPERATOR, "permissions": frozenset()}, "grant.role: must be one of"),
        ({"permissions": frozenset(f"keys.p{n}" for n in range(MOST_PERMISSIONS + 1))}, "at most 64"),
    ],
)
def test_a_grant_that_makes_no_sense_is_refused(fields, rule):
    with pytest.raises(InvalidRequest, match=rule):
        grant(**fields)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"context": {"Table": frozenset({"x"})}}, "conditions.context.key"),
        ({"context": {"kms.tenant": frozenset({"x"})}}, "conditions.context.key"),
        ({"context": {"table": frozenset()}}, "conditions.context.values"),
        ({"context": {"table": frozenset({"x" * 257})}}, "conditions.context.values"),
        ({"context": {"table": frozenset(str(n) for n in range(MOST_VALUES + 1))}}, "conditions.context.values"),
        ({"context": {f"k{n}": frozenset({"x"}) for n in range(MOST_CONTEXT_KEYS + 1)}}, "conditions.context"),
        ({"classes": frozenset({"Secret"})}, "conditions.classes"),
        ({"classes": frozenset(f"c{n}" for n in range(MOST_CLASSES + 1))}, "conditions.classes"),
        ({"networks": (ip_network("10.0.0.0/8"),) * (MOST_NETWORKS + 1)}, "conditions.networks"),
    ],
)
def test_conditions_have_bounds(fields, field):
    with pytest.raises(InvalidRequest, match=f"^{field}: "):
        Conditions(**fields)


@pytest.mark.parametrize("text", ["", "192.0.2.1/24", "192.0.2", "10.0.0.0/33", "example.org", "2001:db8::1/32"])
def test_what_is_no_network_is_refused(text):
    with pytest.raises(InvalidRequest, match="networks such as"):
        parse_network(text)


def test_what_is_no_permission_is_refused():
    assert parse_permission("keys.encrypt") == "keys.encrypt"
    for text in ("", "keys.*", "keys.Encrypt", "keys"):
        with pytest.raises(InvalidRequest, match="is no permission"):
            parse_permission(text)
