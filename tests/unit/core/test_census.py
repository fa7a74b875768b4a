"""Unknown is not zero: what a count proves, and what remains to be done."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from kms.core.census import (
    FURTHEST_END,
    REPORT_SLACK,
    Place,
    PlaceCount,
    Uses,
    VersionCensus,
    census,
    next_step,
    stopped_at,
)
from kms.core.keyring import REVOKED_GRACE, Key, KeyVersion
from kms.core.lifecycle import KeyEvent, KeyState
from tests.keyrings import I64, NOW, active_version, new_count, new_key, new_place, new_tenant

TICK, MINUTE, HOUR, DAY = timedelta(microseconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
STOPPED = NOW - 2 * DAY
COUNTED = NOW - DAY
TENANT = new_tenant("acme")
KEY = replace(new_key(TENANT, "payroll"), primary_version=2, places_complete_at=NOW - 30 * DAY)
VERSION = replace(active_version(KEY, 1), state=KeyState.ARCHIVED, stopped_at=STOPPED)
PRIMARY = active_version(KEY, 2)
IBAN = replace(new_place(KEY, "crm-iban"), counted_at=COUNTED)
BLOBS = replace(new_place(KEY, "blobs"), counted_at=COUNTED)


def known(
    *,
    now=NOW,
    key: Key = KEY,
    version: KeyVersion = VERSION,
    reserved: int = 4096,
    places: list[Place] | None = None,
    counts: list[PlaceCount] | None = None,
    uses: Uses | None = None,
) -> VersionCensus:
    places = [IBAN, BLOBS] if places is None else places
    return census(now, key, version, reserved, places, counts or [], uses or Uses())


def counted(place: Place, count: int, version: int = 1, **before) -> PlaceCount:
    return replace(new_count(place, version, count), counted_at=COUNTED, **before)


# --- known


def test_a_version_of_which_every_place_has_counted_none_since_it_stopped_is_zero():
    found = known(counts=[counted(IBAN, 0), counted(IBAN, 9, version=2)])
    assert found == VersionCensus(0, ())
    assert found.zero


def test_what_is_counted_is_the_sum_over_places_and_where_it_is():
    found = known(counts=[counted(IBAN, 3), counted(BLOBS, 4), counted(IBAN, 9, version=2)])
    assert (found.count, found.places, found.unknown) == (7, (("crm-iban", 3), ("blobs", 4)), ())
    assert not found.zero


def test_a_place_that_has_counted_none_of_it_is_left_out():
    assert known(counts=[counted(IBAN, 0), counted(BLOBS, 4)]).places == (("blobs", 4),)


# --- unknown, and why


def test_places_that_are_not_declared_complete():
    found = known(key=replace(KEY, places_complete_at=None))
    assert found.unknown == ("the places of the key are not declared complete",)
    assert found.undeclared
    assert not found.zero


def test_no_place_at_all():
    found = known(places=[])
    assert found.unknown == ("no place of the key is declared",)
    assert found.undeclared
    assert not found.zero


@pytest.mark.parametrize(
    ("counted_at", "uses", "reason"),
    [
        (None, Uses(), "has not been counted"),
        (STOPPED - TICK, Uses(), "has not been counted since the version stopped encrypting"),
        (NOW + REPORT_SLACK + TICK, Uses(), "was counted by a clock that has gone back since"),
        (NOW + 365 * DAY, Uses(), "was counted by a clock that has gone back since"),
        (COUNTED, Uses(last_decrypted_at=COUNTED + TICK), "has not been counted since the version last decrypted"),
        (COUNTED, Uses(last_decrypted_at=COUNTED), "has not been counted since the version last decrypted"),
        (
            COUNTED,
            Uses(last_decrypted_at=COUNTED - MINUTE + TICK),
            "has not been counted since the version last decrypted",
        ),
        (COUNTED, Uses(last_refused_at=COUNTED), "has not been counted since a use in quarantine"),
        (COUNTED, Uses(last_refused_at=COUNTED - MINUTE + TICK), "has not been counted since a use in quarantine"),
    ],
)
def test_a_count_that_proves_nothing(counted_at, uses, reason):
    found = known(places=[replace(IBAN, counted_at=counted_at), BLOBS], uses=uses)
    assert f"place crm-iban {reason}" in found.unknown
    assert "crm-iban" in found.uncounted
    assert not found.zero
    alone = known(places=[replace(IBAN, counted_at=counted_at)], uses=uses)
    assert alone.unknown == (f"place crm-iban {reason}",)
    assert alone.uncounted == ("crm-iban",)


@pytest.mark.parametrize(
    ("counted_at", "uses"),
    [
        (STOPPED, Uses()),
        (NOW + REPORT_SLACK, Uses()),
        (COUNTED, Uses(last_decrypted_at=COUNTED - MINUTE, last_used_at=COUNTED - MINUTE)),
        (COUNTED, Uses(last_refused_at=COUNTED - MINUTE, refused=3)),
    ],
)
def test_a_count_that_is_just_new_enough(counted_at, uses):
    found = known(places=[replace(IBAN, counted_at=counted_at)], uses=uses)
    assert (found.unknown, found.uncounted, found.zero) == ((), (), True)
    assert found.refused == uses.refused


@pytest.mark.parametrize(
    "version",
    [PRIMARY, replace(VERSION, stopped_at=None), replace(VERSION, stopped_at=NOW + TICK)],
)
def test_a_version_that_may_still_encrypt_is_unknown_whatever_has_been_counted(version):
    for reserved in (0, 1):
        found = known(version=version, reserved=reserved, places=[replace(IBAN, counted_at=NOW + MINUTE)])
        assert found.unknown[0] == "the version may still encrypt"
        assert not found.zero


def test_every_reason_is_told():
    found = known(
        version=PRIMARY,
        key=replace(KEY, places_complete_at=None),
        places=[replace(IBAN, counted_at=None), BLOBS],
        uses=Uses(last_decrypted_at=NOW),
    )
    assert found.unknown == (
        "the version may still encrypt",
        "the places of the key are not declared complete",
        "place crm-iban has not been counted",
        "place blobs has not been counted since the version last decrypted",
    )


# --- never used


def test_a_version_that_has_never_encrypted_and_will_not_is_zero_without_a_place():
    found = known(key=replace(KEY, places_complete_at=None), reserved=0, places=[])
    assert found == VersionCensus(0, ())
    assert known(version=replace(VERSION, stopped_at=NOW), reserved=0, places=[]).zero


@pytest.mark.parametrize(
    "uses",
    [Uses(last_used_at=STOPPED), Uses(last_decrypted_at=STOPPED), Uses(refused=1), Uses(last_refused_at=STOPPED)],
)
def test_a_version_that_has_been_seen_in_use_has_encrypted_whatever_its_counter_says(uses):
    assert not known(reserved=0, places=[], uses=uses).zero


def test_a_version_of_which_something_was_counted_has_encrypted_whatever_its_counter_says():
    found = known(reserved=0, counts=[counted(IBAN, 1)])
    assert (found.count, found.zero) == (1, False)


def test_a_version_that_was_never_activated_protects_nothing():
    pending = replace(PRIMARY, state=KeyState.PENDING)
    assert known(key=replace(KEY, state=KeyState.PENDING), version=pending, reserved=0, places=[]).zero
    assert not known(key=replace(KEY, state=KeyState.PENDING), version=pending, reserved=1).zero


# --- a key that has stopped stops its versions


def test_a_version_stops_by_itself_or_with_its_key_whichever_was_first():
    archived = KEY.after(KeyEvent.ARCHIVE, NOW)
    assert stopped_at(KEY, PRIMARY) is None
    assert stopped_at(KEY, VERSION) == STOPPED
    assert stopped_at(archived, PRIMARY) == NOW + REVOKED_GRACE
    assert stopped_at(archived, VERSION) == STOPPED
    assert stopped_at(archived, replace(VERSION, stopped_at=NOW + DAY)) == NOW + REVOKED_GRACE


@pytest.mark.parametrize("event", [KeyEvent.SUSPEND, KeyEvent.ARCHIVE, KeyEvent.REVOKE])
def test_the_primary_version_of_a_key_that_has_stopped_can_be_known(event):
    key = KEY.after(event, NOW)
    over = NOW + REVOKED_GRACE
    assert not known(now=over, key=key, version=PRIMARY).zero
    recounted = [replace(place, counted_at=over) for place in (IBAN, BLOBS)]
    assert not known(now=over - TICK, key=key, version=PRIMARY, places=recounted).zero
    assert known(now=over, key=key, version=PRIMARY, places=recounted).zero
    scheduled = key.after(KeyEvent.SCHEDULE_DESTRUCTION, NOW + DAY)
    assert known(now=NOW + 30 * DAY, key=scheduled, version=PRIMARY, places=recounted).zero


def test_a_key_that_is_resumed_makes_its_primary_version_unknown_again():
    key = KEY.after(KeyEvent.SUSPEND, STOPPED).after(KeyEvent.RESUME, NOW)
    assert not known(key=key, version=PRIMARY).zero


# --- the estimated end


def shrinking(place: Place, before: int, now: int, took: timedelta = DAY) -> PlaceCount:
    return counted(place, now, previous_count=before, previous_at=COUNTED - took)


def test_the_end_is_estimated_at_the_pace_between_the_last_two_counts():
    assert known(counts=[shrinking(IBAN, 100, 75)]).ends_at == COUNTED + 3 * DAY


def test_the_end_is_that_of_the_slowest_place():
    counts = [shrinking(IBAN, 100, 75), shrinking(BLOBS, 100, 90)]
    assert known(counts=counts).ends_at == known(counts=counts[::-1]).ends_at == COUNTED + 9 * DAY


@pytest.mark.parametrize(
    "count",
    [
        counted(IBAN, 5),
        counted(IBAN, 5, previous_count=9),
        shrinking(IBAN, 5, 5),
        shrinking(IBAN, 4, 5),
        shrinking(IBAN, 9, 5, timedelta(0)),
        shrinking(IBAN, 9, 5, -HOUR),
    ],
)
def test_an_end_that_cannot_be_told_is_not_told(count):
    assert known(counts=[count]).ends_at is None
    assert known(counts=[count, shrinking(BLOBS, 100, 75)]).ends_at is None


def test_an_end_that_is_too_far_away_is_not_told():
    days = FURTHEST_END // DAY
    assert known(counts=[shrinking(IBAN, days + 1, days)]).ends_at == COUNTED + FURTHEST_END
    assert known(counts=[shrinking(IBAN, days + 2, days + 1)]).ends_at is None
    assert known(counts=[shrinking(IBAN, I64, I64 - 1, 365 * DAY)]).ends_at is None


def test_an_end_that_has_passed_without_having_come_is_not_told():
    assert known(counts=[shrinking(IBAN, 100, 50)]).ends_at is None  # exactly now
    assert known(now=NOW - TICK, counts=[shrinking(IBAN, 100, 50)]).ends_at == NOW


def test_nothing_left_and_what_is_still_growing_have_no_end():
    assert known(counts=[shrinking(IBAN, 100, 0)]).ends_at is None
    assert known(version=PRIMARY, counts=[replace(shrinking(IBAN, 100, 75), version=2)]).ends_at is None


# --- what remains to be done

ARCHIVED_KEY = replace(KEY.after(KeyEvent.ARCHIVE, STOPPED))
UNKNOWN = known(places=[replace(IBAN, counted_at=None), BLOBS])
SOME = known(counts=[counted(IBAN, 12345)])
ZERO = known()
REENCRYPT = "re-encrypt 12345 values in crm-iban, then count again"
QUARANTINED = VERSION.after(KeyEvent.SCHEDULE_DESTRUCTION, NOW, until=NOW + 7 * DAY)
ROTATING = replace(VERSION, state=KeyState.ROTATING, until=STOPPED)


@pytest.mark.parametrize(
    ("key", "version", "found", "step"),
    [
        (KEY, PRIMARY, SOME, "rotate the key first"),
        (replace(KEY, state=KeyState.ROTATING), PRIMARY, ZERO, "rotate the key first"),
        (replace(KEY, state=KeyState.PENDING), PRIMARY, ZERO, "activate the key, or schedule its destruction"),
        (KEY.after(KeyEvent.SUSPEND, STOPPED), PRIMARY, ZERO, "resume the key and rotate it"),
        (ARCHIVED_KEY, PRIMARY, ZERO, "schedule the destruction of the key"),
        (ARCHIVED_KEY, PRIMARY, UNKNOWN, "count crm-iban; schedule the destruction of the key"),
        (
            KEY,
            replace(ROTATING, stopped_at=NOW + MINUTE),
            UNKNOWN,
            "wait until 2024-03-01T00:00:59Z: nodes may still encrypt under it",
        ),
        (KEY, VERSION, known(places=[]), "declare the places of the key"),
        (
            KEY,
            VERSION,
            known(key=replace(KEY, places_complete_at=None), places=[replace(IBAN, counted_at=None)]),
            "declare the places of the key; count crm-iban",
        ),
        (KEY, VERSION, UNKNOWN, "count crm-iban"),
        (
            KEY,
            VERSION,
            known(places=[replace(IBAN, counted_at=None), replace(BLOBS, counted_at=None)]),
            "count crm-iban, blobs",
        ),
        (KEY, VERSION, SOME, REENCRYPT),
        (
            KEY,
            VERSION,
            known(counts=[counted(IBAN, 12345), counted(BLOBS, 1)]),
            "re-encrypt 12345 values in crm-iban, 1 value in blobs, then count again",
        ),
        (
            KEY,
            VERSION,
            known(counts=[counted(IBAN, 12345)], uses=Uses(last_decrypted_at=NOW)),
            f"{REENCRYPT}; count blobs",
        ),
        (KEY, VERSION, ZERO, "retire it"),
        (KEY, replace(VERSION, state=KeyState.REVOKED), ZERO, "retire it"),
        (KEY, ROTATING, ZERO, "wait until it is archived"),
        (KEY, QUARANTINED, ZERO, "will be destroyed at 2024-03-07T23:59:59Z; uses refused: 0"),
        (
            KEY,
            QUARANTINED,
            known(uses=Uses(refused=2, last_refused_at=NOW)),
            "will be destroyed at 2024-03-07T23:59:59Z; uses refused: 2; but first count crm-iban, blobs",
        ),
        (
            KEY,
            QUARANTINED,
            SOME,
            f"will be destroyed at 2024-03-07T23:59:59Z; uses refused: 0; but first cancel the retirement; {REENCRYPT}",
        ),
        (
            replace(ARCHIVED_KEY.after(KeyEvent.SCHEDULE_DESTRUCTION, NOW), destroy_at=NOW + 30 * DAY),
            PRIMARY,
            ZERO,
            "will be destroyed with its key at 2024-03-30T23:59:59Z",
        ),
        (
            replace(ARCHIVED_KEY.after(KeyEvent.SCHEDULE_DESTRUCTION, NOW), destroy_at=NOW + 30 * DAY),
            VERSION,
            SOME,
            f"will be destroyed with its key at 2024-03-30T23:59:59Z; but first cancel the destruction; {REENCRYPT}",
        ),
        (replace(KEY, state=KeyState.DESTROYED), VERSION, ZERO, "nothing: it is being destroyed with its key"),
        (KEY, replace(VERSION, state=KeyState.DESTROYED), ZERO, "nothing"),
    ],
)
def test_the_next_step_in_words(key, version, found, step):
    assert next_step(NOW, key, version, found) == step


def test_many_places_are_named_in_part():
    places = [replace(new_place(KEY, f"place-{number}"), counted_at=None) for number in range(8)]
    found = known(places=places)
    assert len(found.unknown) == 8
    assert next_step(NOW, KEY, VERSION, found) == "count place-0, place-1, place-2, place-3, place-4, 3 more"
    everywhere = known(places=places, counts=[counted(place, 7) for place in places])
    assert next_step(NOW, KEY, VERSION, everywhere) == (
        f"re-encrypt {', '.join(f'7 values in place-{n}' for n in range(5))}, 3 more, then count again"
    )


# --- exposed


LENT = replace(VERSION, exposed_at=NOW - 3 * DAY)


def test_a_version_whose_dek_has_left_is_never_taken_for_unused():
    unused = {"reserved": 0, "places": [], "version": VERSION}
    assert known(**unused).zero
    assert not known(**unused | {"version": LENT}).zero


@pytest.mark.parametrize("revoked", ["version", "key"])
def test_what_a_lent_version_encrypted_has_to_be_encrypted_anew_once_it_is_revoked(revoked):
    key = replace(KEY, state=KeyState.REVOKED) if revoked == "key" else KEY
    version = replace(LENT, state=KeyState.REVOKED) if revoked == "version" else LENT
    some = known(key=key, version=version, counts=[counted(IBAN, 7)])
    whole = "re-encrypt all that it encrypted, for its DEK has left the daemon; "
    assert next_step(NOW, key, version, some) == whole + "re-encrypt 7 values in crm-iban, then count again"
    assert next_step(NOW, key, version, known(key=key, version=version)) == "retire it"
    assert not next_step(NOW, key, replace(version, exposed_at=None), some).startswith(whole)
    assert not next_step(NOW, KEY, LENT, some).startswith(whole)
