import enum
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.wrappers_pb2 import Int32Value
from grpc_health.v1 import health_pb2
from kms_client import HealthStatus, KmsError, ProtectionLevel, Purpose, Suite, responses
from kms_client.responses import Page
from kms_client.v1 import crypto_pb2, keys_pb2

MOMENT = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)


def test_a_key_is_read_with_typed_values():
    message = keys_pb2.Key(name="tenants/acme/keys/k1", purpose=2, suite=3, protection_level=1, labels={"a": "b"})
    message.create_time.FromDatetime(MOMENT)
    message.rotation_period.FromTimedelta(timedelta(hours=24))
    key = responses.key(message)
    assert (key.purpose, key.suite, key.protection_level) == (
        Purpose.DETERMINISTIC,
        Suite.AES_SIV,
        ProtectionLevel.SOFTWARE,
    )
    assert (key.create_time, key.rotation_period, key.labels) == (MOMENT, timedelta(hours=24), {"a": "b"})


def test_no_rotation_period_is_none_and_not_zero():
    assert responses.key(keys_pb2.Key()).rotation_period is None


def test_a_choice_that_only_a_newer_daemon_knows_is_its_number():
    purpose = responses.key(keys_pb2.Key(purpose=9)).purpose
    assert purpose == 9
    assert not isinstance(purpose, enum.Enum)


def test_versions_have_the_number_of_their_name():
    message = keys_pb2.KeyVersion(name="tenants/acme/keys/k1/versions/12", encryptions_limit=0)
    version = responses.key_version(message)
    assert (version.version, version.encryptions_limit) == (12, None)
    assert responses.kek(keys_pb2.Kek(name="tenants/acme/keks/3")).version == 3


@pytest.mark.parametrize("name", ["", "tenants/acme/keks/", "tenants/acme/keks/x", "tenants/acme/keks/٣", "keks/-1"])
def test_a_version_without_a_number_is_refused(name):
    with pytest.raises(KmsError, match="no number"):
        responses.kek(keys_pb2.Kek(name=name))


def test_a_listing_that_would_never_end_is_refused():
    assert Page([], "b").after("a") == "b"
    assert Page([], "").after("a") == ""
    assert Page([], "").after("") == ""
    with pytest.raises(KmsError, match="same page"):
        Page([], "a").after("a")


def test_another_number_of_random_bytes_than_asked_for_is_refused():
    with pytest.raises(KmsError, match="31 random bytes instead of 32"):
        responses.random_bytes(32)(crypto_pb2.GenerateRandomBytesResponse(data=bytes(31)))


@pytest.mark.parametrize("status", health_pb2.HealthCheckResponse.ServingStatus.values())
def test_health_has_the_numbers_of_the_standard_protocol(status):
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
    sent = health_pb2.HealthCheckResponse(status=status).SerializeToString()
    assert responses.health(Int32Value.FromString(sent)).name == name


def test_an_unknown_health_is_unknown():
    assert responses.health(Int32Value(value=77)) is HealthStatus.UNKNOWN


def test_no_repr_shows_plaintext_or_key_bytes():
    secret = b"attack at dawn"
    shown = (
        responses.decrypted(crypto_pb2.DecryptResponse(plaintext=secret)),
        responses.data_key(crypto_pb2.GenerateDataKeyResponse(plaintext=secret)),
        responses.decrypted_data_key(crypto_pb2.DecryptDataKeyResponse(plaintext=secret)),
    )
    for value in shown:
        assert value.plaintext == secret
        assert "attack" not in repr(value)
