from datetime import UTC, datetime, timedelta, timezone
from typing import get_args

import pytest
from kms_client import Classification, InvalidRequest, Purpose, Rule
from kms_client.requests import crypto, keys, places, policies
from kms_client.requests.rules import RULES, Protections, Rules
from kms_client.v1 import keys_pb2, policies_pb2

KEY = "tenants/acme/keys/payroll"
NO_RULES = Rules(None, None, None, None, None, None)


def update(*, display_name=None, labels=None, policy=None, clear=(), etag="", **rules):
    return keys.update_key(
        KEY,
        display_name=display_name,
        labels=labels,
        policy=policy,
        rules=Rules(**{name: rules.get(name) for name in RULES}),
        clear=clear,
        etag=etag,
    ).message


def test_a_context_of_text_stands_for_its_utf8_and_bytes_for_themselves():
    message = crypto.encrypt(KEY, b"x", {"table": "Löhne", "row": b"\xc3\xb6", "none": ""}).message
    assert [(p.key, p.value) for p in message.context] == [
        ("table", "Löhne".encode()),
        ("row", b"\xc3\xb6"),
        ("none", b""),
    ]


@pytest.mark.parametrize("value", [17, None, True, ["a"], bytearray(b"a")])
def test_a_context_value_with_no_form_of_its_own_is_refused(value):
    with pytest.raises(TypeError, match=r"context\[0\]\.value"):
        crypto.encrypt(KEY, b"x", {"row": value})


@pytest.mark.parametrize("plaintext", [None, "text", 3, bytearray(b"a")])
def test_a_plaintext_that_is_not_bytes_is_refused_and_never_taken_for_empty(plaintext):
    with pytest.raises(TypeError):
        crypto.encrypt(KEY, plaintext, None)
    with pytest.raises(TypeError):
        crypto.decrypt(KEY, plaintext, None)


def test_text_that_is_no_utf8_names_its_field():
    with pytest.raises(InvalidRequest, match="name: must be UTF-8"):
        keys.get_key("tenants/\udcff")
    with pytest.raises(InvalidRequest, match=r"context\[0\]\.value: must be UTF-8"):
        crypto.encrypt(KEY, b"", {"row": "\udcff"})
    with pytest.raises(InvalidRequest, match="display_name: must be UTF-8"):
        update(display_name="\udcff")


@pytest.mark.parametrize("length", [-1, 2**31, 2**80])
def test_absurd_numbers_name_their_field(length):
    with pytest.raises(InvalidRequest, match="length: must be 0 to"):
        crypto.generate_random_bytes(length)
    with pytest.raises(InvalidRequest, match="page_size"):
        keys.list_keys("tenants/acme", length)("")


def test_an_update_changes_what_is_given_and_nothing_else():
    message = update(labels={}, rotation_period=timedelta(days=90), etag="7")
    assert list(message.update_mask.paths) == ["labels", "rotation_period"]
    assert message.key.rotation_period.seconds == 90 * 24 * 3600
    assert (message.key.name, message.key.etag) == (KEY, "7")
    assert list(update(display_name="").update_mask.paths) == ["display_name"]
    assert list(update(policy="").update_mask.paths) == ["policy"]


def test_false_and_zero_are_given_and_not_left_out():
    message = update(automatic_retirement=False, encryption_limit=0)
    assert list(message.update_mask.paths) == ["encryption_limit", "automatic_retirement"]
    assert message.key.HasField("encryption_limit")
    assert message.key.HasField("automatic_retirement")


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_that_is_cleared_is_named_and_absent(rule):
    message = update(clear={rule})
    assert list(message.update_mask.paths) == [rule]
    assert not message.key.HasField(rule)


def test_clearing_takes_only_rules_and_contradicts_no_value():
    with pytest.raises(InvalidRequest, match="clear: must be out of rotation_period, encryption_limit"):
        update(clear=("labels",))
    with pytest.raises(InvalidRequest, match="clear: must not name grace_period, which is given a value"):
        update(clear=("grace_period",), grace_period=timedelta(hours=1))
    with pytest.raises(TypeError, match="clear"):
        update(clear="grace_period")


def test_rules_are_the_fields_that_keys_and_policies_share():
    shared = set(keys_pb2.Key.DESCRIPTOR.fields_by_name) & set(policies_pb2.Policy.DESCRIPTOR.fields_by_name)
    assert set(get_args(Rule)) == shared - {"name", "create_time", "creator", "classification"}


def test_keys_of_a_context_are_a_collection_of_texts():
    assert Protections(None, {"row"}, None, None).given() == {"required_context": ["row"]}
    assert Protections(None, (), None, None).given() == {"required_context": []}
    with pytest.raises(TypeError, match="required_context"):
        Protections(None, "row", None, None).given()
    with pytest.raises(InvalidRequest, match="required_context"):
        Protections(None, ["\ud800"], None, None).given()


def test_the_classes_are_those_of_the_api():
    wanted = {"CLASSIFICATION_UNSPECIFIED": 0} | {c.name: c.value for c in Classification}
    assert dict(keys_pb2.Classification.items()) == wanted


def test_an_update_of_nothing_is_refused():
    with pytest.raises(InvalidRequest, match="update_mask"):
        update(etag="7")
    with pytest.raises(InvalidRequest, match="update_mask"):
        policies.update_policy("tenants/acme/policies/gold", NO_RULES, Protections(None, None, None, None), 4)


def test_what_a_new_key_leaves_open_is_left_to_the_daemon():
    message = keys.create_key(
        "tenants/acme",
        "payroll",
        Purpose.ENCRYPT,
        suite=None,
        protection_level=None,
        display_name="",
        labels=None,
        policy="",
        rules=NO_RULES,
        leasable=False,
        pending=False,
    ).message
    assert message == keys_pb2.CreateKeyRequest(parent="tenants/acme", key_id="payroll", key=keys_pb2.Key(purpose=1))
    assert not [rule for rule in RULES if message.key.HasField(rule)]


def test_numbers_of_64_bits_may_be_large_and_absurd_ones_name_their_field():
    assert update(encryption_limit=2**45).key.encryption_limit == 2**45
    for limit in (-1, 2**63):
        with pytest.raises(InvalidRequest, match="encryption_limit: must be 0 to 9223372036854775807"):
            update(encryption_limit=limit)


def test_a_count_has_a_time_with_a_zone():
    moment = datetime(2026, 3, 1, 13, 30, tzinfo=timezone(timedelta(hours=1)))
    message = places.report_census(f"{KEY}/places/p1", {}, moment).message
    assert message.count_time.ToDatetime(tzinfo=UTC) == datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    with pytest.raises(InvalidRequest, match="count_time: must have a time zone"):
        places.report_census(f"{KEY}/places/p1", {}, datetime(2026, 3, 1))  # noqa: DTZ001


@pytest.mark.parametrize(("counts", "field"), [({-1: 1}, "version"), ({2**31: 1}, "version"), ({1: -1}, "count")])
def test_a_count_out_of_range_names_its_field(counts, field):
    with pytest.raises(InvalidRequest, match=f"{field}: must be 0 to"):
        places.report_census(f"{KEY}/places/p1", counts, datetime.now(UTC))


@pytest.mark.parametrize(
    "make",
    [crypto.decrypt, lambda *arguments: crypto.reencrypt(*arguments, ""), crypto.decrypt_data_key],
    ids=["decrypt", "reencrypt", "decrypt_data_key"],
)
def test_a_value_that_no_message_can_hold_names_its_field(make):
    with pytest.raises(InvalidRequest, match="ciphertext: must hold at most 1048576 bytes"):
        make(KEY, bytes(5 << 20), None)
    with pytest.raises(InvalidRequest, match="plaintext: must hold at most 1048576 bytes"):
        crypto.encrypt(KEY, bytes(5 << 20), None)
    assert len(make(KEY, bytes((1 << 20) + 62), None).message.ciphertext) == (1 << 20) + 62
