"""What an anchor says of a database: every way in which it can stand to it, and no byte of a value can be changed."""

import os
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from kms.core.anchors import (
    REFUSED,
    NodeAnchor,
    Standing,
    claimed_installation,
    first_anchor,
    newest_of,
    open_value,
    standing,
    value_of,
)
from kms.core.audit_ports import Anchor
from kms.core.checkpoints import AcceptedGap, note_of
from kms.core.errors import CorruptRecord
from kms.crypto.signatures import verifier
from tests.streams import TestKey, some_hash

KEY = TestKey()
VERIFY = verifier(KEY.public)
INSTALLATION = uuid4()


def chain(length, key=KEY, installation=INSTALLATION):
    made = []
    for _ in range(length):
        made.append(key.checkpoint(installation, [], made[-1] if made else None))
    return made


def anchored(checkpoint):
    return Anchor(checkpoint.checkpoint.installation, checkpoint.serial, checkpoint.hash)


CHAIN = chain(5)
WHY = r"MAC|no anchor|tag|cut off|codec|out of range"


def test_a_value_opens_under_its_key_alone_and_with_no_byte_changed():
    key, entry = os.urandom(32), NodeAnchor(Anchor(INSTALLATION, 3, some_hash(3)), "host:00000000")
    value = value_of(entry, key)
    assert open_value(value, key) == entry
    assert claimed_installation(value) == INSTALLATION
    with pytest.raises(ValueError, match="MAC"):
        open_value(value, os.urandom(32))
    for index in range(len(value)):
        with pytest.raises(ValueError, match=WHY):
            open_value(bytes([*value[:index], value[index] ^ 1, *value[index + 1 :]]), key)
        with pytest.raises(ValueError, match=WHY):
            open_value(value[:index], key)
    with pytest.raises(ValueError, match=WHY):
        open_value(value + b"\0", key)


def test_the_newest_of_all_nodes_counts():
    anchors = [Anchor(INSTALLATION, serial, some_hash(serial)) for serial in (2, 9, 0, 9, 4)]
    assert newest_of(anchors) == anchors[1]
    assert newest_of([]) is None


@pytest.mark.parametrize("other", [Anchor(UUID(int=9), 4, some_hash(4)), Anchor(INSTALLATION, 3, some_hash(8))])
def test_anchors_that_contradict_each_other_are_refused(other):
    with pytest.raises(CorruptRecord, match=r"several installations|two different checkpoints"):
        newest_of([Anchor(INSTALLATION, 3, some_hash(3)), other])


def test_before_the_first_checkpoint_records_are_being_sealed():
    assert standing(first_anchor(INSTALLATION), None, [], VERIFY) is Standing.ADOPTING


@pytest.mark.parametrize("serial", range(1, 6))
def test_a_database_at_the_anchor_is_equal(serial):
    found = CHAIN[serial - 1]
    assert standing(anchored(found), found, [], VERIFY) is Standing.EQUAL


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("found", range(6))
def test_every_distance_between_anchor_and_database(at, found):
    anchor = anchored(CHAIN[at - 1]) if at else first_anchor(INSTALLATION)
    newest = CHAIN[found - 1] if found else None
    between = CHAIN[max(at - 1, 0) : found]
    expected = Standing.BEHIND if found < at else Standing.EQUAL if found == at else Standing.AHEAD
    if at == found == 0:
        expected = Standing.ADOPTING
    assert standing(anchor, newest, between, VERIFY) is expected


def forks():
    other = chain(5)
    yield "another checkpoint at the anchored serial", anchored(CHAIN[2]), other[2], [], Standing.FORKED
    yield "another chain from before the anchor", anchored(CHAIN[2]), other[4], other[2:], Standing.FORKED
    yield "a gap above the anchor", anchored(CHAIN[1]), CHAIN[4], [CHAIN[1], *CHAIN[3:]], Standing.FORKED
    yield "the anchored one is not there", anchored(CHAIN[1]), CHAIN[4], CHAIN[2:], Standing.FORKED
    yield "cut off before the newest", anchored(CHAIN[1]), CHAIN[4], CHAIN[1:4], Standing.FORKED
    yield "nothing between", anchored(CHAIN[1]), CHAIN[4], [], Standing.FORKED
    foreign = chain(5, installation=uuid4())
    yield "another installation", anchored(CHAIN[2]), foreign[4], foreign[2:], Standing.FOREIGN
    yield "another installation's in between", anchored(CHAIN[2]), CHAIN[4], [*CHAIN[2:4], foreign[4]], Standing.FOREIGN
    forged = chain(5, key=TestKey())
    yield "another key", anchored(CHAIN[2]), forged[4], forged[2:], Standing.FORGED
    yield "another key's in between", anchored(CHAIN[2]), CHAIN[4], [CHAIN[2], forged[3], CHAIN[4]], Standing.FORGED
    yield "another key's at the anchor", anchored(CHAIN[4]), replace(CHAIN[4], signature=b"x"), [], Standing.FORGED
    yield "behind, of another key", anchored(CHAIN[4]), forged[1], [], Standing.FORGED


FORKS = list(forks())


@pytest.mark.parametrize(("what", "anchor", "found", "between", "expected"), FORKS, ids=[fork[0] for fork in FORKS])
def test_what_is_not_the_same_history_is_refused(what, anchor, found, between, expected):
    assert standing(anchor, found, between, VERIFY) is expected, what
    assert expected in REFUSED


def test_a_gap_that_a_quorum_accepted_is_gone_on_from_also_where_it_is_not_anchored_yet():
    anchor = anchored(CHAIN[4])
    gap = AcceptedGap(5, anchor.hash.hex(), 2, CHAIN[1].hash.hex(), "restored", ("operators/a",))
    accepted = KEY.checkpoint(INSTALLATION, [], CHAIN[1], serial=6, note=note_of(gap))
    assert standing(anchor, accepted, [accepted], VERIFY) is Standing.AHEAD
    for other in (replace(gap, anchored_serial=4), replace(gap, anchored_hash="00")):
        wrong = KEY.checkpoint(INSTALLATION, [], CHAIN[1], serial=6, note=note_of(other))
        assert standing(anchor, wrong, [wrong], VERIFY) is Standing.FORKED
    for changes in ({"serial": 7}, {"note": "x"}, {"note": ""}):
        wrong = KEY.checkpoint(INSTALLATION, [], CHAIN[1], **({"serial": 6, "note": note_of(gap)} | changes))
        assert standing(anchor, wrong, [wrong], VERIFY) is Standing.FORKED
