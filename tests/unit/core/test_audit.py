"""The canonical bytes of events: what is encoded once for many of them is the same as each would be by itself."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from operator import attrgetter
from typing import Any
from uuid import UUID

import pytest

from kms.core import audit
from kms.core.audit import FIELDS, LONGEST_SHARED, MOST_SHARED, AuditEvent, Category, body_of
from kms.core.canonical import encode
from tests.audit import full_event, new_event

_TEXTS = ("", "x", "ä" * 400, "tenants/acme/keys/k1")
_values = attrgetter(*FIELDS)


def any_event(chosen: random.Random) -> AuditEvent:
    """Each field with its default, or with a value of its kind."""
    plain = new_event()
    fields: dict[str, Any] = {"action": chosen.choice(_TEXTS), "category": chosen.choice(list(Category))}
    for name in FIELDS[2:]:
        value = getattr(plain, name)
        if chosen.random() < 0.5:
            continue
        if isinstance(value, StrEnum):
            fields[name] = chosen.choice(list(type(value)))
        elif name in ("tenant", "key", "intent_stream"):
            fields[name] = UUID(int=chosen.getrandbits(128))
        elif name == "kept_until":
            fields[name] = datetime(2030, 1, 1, tzinfo=UTC) + timedelta(microseconds=chosen.getrandbits(50))
        elif isinstance(value, str):
            fields[name] = chosen.choice(_TEXTS)
        elif isinstance(value, bytes):
            fields[name] = chosen.randbytes(chosen.randrange(40))
        else:
            fields[name] = chosen.randrange(-(2**63), 2**63)
    return AuditEvent(**fields)


def test_an_event_has_the_bytes_of_its_fields_in_their_order():
    chosen = random.Random(20)
    events = [new_event(), full_event(), *(any_event(chosen) for _ in range(1_000))]
    for event in events:
        for again in range(2):  # the second time with what was kept of the first
            assert body_of(event) == encode(_values(event)), (event, again)
    assert len({body_of(event) for event in events}) == len(events)


@pytest.mark.parametrize("name", FIELDS)
def test_no_field_is_taken_from_another_event(name: str):
    """Two events that differ in one field have bytes that differ in it alone."""
    one, other = full_event(), full_event()
    value = getattr(one, name)
    if isinstance(value, StrEnum):
        changed: Any = next(kind for kind in type(value) if kind != value)
    elif isinstance(value, UUID):
        changed = UUID(int=value.int + 1)
    elif isinstance(value, datetime):
        changed = value + timedelta(microseconds=1)
    else:
        changed = value + (b"x" if isinstance(value, bytes) else "x" if isinstance(value, str) else 1 - 2 * (value > 0))
    setattr(other, name, changed)
    before = body_of(one)
    assert body_of(other) == encode(_values(other)) != before == body_of(one)


@pytest.mark.parametrize("name", [name for name in FIELDS if isinstance(getattr(full_event(), name), int)])
def test_a_number_beyond_64_bits_has_no_bytes(name: str):
    event = full_event()
    setattr(event, name, 2**63)
    with pytest.raises(ValueError, match="64 bits"):
        body_of(event)


def test_what_is_kept_for_later_events_is_bounded():
    kept = audit._shared_parts
    for number in range(MOST_SHARED + 10):
        event = new_event(principal=f"tenants/acme/principals/p{number}")
        assert body_of(event) == encode(_values(event))
        assert 0 < len(kept) <= MOST_SHARED
    before = len(kept)
    long = new_event(error_message="x" * LONGEST_SHARED)
    assert body_of(long) == encode(_values(long))
    assert len(kept) == before
    assert max(sum(map(len, parts)) for parts in kept.values()) <= LONGEST_SHARED
