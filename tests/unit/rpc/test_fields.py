"""Fields at the bounds that their comments in the .proto name."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration

from kms.core.errors import InvalidRequest, NotSupported
from kms.core.suites import ProtectionLevel, Purpose, Suite
from kms.rpc.fields import (
    parse_display_name,
    parse_etag,
    parse_labels,
    parse_level,
    parse_purpose,
    parse_rotation,
    parse_suite,
    varying_of,
)
from kms.v1 import crypto_pb2, keys_pb2

HOUR = 3600
TEN_YEARS = 87_672 * HOUR  # with three leap days


def refused(field: str):
    return pytest.raises(InvalidRequest, match=f"^{field.replace('[', '.').replace(']', '.')}: ")


@pytest.mark.parametrize("text", ["", "x" * 128, "\N{GRINNING FACE}" * 128, "Löhne & Gehälter", " "])
def test_a_display_name_has_up_to_128_characters(text: str):
    assert parse_display_name(text, "f") == text


@pytest.mark.parametrize("text", ["x" * 129, "\N{GRINNING FACE}" * 129, "a\nb", "\t", "\0", "\x7f", "\x85", "\x1b[31m"])
def test_a_display_name_that_is_longer_or_has_a_control_character_is_refused(text: str):
    with refused("f"):
        parse_display_name(text, "f")


@pytest.mark.parametrize(
    "labels",
    [{}, {"a": ""}, {"a" * 63: "A" * 63}, {"a_b-c9": "A.b_c-9"}, {f"k{i}": "v" for i in range(32)}],
)
def test_labels_within_their_bounds_are_taken(labels: dict[str, str]):
    assert parse_labels(labels, "f") == labels


@pytest.mark.parametrize(
    "labels",
    [
        {f"k{i}": "v" for i in range(33)},
        {"": "v"},
        {"a" * 64: "v"},
        {"A": "v"},
        {"9a": "v"},
        {"a.b": "v"},
        {"a\n": "v"},
        {"a": "A" * 64},
        {"a": "b c"},
        {"a": "é"},
        {"a": "b\n"},
    ],
)
def test_labels_beyond_them_are_refused(labels: dict[str, str]):
    with refused("f"):
        parse_labels(labels, "f")


def test_both_rules_of_labels_are_named_once_each():
    with pytest.raises(InvalidRequest) as caught:
        parse_labels({"A": "é", "B": "ü", "ok": "ö"}, "f")
    assert len(caught.value.violations) == 2


@pytest.mark.parametrize("number", range(-1, 12))
def test_a_purpose_is_one_that_exists(number: int):
    if number in {1, 2, 4}:
        assert parse_purpose(number) is Purpose(number)
    else:
        with refused("key.purpose"):
            parse_purpose(number)


@pytest.mark.parametrize("number", [-1, 0, 1, 2, 3, 4, 16])
def test_a_suite_is_one_that_exists_or_is_left_open(number: int):
    if number == 0:
        assert parse_suite(number) is None
    elif number in {1, 2, 3}:
        assert parse_suite(number) is Suite(number)
    else:
        with refused("key.suite"):
            parse_suite(number)


def test_a_level_is_software_until_others_are_built():
    assert parse_level(0) is parse_level(1) is ProtectionLevel.SOFTWARE
    for later in (2, 3):
        with pytest.raises(NotSupported):
            parse_level(later)
    for number in (-1, 4):
        with refused("key.protection_level"):
            parse_level(number)


def test_the_numbers_of_the_api_are_those_of_the_wire_format():
    assert dict(keys_pb2.Purpose.items()) == {"PURPOSE_UNSPECIFIED": 0} | {p.name: p.value for p in Purpose}
    assert dict(keys_pb2.Suite.items()) == {"SUITE_UNSPECIFIED": 0} | {s.name: s.value for s in Suite}
    assert dict(keys_pb2.ProtectionLevel.items()) == {"PROTECTION_LEVEL_UNSPECIFIED": 0} | {
        level.name: level.value for level in ProtectionLevel
    }


@pytest.mark.parametrize(("seconds", "hours"), [(HOUR, 1), (24 * HOUR, 24), (TEN_YEARS, 87_672)])
def test_a_rotation_period_is_whole_hours(seconds: int, hours: int):
    assert parse_rotation(True, Duration(seconds=seconds), Purpose.ENCRYPT) == hours


@pytest.mark.parametrize(
    ("seconds", "nanos"),
    [(0, 0), (HOUR - 1, 0), (HOUR + 1, 0), (HOUR, 1), (-HOUR, 0), (0, 1), (TEN_YEARS + HOUR, 0), (315_576_000_000, 0)],
)
def test_another_rotation_period_is_refused(seconds: int, nanos: int):
    with refused("key.rotation_period"):
        parse_rotation(True, Duration(seconds=seconds, nanos=nanos), Purpose.DATA_KEY)


def test_an_absent_rotation_period_is_a_day_and_must_be_absent_for_deterministic_keys():
    assert parse_rotation(False, Duration(), Purpose.ENCRYPT) == 24
    assert parse_rotation(False, Duration(), Purpose.DETERMINISTIC) is None
    with refused("key.rotation_period"):
        parse_rotation(True, Duration(seconds=HOUR), Purpose.DETERMINISTIC)


def test_an_etag_has_up_to_64_characters():
    assert parse_etag("e" * 64) == "e" * 64
    assert parse_etag("") == ""
    with refused("etag"):
        parse_etag("e" * 65)


def test_a_varying_pair_that_is_absent_is_not_an_empty_one():
    assert varying_of(crypto_pb2.EncryptBatchRequest()) is None
    varying = varying_of(crypto_pb2.EncryptBatchRequest(varying=crypto_pb2.VaryingContext()))
    assert varying is not None
    assert (varying.key, list(varying.values)) == ("", [])
