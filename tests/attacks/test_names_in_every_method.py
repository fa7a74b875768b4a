"""Every field of every method that holds a name, with forged and confusable names in it; none of them is another name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor

from kms.core.names import Principal, TenantName
from kms.rpc.methods import METHODS, Callers, Method
from kms.rpc.resources import Named
from tests.attacks.complete_requests import complete_request_for
from tests.attacks.method_requests import FRESH, KEY, TOKEN, name_paths, put, request_for, single_fields
from tests.attacks.scene import EVERYTHING, LIVELY, Scene, changed, principal

pytestmark = pytest.mark.softhsm

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
BROKEN = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS, grpc.StatusCode.UNAVAILABLE)

# What is done to a good name, or to a good last part of one, each of which breaks the rule.
FORGERIES: dict[str, Callable[[str], str]] = {
    "upper case": str.upper,
    "a capital letter": lambda name: name[:-2] + name[-2:].upper() if name[-2:].upper() != name[-2:] else name.title(),
    "full-width letters": lambda name: "".join(chr(ord(each) + 0xFEE0) for each in name),
    "one full-width letter": lambda name: name[:1] + chr(ord(name[1]) + 0xFEE0) + name[2:],
    "Cyrillic letters": lambda name: (
        name.translate(str.maketrans("aceopxysi", "\u0430\u0441\u0435\u043e\u0440\u0445\u0443\u0455\u0456")) + "\u0430"
    ),
    "a Greek letter": lambda name: name.replace("n", "\u03bd").replace("s", "\u0455") + "\u03bf",
    "a long s": lambda name: name.replace("s", "\u017f") + "\u017f",
    "a ligature": lambda name: name + "\ufb01",
    "a combining accent": lambda name: name + "\u0301",
    "a zero-width joiner": lambda name: name[:2] + "\u200d" + name[2:],
    "a soft hyphen": lambda name: name + "\u00ad",
    "a mark that turns the text": lambda name: "\u202e" + name,
    "NUL at the end": lambda name: name + "\0",
    "NUL within": lambda name: name[:2] + "\0" + name[2:],
    "a newline at the end": lambda name: name + "\n",
    "a newline before": lambda name: "\n" + name,
    "a carriage return": lambda name: name + "\r",
    "a second line": lambda name: f"{name}\n{name}",
    "a space at the end": lambda name: name + " ",
    "a space before": lambda name: " " + name,
    "a no-break space": lambda name: name + "\u00a0",
    "a line separator": lambda name: name + "\u2028",
    "an escaped slash": lambda name: name.replace("/", "%2F") + "%2F",
    "an escaped letter": lambda name: f"%{ord(name[0]):02x}" + name[1:],
    "a backslash": lambda name: name.replace("/", "\\") + "\\",
    "a division slash": lambda name: name.replace("/", "\u2215") + "\u2215",
    "a slash before": lambda name: "/" + name,
    "a slash at the end": lambda name: name + "/",
    "two slashes": lambda name: name.replace("/", "//") + "//",
    "the parent": lambda name: name + "/..",
    "the way round by another": lambda name: f"tenants/globex/../../{name}",
    "itself": lambda name: f"./{name}",
    "a dot": lambda name: name + ".",
    "any": lambda name: name[: name.rfind("/") + 1] + "*",
    "everything": lambda name: name + "/**",
    "any tenant": lambda name: name.replace("acme", "*") + "*",
    "a scheme": lambda name: f"spiffe://kms.local/{name}",
    "a query": lambda name: name + "?x=1",
    "a quote": lambda name: name + "' OR '1'='1",
    "a template": lambda name: name + "{0}",
    "an underscore": lambda name: name + "_",
    "a hyphen at the end": lambda name: name + "-",
    "128 letters more": lambda name: name + "a" * 128,
    "5,000 letters more": lambda name: name + "a" * 5_000,
    "5,000 segments more": lambda name: name + "/a" * 5_000,
    "another form": lambda _: f"tenants/acme/elsewhere/{KEY}",
    "a tenant of one letter": lambda name: name.replace("acme", "a") if "/" in name else "a",
    "nothing": lambda _: "",
}
# Good names, but of others: those that begin, or end, as one's own does.
NEIGHBOURS = ("acm", "acme2", "acme-", "xacme", "acme-acme", "globex")


def attackable(method: Method) -> str:
    """Who may do all that a method does to tenant acme, so that nothing but the name is wrong."""
    return "operators/root" if method.callers is Callers.OPERATOR else principal(EVERYTHING)


def forged_requests() -> Iterator[tuple[Method, str, str, Any]]:
    for method in METHODS:
        optional = {field.field for field in method.resources if isinstance(field, Named) and field.optional}
        for path, good in name_paths(method):
            for what, forge in FORGERIES.items():
                if path in optional and what == "nothing":
                    continue
                request = request_for(method, "acme")
                forged = forge(good)
                assert forged != good, what
                put(request, path, forged)
                yield method, path, what, request


def test_a_name_that_breaks_its_rule_is_refused_as_such(scene: Scene, unchanged):
    attacks = {who: scene.as_principal(who) for who in ("operators/root", principal(EVERYTHING))}
    for method, path, what, request in forged_requests():
        attacks[attackable(method)].expect(method, request, INVALID, reason="INVALID_REQUEST", told=f"{path}: {what}")
    fields = sum(len(list(name_paths(method))) for method in METHODS)
    optional = sum(getattr(field, "optional", False) for method in METHODS for field in method.resources)
    assert fields > 70
    assert sum(attack.cases for attack in attacks.values()) == fields * len(FORGERIES) - optional
    for attack in attacks.values():
        attack.check()


def test_a_good_name_of_somebody_else_is_not_found(scene: Scene, unchanged):
    attack, cases = scene.as_principal(principal(EVERYTHING)), 0
    for method in METHODS:
        if method.callers is Callers.OPERATOR:
            continue
        for path, good in name_paths(method):
            for other in NEIGHBOURS:
                if good == FRESH:
                    continue
                cases += 1
                request = request_for(method, "acme", scene.real_name)
                put(request, path, good.replace("acme", other))
                code = INVALID if other.endswith("-") else NOT_FOUND
                attack.expect(method, request, code, told=f"{path}: {other}")
    assert attack.cases == cases > 70 * len(NEIGHBOURS)
    attack.check()


def test_no_other_field_reaches_another_tenant(scene: Scene):
    """Whole requests about the caller's own, with a name of tenant acme in any field of text that the row does not name.

    The caller's tenant needs no approvals, so that these requests get as far as the work.
    """
    uid = scene.tenant_uid("acme")
    before = _of_tenant(scene, uid)
    own, cases = principal(EVERYTHING, "initech"), 0
    attack = scene.as_principal(own)
    for method in METHODS:
        if method.callers is Callers.OPERATOR:
            continue
        named = {path for path, _ in name_paths(method)}
        for path, type_ in single_fields(method.request):
            if path in named or type_ != FieldDescriptor.TYPE_STRING:
                continue
            for target in TARGETS:
                cases += 1
                request = complete_request_for(method, "initech", scene.real_name)
                put(request, path, scene.real_name(target))
                if "update_mask" in request.DESCRIPTOR.fields_by_name:
                    request.update_mask.paths[:] = [path.rpartition(".")[2]]
                outcome = attack.expect(
                    method, request, *(set(grpc.StatusCode) - set(BROKEN)), told=f"{path}: {target}"
                )
                if path in REFERENCES and outcome.code not in (INVALID, NOT_FOUND):
                    attack.deviations.append(f"{method.name}: {path} may name {target}: {outcome.code.name}")
                if getattr(outcome.response, "allowed", False):
                    attack.deviations.append(f"{method.name}: {path} {target}: allowed")
    assert attack.cases == cases > 30 * len(TARGETS)
    attack.check()
    assert changed(before, _of_tenant(scene, uid)) == {}


# What another tenant has that somebody could want to use, change or be.
TARGETS = (
    "tenants/acme",
    f"tenants/acme/keys/{KEY}",
    "tenants/acme/policies/gold",
    "tenants/acme/principals/app",
    f"tenants/acme/tokens/{TOKEN}",
    "operators/root",
)
# Fields beside the row's that name a resource.
REFERENCES = frozenset({"key.policy", "token.principal", "grant.resource"})


def _of_tenant(scene: Scene, uid: object):
    snapshot = scene.snapshot()
    assert not LIVELY & set(snapshot)
    mine = {table: {row for row in rows if uid in row} for table, rows in snapshot.items()}
    assert sum(map(len, mine.values())) > 50
    return mine


def test_the_forgeries_are_what_they_say():
    """The rules of names are what refuses them: a good name passes, a forged one does not."""
    assert str(TenantName.parse("tenants/acme")) == "tenants/acme"
    assert str(Principal.parse("tenants/acme/principals/app")) == "tenants/acme/principals/app"
    assert len({forge("tenants/acme") for forge in FORGERIES.values()}) == len(FORGERIES)
