import enum
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.wrappers_pb2 import Int32Value
from grpc_health.v1 import health_pb2
from kms_client import (
    HealthStatus,
    KekState,
    KeyState,
    KmsError,
    OperationState,
    PlaceKind,
    ProtectionLevel,
    Purpose,
    StopState,
    Suite,
)
from kms_client.responses import crypto, keys, nodes, operations, places, policies
from kms_client.responses.reading import Page
from kms_client.v1 import census_pb2, crypto_pb2, keys_pb2, operations_pb2, policies_pb2

MOMENT = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)


def test_a_key_is_read_with_typed_values():
    message = keys_pb2.Key(name="tenants/acme/keys/k1", purpose=2, suite=3, protection_level=1, labels={"a": "b"})
    message.create_time.FromDatetime(MOMENT)
    message.rotation_period.FromTimedelta(timedelta(hours=24))
    key = keys.key(message)
    assert (key.purpose, key.suite, key.protection_level) == (
        Purpose.DETERMINISTIC,
        Suite.AES_SIV,
        ProtectionLevel.SOFTWARE,
    )
    assert (key.create_time, key.rotation_period, key.labels) == (MOMENT, timedelta(hours=24), {"a": "b"})


def test_no_rotation_period_is_none_and_not_zero():
    assert keys.key(keys_pb2.Key()).rotation_period is None


def test_a_choice_that_only_a_newer_daemon_knows_is_its_number():
    purpose = keys.key(keys_pb2.Key(purpose=9)).purpose
    assert purpose == 9
    assert not isinstance(purpose, enum.Enum)


def test_versions_have_the_number_of_their_name():
    message = keys_pb2.KeyVersion(name="tenants/acme/keys/k1/versions/12", encryptions_limit=0)
    version = keys.key_version(message)
    assert (version.version, version.encryptions_limit) == (12, None)
    assert keys.kek(keys_pb2.Kek(name="tenants/acme/keks/3")).version == 3


def test_a_version_tells_when_it_was_exposed_and_a_key_whether_it_is_leasable():
    message = keys_pb2.KeyVersion(name="tenants/acme/keys/k1/versions/1")
    assert keys.key_version(message).expose_time is None
    message.expose_time.FromDatetime(MOMENT)
    assert keys.key_version(message).expose_time == MOMENT
    assert [keys.key(keys_pb2.Key(leasable=said)).leasable for said in (False, True)] == [False, True]


LEASED = {
    "key": bytes(32),
    "version": 1,
    "key_uid": "5f0c3c3e-6c3b-4bb8-9d3b-0c1f6f3d2a11",
    "tenant_uid": "0d7c3c3e-6c3b-4bb8-9d3b-0c1f6f3d2a11",
    "lease": timedelta(seconds=5),
}


def test_a_lease_does_not_show_its_key():
    shown = repr(crypto.lease(crypto_pb2.LeaseKeyVersionResponse(**LEASED | {"key": b"0123456789abcdef" * 2})))
    assert "0123" not in shown
    assert LEASED["key_uid"] in shown


@pytest.mark.parametrize(
    "wrong",
    [{"key": bytes(31)}, {"version": 0}, {"lease": timedelta(0)}, {"key_uid": ""}, {"tenant_uid": "acme"}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_lease_that_cannot_be_used_is_refused(wrong):
    crypto.lease(crypto_pb2.LeaseKeyVersionResponse(**LEASED))
    with pytest.raises(KmsError, match="a lease that"):
        crypto.lease(crypto_pb2.LeaseKeyVersionResponse(**LEASED | wrong))


@pytest.mark.parametrize("name", ["", "tenants/acme/keks/", "tenants/acme/keks/x", "tenants/acme/keks/٣", "keks/-1"])
def test_a_version_without_a_number_is_refused(name):
    with pytest.raises(KmsError, match="no number"):
        keys.kek(keys_pb2.Kek(name=name))


def test_a_listing_that_would_never_end_is_refused():
    assert Page([], "b").after("a") == "b"
    assert Page([], "").after("a") == ""
    assert Page([], "").after("") == ""
    with pytest.raises(KmsError, match="same page"):
        Page([], "a").after("a")


def test_another_number_of_random_bytes_than_asked_for_is_refused():
    with pytest.raises(KmsError, match="31 random bytes instead of 32"):
        crypto.random_bytes(32)(crypto_pb2.GenerateRandomBytesResponse(data=bytes(31)))


@pytest.mark.parametrize("status", health_pb2.HealthCheckResponse.ServingStatus.values())
def test_health_has_the_numbers_of_the_standard_protocol(status):
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
    sent = health_pb2.HealthCheckResponse(status=status).SerializeToString()
    assert nodes.health(Int32Value.FromString(sent)).name == name


def test_an_unknown_health_is_unknown():
    assert nodes.health(Int32Value(value=77)) is HealthStatus.UNKNOWN


def test_no_repr_shows_plaintext_or_key_bytes():
    secret = b"attack at dawn"
    shown = (
        crypto.decrypted(crypto_pb2.DecryptResponse(plaintext=secret)),
        crypto.data_key(crypto_pb2.GenerateDataKeyResponse(plaintext=secret)),
        crypto.decrypted_data_key(crypto_pb2.DecryptDataKeyResponse(plaintext=secret)),
    )
    for value in shown:
        assert value.plaintext == secret
        assert "attack" not in repr(value)


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        (KeyState, keys_pb2.KeyState.items()),
        (KekState, [(name.removeprefix("KEK_"), number) for name, number in keys_pb2.KekState.items()]),
        (StopState, keys_pb2.NodeStop.State.items()),
        (OperationState, operations_pb2.Operation.State.items()),
        (PlaceKind, census_pb2.Place.Kind.items()),
    ],
)
def test_choices_have_the_names_and_numbers_of_the_api(kind, numbers):
    assert {(member.name, int(member)) for member in kind} == {(name, n) for name, n in numbers if n != 0}


@pytest.mark.parametrize(
    "read",
    [
        lambda n: keys.key(keys_pb2.Key(state=n)).state,
        lambda n: keys.key_version(keys_pb2.KeyVersion(name="versions/1", state=n)).state,
        lambda n: keys.kek(keys_pb2.Kek(name="keks/1", state=n)).state,
        lambda n: keys.propagation(keys_pb2.Propagation(nodes=[keys_pb2.NodeStop(state=n)])).nodes[0].state,
        lambda n: operations.operation(operations_pb2.Operation(state=n)).state,
        lambda n: places.place(census_pb2.Place(kind=n)).kind,
        lambda n: keys.key(keys_pb2.Key(classification=n)).classification,
        lambda n: policies.policy(policies_pb2.Policy(classification=n)).classification,
    ],
)
def test_a_state_that_only_a_newer_daemon_knows_is_its_number(read):
    assert isinstance(read(1), enum.Enum)
    assert read(77) == 77
    assert not isinstance(read(77), enum.Enum)


def filled(kind, **given):
    """Make a message in which no field has its default."""
    message = kind()
    for field in kind.DESCRIPTOR.fields:
        if field.name in given:
            continue
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.full_name == "google.protobuf.Timestamp":
            value.FromDatetime(MOMENT)
        elif field.message_type is not None and field.message_type.full_name == "google.protobuf.Duration":
            value.FromTimedelta(timedelta(hours=field.number))
        elif field.is_repeated:
            value.extend(["one", "two"] if field.cpp_type == field.CPPTYPE_STRING else [1, 2])
        elif field.message_type is None:
            setattr(message, field.name, {str: field.name, bool: True}.get(type(value), field.number))
    message.MergeFrom(kind(**given))
    return message


def same(value, message, *, unlike=()):
    """Assert that each field of a value is what the message says under the same name."""
    for name in value.__slots__:
        if name in unlike:
            continue
        sent = getattr(message, name)
        if hasattr(sent, "ToTimedelta"):
            sent = sent.ToTimedelta()
        elif hasattr(sent, "ToDatetime"):
            sent = sent.ToDatetime(tzinfo=UTC)
        elif isinstance(getattr(value, name), tuple):
            sent = tuple(sent)
        assert getattr(value, name) == sent, name


def test_every_field_of_a_key_arrives():
    effective = filled(keys_pb2.EffectivePolicy)
    message = filled(keys_pb2.Key, labels={"a": "b"}, effective_policy=effective)
    key = keys.key(message)
    assert set(key.__slots__) == set(keys_pb2.Key.DESCRIPTOR.fields_by_name)
    same(key, message, unlike=("effective_policy",))
    assert set(key.effective_policy.__slots__) == set(keys_pb2.EffectivePolicy.DESCRIPTOR.fields_by_name)
    same(key.effective_policy, effective)


def test_every_field_of_a_version_and_its_census_arrives():
    census = filled(
        keys_pb2.VersionCensus,
        places=[keys_pb2.PlaceTally(place="crm", count=5), keys_pb2.PlaceTally(place="web", count=2)],
        unknown_reasons=["place old has not been counted"],
    )
    message = filled(keys_pb2.KeyVersion, name="tenants/acme/keys/k1/versions/3", census=census)
    version = keys.key_version(message)
    assert set(version.__slots__) == {"version", *keys_pb2.KeyVersion.DESCRIPTOR.fields_by_name}
    same(version, message, unlike=("version", "census"))
    assert set(version.census.__slots__) == set(keys_pb2.VersionCensus.DESCRIPTOR.fields_by_name)
    same(version.census, census, unlike=("places", "unknown_reasons"))
    assert version.census.places == {"crm": 5, "web": 2}
    assert version.census.unknown_reasons == ("place old has not been counted",)


def test_every_field_of_keks_policies_and_operations_arrives():
    kek = filled(keys_pb2.Kek, name="tenants/acme/keks/3")
    assert set(keys.kek(kek).__slots__) == {"version", *keys_pb2.Kek.DESCRIPTOR.fields_by_name}
    same(keys.kek(kek), kek, unlike=("version",))
    policy = filled(policies_pb2.Policy)
    assert set(policies.policy(policy).__slots__) == set(policies_pb2.Policy.DESCRIPTOR.fields_by_name)
    same(policies.policy(policy), policy)
    rules = filled(policies_pb2.ClassRules)
    [answer] = policies.classes(policies_pb2.ListClassesResponse(classes=[rules]))
    assert set(answer.__slots__) == set(policies_pb2.ClassRules.DESCRIPTOR.fields_by_name)
    same(answer, rules)
    operation = filled(operations_pb2.Operation)
    assert set(operations.operation(operation).__slots__) == set(operations_pb2.Operation.DESCRIPTOR.fields_by_name)
    same(operations.operation(operation), operation)


def test_what_a_key_does_not_have_otherwise_is_none_and_not_zero():
    key = keys.key(keys_pb2.Key())
    absent = (key.rotation_period, key.encryption_limit, key.cache_lifetime, key.quarantine_period, key.grace_period)
    assert {*absent, key.automatic_retirement, key.destroy_time, key.next_rotation_time} == {None}
    assert key.places_complete_time is None
    own = keys.key(keys_pb2.Key(encryption_limit=0, automatic_retirement=False))
    assert (own.encryption_limit, own.automatic_retirement) == (0, False)


def test_a_census_of_which_nothing_is_told_is_unknown_and_not_zero():
    census = keys.key_version(keys_pb2.KeyVersion(name="versions/1")).census
    assert (census.known, census.zero) == (False, False)
    assert places.version_census(keys_pb2.VersionCensus(known=True)).zero
    assert not places.version_census(keys_pb2.VersionCensus(known=True, count=1)).zero
    assert not places.version_census(keys_pb2.VersionCensus(unknown_reasons=["never counted"])).zero


def test_a_node_that_is_waited_for_has_not_stopped_after_no_time():
    stopped = keys.propagation(keys_pb2.Propagation(nodes=[keys_pb2.NodeStop(node="a", state=1)]))
    assert (stopped.complete, stopped.last_stop, stopped.nodes[0].after) == (False, None, None)
