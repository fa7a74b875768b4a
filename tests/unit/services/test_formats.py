"""Formatted values and pseudonyms through the services: bound to scope and version, refused item by item, and no other use."""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode

import pytest

from kms.acting import noting
from kms.core.alphabets import Alphabet, Layout
from kms.core.errors import InvalidRequest, NotFound, WrongKeyState, WrongPurpose
from kms.core.names import KeyName, Principal
from kms.core.normalisation import IndexNormaliser
from kms.core.suites import Purpose, Suite
from kms.crypto.dek import Dek
from kms.crypto.ff1 import Ff1
from kms.crypto.formatted import FormatCipher
from kms.crypto.pseudonym import Pseudonymizer
from kms.services.formats import LONGEST_TWEAK, FormatRule
from kms.services.headerless import LONGEST_SCOPE
from kms.services.pseudonyms import PseudonymRule
from tests.node import Node

pytestmark = pytest.mark.softhsm

SCOPE = "public.cards.number"
DIGITS = FormatRule(SCOPE, Layout(Alphabet.DIGITS), b"")
LAST_FOUR = FormatRule(SCOPE, Layout(Alphabet.DIGITS, keep_last=4), b"")
CARDS = [f"4111 1111 {number:04} 1234" for number in range(40)]
EMAIL = PseudonymRule("public.users.email", IndexNormaliser.EMAIL, 0)
MATERIAL = bytes(range(32))


@pytest.fixture
async def acme(node: Node) -> Principal:
    return await node.tenant("acme")


@pytest.fixture
async def cards(node: Node, acme: Principal) -> KeyName:
    return await node.key(acme, "cards", Purpose.FORMAT_PRESERVING)


@pytest.fixture
async def people(node: Node, acme: Principal) -> KeyName:
    return await node.key(acme, "people", Purpose.PSEUDONYM)


async def encrypted(node, caller, name, values=CARDS, rule=LAST_FOUR) -> list[str]:
    made = await node.formats.encrypt_batch(caller, name, values, rule)
    assert made.failures == {}
    return [value.decode() for value in made.values]


async def decrypted(node, caller, name, values, rule=LAST_FOUR, version=1) -> list[str]:
    made = await node.formats.decrypt_batch(caller, name, values, rule, version)
    assert made.failures == {}
    return [value.decode() for value in made.values]


async def pseudonyms(node, caller, name, values, rule=EMAIL, version=0) -> list[str]:
    made = await node.pseudonyms.compute_batch(caller, name, values, rule, version)
    assert made.failures == {}
    return [value.decode() for value in made.values]


# What the bytes are, computed by hand.


def test_a_pseudonym_is_what_the_document_says():
    column = hmac.digest(MATERIAL, b"kms/v1/pseudonym\0\0\0\0\1s\0\4", "sha256")
    whole = urlsafe_b64encode(hmac.digest(column, b"\1a@b.c", "sha256")).rstrip(b"=")
    assert len(whole) == 43
    for length in (16, 22, 43):
        assert Pseudonymizer(Dek(MATERIAL)).compute(b"s", 4, length, [b"a@b.c"]) == [whole[:length]]
    for length in (15, 44):
        with pytest.raises(ValueError, match="16 to 43"):
            Pseudonymizer(Dek(MATERIAL)).compute(b"s", 4, length, [b"a@b.c"])


def test_a_formatted_value_is_what_the_document_says():
    key = hmac.digest(MATERIAL, b"kms/v1/ff1\0\0\0\0\1s\0\1", "sha256")
    assert key == hmac.new(MATERIAL, b"kms/v1/ff1\0\0\0\0\1s\0\1", hashlib.sha256).digest()
    made = Ff1(key, 10).encrypt(b"\0\0\0\x024\x31\0\0\0\x0412" + b"34t", [5] * 6)
    parted = Layout(Alphabet.DIGITS, 2, 4).part("41-555555-1234")
    cipher = FormatCipher(Dek(MATERIAL)).under(b"s", Alphabet.DIGITS, b"t")
    assert cipher.encrypt(parted) == f"41-{''.join(map(str, made))}-1234"
    assert cipher.decrypt(Layout(Alphabet.DIGITS, 2, 4).part(cipher.encrypt(parted))) == "41-555555-1234"


@pytest.mark.parametrize("tool", [Pseudonymizer, FormatCipher])
def test_a_dek_of_another_length_is_refused(tool):
    with pytest.raises(ValueError, match="another length"):
        tool(Dek(bytes(64)))


# Formatted values.


async def test_values_keep_their_form_and_come_back(node, acme, cards):
    made = await encrypted(node, acme, cards)
    assert [value[-4:] for value in made] == ["1234"] * len(CARDS)
    assert {tuple(index for index, c in enumerate(value) if c == " ") for value in made} == {(4, 9, 14)}
    assert len(set(made)) == len(CARDS)
    assert not set(made) & set(CARDS)
    assert await decrypted(node, acme, cards, made) == CARDS
    assert await encrypted(node, acme, cards) == made


async def test_results_depend_on_scope_alphabet_layout_tweak_key_and_tenant(node, acme, cards):
    globex = await node.tenant("globex")
    rules = [
        LAST_FOUR,
        DIGITS,
        FormatRule("public.cards.other", LAST_FOUR.layout, b""),
        FormatRule(SCOPE, LAST_FOUR.layout, b"t"),
        FormatRule(SCOPE, Layout(Alphabet.ALPHANUMERIC, keep_last=4), b""),
        FormatRule(SCOPE, Layout(Alphabet.UPPER_ALPHANUMERIC, keep_last=4), b""),
        FormatRule(SCOPE, Layout(Alphabet.DIGITS, 1, 4), b""),
    ]
    made = [(await encrypted(node, acme, cards, CARDS[:1], rule))[0] for rule in rules]
    for caller, name in ((acme, "other"), (globex, "cards")):
        own = await node.key(caller, name, Purpose.FORMAT_PRESERVING)
        made += await encrypted(node, caller, own, CARDS[:1])
    assert len(set(made)) == len(made)


async def test_what_is_kept_changes_the_rest(node, acme, cards):
    made = await encrypted(node, acme, cards, ["4111 1111 1111 1234", "4111 1111 1111 1235"])
    assert made[0][:14] != made[1][:14]


async def test_lower_and_upper_case_do_not_share_a_permutation(node, acme, cards):
    lower, upper = (FormatRule(SCOPE, Layout(alphabet), b"") for alphabet in (Alphabet.LOWER, Alphabet.UPPER))
    (first,), (second,) = [
        await encrypted(node, acme, cards, [value], rule) for value, rule in (("abcdefgh", lower), ("ABCDEFGH", upper))
    ]
    assert first.upper() != second


async def test_a_bad_value_fails_alone(node, acme, cards):
    values = ["4111 1111 1111 1234", "12345", "x4111 1111 1111 1234", "", CARDS[7]]
    for made in (
        await node.formats.encrypt_batch(acme, cards, values, LAST_FOUR),
        await node.formats.decrypt_batch(acme, cards, values, LAST_FOUR, 1),
    ):
        assert sorted(made.failures) == [1, 2, 3]
        assert [bool(value) for value in made.values] == [True, False, False, False, True]
        assert {type(error) for error in made.failures.values()} == {InvalidRequest}
        assert made.failures[2].violations[0].field == "values[2]"
        assert "x4111" not in str(made.failures[2])


async def test_values_of_an_older_version_are_decrypted_by_naming_it(node, acme, cards):
    first = await encrypted(node, acme, cards)
    await node.keys.rotate(acme, cards, "")
    second = await node.formats.encrypt_batch(acme, cards, CARDS, LAST_FOUR)
    assert second.version == 2
    again = [value.decode() for value in second.values]
    assert not set(first) & set(again)
    assert await decrypted(node, acme, cards, first, version=1) == CARDS
    assert await decrypted(node, acme, cards, again, version=2) == CARDS
    wrong = await decrypted(node, acme, cards, first, version=2)
    assert not set(wrong) & set(CARDS)


@pytest.mark.parametrize("version", [0, 2, 2**32 - 1])
async def test_a_version_that_the_key_does_not_have_is_refused(node, acme, cards, version):
    with pytest.raises(InvalidRequest, match="version: must be a version of the key, 1 to 1"):
        await node.formats.decrypt_batch(acme, cards, CARDS, LAST_FOUR, version)


@pytest.mark.parametrize("scope", ["", "a\0b", "s" * (LONGEST_SCOPE + 1), "\xe9" * (LONGEST_SCOPE // 2 + 1)])
async def test_a_scope_has_bounds(node, acme, cards, people, scope):
    rule = FormatRule(scope, DIGITS.layout, b"")
    with pytest.raises(InvalidRequest, match=r"rule\.scope: must have 1 to 1024 bytes"):
        await node.formats.encrypt_batch(acme, cards, CARDS, rule)
    with pytest.raises(InvalidRequest, match=r"rule\.scope: must have 1 to 1024 bytes"):
        await node.formats.decrypt_batch(acme, cards, CARDS, rule, 1)
    with pytest.raises(InvalidRequest, match="scope: must have 1 to 1024 bytes"):
        await pseudonyms(node, acme, people, [b"x"], PseudonymRule(scope, IndexNormaliser.NONE, 0))


async def test_a_tweak_has_a_bound(node, acme, cards):
    longest = FormatRule(SCOPE, Layout(Alphabet.DIGITS, 500, 500), bytes(LONGEST_TWEAK))
    value = "1" * 1024
    assert await decrypted(node, acme, cards, await encrypted(node, acme, cards, [value], longest), longest) == [value]
    with pytest.raises(InvalidRequest, match=r"rule\.tweak: must have at most 256 bytes, has 257"):
        await node.formats.encrypt_batch(acme, cards, CARDS, FormatRule(SCOPE, DIGITS.layout, bytes(257)))


async def test_the_counts_of_a_batch_have_bounds(node, acme, cards, people):
    for values in ([], ["1"] * 10_001):
        with pytest.raises(InvalidRequest, match="values: must have 1 to 10000 values"):
            await node.formats.encrypt_batch(acme, cards, values, DIGITS)
        with pytest.raises(InvalidRequest, match="values: must have 1 to 10000 values"):
            await node.formats.decrypt_batch(acme, cards, values, DIGITS, 1)
        with pytest.raises(InvalidRequest, match="values: must have 1 to 10000 values"):
            await pseudonyms(node, acme, people, [value.encode() for value in values])


# Pseudonyms.


async def test_equal_values_of_a_scope_have_equal_pseudonyms_and_others_have_not(node, acme, people):
    globex = await node.tenant("globex")
    values = [b"Ada@Example.org ", b"ada@example.org", b"bob@example.org"]
    made = await pseudonyms(node, acme, people, values)
    assert made[0] == made[1] != made[2]
    assert [len(one) for one in made] == [22] * 3
    others = [
        *await pseudonyms(node, acme, people, values[1:2], PseudonymRule("s", IndexNormaliser.EMAIL, 0)),
        *await pseudonyms(node, acme, people, values[1:2], PseudonymRule(EMAIL.scope, IndexNormaliser.TEXT, 0)),
        *await pseudonyms(node, acme, await node.key(acme, "other", Purpose.PSEUDONYM), values[1:2]),
        *await pseudonyms(node, globex, await node.key(globex, "people", Purpose.PSEUDONYM), values[1:2]),
        made[0],
    ]
    assert len(set(others)) == len(others)


async def test_an_older_version_goes_on_with_its_pseudonyms_where_it_is_named(node, acme, people):
    before = await pseudonyms(node, acme, people, [b"x", b"y"])
    await node.keys.rotate(acme, people, "")
    after = await node.pseudonyms.compute_batch(acme, people, [b"x", b"y"], EMAIL, 0)
    assert after.version == 2
    assert not {value.decode() for value in after.values} & set(before)
    assert await pseudonyms(node, acme, people, [b"x", b"y"], version=1) == before
    with pytest.raises(InvalidRequest, match="version: must be a version of the key, 1 to 2"):
        await pseudonyms(node, acme, people, [b"x"], version=3)


async def test_a_value_that_cannot_be_normalised_fails_alone(node, acme, people):
    made = await node.pseudonyms.compute_batch(acme, people, [b"a", b"\xff", b"", b"x" * 4_097], EMAIL, 0)
    assert sorted(made.failures) == [1, 3]
    assert [len(value) for value in made.values] == [22, 0, 22, 0]


@pytest.mark.parametrize("length", [1, 15, 44])
async def test_a_length_has_bounds(node, acme, people, length):
    with pytest.raises(InvalidRequest, match="length: must be 16 to 43 characters, or 0 for 22"):
        await pseudonyms(node, acme, people, [b"x"], PseudonymRule("s", IndexNormaliser.NONE, length))


# Keys.


async def test_keys_of_other_purposes_and_other_tenants_are_refused(node, acme, cards, people):
    globex = await node.tenant("globex")
    for purpose in Purpose:
        name = await node.key(acme, f"for-{purpose.value}", purpose)
        if purpose is not Purpose.FORMAT_PRESERVING:
            with pytest.raises(WrongPurpose):
                await node.formats.encrypt_batch(acme, name, CARDS, DIGITS)
            with pytest.raises(WrongPurpose):
                await node.formats.decrypt_batch(acme, name, CARDS, DIGITS, 1)
        if purpose is not Purpose.PSEUDONYM:
            with pytest.raises(WrongPurpose):
                await pseudonyms(node, acme, name, [b"x"])
    for name in (cards, people):
        with pytest.raises(WrongPurpose):
            await node.fields.encrypt(acme, name, b"x", ())
        with pytest.raises(WrongPurpose):
            await node.data_keys.generate(acme, name, 32, ())
    with pytest.raises(NotFound):
        await node.formats.decrypt_batch(globex, cards, CARDS, DIGITS, 1)
    with pytest.raises(NotFound):
        await pseudonyms(node, globex, people, [b"x"])


async def test_the_suites_are_those_of_the_purposes(node, acme, cards, people):
    assert (await node.ring(acme, cards)).key.suite is Suite.AES_256_FF1
    assert (await node.ring(acme, people)).key.suite is Suite.HMAC_SHA_256


async def test_an_archived_key_decrypts_and_goes_on_with_its_pseudonyms_and_makes_nothing_new(
    node, acme, cards, people
):
    made = await encrypted(node, acme, cards)
    before = await pseudonyms(node, acme, people, [b"x"])
    for name in (cards, people):
        await node.lifecycle.archive(acme, name, "")
    assert await decrypted(node, acme, cards, made) == CARDS
    assert await pseudonyms(node, acme, people, [b"x"], version=1) == before
    with pytest.raises(WrongKeyState):
        await encrypted(node, acme, cards)
    with pytest.raises(WrongKeyState):
        await pseudonyms(node, acme, people, [b"x"])


async def test_a_revoked_key_does_nothing_any_more(node, acme, cards, people):
    made = await encrypted(node, acme, cards)
    for name in (cards, people):
        await node.lifecycle.revoke(acme, name, "", "leaked", wait=False)
    with pytest.raises(WrongKeyState):
        await encrypted(node, acme, cards)
    with pytest.raises(WrongKeyState):
        await decrypted(node, acme, cards, made)
    for version in (0, 1):
        with pytest.raises(WrongKeyState):
            await pseudonyms(node, acme, people, [b"x"], version=version)


async def test_a_use_is_noted_with_its_scope_and_without_a_value(node, acme, cards, people):
    with noting() as noted:
        made = await encrypted(node, acme, cards, CARDS[:3])
    assert [key.name for key in noted.keys] == [str(cards)]
    assert dict(noted.context.pairs)["scope"] == SCOPE.encode()
    assert [item.decode() for item in noted.items] == made
    with noting() as noted:
        await decrypted(node, acme, cards, made)
    assert [item.decode() for item in noted.items] == made
    with noting() as noted:
        found = await pseudonyms(node, acme, people, [b"x"])
    assert [item.decode() for item in noted.items] == found
    assert [number for _, number in noted.versions] == [1]
