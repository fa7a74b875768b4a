"""Every method of the API with credentials that are no good: tokens that are over, stolen or altered, certificates, and none."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from kms.rpc.methods import METHODS, Callers
from tests.attacks.method_requests import named_fields, request_for
from tests.attacks.scene import EVERYTHING, Attack, Scene, principal
from tests.e2e.test_transport import DAY, Authority

pytestmark = pytest.mark.softhsm

DENIED, UNAVAILABLE = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAVAILABLE
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
NOT_FOUND = grpc.StatusCode.NOT_FOUND
ACME = principal(EVERYTHING)
INVALID_TOKEN = "the API token is not valid"
SPIFFE = "spiffe://kms.local/"


def every_method(attack: Attack, *codes: grpc.StatusCode, message: str | None = None, logged: bool = True) -> None:
    """Attack each method once, and see that nothing else than *codes* comes back."""
    for method in METHODS:
        attack.expect(method, request_for(method, "acme", attack.scene.real_name), *codes, message=message)
    assert attack.cases == len(METHODS) > 80
    attack.check(logged=logged)


def prefix_of(text: str) -> str:
    return text.split("_")[1]


def altered(text: str) -> str:
    """Change one character of the secret."""
    return text[:30] + ("A" if text[30] != "A" else "B") + text[31:]


def test_the_same_ways_let_in_who_may(scene: Scene):
    """So that what is refused below is refused for what is the matter with it."""
    [who_am_i] = [method for method in METHODS if method.name == "WhoAmI"]
    good = [scene.as_token(scene.tokens["good"], ACME), scene.as_principal(ACME)]
    good += [scene.as_token(scene.tokens["origin"], ACME, origin="https://a.example")]
    good += [scene.attack(ACME, scene.channel(ACME), authorization=f"Bearer {scene.tokens['good']}")]
    pair = Authority(scene.installation.directory, genuine=True).issue(
        scene.installation.directory.parent / "good", f"{SPIFFE}tenants/acme/principals/{EVERYTHING}"
    )
    good += [scene.attack(ACME, scene.certified(*pair))]
    for attack in good:
        answer = attack.expect(who_am_i, request_for(who_am_i, "acme"), grpc.StatusCode.OK).response
        assert answer is not None, attack.deviations
        assert answer.principal == ACME


@pytest.mark.parametrize(("what", "cause"), [("expired", "expired"), ("revoked", "revoked"), ("rotated", "replaced")])
def test_a_token_that_has_ended_is_nobodys(scene: Scene, unchanged, what, cause):
    text = scene.tokens[what]
    every_method(scene.as_token(text), UNAUTHENTICATED, message=INVALID_TOKEN)
    assert causes(scene, text) >= {cause}
    brute_force(scene, text)


def causes(scene: Scene, text: str) -> set[object]:
    """Why this token was refused, as the log has it."""
    return {line["cause"] for line in scene.daemon.events("token.refused") if line.get("name") == prefix_of(text)}


@pytest.mark.parametrize("what", ["good", "network", "expired"])
def test_a_token_with_one_wrong_character_is_nobodys(scene: Scene, unchanged, what):
    """Nor does it tell from where, or how long, the right one may be used."""
    text = altered(scene.tokens[what])
    every_method(scene.as_token(text), UNAUTHENTICATED, message=INVALID_TOKEN)
    assert "wrong secret" in causes(scene, text)
    brute_force(scene, text)


def brute_force(scene: Scene, text: str) -> None:
    """Tries with one token are an event that names its prefix; tries from one address are another."""
    event = scene.event("token_brute_force", "installation", lambda event: event.credential_id == prefix_of(text))
    assert (event.severity.name, event.blocked, event.principal) == ("HIGH", True, "")
    scene.event("token_brute_force", "installation", lambda event: not event.credential_id)


def test_a_token_that_is_none_is_nobodys(scene: Scene, unchanged):
    good = scene.tokens["good"]
    unknown = f"kms_{'z' * 12}{good[16:]}"
    shown = [
        f"Bearer {unknown}",
        f"Basic {good}",
        f"bearer  {good}",
        f"Bearer {good.upper()}",
        f"Bearer {good}x",
        f"Bearer {good[:-1]}",
        f"Bearer {good} {good}",
        "Bearer ",
    ]
    attack = scene.as_token("")
    for authorization in shown:
        attack.metadata = (("authorization", authorization),)
        for method in METHODS[:: len(shown)]:
            attack.expect(method, request_for(method, "acme"), UNAUTHENTICATED, told=authorization[:7])
    attack.metadata = (("authorization", f"Bearer {good}"), ("authorization", f"Bearer {good}"))
    for method in METHODS:
        attack.expect(method, request_for(method, "acme"), UNAUTHENTICATED, told="twice")
    assert attack.cases == len(METHODS) + len(shown) * len(METHODS[:: len(shown)])
    attack.check()


@pytest.mark.parametrize(
    ("what", "metadata"),
    [("network", {}), ("origin", {}), ("origin", {"origin": "https://b.example"}), ("origin", {"origin": "null"})],
    ids=str,
)
def test_a_token_in_the_wrong_place_is_denied(scene: Scene, unchanged, what, metadata):
    attack = scene.as_token(scene.tokens[what], **metadata)
    every_method(attack, DENIED, message="the API token may not be used from here")
    assert what in causes(scene, scene.tokens[what])
    scene.event(
        "repeated_denials", "installation", lambda event: event.principal == "" and event.address == "127.0.0.1"
    )


@pytest.mark.parametrize("scope", ["READ", "USE", "MANAGE"])
def test_a_token_does_only_what_its_scope_is_for(scene: Scene, unchanged, scope):
    attack = scene.as_token(scene.tokens[f"only {scope}"], ACME)
    beyond = [method for method in METHODS if method.scope.name != scope]
    for method in beyond:
        attack.expect(method, request_for(method, "acme", scene.real_name), DENIED, reason="DENIED")
    assert attack.cases == len(beyond) > len(METHODS) // 2
    attack.check()
    scene.event("repeated_denials", "tenants/acme", lambda event: event.principal == ACME)


def test_another_tenants_token_finds_nothing(scene: Scene, unchanged):
    who = principal(EVERYTHING, "globex")
    attack = scene.as_token(scene.tokens["globex"], who)
    tried = [method for method in METHODS if named_fields(method) or method.callers is Callers.OPERATOR]
    for method in tried:
        code = DENIED if method.callers is Callers.OPERATOR else NOT_FOUND
        attack.expect(method, request_for(method, "acme", scene.real_name), code)
    assert attack.cases == len(tried) > 75
    attack.check()
    scene.event("unauthorized_access", "tenants/globex", lambda event: event.principal == who)


@pytest.mark.parametrize("who", ["blocked", "denied"])
def test_a_token_gives_its_principal_nothing(scene: Scene, unchanged, who):
    every_method(scene.as_token(scene.tokens[who], principal(who)), DENIED)
    scene.event("repeated_denials", "tenants/acme", lambda event: event.principal == principal(who))


def test_a_token_of_a_principal_that_is_bound_to_a_certificate_is_nothing_without_it(scene: Scene, unchanged):
    every_method(scene.as_token(scene.tokens["pinned"]), UNAUTHENTICATED)


def test_a_token_beside_somebody_elses_certificate_is_nobodys(scene: Scene, unchanged):
    stolen = f"Bearer {scene.tokens['good']}"
    every_method(scene.attack("unknown", scene.channel(principal("app")), authorization=stolen), UNAUTHENTICATED)
    # And a good certificate does not make up for a token that is none.
    wrong = f"Bearer {altered(scene.tokens['good'])}"
    every_method(scene.attack("unknown", scene.channel(ACME), authorization=wrong), UNAUTHENTICATED)


def test_without_a_token_nobody_calls_where_no_certificate_is_asked_for(scene: Scene, unchanged):
    every_method(scene.attack("unknown", scene.token_channel()), UNAUTHENTICATED)
    scene.event("token_brute_force", "installation", lambda event: event.address == "127.0.0.1")


@pytest.mark.parametrize(("who", "said"), [("revoked", "is revoked"), ("pinned", "pinned")])
def test_a_certificate_that_is_revoked_or_not_the_pinned_one_is_nobodys(scene: Scene, unchanged, who, said):
    attack = scene.attack("unknown", scene.channel(principal(who)))
    every_method(attack, UNAUTHENTICATED)
    method = METHODS[0]
    assert said in attack.expect(method, request_for(method, "acme"), UNAUTHENTICATED).message
    scene.event("token_brute_force", "installation", lambda event: event.address == "127.0.0.1")


@pytest.mark.parametrize(
    "uris",
    [
        (),
        ("spiffe://elsewhere.example/operators/root",),
        (f"{SPIFFE}operators/ROOT",),
        (f"{SPIFFE}tenants/acme/principals/{EVERYTHING}/more",),
        (f"{SPIFFE}tenants/acme/principals/%65verything",),
        (f"{SPIFFE}operators/root", f"{SPIFFE}tenants/acme/principals/{EVERYTHING}"),
    ],
    ids=str,
)
def test_a_certificate_of_the_authority_that_names_no_principal_is_nobodys(scene: Scene, unchanged, tmp_path, uris):
    pair = Authority(scene.installation.directory, genuine=True).issue(tmp_path, *uris)
    every_method(scene.attack("unknown", scene.certified(*pair)), UNAUTHENTICATED)


@pytest.mark.parametrize(
    ("genuine", "begin", "end"),
    [(False, -DAY, DAY), (True, -2 * DAY, -DAY), (True, DAY, 2 * DAY)],
    ids=["another authority of the same name", "expired", "not yet valid"],
)
def test_a_certificate_that_does_not_verify_gets_no_answer(
    scene: Scene, unchanged, tmp_path: Path, genuine: bool, begin: timedelta, end: timedelta
):
    """Not even with a good token beside it; the daemon's log knows nothing of it."""
    uri = f"{SPIFFE}tenants/acme/principals/{EVERYTHING}"
    pair = Authority(scene.installation.directory, genuine=genuine).issue(tmp_path, uri, begin=begin, end=end)
    attack = scene.attack("unknown", scene.certified(*pair), authorization=f"Bearer {scene.tokens['good']}")
    every_method(attack, UNAVAILABLE, logged=False)


def test_without_a_certificate_nobody_is_answered_where_one_is_asked_for(scene: Scene, unchanged):
    attack = scene.attack("unknown", scene.certified(None, None), authorization=f"Bearer {scene.tokens['good']}")
    every_method(attack, UNAVAILABLE, logged=False)
