"""A principal that may see values masked only, against every method of the API: no answer has the rest of a value."""

from __future__ import annotations

import grpc
import pytest
from kms_client import InvalidRequest

from kms.core.names import KeyName
from kms.core.roles import PERMISSIONS, Role
from kms.rpc.methods import METHODS
from tests.attacks.complete_requests import complete_request_for
from tests.attacks.method_requests import KEY
from tests.attacks.scene import Scene, principal

pytestmark = pytest.mark.softhsm

WHO = principal(Role.MASKED_READER.value)
NAME = str(KeyName("acme", KEY))
CARD = b"4929 7318 5521 8830"
# Of the value, beyond what its mask shows.
HIDDEN = (b"4929", b"7318", b"5521", b"1 8830")


def test_no_method_gives_a_masked_reader_a_whole_value(scene: Scene) -> None:
    """Every method is called with a ciphertext wherever its request takes one; one answers, with the mask."""
    context = {"table": "cards"}
    sealed = scene.client(principal("application")).encrypt(NAME, CARD, context=context).ciphertext
    attack, shown = scene.as_principal(WHO), {}
    for method in METHODS:
        request = complete_request_for(method, "acme", scene.real_name)
        fields = request.DESCRIPTOR.fields_by_name
        if "ciphertext" in fields:
            request.ciphertext = sealed
        if "ciphertexts" in fields:
            request.ciphertexts.append(sealed)
        if "context" in fields and "ciphertexts" in fields:
            request.context.add(key="table", value=b"cards")
        if "keep_last" in fields:
            request.keep_last = 4
        allowed = method.permission in PERMISSIONS[Role.MASKED_READER]
        outcome = attack.expect(method, request, *(grpc.StatusCode if allowed else [grpc.StatusCode.PERMISSION_DENIED]))
        told = f"{outcome.message} {outcome.metadata}".encode()
        if outcome.response is not None:
            told += outcome.response.SerializeToString()
            if b"8830" in told:
                shown[method.name] = list(outcome.response.values)
        assert not [part for part in HIDDEN if part in told], method.name
    assert attack.cases == len(METHODS)
    assert shown == {"DecryptMaskedBatch": ["**** **** **** 8830"]}
    attack.check()


def test_a_masked_reader_cannot_ask_for_more_than_the_last_four(scene: Scene) -> None:
    context = {"table": "cards"}
    sealed = scene.client(principal("application")).encrypt(NAME, CARD, context=context).ciphertext
    reader = scene.client(WHO)
    with pytest.raises(InvalidRequest, match=r"^keep_last: must be 0 to 4$"):
        reader.decrypt_masked_batch(NAME, [sealed], keep_last=12, context=context)
    made = reader.decrypt_masked_batch(NAME, [sealed], context=context)
    assert made.complete() == ["**** **** **** 8830"]
