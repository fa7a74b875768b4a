"""Distinct principals, never the requester, over exactly what was asked, once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import product
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.core.approvals import (
    LARGEST_REQUEST,
    LIFETIME,
    NOTHING_DONE,
    TRANSITIONS,
    WAITING,
    ApprovalEvent,
    ApprovalRequest,
    ApprovalState,
    ApprovalUid,
    Decision,
    Use,
    approvers,
    digest_of,
    outcome_of,
    usable,
    vote,
)
from kms.core.callers import Credential, CredentialKind
from kms.core.errors import (
    AlreadyExists,
    ApprovalUnusable,
    Denied,
    InvalidRequest,
    KmsError,
    SelfApproval,
    StorageUnavailable,
    WrongApprovalState,
)
from kms.core.names import TenantUid
from tests.keyrings import NOW

METHOD = "/kms.v1.KeyService/ScheduleKeyDestruction"
REQUESTER = "tenants/acme/principals/asker"
TENANT = TenantUid(uuid4())
PIN = Credential(CredentialKind.CERTIFICATE, "ab")
SECOND = timedelta(seconds=1)


def new_request(needed: int = 2, request: bytes = b"\x0a\x01k") -> ApprovalRequest:
    return ApprovalRequest(
        uid=ApprovalUid(uuid4()),
        tenant=TENANT,
        requester=REQUESTER,
        credential=CredentialKind.CERTIFICATE,
        credential_id="cd",
        method=METHOD,
        permission="keys.destroy",
        resources=("tenants/acme/keys/k1",),
        request=request,
        digest=digest_of(METHOD, TENANT, REQUESTER, request),
        reason="gone",
        needed=needed,
        created_at=NOW,
        expires_at=NOW + LIFETIME,
        state=ApprovalState.OPEN,
        state_at=NOW,
    )


def use_of(request: ApprovalRequest, **other: object) -> Use:
    same = Use(request.method, request.requester, request.digest)
    return replace(same, **other)  # type: ignore[arg-type]


def principal(number: int) -> str:
    return REQUESTER if number == 0 else f"tenants/acme/principals/p{number}"


@given(
    needed=st.integers(1, 4),
    tries=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(Decision), st.booleans()), max_size=12),
)
def test_enough_are_distinct_principals_of_which_none_is_the_requester(
    needed: int, tries: list[tuple[int, Decision, bool]]
) -> None:
    request, votes = new_request(needed), []
    approved: set[int] = set()
    voted: set[int] = set()
    ended = False
    for number, decision, token in tries:
        credential = Credential(CredentialKind.TOKEN if token else CredentialKind.CERTIFICATE, str(len(votes)))
        before = request
        try:
            request, given_vote = vote(request, votes, principal(number), decision, NOW, credential)
        except SelfApproval:
            assert number == 0
        except AlreadyExists:
            assert number in voted
        except WrongApprovalState:
            assert ended
        else:
            assert number != 0
            assert number not in voted
            assert not ended
            votes.append(given_vote)
            voted.add(number)
            if decision is Decision.REJECT:
                ended = True
            else:
                approved.add(number)
            continue
        assert request == before
    expected = (
        ApprovalState.REJECTED if ended else ApprovalState.APPROVED if len(approved) >= needed else ApprovalState.OPEN
    )
    assert request.state is expected
    assert approvers(request, votes) == {principal(number) for number in approved}
    refusal = usable(request, votes, NOW, use_of(request), needed)
    assert (refusal is None) == (expected is ApprovalState.APPROVED)


@given(order=st.permutations([1, 2, 3]))
def test_the_order_of_votes_makes_no_difference(order: list[int]) -> None:
    request, votes = new_request(3), []
    states = []
    for number in order:
        request, given_vote = vote(request, votes, principal(number), Decision.APPROVE, NOW, PIN)
        votes.append(given_vote)
        states.append(request.state)
    assert states == [ApprovalState.OPEN, ApprovalState.OPEN, ApprovalState.APPROVED]


def approved(needed: int = 2) -> tuple[ApprovalRequest, list]:
    request, votes = new_request(needed), []
    for number in range(1, needed + 1):
        request, given_vote = vote(request, votes, principal(number), Decision.APPROVE, NOW, PIN)
        votes.append(given_vote)
    return request, votes


def test_an_approval_is_for_one_requester_and_one_request() -> None:
    request, votes = approved()
    assert usable(request, votes, NOW, use_of(request), 2) is None
    assert type(usable(request, votes, NOW, use_of(request, requester=principal(1)), 2)) is Denied
    for other in ({"method": "/kms.v1.KeyService/RevokeKey"}, {"digest": bytes(32)}):
        refusal = usable(request, votes, NOW, use_of(request, **other), 2)
        assert isinstance(refusal, ApprovalUnusable)
        assert "another request" in str(refusal)


def test_the_higher_number_of_then_and_now_counts() -> None:
    request, votes = approved(2)
    assert usable(request, votes, NOW, use_of(request), 1) is None
    assert isinstance(usable(request, votes, NOW, use_of(request), 3), ApprovalUnusable)
    assert isinstance(usable(request, votes[:1], NOW, use_of(request), 1), ApprovalUnusable)


def test_a_stored_vote_of_the_requester_counts_for_nothing() -> None:
    request, votes = approved(2)
    votes[1] = replace(votes[1], principal=REQUESTER)
    assert isinstance(usable(request, votes, NOW, use_of(request), 2), ApprovalUnusable)


def test_the_time_ends_a_request_whatever_is_stored() -> None:
    request, votes = approved()
    assert request.standing(request.expires_at - timedelta(microseconds=1)) is ApprovalState.APPROVED
    assert request.standing(request.expires_at) is ApprovalState.EXPIRED
    assert isinstance(usable(request, votes, request.expires_at, use_of(request), 2), ApprovalUnusable)
    with pytest.raises(WrongApprovalState, match="is expired: it cannot approve"):
        vote(new_request(), [], principal(1), Decision.APPROVE, request.expires_at, PIN)
    # What is being executed, or was, does not expire.
    executing = request.after(ApprovalEvent.EXECUTE, NOW)
    assert executing.standing(request.expires_at) is ApprovalState.EXECUTING
    assert executing.after(ApprovalEvent.SUCCEED, request.expires_at).state is ApprovalState.EXECUTED


@pytest.mark.parametrize(("state", "event"), list(product(ApprovalState, ApprovalEvent)))
def test_every_step_is_in_the_table_or_names_state_and_event(state: ApprovalState, event: ApprovalEvent) -> None:
    request = replace(new_request(), state=state)
    following = TRANSITIONS.get((state, event))
    if following is None:
        with pytest.raises(WrongApprovalState) as caught:
            request.after(event, NOW + SECOND)
        assert state.value.replace("_", " ") in str(caught.value)
        assert event.value in str(caught.value)
    else:
        changed = request.after(event, NOW + SECOND)
        assert changed.state is following
        assert changed.state_at == (NOW if following is state else NOW + SECOND)


def test_only_an_approved_request_is_executed_and_only_once() -> None:
    assert [state for state, event in TRANSITIONS if event is ApprovalEvent.EXECUTE] == [ApprovalState.APPROVED]
    ended = {following for following in TRANSITIONS.values() if not any(s is following for s, _ in TRANSITIONS)}
    assert ended == set(ApprovalState) - {*WAITING, ApprovalState.EXECUTING}


def test_what_says_that_nothing_was_done_gives_back_and_nothing_else_does() -> None:
    assert outcome_of(None) is ApprovalEvent.SUCCEED
    for kind in NOTHING_DONE:
        assert outcome_of(kind() if kind is InvalidRequest else kind("x")) is ApprovalEvent.GIVE_BACK
    for error in (StorageUnavailable("x"), KmsError("x"), TimeoutError(), ValueError(), KeyboardInterrupt()):
        assert outcome_of(error) is ApprovalEvent.LOSE


parts = st.tuples(st.text(max_size=9), st.uuids(version=4), st.text(max_size=9), st.binary(max_size=9))


@given(one=parts, other=parts)
def test_two_requests_have_two_digests(one: tuple, other: tuple) -> None:
    assert (digest_of(*one) == digest_of(*other)) == (one == other)


def test_the_digest_is_of_lengths_and_parts() -> None:
    tenant = TenantUid(uuid4())
    assert digest_of("ab", tenant, "c", b"") != digest_of("a", tenant, "bc", b"")
    assert digest_of("a", tenant, "b", b"c") != digest_of("a", tenant, "bc", b"")
    assert len(digest_of("", tenant, "", b"")) == 32


def test_a_request_that_nobody_could_read_is_refused() -> None:
    assert new_request(request=bytes(LARGEST_REQUEST)).needed == 2
    with pytest.raises(InvalidRequest, match="65536 bytes"):
        new_request(request=bytes(LARGEST_REQUEST + 1))
