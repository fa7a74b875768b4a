"""Blind indexes through the services: bound, versioned, found during a rotation, and no way to plaintext or to a lower class."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kms.acting import noting
from kms.core.errors import (
    CannotDecrypt,
    ClassViolation,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    WrongKeyState,
    WrongPurpose,
)
from kms.core.lifecycle import Use
from kms.core.names import KeyName, KeyVersionName, Principal
from kms.core.normalisation import MAX_NORMALISED, IndexNormaliser
from kms.core.suites import MAX_PLAINTEXT, Purpose
from kms.services.contexts import Varying
from kms.services.fields import TURN
from kms.services.headerless import LONGEST_SCOPE
from kms.services.indexes import MOST_LOOKUPS, IndexRule
from kms.services.keyrings import INDEX_PURPOSES
from kms.services.ready_versions import MOST_INDEX_VERSIONS
from tests.node import Node, new_key

pytestmark = pytest.mark.softhsm

SCOPE = "public.users.email"
EMAIL = IndexRule(SCOPE, IndexNormaliser.EMAIL, 16)
PLAIN = IndexRule(SCOPE, IndexNormaliser.NONE, 16)
PAIRS = (("table", b"public.users"), ("column", b"email"))


@pytest.fixture
async def acme(node: Node) -> Principal:
    return await node.tenant("acme")


@pytest.fixture
async def search(node: Node, acme: Principal) -> KeyName:
    return await node.key(acme, "search", Purpose.INDEX)


@pytest.fixture
async def crm(node: Node, acme: Principal) -> KeyName:
    return await node.key(acme, "crm")


async def stored(node, caller, name, values, rule=EMAIL) -> list[bytes]:
    made = await node.indexes.compute_batch(caller, name, values, rule, all_versions=False)
    assert made.batch.failures == {}
    return made.flat()


async def looked_for(node, caller, name, values, rule=EMAIL) -> tuple[list[int], list[bytes]]:
    made = await node.indexes.compute_batch(caller, name, values, rule, all_versions=True)
    assert made.batch.failures == {}
    return made.versions, made.flat()


async def encrypted(node, caller, name, values) -> tuple[list[bytes], Varying]:
    rows = Varying("row", [str(index).encode() for index in range(len(values))])
    made = await node.fields.encrypt_batch(caller, name, values, PAIRS, rows)
    assert made.failures == {}
    return made.values, rows


# What an index is.


async def test_equal_values_have_equal_indexes_and_others_have_not(node, acme, search):
    first, second, third = await stored(
        node, acme, search, [b"Ada@Example.org ", b"ada@example.org", b"bob@example.org"]
    )
    assert first == second != third
    assert [len(index) for index in (first, third)] == [20, 20]
    assert first[:4] == third[:4] == (1).to_bytes(4, "big")


async def test_another_scope_normaliser_key_or_tenant_has_other_indexes(node, acme, search):
    globex = await node.tenant("globex")
    made = [
        *await stored(node, acme, search, [b"x"]),
        *await stored(node, acme, search, [b"x"], replace(EMAIL, scope="public.users.name")),
        *await stored(node, acme, search, [b"x"], PLAIN),
        *await stored(node, acme, await node.key(acme, "other", Purpose.INDEX), [b"x"]),
        *await stored(node, globex, await node.key(globex, "search", Purpose.INDEX), [b"x"]),
    ]
    assert len(set(made)) == len(made)
    assert await stored(node, acme, search, [b"x"], replace(EMAIL, length=5)) == [made[0][:9]]
    assert await stored(node, acme, search, [b"x"], replace(EMAIL, length=0)) == [made[0]]


async def test_a_batch_keeps_its_order_over_turns(node, acme, search):
    values = [b"%d" % index for index in range(2 * TURN + 3)]
    whole = await stored(node, acme, search, values)
    assert whole == [(await stored(node, acme, search, [value]))[0] for value in values[:3]] + whole[3:]
    assert await stored(node, acme, search, values[::-1]) == whole[::-1]
    assert len(set(whole)) == len(values)


async def test_a_bad_value_spoils_none_of_its_neighbours(node, acme, search):
    values = [b"a", b"\xffsecret", b"", b"x" * (MAX_NORMALISED + 1), b"A"]
    made = await node.indexes.compute_batch(acme, search, values, EMAIL, all_versions=False)
    assert {index: error.violations[0].field for index, error in made.batch.failures.items()} == {
        1: "values[1]",
        3: "values[3]",
    }
    assert [bool(index) for index in made.flat()] == [True, False, True, False, True]
    assert made.flat()[0] == made.flat()[4]
    assert "secret" not in str(made.batch.failures[1])
    assert len((await stored(node, acme, search, [bytes(MAX_PLAINTEXT)], PLAIN))[0]) == 20


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"scope": ""}, "scope"),
        ({"scope": "a\0b"}, "scope"),
        ({"scope": "é" * (LONGEST_SCOPE // 2) + "x"}, "scope"),
        ({"length": 3}, "length"),
        ({"length": 33}, "length"),
    ],
)
async def test_a_rule_that_makes_no_sense_is_refused(node, acme, search, crm, change, field):
    rule = replace(EMAIL, **change)
    texts, rows = await encrypted(node, acme, crm, [b"a"])
    with pytest.raises(InvalidRequest, match=f"^{field}: "):
        await node.indexes.compute_batch(acme, search, [b"a"], rule, all_versions=False)
    with pytest.raises(InvalidRequest, match=f"^{field}: "):
        await node.indexes.reindex_batch(acme, search, crm, texts, PAIRS, rows, rule)


@pytest.mark.parametrize(("count", "all_versions"), [(0, False), (0, True), (10_001, False), (MOST_LOOKUPS + 1, True)])
async def test_the_number_of_values_is_bounded(node, acme, search, count, all_versions):
    with pytest.raises(InvalidRequest, match=r"^values: must have"):
        await node.indexes.compute_batch(acme, search, [b"x"] * count, EMAIL, all_versions=all_versions)


# Which keys.


async def test_an_index_key_does_nothing_else_and_no_other_key_does_this(node, acme, search, crm):
    fixed, data = await node.key(acme, "fixed", Purpose.DETERMINISTIC), await node.key(acme, "data", Purpose.DATA_KEY)
    texts, rows = await encrypted(node, acme, crm, [b"a"])
    for name in (crm, fixed, data):
        with pytest.raises(WrongPurpose):
            await node.indexes.compute_batch(acme, name, [b"a"], EMAIL, all_versions=False)
        with pytest.raises(WrongPurpose):
            await node.indexes.reindex_batch(acme, name, crm, texts, PAIRS, rows, EMAIL)
    for name in (search, data):
        with pytest.raises(WrongPurpose):
            await node.indexes.reindex_batch(acme, search, name, texts, PAIRS, rows, EMAIL)
    for act in (
        node.fields.encrypt(acme, search, b"a", ()),
        node.fields.decrypt(acme, search, texts[0], ()),
        node.fields.reencrypt(acme, search, texts[0], ()),
        node.fields.reencrypt_batch(acme, crm, texts, PAIRS, rows, search),
        node.data_keys.generate(acme, search, 32, ()),
    ):
        with pytest.raises(WrongPurpose):
            await act


async def test_another_tenants_keys_do_not_exist(node, acme, search, crm):
    globex = await node.tenant("globex")
    own, theirs = await node.key(globex, "search", Purpose.INDEX), await node.key(globex, "crm")
    texts, rows = await encrypted(node, acme, crm, [b"a"])
    for index, source in ((search, theirs), (own, crm)):
        with pytest.raises(NotFound):
            await node.indexes.reindex_batch(globex, index, source, texts, PAIRS, rows, EMAIL)
    with pytest.raises(NotFound):
        await node.indexes.compute_batch(globex, search, [b"a"], EMAIL, all_versions=True)


async def test_a_confidential_index_key_needs_no_context_and_takes_confidential_values(node, acme, search):
    secretive = replace(new_key("people"), policy="confidential")
    await node.keys.create(acme, search.parent, secretive)
    await node.keys.create(acme, search.parent, replace(new_key("hidden", Purpose.INDEX), policy="confidential"))
    people, hidden = KeyName("acme", "people"), KeyName("acme", "hidden")
    texts, rows = await encrypted(node, acme, people, [b"Ada@example.org"])
    with pytest.raises(ClassViolation, match="no_lowering"):
        await node.indexes.reindex_batch(acme, search, people, texts, PAIRS, rows, EMAIL)
    made = await node.indexes.reindex_batch(acme, hidden, people, texts, PAIRS, rows, EMAIL)
    assert made.values == await stored(node, acme, hidden, [b"ada@example.org"])


# Re-indexing.


@pytest.mark.parametrize("purpose", [Purpose.ENCRYPT, Purpose.DETERMINISTIC])
async def test_a_ciphertext_has_the_index_of_its_plaintext(node, acme, search, purpose):
    source = await node.key(acme, "source", purpose)
    values = [b"Ada@example.org", b"bob@example.org", b"", b"ada@EXAMPLE.org"]
    made = await node.fields.encrypt_batch(acme, source, values, PAIRS, None)
    await node.keys.rotate(acme, source, "")
    again = await node.fields.encrypt_batch(acme, source, values, PAIRS, None)
    expected = await stored(node, acme, search, values)
    found = await node.indexes.reindex_batch(acme, search, source, made.values + again.values, PAIRS, None, EMAIL)
    assert (found.values, found.failures, found.version) == (expected * 2, {}, 1)


async def test_a_ciphertext_in_another_place_has_no_index(node, acme, search, crm):
    texts, _ = await encrypted(node, acme, crm, [b"a", b"b", b"c", b"\xff"])
    moved = Varying("row", [b"0", b"7", b"2", b"3"])
    damaged = texts[2][:-1] + bytes([texts[2][-1] ^ 1])
    found = await node.indexes.reindex_batch(acme, search, crm, [*texts[:2], damaged, texts[3]], PAIRS, moved, EMAIL)
    assert {index: type(error) for index, error in found.failures.items()} == {
        1: CannotDecrypt,
        2: CannotDecrypt,
        3: InvalidRequest,
    }
    assert found.values == [*await stored(node, acme, search, [b"a"]), b"", b"", b""]
    with pytest.raises(InvalidRequest, match=r"^varying\.values"):
        await node.indexes.reindex_batch(acme, search, crm, texts, PAIRS, Varying("row", [b"0"]), EMAIL)


async def test_no_plaintext_is_noted_for_the_trail(node, acme, search, crm):
    texts, rows = await encrypted(node, acme, crm, [b"Ada@example.org", b"bob@example.org"])
    with noting() as noted:
        found = await node.indexes.reindex_batch(acme, search, crm, texts, PAIRS, rows, EMAIL)
    assert noted.items == texts
    assert [key.name for key in noted.keys] == [str(search), str(crm)]
    with noting() as noted:
        await node.indexes.compute_batch(
            acme, search, [b"Ada@example.org", b"bob@example.org"], EMAIL, all_versions=True
        )
    assert noted.items == found.values
    assert noted.context is not None
    assert ("scope", SCOPE.encode()) in noted.context.pairs


# Versions.


async def test_after_a_rotation_new_indexes_are_of_the_new_version_and_old_ones_are_found(node, acme, search, crm):
    (old,) = await stored(node, acme, search, [b"ada@example.org"])
    texts, rows = await encrypted(node, acme, crm, [b"Ada@example.org"])
    for _ in range(2):
        await node.keys.rotate(acme, search, "")
    (new,) = await stored(node, acme, search, [b"ada@example.org"])
    assert (old[:4], new[:4]) == ((1).to_bytes(4, "big"), (3).to_bytes(4, "big"))
    assert old[4:] != new[4:]
    versions, found = await looked_for(node, acme, search, [b"ada@example.org", b"x"])
    assert versions == [3, 2, 1]
    assert (found[0], found[2], len(found)) == (new, old, 6)
    assert [index[3] for index in found] == [3, 2, 1, 3, 2, 1]
    brought = await node.indexes.reindex_batch(acme, search, crm, texts, PAIRS, rows, EMAIL)
    assert (brought.values, brought.version) == ([new], 3)


async def test_failures_are_told_once_for_all_versions(node, acme, search):
    await node.keys.rotate(acme, search, "")
    made = await node.indexes.compute_batch(acme, search, [b"a", b"\xff", b"b"], EMAIL, all_versions=True)
    assert list(made.batch.failures) == [1]
    assert [bool(index) for index in made.flat()] == [True, True, False, False, True, True]


async def test_what_is_revoked_or_retired_is_looked_for_no_more(node, acme, search):
    for _ in range(2):
        await node.keys.rotate(acme, search, "")
    await node.lifecycle.revoke_version(acme, KeyVersionName(search, 2), "", "leaked", wait=False)
    assert (await looked_for(node, acme, search, [b"a"]))[0] == [3, 1]


async def test_another_node_hears_of_a_rotation(node, acme, search):
    await stored(node, acme, search, [b"a"])
    other = Node(node.storage, node.vault)
    assert (await looked_for(other, acme, search, [b"a"]))[0] == [1]
    await node.keys.rotate(acme, search, "")
    ring = await node.ring(acme, search)
    other.keyrings.reread({ring.tenant.uid})
    assert (await looked_for(other, acme, search, [b"a"]))[0] == [2, 1]
    assert (await stored(other, acme, search, [b"a"]))[0][:4] == (2).to_bytes(4, "big")


async def test_too_many_versions_are_refused_and_none_is_left_out(node, acme, search):
    for _ in range(MOST_INDEX_VERSIONS - 1):
        await node.keys.rotate(acme, search, "")
    assert len((await looked_for(node, acme, search, [b"a"]))[0]) == MOST_INDEX_VERSIONS
    await node.keys.rotate(acme, search, "")
    with pytest.raises(FailedPrecondition, match="more than 16 versions"):
        await looked_for(node, acme, search, [b"a"])
    assert len(await stored(node, acme, search, [b"a"])) == 1


async def test_an_archived_key_is_looked_for_and_stores_nothing_new(node, acme, search, crm):
    (made,) = await stored(node, acme, search, [b"a"])
    texts, rows = await encrypted(node, acme, crm, [b"a"])
    await node.lifecycle.archive(acme, search, "")
    assert (await looked_for(node, acme, search, [b"a"]))[1] == [made]
    with pytest.raises(WrongKeyState):
        await stored(node, acme, search, [b"a"])
    with pytest.raises(WrongKeyState):
        await node.indexes.reindex_batch(acme, search, crm, texts, PAIRS, rows, EMAIL)


async def test_an_index_key_is_not_rotated_by_itself(node, acme, search):
    assert (await node.ring(acme, search)).policy.rotation.total_seconds() == 0


async def test_a_look_up_lets_no_count_of_what_is_stored_grow_old(node, acme, search):
    """A census holds until something is decrypted under the version; that is no reason to count again."""
    await node.keys.rotate(acme, search, "")
    ring = await node.keyrings.find(acme, search, INDEX_PURPOSES, Use.DECRYPT)
    _, versions = await node.keyrings.readable(ring)
    assert [(version.version, version.marks.used) for version in versions] == [(2, False), (1, False)]
    await looked_for(node, acme, search, [b"a"])
    assert [(version.marks.used, version.marks.decrypted) for version in versions] == [(True, False)] * 2


async def test_a_version_that_another_node_has_stopped_is_left_out_and_spoils_nothing(node, acme, search):
    await node.keys.rotate(acme, search, "")
    other = Node(node.storage, node.vault)
    ring = await other.keyrings.find(acme, search, INDEX_PURPOSES, Use.DECRYPT)
    assert sorted(ring.readable) == [1, 2]
    await node.lifecycle.revoke_version(acme, KeyVersionName(search, 1), "", "leaked", wait=False)
    assert (await looked_for(other, acme, search, [b"a"]))[0] == [2]
