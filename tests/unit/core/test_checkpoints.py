"""Checkpoints as bytes: one form, nothing but their own bytes parses, and a golden one."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from kms.core.audit import StreamUid
from kms.core.audit_ports import Position, TenantRoot
from kms.core.canonical import encode
from kms.core.checkpoints import (
    LONGEST_NOTE,
    MOST_HEADS,
    NOTHING,
    AcceptedGap,
    Checkpoint,
    body_of,
    gap_in,
    hash_of,
    message_of,
    note_of,
    parse,
    read,
    roots_digest,
)
from kms.core.names import TenantUid
from tests.streams import some_hash

HEADS = tuple(Position(StreamUid(UUID(int=n)), n + 1, some_hash(n)) for n in (1, 2, 300))
AT = datetime(2031, 2, 3, 4, 5, 6, 7, UTC)
MADE = Checkpoint(7, some_hash(6), UUID(int=5), HEADS, some_hash(9), AT, "host:00000000", "")


def test_the_bytes_are_those_that_were_agreed_on():
    body = body_of(MADE)
    assert body == by_hand()
    assert message_of(body) == b"kms/v1/audit-checkpoint\0" + body
    signature = b"\x30" + bytes(69)
    assert hash_of(body, signature) == hashlib.sha256(message_of(body) + b"\0\x46" + signature).digest()


def by_hand() -> bytes:
    def text(value: str) -> bytes:
        return b"\2" + len(value).to_bytes(4, "big") + value.encode()

    def octets(value: bytes) -> bytes:
        return b"\3" + len(value).to_bytes(4, "big") + value

    def number(value: int) -> bytes:
        return b"\1" + value.to_bytes(8, "big")

    microseconds = (
        (AT - datetime(1970, 1, 1, tzinfo=UTC)).days * 86_400_000_000 + (4 * 3600 + 5 * 60 + 6) * 1_000_000 + 7
    )
    heads = b"".join(b"\4" + head.stream.bytes + number(head.sequence) + octets(head.hash) for head in HEADS)
    return (
        number(7)
        + octets(some_hash(6))
        + b"\4"
        + UUID(int=5).bytes
        + number(3)
        + heads
        + octets(some_hash(9))
        + b"\5"
        + microseconds.to_bytes(8, "big")
        + text("host:00000000")
        + text("")
    )


@pytest.mark.parametrize("made", [MADE, replace(MADE, heads=(), note="{}"), replace(MADE, serial=1, previous=NOTHING)])
def test_a_checkpoint_comes_back_from_its_bytes(made):
    assert parse(body_of(made)) == made
    assert read(body_of(made), b"s").serial == made.serial


@pytest.mark.parametrize(
    "changes",
    [
        {"serial": 0},
        {"heads": HEADS[::-1]},
        {"heads": HEADS[:1] * 2},
        {"heads": (replace(HEADS[0], hash=bytes(31)),)},
        {"heads": (HEADS[0],) * (MOST_HEADS + 1)},
        {"previous": b""},
        {"roots": bytes(33)},
        {"note": "x" * (LONGEST_NOTE + 1)},
    ],
)
def test_a_checkpoint_beyond_its_bounds_has_no_bytes(changes):
    with pytest.raises(ValueError, match=r"bounds|ordered|32 bytes"):
        body_of(replace(MADE, **changes))


def test_bytes_with_any_change_are_no_checkpoint_or_another_one():
    body = body_of(MADE)
    others = 0
    for index in range(len(body)):
        for bit in (1, 128):
            changed = bytes([*body[:index], body[index] ^ bit, *body[index + 1 :]])
            try:
                assert parse(changed) != MADE
                assert body_of(parse(changed)) == changed
                others += 1
            except ValueError:
                pass
    assert others > 100
    for length in range(len(body)):
        with pytest.raises(ValueError, match=r"fields|heads|cut off|canonical|types|beyond|tag"):
            parse(body[:length])
    with pytest.raises(ValueError, match="fields"):
        parse(body + b"\0")


@pytest.mark.parametrize("place", range(8))
def test_a_field_of_another_type_is_refused(place):
    values = [1, NOTHING, UUID(int=1), 0, NOTHING, AT, "node", "note"]
    values[place] = None
    with pytest.raises(ValueError, match=r"other"):
        parse(encode(values))


def test_the_digest_of_roots_does_not_depend_on_their_order():
    roots = [TenantRoot(TenantUid(uuid4()), n, some_hash(n)) for n in range(5)]
    assert roots_digest(roots) == roots_digest(roots[::-1])
    assert roots_digest([]) == hashlib.sha256(b"").digest()
    first = TenantRoot(TenantUid(UUID(int=1)), 2, some_hash(3))
    assert roots_digest([first]) == hashlib.sha256(UUID(int=1).bytes + bytes(7) + b"\2" + some_hash(3)).digest()
    for change in ({"epoch": 3}, {"root": some_hash(4)}, {"tenant": TenantUid(UUID(int=2))}):
        assert roots_digest([replace(first, **change)]) != roots_digest([first])


def test_a_note_names_an_accepted_gap_and_nothing_else_does():
    gap = AcceptedGap(9, "aa", 5, "bb", "restored from the backup of Sunday", ("operators/a", "operators/b"))
    assert gap_in(note_of(gap)) == gap
    assert gap_in("") is None
    for wrong in ("{}", "[]", '{"accepted":{}}', "x", '{"accepted":{"approvers":1}}'):
        with pytest.raises(ValueError, match="makes no sense"):
            gap_in(wrong)
