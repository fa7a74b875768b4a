"""Fields at the bounds that their comments in the .proto name."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration

from kms.core.classification import Classification
from kms.core.errors import InvalidRequest, NotSupported
from kms.core.names import TenantName
from kms.core.policy import BUILT_IN, DEFAULT, NEVER, AuditContext, Overrides, Policy
from kms.core.suites import ProtectionLevel, Purpose, Suite
from kms.rpc.fields import (
    POLICY_FIELDS,
    PROTECTIONS,
    RULE_FIELDS,
    parse_display_name,
    parse_etag,
    parse_labels,
    parse_level,
    parse_mask,
    parse_overrides,
    parse_policy_of,
    parse_purpose,
    parse_reason,
    parse_rules,
    parse_suite,
    parse_waiting,
    varying_of,
)
from kms.v1 import crypto_pb2, keys_pb2, policies_pb2

HOUR = 3600


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
    if number in {1, 2, 4, 6, 7, 8}:
        assert parse_purpose(number) is Purpose(number)
    else:
        with refused("key.purpose"):
            parse_purpose(number)


@pytest.mark.parametrize("number", [-1, 0, 1, 2, 3, 4, 16, 64, 65, 66])
def test_a_suite_is_one_that_exists_or_is_left_open(number: int):
    if number == 0:
        assert parse_suite(number) is None
    elif number in {1, 2, 3, 64, 65}:
        assert parse_suite(number) is Suite(number)
    else:
        with refused("key.suite"):
            parse_suite(number)


def test_a_level_is_left_to_the_class_or_software_or_enclave():
    assert parse_level(0) is None
    assert parse_level(1) is ProtectionLevel.SOFTWARE
    assert parse_level(2) is ProtectionLevel.ENCLAVE
    with pytest.raises(NotSupported):
        parse_level(3)
    for number in (-1, 4):
        with refused("key.protection_level"):
            parse_level(number)


def test_the_numbers_of_the_api_are_those_of_the_wire_format():
    assert dict(keys_pb2.Purpose.items()) == {"PURPOSE_UNSPECIFIED": 0} | {p.name: p.value for p in Purpose}
    assert dict(keys_pb2.Suite.items()) == {"SUITE_UNSPECIFIED": 0} | {s.name: s.value for s in Suite}
    assert dict(keys_pb2.Classification.items()) == {"CLASSIFICATION_UNSPECIFIED": 0} | {
        c.name: c.value for c in Classification
    }
    assert dict(keys_pb2.ProtectionLevel.items()) == {"PROTECTION_LEVEL_UNSPECIFIED": 0} | {
        level.name: level.value for level in ProtectionLevel
    }


# (field, unit in seconds, fewest units, most units), as beside the field in the .proto
PERIODS = [
    ("rotation_period", HOUR, 1, 87_672),
    ("cache_lifetime", 1, 1, 86_400),
    ("quarantine_period", HOUR, 7 * 24, 87_672),
    ("grace_period", 1, 60, 30 * 86_400),
]


@pytest.mark.parametrize(("field", "unit", "fewest", "most"), PERIODS, ids=[row[0] for row in PERIODS])
def test_a_period_is_whole_units_within_its_bounds(field: str, unit: int, fewest: int, most: int):
    for number in (fewest, fewest + 1, most):
        period = Duration(seconds=number * unit)
        expected = {RULE_FIELDS[field]: timedelta(seconds=number * unit)}
        assert parse_overrides(keys_pb2.Key(**{field: period}), [field], Purpose.ENCRYPT) == expected
        assert parse_rules(policies_pb2.Policy(**{field: period}), [field]) == expected
    bad = [
        ((fewest - 1) * unit, 1),
        (most * unit, 1),
        ((most + 1) * unit, 0),
        (-fewest * unit, 0),
        (315_576_000_000, 0),
    ]
    bad += [(fewest * unit - 1, 0)] if fewest * unit > 1 else []
    bad += [(fewest * unit + 1, 0)] if unit > 1 else []
    for seconds, nanos in bad:
        period = Duration(seconds=seconds, nanos=nanos)
        with refused(f"key.{field}"):
            parse_overrides(keys_pb2.Key(**{field: period}), [field], Purpose.DATA_KEY)
        with refused(f"policy.{field}"):
            parse_rules(policies_pb2.Policy(**{field: period}), [field])


def test_what_a_key_lacks_is_as_its_policy_and_what_a_policy_lacks_is_the_default():
    assert Overrides(**parse_overrides(keys_pb2.Key(), RULE_FIELDS, Purpose.ENCRYPT)) == Overrides()
    assert Policy(**parse_rules(policies_pb2.Policy(), RULE_FIELDS)) == DEFAULT
    assert parse_rules(policies_pb2.Policy(), ["grace_period"]) == {"grace": DEFAULT.grace}


def test_every_rule_of_a_policy_has_a_field():
    assert set(RULE_FIELDS.values()) == {f.name for f in fields(Overrides)}
    assert {*RULE_FIELDS.values(), *PROTECTIONS} == {f.name for f in fields(Policy)}
    assert set(POLICY_FIELDS) == set(policies_pb2.Policy.DESCRIPTOR.fields_by_name) - {
        "name",
        "version",
        "create_time",
        "creator",
    }


def test_what_a_policy_demands_beyond_its_class_is_checked():
    def read(**given):
        return parse_rules(policies_pb2.Policy(**given), PROTECTIONS)

    assert read() == {
        "classification": Classification.INTERNAL,
        "required_context": (),
        "log_data_access": False,
        "approvals": 0,
        "audit_context": AuditContext.HASHED,
    }
    keys = [f"k{number}" for number in range(10, 26)]
    assert read(
        classification=3, required_context=reversed(keys), log_data_access=True, approvals=10, audit_context=3
    ) == {
        "classification": Classification.CONFIDENTIAL,
        "required_context": tuple(keys),
        "log_data_access": True,
        "approvals": 10,
        "audit_context": AuditContext.NONE,
    }
    for field, value in (
        ("classification", 5),
        ("classification", -1),
        ("audit_context", 4),
        ("approvals", 11),
        ("required_context", [*keys, "k26"]),
        ("required_context", ["row", "row"]),
    ):
        with refused(f"policy.{field}"):
            read(**{field: value})
    for key in ("kms.tenant", "Row", "", "a,b", "x" * 65):
        with refused("policy.required_context[1]"):
            read(required_context=["row", key])


def test_what_a_policy_lacks_is_as_the_built_in_one_of_its_class():
    for classification, default in ((c, BUILT_IN[c.slug]) for c in Classification):
        message = policies_pb2.Policy(classification=classification.name)
        assert Policy(**parse_rules(message, POLICY_FIELDS, default)) == default


def test_only_a_policy_may_say_never_by_time():
    assert parse_rules(policies_pb2.Policy(rotation_period=Duration()), ["rotation_period"]) == {"rotation": NEVER}
    with refused("key.rotation_period"):
        parse_overrides(keys_pb2.Key(rotation_period=Duration()), ["rotation_period"], Purpose.ENCRYPT)
    for field in ("cache_lifetime", "quarantine_period", "grace_period"):
        with refused(f"policy.{field}"):
            parse_rules(policies_pb2.Policy(**{field: Duration()}), [field])


def test_a_limit_of_encryptions_is_1000_or_more_and_fits_the_database():
    for number in (1_000, 2**32, 2**63 - 1):
        assert parse_rules(policies_pb2.Policy(encryption_limit=number), RULE_FIELDS)["encryption_limit"] == number
        given = keys_pb2.Key(encryption_limit=number)
        assert parse_overrides(given, ["encryption_limit"], Purpose.ENCRYPT) == {"encryption_limit": number}
    for number in (1, 999, 2**63, 2**64 - 1):
        with refused("policy.encryption_limit"):
            parse_rules(policies_pb2.Policy(encryption_limit=number), RULE_FIELDS)
    for number in (0, 1, 999, 2**63, 2**64 - 1):
        with refused("key.encryption_limit"):
            parse_overrides(keys_pb2.Key(encryption_limit=number), ["encryption_limit"], Purpose.ENCRYPT)


@pytest.mark.parametrize("purpose", [Purpose.DETERMINISTIC, Purpose.INDEX])
def test_a_deterministic_or_index_key_is_not_rotated_by_itself(purpose):
    given = keys_pb2.Key(grace_period=Duration(seconds=60), automatic_retirement=False)
    assert parse_overrides(given, ["grace_period", "automatic_retirement"], purpose) == {
        "grace": timedelta(minutes=1),
        "automatic_retirement": False,
    }
    for key in (keys_pb2.Key(rotation_period=Duration(seconds=HOUR)), keys_pb2.Key(encryption_limit=1_000)):
        with pytest.raises(InvalidRequest, match=f"must be absent for a key of purpose {purpose.name}"):
            parse_overrides(key, RULE_FIELDS, purpose)


@pytest.mark.parametrize(
    "text", ["x", "x" * 256, "laptop lost; ticket 4711", "L\N{LATIN SMALL LETTER O WITH DIAERESIS}"]
)
def test_a_reason_has_1_to_256_characters(text: str):
    assert parse_reason(text) == text


@pytest.mark.parametrize("text", ["", "x" * 257, "a\nb", "\0", "\x7f", "\x85"])
def test_another_reason_is_refused(text: str):
    with refused("reason"):
        parse_reason(text)


def test_a_waiting_period_is_whole_hours_from_7_days_on():
    assert parse_waiting(False, Duration()) is None
    for hours in (168, 720, 87_672):
        assert parse_waiting(True, Duration(seconds=hours * HOUR)) == timedelta(hours=hours)
    for seconds in (0, 167 * HOUR, 168 * HOUR + 1, 87_673 * HOUR, -168 * HOUR):
        with refused("waiting_period"):
            parse_waiting(True, Duration(seconds=seconds))


def test_a_policy_is_one_of_the_keys_tenant():
    acme = TenantName("acme")
    assert parse_policy_of("", acme) == ""
    assert parse_policy_of("tenants/acme/policies/gold", acme) == "gold"
    for text in ("gold", "tenants/globex/policies/gold", "tenants/acme/policies/", "tenants/acme/keys/gold", "x" * 999):
        with refused("key.policy"):
            parse_policy_of(text, acme)


def test_a_mask_names_what_may_be_changed():
    known = ("aa", "bb")
    assert parse_mask(["bb", "aa"], known) == ["bb", "aa"]
    assert parse_mask(["*"], known) == ["aa", "bb"]
    for paths in ([], ["cc"], ["*", "aa"], [""], ["aa.x"], ["x" * 10_000]):
        with refused("update_mask") as caught:
            parse_mask(paths, known)
        assert len(str(caught.value)) < 200


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
