"""Every method of the API against callers who may not: other tenants, nobodies, the blocked and denied, every role, operators.

The cases come from the method table, so that a new RPC is attacked without anybody writing it.
"""

from __future__ import annotations

import grpc
import pytest

from kms.core.roles import FREE, GRANTABLE, OVER_TENANTS, PERMISSIONS, Role
from kms.rpc.methods import METHODS, Callers, Method, Quorum
from tests.attacks.complete_requests import complete_request_for
from tests.attacks.method_requests import INSTALLATION_FORMS, KEY, is_a_name_for, named_fields, put, request_for
from tests.attacks.scene import EVERYTHING, Scene, principal

pytestmark = pytest.mark.softhsm

OK, INVALID = grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT
DENIED, NOT_FOUND = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND
MALLORY = principal(EVERYTHING, "globex")  # has every role, in another tenant
NAMING = [method for method in METHODS if method.callers is not Callers.OPERATOR and named_fields(method)]
NAMELESS = [method for method in METHODS if method.callers is not Callers.OPERATOR and not named_fields(method)]
OPERATORS = [method for method in METHODS if method.callers is Callers.OPERATOR]


def test_the_attacks_are_about_the_whole_table():
    assert len(NAMING) + len(NAMELESS) + len(OPERATORS) == len(METHODS) > 80
    assert len(NAMING) > 70


def test_another_tenants_principal_with_every_role_finds_nothing(scene: Scene, unchanged):
    """In each field that names a resource, alone; with the words that are said of what exists nowhere."""
    attack = scene.as_principal(MALLORY)
    for method in NAMING:
        for field in named_fields(method):
            answers = []
            for tenant in ("acme", "nobody"):
                request = request_for(method, "globex", scene.real_name)
                foreign = request_for(method, tenant, scene.real_name)
                put(request, field.field, _value(foreign, field.field))
                outcome = attack.expect(method, request, NOT_FOUND, reason="NOT_FOUND", told=f"{field.field} {tenant}")
                answers.append(_plain(scene, f"{outcome.message} {outcome.metadata}").replace("nobody", "acme"))
            if answers[0] != answers[1]:
                attack.deviations.append(f"{method.name}: what exists is told apart: {answers}")
    for method in OPERATORS:
        attack.expect(method, request_for(method, "acme"), DENIED, reason="DENIED")
    for method in NAMELESS:
        outcome = attack.expect(method, request_for(method, "acme"), OK, INVALID)
        if outcome.response is not None and b"acme" in outcome.response.SerializeToString():
            attack.deviations.append(f"{method.name}: its answer is about tenant acme")
    assert attack.cases == 2 * sum(len(named_fields(method)) for method in NAMING) + len(OPERATORS) + len(NAMELESS)
    attack.check()
    event = scene.event("unauthorized_access", "tenants/globex", lambda event: event.principal == MALLORY)
    assert (event.severity.name, event.blocked, event.address) == ("HIGH", True, "127.0.0.1")


def _value(message, path: str) -> str:
    for name in path.split("."):
        message = getattr(message, name)
    return message


def _plain(scene: Scene, text: str) -> str:
    """Put the examples in the place of what stands for them in tenant acme alone."""
    for example, real in scene.real.items():
        text = text.replace(real, example)
    return text


def test_another_tenants_resource_is_spoken_of_as_ones_own_that_is_not_there(scene: Scene):
    """Where a principal with every role hears that something of its own does not exist, a stranger hears the very same."""
    own, stranger = principal(EVERYTHING, "initech"), scene.as_principal(MALLORY)
    attack, compared = scene.as_principal(own), 0
    for method in NAMING:
        request = complete_request_for(method, "initech", _absent)
        if method.quorum is not Quorum.NEVER or not any("/" in name[8:] for name in _names(method, request)):
            continue
        answer = attack.expect(method, request, *grpc.StatusCode)
        if answer.code is not NOT_FOUND:
            continue  # it is about something else first
        compared += 1
        stranger.expect(method, request, NOT_FOUND, message=answer.message, reason=answer.reason)
    assert stranger.cases == compared > len(NAMING) // 3
    stranger.check()


def _names(method: Method, request) -> list[str]:
    return [_value(request, field.field) for field in named_fields(method)]


def test_tenants_do_not_see_what_is_the_installations(scene: Scene, unchanged):
    attack, cases = scene.as_principal(MALLORY), 0
    for method in NAMING:
        for field in named_fields(method):
            for name in INSTALLATION_FORMS:
                if not is_a_name_for(field, name):
                    continue
                cases += 1
                request = request_for(method, "globex")
                put(request, field.field, name)
                attack.expect(method, request, NOT_FOUND, message=f"{name} does not exist", told=name)
    assert (
        attack.cases == cases >= len([method for method in METHODS if method.permission.startswith("securityEvents")])
    )
    attack.check()


@pytest.mark.parametrize("who", ["never-stored", "blocked", "expired", "denied", "elsewhere"])
def test_who_has_no_grant_that_holds_is_denied_everything(scene: Scene, unchanged, who):
    """No principal of that name; one that is blocked; grants that are over, denied, for other networks and resources."""
    attack = scene.as_principal(principal(who))
    # Who one is, everybody may ask but the blocked.
    beyond = [method for method in METHODS if method.permission not in FREE or who == "blocked"]
    assert len(beyond) >= len(METHODS) - len(FREE)
    for method in beyond:
        answers = set()
        for twist in (scene.real_name, _absent):
            outcome = attack.expect(method, request_for(method, "acme", twist), DENIED, reason="DENIED")
            answers.add(_absent(_plain(scene, outcome.message)))
        if len(answers) > 1:
            attack.deviations.append(f"{method.name}: what exists is told apart: {answers}")
    assert attack.cases == 2 * len(beyond)
    attack.check()
    event = scene.event("repeated_denials", "tenants/acme", lambda event: event.principal == principal(who))
    assert event.blocked
    assert event.credential_kind in {"certificate", "token"}  # that with which the principal was refused first


def _absent(name: str) -> str:
    for there in (KEY, "gold", "ledger", "principals/app"):
        name = name.replace(there, there.replace(there.split("/")[-1], "absent"))
    return name


@pytest.mark.parametrize("role", GRANTABLE)
def test_a_role_is_denied_what_it_does_not_give(scene: Scene, unchanged, role: Role):
    """Also every RPC that could give its holder more: grants, tokens, pins, rules, principals."""
    beyond = [method for method in METHODS if method.permission not in PERMISSIONS[role]]
    attack = scene.as_principal(principal(role.value))
    for method in beyond:
        attack.expect(method, request_for(method, "acme", scene.real_name), DENIED, reason="DENIED")
    assert attack.cases == len(beyond) > len(METHODS) // 3
    attack.check()
    scene.event("repeated_denials", "tenants/acme", lambda event: event.principal == principal(role.value))


def test_operators_are_denied_what_is_for_tenants(scene: Scene, unchanged):
    """Nor may they make grants, tokens and pins for a tenant's principals, by which they would get there."""
    beyond = [method for method in METHODS if not _for_operators(method)]
    attack = scene.as_principal("operators/root")
    for method in beyond:
        attack.expect(method, request_for(method, "acme", scene.real_name), DENIED, reason="DENIED")
    assert attack.cases == len(beyond) > len(METHODS) // 2
    attack.check()
    scene.event("repeated_denials", "installation", lambda event: event.principal == "operators/root")


def _for_operators(method: Method) -> bool:
    if method.callers is Callers.TENANT:
        return False
    return method.permission in OVER_TENANTS or not named_fields(method)
