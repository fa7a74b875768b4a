"""What holds of every set of grants, every resource and every call."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from kms.core.access import Access, Effect, Facts, Rule, compile_access, decide, decide_plainly, look
from kms.core.roles import ALL_PERMISSIONS
from tests.keyrings import NOW, grants, new_principal, new_tenant

TENANT = new_tenant("acme")
BOB = new_principal(TENANT, "bob")

some_grants = st.lists(grants(BOB), max_size=6)
permissions = st.sampled_from(sorted(ALL_PERMISSIONS))
names = st.lists(st.sampled_from(["keys", "a1", "b2", "versions", "1"]), max_size=4).map(
    lambda rest: "/".join(["tenants", "acme", *rest])
)
facts = st.builds(
    Facts,
    now=st.sampled_from([NOW, NOW + timedelta(days=400_000)]),
    address=st.none()
    | st.sampled_from(["192.0.2.1", "203.0.113.9", "2001:db8::1", "::ffff:192.0.2.1"]).map(ip_address),
    context=st.dictionaries(st.sampled_from(["table", "column"]), st.sampled_from(["", "x"])),
    classification=st.none() | st.sampled_from(["secret", "public"]),
)
calls = st.tuples(permissions, names, facts)


def access(found) -> Access:
    return compile_access(TENANT.uid, BOB, found)


@given(found=some_grants, call=calls, seed=st.randoms(use_true_random=False))
def test_the_order_of_grants_means_nothing(found, call, seed):
    shuffled = list(found)
    seed.shuffle(shuffled)
    assert decide(access(found), *call).allowed is decide(access(shuffled), *call).allowed


@given(found=some_grants, call=calls)
def test_whoever_denies_wins_and_somebody_must_allow(found, call):
    applying = [grant.effect for grant in found if look(grant, *call).applies]
    decision = decide(access(found), *call)
    assert decision.allowed is (Effect.ALLOW in applying and Effect.DENY not in applying)
    assert (decision.rule is Rule.DEFAULT) is (not applying)


@given(found=some_grants, more=grants(BOB), call=calls)
def test_another_allow_takes_nothing_away_and_another_deny_gives_nothing(found, more, call):
    before, after = decide(access(found), *call).allowed, decide(access([*found, more]), *call).allowed
    if more.effect is Effect.ALLOW:
        assert after >= before
    else:
        assert after <= before


@given(found=some_grants, permission=permissions, name=names, known=facts)
def test_to_tell_less_never_helps(found, permission, name, known):
    less = Facts(known.now)
    if decide(access(found), permission, name, less).allowed:
        assert decide(access(found), permission, name, known).allowed


@given(found=some_grants, call=calls)
def test_the_fast_way_decides_the_same(found, call):
    permission, name, known = call
    plain = decide_plainly(access(found), permission, name)
    assert plain is None or plain == decide(access(found), permission, name, known)


@given(found=some_grants, call=calls)
def test_the_grant_that_decided_is_one_that_applies(found, call):
    decision = decide(access(found), *call)
    if decision.grant is not None:
        assert decision.grant in found
        assert look(decision.grant, *call).applies
        assert (decision.grant.effect is Effect.ALLOW) is decision.allowed
