import pytest
from kms_client import ApprovalRequired, InvalidRequest, under
from kms_client.formats.errors import approval_required

from tests.client_methods import APPROVAL, KEY, key_of
from tests.client_peer import refuse


def test_calls_of_a_block_and_no_others_are_made_under_its_approval(caller, peer):
    peer.answer("GetKey", key_of)
    client = caller.client(peer.target)

    async def whole():
        await client.get_key(KEY)
        with under(APPROVAL):
            await client.get_key(KEY)
            with under(""):
                await client.get_key(KEY)
        await client.get_key(KEY)

    def blocking():
        client.get_key(KEY)
        with under(APPROVAL):
            client.get_key(KEY)
            with under(""):
                client.get_key(KEY)
        client.get_key(KEY)

    caller.call(whole if hasattr(client, "__aenter__") else blocking)
    assert [call.metadata.get("x-kms-approval") for call in peer.calls] == [None, APPROVAL, None, None]


def test_a_name_that_is_none_is_refused_before_anything_is_sent(caller, peer):
    for name in ("x", f"{APPROVAL}/", APPROVAL.upper(), f"{APPROVAL}\nx: y"):
        with pytest.raises(InvalidRequest, match="approval: must have the form"), under(name):
            pytest.fail("the block was entered")


def test_an_error_brings_its_metadata(caller, peer):
    peer.answer("GetKey", lambda _, context: refuse(context, approval_required("needs", APPROVAL, 3)))
    client = caller.client(peer.target)
    with pytest.raises(ApprovalRequired) as caught:
        caller.call(lambda: client.get_key(KEY))
    assert (caught.value.approval, caught.value.needed, caught.value.request_id) == (APPROVAL, 3, "request-1")
    assert dict(caught.value.metadata) == {"approval": APPROVAL, "needed": "3", "request_id": "request-1"}
    bare = ApprovalRequired("x")
    assert (bare.approval, bare.needed) == ("", 0)
    bare.metadata = {"needed": "-3"}
    assert bare.needed == 0
