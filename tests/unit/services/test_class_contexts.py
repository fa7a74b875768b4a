"""What the class of a key demands of each use: the context, that data never moves down, and what the trail is told."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace

import pytest

from kms.acting import Noted, noting
from kms.core.classification import Classification
from kms.core.errors import CannotDecrypt, ClassViolation, InvalidRequest, KmsError
from kms.core.names import KeyName, Principal, TenantName
from kms.core.policy import AuditContext, Policy
from kms.core.suites import Purpose
from kms.services.contexts import Varying
from tests.node import RESCUER, Node, new_key

pytestmark = pytest.mark.softhsm

ACME = TenantName("acme")
TABLE, COLUMN = ("table", b"users"), ("column", b"email")
PLACE = (TABLE, COLUMN)
RULE = r"\(rule confidential\.required_context\)"
# Contexts that lack something, and what the refusal says.
LACKING = [
    ((), "must have column, .*must have table, "),
    ((TABLE,), "must have column, "),
    ((COLUMN, ("row", b"1")), "must have table, "),
    ((TABLE, ("column", b"")), "must have column, with a value"),
]


@pytest.fixture
async def acme(node: Node) -> Principal:
    return await node.tenant("acme")


@pytest.fixture
async def k1(node: Node, acme: Principal) -> KeyName:
    return await key(node, acme, "k1")


async def key(
    node: Node, caller: Principal, slug: str, policy: str = "confidential", purpose: Purpose = Purpose.ENCRYPT
) -> KeyName:
    await node.keys.create(caller, ACME, replace(new_key(slug, purpose), policy=policy))
    return KeyName("acme", slug)


# The context.


@pytest.mark.parametrize(("pairs", "told"), LACKING)
async def test_no_value_is_handled_without_the_context_of_its_class_and_no_key_is_loaded_for_it(
    node, acme, k1, pairs, told
):
    data = await key(node, acme, "data", purpose=Purpose.DATA_KEY)
    fixed = await key(node, acme, "fixed", purpose=Purpose.DETERMINISTIC)
    text = (await node.fields.encrypt(acme, k1, b"x", PLACE)).ciphertext
    handed = (await node.data_keys.generate(acme, data, 0, PLACE)).ciphertext
    node.versions.drop_where(lambda _: True)
    acts = [
        lambda: node.fields.encrypt(acme, k1, b"x", pairs),
        lambda: node.fields.encrypt_batch(acme, k1, [b"x"], pairs, None),
        lambda: node.fields.decrypt(acme, k1, text, pairs),
        lambda: node.fields.decrypt_batch(acme, k1, [text], pairs, None),
        lambda: node.fields.reencrypt(acme, k1, text, pairs),
        lambda: node.fields.reencrypt_batch(acme, k1, [text], pairs, None),
        lambda: node.data_keys.generate(acme, data, 0, pairs),
        lambda: node.data_keys.decrypt(acme, data, handed, pairs),
    ]
    if "row" not in dict(pairs):
        acts.append(lambda: node.fields.encrypt(acme, fixed, b"x", pairs))
    for act in acts:
        with pytest.raises(InvalidRequest, match=told) as caught:
            await act()
        assert {violation.field for violation in caught.value.violations} == {"context"}
        assert RULE.replace("\\", "") in str(caught.value)
    assert len(node.versions) == 0


async def test_a_value_with_its_context_goes_there_and_back(node, acme, k1):
    for pairs in (PLACE, (*PLACE, ("row", b"7"))):
        text = (await node.fields.encrypt(acme, k1, b"x", pairs)).ciphertext
        assert (await node.fields.decrypt(acme, k1, text, pairs)).plaintext == b"x"
        assert not (await node.fields.reencrypt(acme, k1, text, pairs)).changed
    with pytest.raises(CannotDecrypt):
        await node.fields.decrypt(acme, k1, text, PLACE)


@pytest.mark.parametrize("slug", ["", "public", "internal"])
async def test_a_class_that_demands_no_context_takes_none(node, acme, slug):
    name = await key(node, acme, "k2", slug)
    text = (await node.fields.encrypt(acme, name, b"x", ())).ciphertext
    assert (await node.fields.decrypt(acme, name, text, ())).plaintext == b"x"


async def test_the_pair_that_varies_counts_as_present_and_an_item_without_its_value_fails_alone(node, acme, k1):
    values = Varying("column", [b"email", b"", b"phone"])
    made = await node.fields.encrypt_batch(acme, k1, [b"a", b"b", b"c"], (TABLE,), values)
    assert list(made.failures) == [1]
    assert isinstance(made.failures[1], InvalidRequest)
    assert str(made.failures[1]) == "varying.values[1]: must not be empty (rule confidential.required_context)"
    assert made.values[1] == b""
    read = await node.fields.decrypt_batch(acme, k1, made.values, (TABLE,), values)
    assert (read.values, list(read.failures)) == ([b"a", b"", b"c"], [1])
    moved = await node.fields.reencrypt_batch(acme, k1, made.values, (TABLE,), values)
    assert (list(moved.failures), moved.changed) == ([1], 0)
    with pytest.raises(InvalidRequest, match="must have table"):
        await node.fields.encrypt_batch(acme, k1, [b"a"], (), Varying("column", [b"email"]))
    # A pair that is not required may be empty.
    rows = await node.fields.encrypt_batch(acme, k1, [b"a", b"b"], PLACE, Varying("row", [b"1", b""]))
    assert rows.failures == {}
    # What is no text is told as such.
    bad = await node.fields.encrypt_batch(acme, k1, [b"a", b"b"], (TABLE,), Varying("column", [b"\xff", b""]))
    assert [str(error).partition(": ")[2] for _, error in sorted(bad.failures.items())] == [
        "must be UTF-8",
        "must not be empty (rule confidential.required_context)",
    ]


# Data never moves down.


async def test_no_value_goes_to_a_key_of_a_lower_class(node, acme, k1):
    internal, public = await key(node, acme, "k2", ""), await key(node, acme, "k3", "public")
    text = (await node.fields.encrypt(acme, k1, b"x", PLACE)).ciphertext
    low = (await node.fields.encrypt(acme, internal, b"x", PLACE)).ciphertext
    for source, value, target, told in (
        (k1, text, internal, "k1 is of class CONFIDENTIAL and tenants/acme/keys/k2 of class INTERNAL"),
        (k1, text, public, "of class PUBLIC"),
        (internal, low, public, "k2 is of class INTERNAL and tenants/acme/keys/k3 of class PUBLIC"),
        (k1, low, internal, "of class INTERNAL"),  # also one that is there already: the names alone decide
    ):
        for caller in (acme, Principal("acme", RESCUER)):
            with pytest.raises(ClassViolation, match=rf"{told}.*\(rule no_lowering\)"):
                await node.fields.reencrypt(caller, source, value, PLACE, target)
            with pytest.raises(ClassViolation, match=told):
                await node.fields.reencrypt_batch(caller, source, [value], PLACE, None, target)


async def test_a_value_goes_up_where_its_context_is_what_the_higher_class_demands(node, acme, k1):
    internal = await key(node, acme, "k2", "")
    good, bad = [(await node.fields.encrypt(acme, internal, b"x", pairs)).ciphertext for pairs in (PLACE, (TABLE,))]
    raised = await node.fields.reencrypt(acme, internal, good, PLACE, k1)
    assert (await node.fields.decrypt(acme, k1, raised.ciphertext, PLACE)).plaintext == b"x"
    batch = await node.fields.reencrypt_batch(acme, internal, [good], PLACE, None, k1)
    assert (batch.changed, batch.failures) == (1, {})
    with pytest.raises(InvalidRequest, match="must have column"):
        await node.fields.reencrypt(acme, internal, bad, (TABLE,), k1)
    with pytest.raises(InvalidRequest, match="must have column"):
        await node.fields.reencrypt_batch(acme, internal, [bad], (TABLE,), None, k1)


async def test_a_value_that_moves_has_the_context_that_its_old_key_requires_too(node, acme, k1):
    rules = Policy(classification=Classification.CONFIDENTIAL, required_context=("row",))
    await node.policies.create(acme, ACME, "people", rules)
    strict = await key(node, acme, "k2", "people")
    whole = (*PLACE, ("row", b"7"))
    text = (await node.fields.encrypt(acme, strict, b"x", whole)).ciphertext
    assert (await node.fields.reencrypt(acme, strict, text, whole, k1)).changed
    with pytest.raises(InvalidRequest, match="must have row"):
        await node.fields.reencrypt(acme, strict, text, PLACE, k1)
    with pytest.raises(InvalidRequest, match="must have row"):
        await node.fields.reencrypt_batch(acme, strict, [text], PLACE, None, k1)
    failed = await node.fields.reencrypt_batch(acme, strict, [text], PLACE, Varying("row", [b""]), k1)
    assert str(failed.failures[0]).startswith("varying.values[0]: must not be empty")
    moved = await node.fields.reencrypt_batch(acme, strict, [text], PLACE, Varying("row", [b"7"]), k1)
    assert (moved.failures, moved.changed) == ({}, 1)


# The trail.


async def noted_of(act: Awaitable[object]) -> Noted:
    with noting() as noted, suppress(KmsError):
        await act
    return noted


async def test_a_use_of_a_key_tells_the_trail_which_key_version_context_and_ciphertexts(node, acme, k1):
    data, other = await key(node, acme, "data", purpose=Purpose.DATA_KEY), await key(node, acme, "k2")
    plain = await key(node, acme, "k3", "")
    text = (await node.fields.encrypt(acme, k1, b"a value", PLACE)).ciphertext
    handed = await node.data_keys.generate(acme, data, 0, PLACE)
    varying = Varying("column", [b"x", b"", b"y"])
    for act, names, items, failed in (
        (node.fields.encrypt(acme, k1, b"a value", PLACE), [k1], 1, []),
        (node.fields.decrypt(acme, k1, text, PLACE), [k1], [text], []),
        (node.fields.decrypt(acme, k1, text, (TABLE, ("column", b"other"))), [k1], [text], []),
        (node.fields.reencrypt(acme, k1, text, PLACE), [k1], [text], []),
        (node.fields.encrypt_batch(acme, k1, [b"a", b"b", b"c"], (TABLE,), varying), [k1], 3, [1]),
        (node.fields.decrypt_batch(acme, k1, [text, text[:-1]], PLACE, None), [k1], [text, text[:-1]], [1]),
        (node.fields.reencrypt_batch(acme, k1, [text, text], PLACE, None, other), [k1, other], [text, text], []),
        (node.data_keys.generate(acme, data, 0, PLACE), [data], 1, []),
        (node.data_keys.decrypt(acme, data, handed.ciphertext, PLACE), [data], [handed.ciphertext], []),
        (node.fields.encrypt(acme, plain, b"x", PLACE), [plain], 1, []),
    ):
        noted = await noted_of(act)
        assert [used.name for used in noted.keys] == [str(name) for name in names]
        assert {used.classification for used in noted.keys} == {"internal" if names == [plain] else "confidential"}
        assert all(used.each_item == (names != [plain]) for used in noted.keys)
        assert {number for _, number in noted.versions} == {1}
        assert noted.context is not None
        assert noted.varying == ("column" if len(noted.items) == 3 else "")
        assert len(noted.items) == items if isinstance(items, int) else list(noted.items) == items
        assert sorted(noted.failures) == failed
        assert b"a value" not in noted.items
        assert "a value" not in repr(noted)


async def test_a_refused_use_tells_the_trail_which_key_it_was(node, acme, k1):
    text = (await node.fields.encrypt(acme, k1, b"x", PLACE)).ciphertext
    noted = await noted_of(node.fields.encrypt(acme, k1, b"x", ()))
    assert ([used.name for used in noted.keys], noted.items) == ([str(k1)], ())
    await node.lifecycle.suspend(acme, k1, "", "why", wait=False)
    noted = await noted_of(node.fields.decrypt(acme, k1, text, PLACE))
    assert [used.name for used in noted.keys] == [str(k1)]


async def test_a_policy_says_how_contexts_are_shown_and_whether_items_have_events(node, acme):
    await node.policies.create(acme, ACME, "watched", Policy(log_data_access=True, audit_context=AuditContext.PLAIN))
    name = await key(node, acme, "k2", "watched")
    [used] = (await noted_of(node.fields.encrypt(acme, name, b"x", ()))).keys
    assert (used.each_item, used.context, used.classification) == (True, AuditContext.PLAIN, "internal")
