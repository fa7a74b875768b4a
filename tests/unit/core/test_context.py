from __future__ import annotations

from uuid import UUID

import pytest

from kms.core.context import KEY_RULE, MAX_LENGTH, MAX_PAIRS, Context, Frame, check_key, check_value
from kms.core.errors import InvalidRequest, Violation
from kms.core.names import TenantUid

TENANT = TenantUid(UUID("12345678-9abc-4def-8123-456789abcdef"))
TENANT_PAIR = b"\0\0\0\x0akms.tenant\0\0\0\x2412345678-9abc-4def-8123-456789abcdef"


def violations(pairs: list[tuple[str, bytes]]) -> list[Violation]:
    with pytest.raises(InvalidRequest) as caught:
        Context.of(TENANT, pairs)
    return list(caught.value.violations)


def test_without_pairs_the_context_is_the_tenant_alone():
    assert Context.of(TENANT, []).encode() == b"\0\0\0\1" + TENANT_PAIR


def test_no_pairs_at_all_are_four_zero_bytes():
    assert Context(()).encode() == b"\0\0\0\0"


def test_the_canonical_form_is_these_bytes_in_the_order_of_the_keys():
    context = Context.of(TENANT, [("table", b"users"), ("a", b""), ("column", "é".encode())])
    assert context.encode() == (
        b"\0\0\0\4\0\0\0\1a\0\0\0\0\0\0\0\6column\0\0\0\2\xc3\xa9" + TENANT_PAIR + b"\0\0\0\5table\0\0\0\5users"
    )
    assert context.length() == len(context.encode())


def test_keys_sort_by_their_bytes():
    keys = ["a", "a-b", "a.b", "a0", "a_b", "aa", "b"]
    context = Context.of(TENANT, [(key, b"") for key in reversed(keys)])
    assert [key for key, _ in context.pairs if key != "kms.tenant"] == keys


def test_the_order_of_the_callers_pairs_does_not_matter():
    assert Context.of(TENANT, [("x", b"1"), ("y", b"2")]) == Context.of(TENANT, [("y", b"2"), ("x", b"1")])


def test_values_are_never_normalised():
    composed = Context.of(TENANT, [("x", "é".encode())])
    decomposed = Context.of(TENANT, [("x", "e\u0301".encode())])
    assert composed.encode() != decomposed.encode()


def test_an_empty_value_is_not_an_absent_pair():
    assert Context.of(TENANT, [("x", b"")]).encode() != Context.of(TENANT, []).encode()


def test_keys_leaves_out_the_daemons_own():
    assert Context.of(TENANT, [("x", b""), ("y", b"")]).keys() == {"x", "y"}


@pytest.mark.parametrize("key", ["a", "a" * 64, "z9_.-", "kms", "kmsx", "kms-tenant", "a.kms."])
def test_a_key_within_the_rule_is_taken(key: str):
    assert check_key(key, "field") == key


@pytest.mark.parametrize(
    "key", ["", "a" * 65, "A", "1", "_a", "-a", ".a", "a b", "a\n", "ä", "a\0", "kms.", "kms.tenant", "kms.x"]
)
def test_a_key_against_the_rule_is_refused(key: str):
    assert violations([("good", b""), (key, b"")]) == [Violation("context[1].key", KEY_RULE)]


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (b"\xff", "must be UTF-8"),
        (b"\xc3", "must be UTF-8"),
        (b"\xed\xa0\x80", "must be UTF-8"),  # a surrogate
        (b"\xc0\x80", "must be UTF-8"),  # NUL, overlong
        (b"\0", "must not contain NUL"),
        (b"a\0b", "must not contain NUL"),
    ],
)
def test_a_value_against_the_rule_is_refused(value: bytes, rule: str):
    assert violations([("x", value)]) == [Violation("context[0].value", rule)]
    with pytest.raises(InvalidRequest, match=rule):
        check_value(value, "field")


def test_a_repeated_key_is_refused_also_with_the_same_value():
    assert violations([("x", b"1"), ("y", b""), ("x", b"1")]) == [Violation("context[2].key", "must not be repeated")]


def test_all_violations_are_named_at_once():
    fields = [v.field for v in violations([("A", b""), ("x", b"\xff"), ("y", b"\0"), ("z", b""), ("z", b"")])]
    assert fields == ["context[0].key", "context[1].value", "context[2].value", "context[4].key"]


def test_sixty_three_pairs_and_the_tenants_are_the_most():
    pairs = [(f"k{i}", b"") for i in range(MAX_PAIRS)]
    assert MAX_PAIRS == 64
    assert len(Context.of(TENANT, pairs[:63]).pairs) == 64
    assert violations(pairs) == [Violation("context", "must have at most 63 pairs")]


def test_very_many_bad_pairs_get_a_short_error():
    assert violations([("A", b"\xff")] * 100_000) == [Violation("context", "must have at most 63 pairs")]


def test_8192_bytes_of_canonical_form_are_the_most():
    room = 8192 - Context.of(TENANT, [("x", b"")]).length()
    full = Context.of(TENANT, [("x", b"v" * room)])
    assert len(full.encode()) == MAX_LENGTH == 8192
    assert violations([("x", b"v" * (room + 1))]) == [
        Violation("context", "must have at most 8192 bytes in canonical form")
    ]


@pytest.mark.parametrize("key", ["aa", "column", "row", "zz"])
def test_a_varying_pair_encodes_as_if_given_singly(key: str):
    shared = [("b", b"1"), ("s", b"2")]
    frame = Context.of(TENANT, shared).around(key)
    for value in (b"", b"7", "é".encode(), b"v" * 300):
        assert frame.encode(value) == Context.of(TENANT, [*shared, (key, value)]).encode()


def test_a_varying_key_among_the_shared_pairs_is_refused():
    with pytest.raises(InvalidRequest, match=r"varying\.key: must not be among the shared pairs"):
        Context.of(TENANT, [("row", b"1")]).around("row")


@pytest.mark.parametrize("key", ["", "Row", "kms.tenant", "kms.row"])
def test_a_varying_key_obeys_the_rule_of_keys(key: str):
    with pytest.raises(InvalidRequest) as caught:
        Context.of(TENANT, []).around(key)
    assert caught.value.violations == (Violation("varying.key", KEY_RULE),)


def test_the_varying_pair_counts_among_the_pairs():
    pairs = [(f"k{i}", b"") for i in range(63)]
    assert Context.of(TENANT, pairs[:62]).around("row").before[:4] == b"\0\0\0\x40"
    with pytest.raises(InvalidRequest, match="varying: there must be at most 63 pairs"):
        Context.of(TENANT, pairs).around("row")


def frame_with_room(room: int) -> Frame:
    spare = Context.of(TENANT, [("x", b"")]).around("row").longest
    return Context.of(TENANT, [("x", b"v" * (spare - room))]).around("row")


def test_longest_is_exactly_what_the_whole_context_allows():
    frame = frame_with_room(10)
    assert frame.longest == 10
    assert len(frame.encode(b"v" * 10)) == MAX_LENGTH


def test_good_values_have_no_failures_however_many():
    frame = Context.of(TENANT, []).around("row")
    assert frame.failures([]) == {}
    assert frame.failures([str(i).encode() for i in range(10_000)]) == {}


def test_each_bad_value_fails_alone():
    frame = frame_with_room(10)
    failures = frame.failures([b"v" * 10, b"v" * 11, b"", b"\xff", b"\0", "é".encode(), b"v" * 50])
    assert {index: error.violations for index, error in failures.items()} == {
        1: (Violation("varying.values[1]", "the context must have at most 8192 bytes in canonical form"),),
        3: (Violation("varying.values[3]", "must be UTF-8"),),
        4: (Violation("varying.values[4]", "must not contain NUL"),),
        6: (Violation("varying.values[6]", "the context must have at most 8192 bytes in canonical form"),),
    }


def test_halves_of_a_character_in_two_values_are_both_bad():
    frame = Context.of(TENANT, []).around("row")
    assert set(frame.failures([b"\xc3", b"\xa9", b"ok"])) == {0, 1}


def test_where_no_room_is_left_every_value_fails():
    frame = Frame(bytes(8192), b"")
    assert frame.longest < 0
    assert set(frame.failures([b"", b""])) == {0, 1}
