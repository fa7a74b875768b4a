"""Every method that others have to approve: alone, by oneself, twice, changed, by somebody else, after its time, once more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from kms_client import ApprovalState

from kms.rpc.methods import METHODS, Method
from tests.attacks.complete_requests import complete_request_for
from tests.attacks.method_requests import KEY, TOKEN, name_paths, put, request_for, single_fields
from tests.attacks.scene import EVERYTHING, QUORUM_METHODS, Attack, Scene, principal, quorum_key
from tests.attacks.scene import changed as changes

pytestmark = pytest.mark.softhsm

OK, DENIED = grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED
REFUSED, INVALID = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT
EXISTS, NOT_FOUND = grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.NOT_FOUND
APPROVALS = frozenset({"approvals", "approval_votes", "tree_nodes", "tenant_roots"})
ASKER, OTHER = principal(EVERYTHING), principal("second")
OLGA, OSCAR = principal("olga"), principal("oscar")
EVE = principal(EVERYTHING, "globex")
BY_NAME = {method.name: method for method in METHODS}
# Methods that need what this daemon does not have: an enclave. tests/e2e/test_enclave_upgrade.py carries them out.
NOT_HERE = {"CreateEnclaveUpgrade": (REFUSED,), "FinishEnclaveUpgrade": (REFUSED,)}
ATTACKS = 24  # on each method, beside the changes of its request


class Quorum:
    """One method's request, and everybody who has to do with it."""

    def __init__(self, scene: Scene, method: Method) -> None:
        self.scene, self.method = scene, method
        self.asker, self.other, self.olga, self.oscar, self.eve = map(
            scene.as_principal, (ASKER, OTHER, OLGA, OSCAR, EVE)
        )
        self.by_token = [scene.as_token(scene.tokens[f"olga {number}"], OLGA) for number in (1, 2)]
        self.request = complete_request_for(method, "acme", self._own)
        assert method.needs_quorum(self.request)

    @property
    def attacks(self) -> list[Attack]:
        return [self.asker, self.other, self.olga, self.oscar, self.eve, *self.by_token]

    def ask(self, request: Any = None) -> str:
        """Make the request, which is refused; returns the approval's name."""
        asked = self.request if request is None else request
        outcome = self.asker.expect(self.method, asked, REFUSED, reason="APPROVAL_REQUIRED", told="asked")
        assert outcome.told("approval"), self.asker.deviations
        return outcome.told("approval")

    def under(self, who: Attack, approval: str, code: grpc.StatusCode, told: str, request: Any = None) -> None:
        reasons = {REFUSED: "APPROVAL_UNUSABLE", DENIED: "DENIED", NOT_FOUND: "NOT_FOUND", OK: ""}
        asked = self.request if request is None else request
        who.expect(self.method, asked, code, reason=reasons[code], told=told, x_kms_approval=approval)

    def vote(self, who: Attack, approval: str, code: grpc.StatusCode, told: str, digest: str = "") -> None:
        method = BY_NAME["ApproveApproval"]
        request = method.request._concrete_class(name=approval)
        request.digest = digest or self.scene.client(OLGA).get_approval(approval).digest
        who.expect(method, request, code, told=f"{self.method.name}: {told}")

    def _own(self, name: str) -> str:
        """Aim at a key and a token of this method's own."""
        if name.endswith(TOKEN):
            return self.scene.real["rotated under approval"]
        return name.replace(f"keys/{KEY}", f"keys/{quorum_key(self.method)}")


@contextmanager
def nothing_done(scene: Scene) -> Iterator[None]:
    """See that nothing but approvals, votes and their places in the tree is stored."""
    before = scene.snapshot(APPROVALS)
    yield
    assert changes(before, scene.snapshot(APPROVALS)) == {}


def other_requests(quorum: Quorum) -> list[tuple[str, Any]]:
    """The approved request with one field changed, for each that has one value: also for those that are not set."""
    made = []
    for path, type_ in single_fields(quorum.request.DESCRIPTOR):
        changed = type(quorum.request).FromString(quorum.request.SerializeToString())
        put(changed, path, _another(type_, reduce(getattr, path.split("."), changed)))
        made.append((path, changed))
    assert len(made) > 1
    return made


def _another(type_: int, value: Any) -> Any:
    match type_:
        case FieldDescriptor.TYPE_BOOL:
            return not value
        case FieldDescriptor.TYPE_STRING:
            return f"{value}x"
        case FieldDescriptor.TYPE_BYTES:
            return value + b"x"
        case _:
            return value + 1


@pytest.mark.parametrize("method", QUORUM_METHODS, ids=lambda method: method.name)
def test_nothing_but_the_approval_of_two_others_lets_it_pass_and_that_once(scene: Scene, method: Method):
    quorum = Quorum(scene, method)
    with nothing_done(scene):
        _attack_before_the_approval(quorum)
        approval = _attack_while_it_is_approved(quorum)
        _attack_when_it_is_approved(quorum, approval)
    admin = scene.client(principal("tenant-admin"))
    admin.block_principal(OSCAR, reason="left")
    with nothing_done(scene):
        quorum.under(quorum.asker, approval, REFUSED, "one who approved is blocked")
    admin.unblock_principal(OSCAR)

    if method.name in NOT_HERE:  # it passes, and the work itself refuses: the approval is given back
        outcome = quorum.asker.expect(method, quorum.request, *NOT_HERE[method.name], told="x", x_kms_approval=approval)
        assert outcome.code is NOT_HERE[method.name][0], quorum.asker.deviations
        assert scene.client(OLGA).get_approval(approval).state == ApprovalState.APPROVED
        scene.client(ASKER).withdraw(approval)  # else who asks the same once more is given it, with its votes
        return

    # What was approved is done, and that was its once.
    quorum.under(quorum.asker, approval, OK, "approved")
    assert scene.client(OLGA).get_approval(approval).state == ApprovalState.EXECUTED, quorum.asker.deviations
    with nothing_done(scene):
        quorum.under(quorum.asker, approval, REFUSED, "replayed")
        quorum.under(quorum.other, approval, DENIED, "replayed by another")
        quorum.vote(quorum.other, approval, REFUSED, "one more vote after all")
    others = sum(method.needs_quorum(request) for _, request in other_requests(quorum))
    assert sum(attack.cases for attack in quorum.attacks) == ATTACKS + others
    for attack in quorum.attacks:
        attack.check()


def _attack_before_the_approval(quorum: Quorum) -> None:
    """Under approvals that are none, or were rejected or taken back."""
    rejected = quorum.ask()
    quorum.under(quorum.asker, rejected, REFUSED, "before anybody has approved")
    quorum.scene.client(OSCAR).reject(rejected)
    quorum.under(quorum.asker, rejected, REFUSED, "rejected")
    withdrawn = quorum.ask()
    quorum.scene.client(ASKER).withdraw(withdrawn)
    quorum.under(quorum.asker, withdrawn, REFUSED, "withdrawn")
    absent = f"{withdrawn[:-1]}{'0' if withdrawn[-1] != '0' else '1'}"
    quorum.under(quorum.asker, absent, NOT_FOUND, "made up")
    quorum.under(quorum.asker, absent.replace("acme", "globex"), NOT_FOUND, "made up, of another tenant")
    quorum.asker.expect(quorum.method, quorum.request, INVALID, told="no name", x_kms_approval=f"{withdrawn}/..")


def _attack_while_it_is_approved(quorum: Quorum) -> str:
    """By oneself, by one principal with two tokens and a certificate, by another tenant, with another digest."""
    approval = quorum.ask()
    quorum.vote(quorum.asker, approval, DENIED, "approved by oneself")
    quorum.vote(quorum.eve, approval, NOT_FOUND, "approved by another tenant")
    quorum.vote(quorum.oscar, approval, INVALID, "something else approved", digest="ab" * 32)
    quorum.vote(quorum.by_token[0], approval, OK, "approved by token")
    quorum.vote(quorum.by_token[1], approval, EXISTS, "approved by the same with another token")
    quorum.vote(quorum.olga, approval, EXISTS, "approved by the same with a certificate")
    quorum.under(quorum.asker, approval, REFUSED, "one of two approvals")
    assert quorum.scene.client(OLGA).get_approval(approval).state == ApprovalState.OPEN
    return approval


def _attack_when_it_is_approved(quorum: Quorum, approval: str) -> None:
    """By somebody else, and for another request."""
    quorum.vote(quorum.oscar, approval, OK, "approved by the second")
    quorum.under(quorum.other, approval, DENIED, "approved for somebody else")
    quorum.under(quorum.eve, approval, NOT_FOUND, "approved in another tenant")
    names = {path for path, _ in name_paths(quorum.method)}
    for path, changed in other_requests(quorum):
        if path in names:  # which may be none any more
            codes = (REFUSED, INVALID, NOT_FOUND)
            quorum.asker.expect(quorum.method, changed, *codes, told=f"{path} changed", x_kms_approval=approval)
        elif quorum.method.needs_quorum(changed):
            quorum.under(quorum.asker, approval, REFUSED, f"{path} changed", changed)


def test_an_approval_is_for_one_method_alone(scene: Scene):
    """Each method under an approval that is good for each other one."""
    quorums = [Quorum(scene, method) for method in QUORUM_METHODS]
    for quorum in quorums:
        # Such as the others cannot have used up: names alone, which are approved like anything else.
        quorum.request = request_for(quorum.method, "acme", quorum._own)
        if "force" in quorum.request.DESCRIPTOR.fields_by_name:
            quorum.request.force = True
    approvals = [quorum.ask() for quorum in quorums]
    for approval in approvals:
        for who in (OLGA, OSCAR):
            client = scene.client(who)
            client.approve(approval, digest=client.get_approval(approval).digest)
    with nothing_done(scene):
        for quorum in quorums:
            for other, approval in zip(quorums, approvals, strict=True):
                if other is not quorum:
                    quorum.under(quorum.asker, approval, REFUSED, f"approved for {other.method.name}")
    for approval in approvals:
        scene.client(ASKER).withdraw(approval)
    cases = sum(quorum.asker.cases for quorum in quorums)
    assert cases == len(QUORUM_METHODS) + len(QUORUM_METHODS) * (len(QUORUM_METHODS) - 1)
    for quorum in quorums:
        quorum.asker.check()


def test_an_approval_that_is_over_is_of_no_use(scene: Scene, unchanged):
    attack, name = scene.as_principal(ASKER), scene.real["expired approval"]
    assert scene.client(OLGA).get_approval(name).state == ApprovalState.EXPIRED
    method = BY_NAME["ScheduleKeyDestruction"]
    request = complete_request_for(method, "acme", lambda key: key.replace(KEY, "other"))
    request.reason = "old"
    said = attack.expect(method, request, REFUSED, reason="APPROVAL_UNUSABLE", x_kms_approval=name).message
    assert "is expired" in said, said
    attack.check()


def test_two_approvals_do_not_let_anybody_grant_to_themself(scene: Scene):
    """What an approval lets pass has its own checks after it."""
    method = BY_NAME["CreateGrant"]
    attack = scene.as_principal(principal("tenant-admin"))
    request = complete_request_for(method, "acme", lambda _: principal("tenant-admin"))
    approval = attack.expect(method, request, REFUSED, reason="APPROVAL_REQUIRED").told("approval")
    for who in (OLGA, OSCAR):
        client = scene.client(who)
        client.approve(approval, digest=client.get_approval(approval).digest)
    with nothing_done(scene):
        attack.expect(method, request, DENIED, x_kms_approval=approval)
    attack.check()
    assert attack.cases == 2
    scene.client(principal("tenant-admin")).withdraw(approval)


def test_every_method_that_needs_approvals_is_refused_without_them_to_who_may_do_all(scene: Scene):
    attack = scene.as_principal(ASKER)
    for method in QUORUM_METHODS:
        request = request_for(method, "acme", scene.real_name)
        if "force" in request.DESCRIPTOR.fields_by_name:
            request.force = True
        with nothing_done(scene):
            approval = attack.expect(method, request, REFUSED, reason="APPROVAL_REQUIRED").told("approval")
        scene.client(ASKER).withdraw(approval)
    assert attack.cases == len(QUORUM_METHODS) >= 7
    attack.check()
