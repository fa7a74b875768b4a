"""Masks of encrypted values through the services: the last four at most, nothing of what cannot be masked, and no other key."""

from __future__ import annotations

import asyncio

import pytest

from kms.acting import noting
from kms.core.errors import CannotDecrypt, InvalidRequest, NotFound, WrongPurpose
from kms.core.names import KeyName, Principal
from kms.core.suites import Purpose
from kms.services.contexts import Varying
from kms.services.fields import Batch
from kms.services.masked import LONGEST_MASKED, MOST_KEPT, TURN_BYTES, decrypt_masked
from tests.node import Node

pytestmark = pytest.mark.softhsm

PAIRS = (("table", b"users"),)
CARD = b"4929 7318 5521 8830"


@pytest.fixture
async def acme(node: Node) -> Principal:
    return await node.tenant("acme")


@pytest.fixture
async def name(node: Node, acme: Principal) -> KeyName:
    return await node.key(acme, "cards")


async def encrypted(node: Node, caller: Principal, name: KeyName, values: list[bytes]) -> list[bytes]:
    made = await node.fields.encrypt_batch(caller, name, values, PAIRS, None)
    assert made.failures == {}
    return made.values


async def masked(node: Node, caller: Principal, name: KeyName, ciphertexts: list[bytes], keep_last: int = 4) -> Batch:
    return await decrypt_masked(node.fields, caller, name, ciphertexts, PAIRS, None, keep_last)


async def test_of_each_value_its_form_and_its_last_characters_are_shown(node, acme, name):
    values = [CARD, b"ada@example.org", "Müller-Straße 7".encode(), b"1234567", b"12345678", b""]
    stored = await encrypted(node, acme, name, values)
    made = await masked(node, acme, name, stored)
    assert made.failures == {}
    assert [value.decode() for value in made.values] == [
        "**** **** **** 8830",
        "***@******e.org",
        "******-***aße 7",
        "*******",
        "****5678",
        "",
    ]
    none = await masked(node, acme, name, stored, 0)
    assert none.values[0] == b"**** **** **** ****"


@pytest.mark.parametrize("keep_last", [-1, MOST_KEPT + 1, 15])
async def test_no_caller_is_shown_more_than_the_last_four(node, acme, name, keep_last):
    stored = await encrypted(node, acme, name, [CARD])
    with pytest.raises(InvalidRequest, match=r"^keep_last: must be 0 to 4$"):
        await masked(node, acme, name, stored, keep_last)


async def test_of_what_cannot_be_masked_nothing_is_shown_or_told(node, acme, name):
    values = [CARD, b"\xff" + CARD, b"4" * (LONGEST_MASKED + 1), b"4" * LONGEST_MASKED]
    stored = await encrypted(node, acme, name, values)
    made = await masked(node, acme, name, [*stored, stored[0][:-1] + b"\0", b"garbage"])
    assert made.values == [b"**** **** **** 8830", b"", b"", b"*" * (LONGEST_MASKED - 4) + b"4444", b"", b""]
    assert {index: str(error) for index, error in made.failures.items()} == {
        1: "ciphertexts[1]: must hold UTF-8 to be masked",
        2: f"ciphertexts[2]: must hold at most {LONGEST_MASKED} bytes of plaintext to be masked",
        4: str(CannotDecrypt()),
        5: str(made.failures[5]),
    }
    assert made.failures[1].__cause__ is None
    assert made.succeeded == 2
    assert "4929" not in f"{made!r}{made.failures!r}"


async def test_values_are_bound_to_their_rows_and_read_by_any_version(node, acme, name):
    rows = Varying("row", [b"1", b"2"])
    first = (await node.fields.encrypt_batch(acme, name, [CARD, CARD], PAIRS, rows)).values
    await node.keys.rotate(acme, name, "")
    second = (await node.fields.encrypt_batch(acme, name, [CARD, CARD], PAIRS, rows)).values
    made = await decrypt_masked(node.fields, acme, name, [first[0], second[1]], PAIRS, rows, 4)
    assert made.failures == {}
    swapped = await decrypt_masked(node.fields, acme, name, [first[1], second[1]], PAIRS, rows, 4)
    assert swapped.values == [b"", b"**** **** **** 8830"]
    assert isinstance(swapped.failures[0], CannotDecrypt)


async def test_deterministic_values_are_masked_and_other_purposes_are_not(node, acme):
    equal = await node.key(acme, "equal", Purpose.DETERMINISTIC)
    place = (("table", b"users"), ("column", b"card"))
    stored = (await node.fields.encrypt_batch(acme, equal, [CARD], place, None)).values
    made = await decrypt_masked(node.fields, acme, equal, stored, place, None, 4)
    assert made.values == [b"**** **** **** 8830"]
    for purpose in (Purpose.DATA_KEY, Purpose.INDEX, Purpose.FORMAT_PRESERVING):
        other = await node.key(acme, purpose.name.lower().replace("_", "-"), purpose)
        with pytest.raises(WrongPurpose):
            await decrypt_masked(node.fields, acme, other, stored, place, None, 4)


async def test_another_tenants_key_does_not_exist(node, acme, name):
    stored = await encrypted(node, acme, name, [CARD])
    globex = await node.tenant("globex")
    with pytest.raises(NotFound):
        await masked(node, globex, name, stored)


async def test_what_failed_in_masking_is_noted_as_an_item_that_failed(node, acme, name):
    stored = await encrypted(node, acme, name, [CARD, b"\xff"])
    with noting() as noted:
        await masked(node, acme, name, stored)
    assert list(noted.items) == stored
    assert set(noted.failures) == {1}


async def test_masking_lets_other_calls_in_between(node, acme, name):
    stored = await encrypted(node, acme, name, [b"4" * TURN_BYTES] * 100)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    running = asyncio.create_task(others())
    assert (await masked(node, acme, name, stored)).failures == {}
    running.cancel()
    assert turns >= 100
