"""What every Storage promises of requests for approval, their votes and quorum rules."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.core.approvals import ApprovalRequest, ApprovalState, ApprovalUid, Decision, QuorumRule, Vote
from kms.core.callers import CredentialKind
from kms.core.errors import AlreadyExists, Conflict
from tests import keyrings
from tests.contract.storage import EVERY_FIELD
from tests.keyrings import NOW, new_key, new_tenant, new_version

SECOND = timedelta(seconds=1)


def requests(tenant):
    return st.builds(
        ApprovalRequest,
        uid=st.uuids(version=4),
        tenant=st.just(tenant.uid),
        requester=keyrings.texts,
        credential=st.sampled_from(CredentialKind),
        credential_id=keyrings.texts,
        method=keyrings.texts,
        permission=keyrings.texts,
        resources=st.lists(keyrings.texts, max_size=3).map(tuple),
        request=st.binary(max_size=99),
        digest=st.binary(min_size=32, max_size=32),
        reason=keyrings.texts,
        needed=st.integers(1, 10),
        created_at=keyrings.times,
        expires_at=keyrings.times,
        state=st.sampled_from(ApprovalState),
        state_at=keyrings.times,
    )


def new_request(tenant, **fields):
    request = ApprovalRequest(
        ApprovalUid(uuid4()),
        tenant.uid,
        "tenants/acme/principals/a",
        CredentialKind.TOKEN,
        "kms_ab",
        "/s/M",
        "keys.destroy",
        ("tenants/acme/keys/k1",),
        b"r",
        bytes(32),
        "",
        2,
        NOW,
        NOW + SECOND,
        ApprovalState.OPEN,
        NOW,
    )
    return replace(request, **fields)


def new_vote(request, principal="tenants/acme/principals/b"):
    return Vote(request.tenant, request.uid, principal, Decision.APPROVE, NOW, CredentialKind.CERTIFICATE, "ab", "seen")


async def with_request(storage, **fields):
    tenant = new_tenant()
    async with storage.transaction(tenant.uid, write=True) as work:
        await work.tenants.add(tenant)
        return tenant, await work.approvals.add(new_request(tenant, **fields))


class ApprovalsContract:
    """Subclasses give `storage`."""

    @EVERY_FIELD
    @given(data=st.data())
    async def test_what_approvals_store_is_read_again_exactly(self, storage, data):
        tenant = new_tenant()
        request, changed = data.draw(requests(tenant)), data.draw(requests(tenant))
        vote = replace(new_vote(request, data.draw(keyrings.texts)), comment=data.draw(keyrings.texts))
        rule = QuorumRule(tenant.uid, data.draw(keyrings.texts), 3, data.draw(keyrings.times), "x")
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.tenants.add(tenant)
            stored = [
                await work.approvals.add(request),
                await work.approvals.add_vote(vote),
                await work.quorum_rules.put(rule),
            ]
        async with storage.transaction(tenant.uid) as work:
            [found_vote] = await work.approvals.votes(tenant.uid, [request.uid])
            found = [
                await work.approvals.get(tenant.uid, request.uid),
                found_vote,
                await work.quorum_rules.get(tenant.uid, rule.permission),
            ]
            assert await work.quorum_rules.list_all(tenant.uid) == found[2:]
        assert found == stored == [replace(value, revision=1) for value in (request, vote, rule)]
        changed = replace(changed, uid=request.uid, revision=1)
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.approvals.replace(changed)
        async with storage.transaction(tenant.uid) as work:
            assert await work.approvals.get(tenant.uid, request.uid) == replace(changed, revision=2)

    async def test_the_database_itself_refuses_a_second_vote_of_a_principal(self, storage):
        tenant, request = await with_request(storage)
        async with storage.transaction(tenant.uid, write=True) as work:
            first = await work.approvals.add_vote(new_vote(request))
            with pytest.raises(AlreadyExists, match="has voted"):
                await work.approvals.add_vote(
                    replace(new_vote(request), credential=CredentialKind.TOKEN, decision=Decision.REJECT)
                )
        async with storage.transaction(tenant.uid) as work:
            assert await work.approvals.votes(tenant.uid, [request.uid]) == [first]
        other = new_tenant().uid
        async with storage.transaction(other) as work:
            assert await work.approvals.votes(other, [request.uid]) == []

    async def test_one_request_waits_once_and_an_ended_one_makes_room(self, storage):
        tenant, request = await with_request(storage)
        async with storage.transaction(tenant.uid, write=True) as work:
            with pytest.raises(Conflict):
                await work.approvals.add(new_request(tenant))
            assert await work.approvals.find_waiting(tenant.uid, request.digest) == request
            await work.approvals.replace(replace(request, state=ApprovalState.EXECUTED))
            assert await work.approvals.find_waiting(tenant.uid, request.digest) is None
            await work.approvals.add(new_request(tenant))

    async def test_of_two_who_change_a_request_one_does(self, storage):
        tenant, request = await with_request(storage, state=ApprovalState.APPROVED)

        async def execute():
            async with storage.transaction(tenant.uid, write=True) as work:
                await work.approvals.replace(replace(request, state=ApprovalState.EXECUTING))

        outcomes = await asyncio.gather(*(execute() for _ in range(4)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes].count(type(None)) == 1
        assert {type(outcome) for outcome in outcomes} == {type(None), Conflict}

    async def test_requests_are_listed_by_tenant_and_age_and_counted_while_they_wait(self, storage):
        tenant, first = await with_request(storage)
        await with_request(storage)
        async with storage.transaction(tenant.uid, write=True) as work:
            others = [
                await work.approvals.add(
                    new_request(
                        tenant,
                        digest=bytes([number]) * 32,
                        created_at=NOW + number * SECOND,
                        expires_at=NOW + 10 * number * SECOND,
                        requester=f"r{number}",
                        state=state,
                    )
                )
                for number, state in ((1, ApprovalState.APPROVED), (2, ApprovalState.REJECTED), (3, ApprovalState.OPEN))
            ]
        newest = [*reversed(others), first]
        async with storage.transaction(tenant.uid) as work:
            approvals = work.approvals
            assert await approvals.list_newest(tenant.uid, None, 10) == newest
            assert await approvals.list_newest(tenant.uid, (newest[1].created_at, newest[1].uid), 1) == newest[2:3]
            assert await approvals.list_newest(tenant.uid, None, 10, waiting_at=NOW) == [newest[0], *newest[2:]]
            assert await approvals.list_newest(tenant.uid, None, 10, waiting_at=NOW + 20 * SECOND) == newest[:1]
            assert await approvals.count_waiting(tenant.uid, NOW) == 3
            assert await approvals.count_waiting(tenant.uid, NOW, "r1") == 1
            assert await approvals.count_waiting(tenant.uid, NOW + SECOND) == 2

    async def test_a_rule_is_stored_over_the_one_that_it_came_from(self, storage):
        tenant, _ = await with_request(storage)
        rule = QuorumRule(tenant.uid, "keys.destroy", 3, NOW, "x")
        async with storage.transaction(tenant.uid, write=True) as work:
            stored = await work.quorum_rules.put(rule)
            with pytest.raises(Conflict):
                await work.quorum_rules.put(rule)
            assert (await work.quorum_rules.put(replace(stored, approvals=0))).revision == 2

    async def test_who_forced_a_destruction_is_kept_with_it(self, storage):
        tenant = new_tenant()
        key = replace(new_key(tenant), forced_by="a under b")
        kek = keyrings.activated(keyrings.new_kek(tenant))
        version = replace(new_version(key), forced_by="c under d")
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.tenants.add(tenant)
            await work.keks.add(kek)
            await work.keys.add(key)
            await work.key_versions.add(version)
        async with storage.transaction(tenant.uid) as work:
            assert (await work.keys.get(tenant.uid, key.slug)).forced_by == "a under b"
            assert (await work.key_versions.get(tenant.uid, key.uid, 1)).forced_by == "c under d"
