"""A tree that was changed step by step is the one that is built from scratch; every other state of a record is refused."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.core.errors import CorruptRecord
from kms.core.integrity import (
    NONE,
    Entry,
    Place,
    leaf_body,
    node_hash,
    parse_leaf,
    path_of,
    record_message,
    root_of,
    tree,
    verify_entry,
    verify_node,
    with_changes,
)

# Few places, so that many records share leaves and are written more than once.
PLACES = st.builds(
    Place, st.sampled_from(["keks", "grants"]), st.sampled_from([b"", b"a", b"b"]), st.sampled_from([b"1", b"2", b"3"])
)
ENTRIES = st.builds(Entry, st.integers(1, 5), st.sampled_from([bytes(32), b"\1" * 32]))
VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.uuids(),
    st.datetimes(timezones=st.just(UTC)),
)
COLUMNS = st.dictionaries(st.sampled_from(["a", "ab", "b", "c"]), VALUES)
DEFAULTS = {"a": 2, "b": "", "c": datetime(1970, 1, 1, tzinfo=UTC)}


@given(st.lists(st.dictionaries(PLACES, st.none() | ENTRIES, min_size=1), max_size=8))
def test_a_tree_changed_step_by_step_is_the_one_built_from_scratch(steps):
    nodes, records = {}, {}
    for changes in steps:
        nodes |= with_changes(nodes, changes)
        records = {place: entry for place, entry in (records | changes).items() if entry is not None}
        whole = tree(records)
        assert root_of(nodes) == root_of(whole)
        assert {prefix for prefix, body in nodes.items() if node_hash(prefix, body) != NONE} == set(whole)
        for place, entry in records.items():
            assert parse_leaf(nodes[place.leaf])[place] == entry
            expected = root_of(nodes)
            for prefix in path_of(place.leaf):
                verify_node(prefix, nodes[prefix], expected)
                digit = place.leaf[len(prefix) : len(prefix) + 1]
                expected = nodes[prefix][32 * int(digit, 16) :][:32] if digit else b""


@given(st.dictionaries(PLACES, ENTRIES, min_size=1), st.data())
def test_a_tree_that_knows_one_record_otherwise_has_another_root(records, data):
    place = data.draw(st.sampled_from(sorted(records)))
    other = data.draw((st.none() | ENTRIES).filter(lambda entry: entry != records[place]))
    assert root_of(tree(records)) != root_of(with_changes(tree(records), {place: other}))


@given(st.dictionaries(PLACES, ENTRIES, max_size=4), st.data())
def test_a_leaf_with_any_other_byte_is_none_or_another_one(records, data):
    body = leaf_body(records)
    assert parse_leaf(body) == records
    if body:
        index, bit = data.draw(st.integers(0, len(body) - 1)), data.draw(st.integers(0, 7))
        changed = body[:index] + bytes([body[index] ^ 1 << bit]) + body[index + 1 :]
        assert node_hash("0000", changed) != node_hash("0000", body)
        with pytest.raises(CorruptRecord, match="broken"):
            verify_node("0000", changed, node_hash("0000", body))


@given(COLUMNS, COLUMNS)
def test_two_records_have_one_message_only_if_they_say_the_same(one, other):
    def meant(columns):
        return {name: value for name, value in columns.items() if value != DEFAULTS.get(name)}

    same = record_message("t", one, DEFAULTS) == record_message("t", other, DEFAULTS)
    assert same == (repr(sorted(meant(one).items())) == repr(sorted(meant(other).items())))


def test_a_column_that_is_added_with_its_default_alters_no_message():
    before = record_message("t", {"id": uuid.UUID(int=1)}, {})
    assert record_message("t", {"id": uuid.UUID(int=1), "a": 2, "z": None}, DEFAULTS) == before
    # NULL is told from a default that is none.
    assert record_message("t", {"id": uuid.UUID(int=1), "a": None}, DEFAULTS) != before
    assert record_message("other", {"id": uuid.UUID(int=1)}, {}) != before


@pytest.mark.parametrize(
    ("known", "found", "words", "rolled_back"),
    [
        (Entry(2, b"x"), Entry(1, b"x"), "older", True),
        (Entry(2, b"x"), Entry(3, b"x"), "not the one", False),
        (Entry(2, b"x"), Entry(2, b"y"), "not the one", False),
        (Entry(2, b"x"), None, "missing from the database", False),
        (None, Entry(1, b"x"), "does not know", False),
    ],
)
def test_what_is_wrong_is_said_with_the_table(known, found, words, rolled_back):
    place = Place("grants", b"", b"")
    with pytest.raises(CorruptRecord, match=f"of grants cannot be trusted: .*{words}") as caught:
        verify_entry(place, known, found)
    assert caught.value.rolled_back is rolled_back
    verify_entry(place, known, known)
