"""Encrypting and decrypting through a real daemon, token and database."""

from __future__ import annotations

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kms_client.formats import errors
from kms_client.formats.ciphertext import Header

from kms.core.suites import Purpose, Suite
from kms.v1 import crypto_pb2, crypto_pb2_grpc
from tests.daemon import Installation, Service, channel, key_slug, wait_for_service

KEYS = ("encrypt", "extended", "deterministic")
ROW = {"table": "users", "column": "email"}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("plaintext", [b"", b"x", "žluťoučký 🔑".encode(), bytes(1 << 20)], ids=len)
def test_what_is_encrypted_decrypts_in_its_context(service: Service, key: str, plaintext: bytes) -> None:
    name = f"tenants/acme/keys/{key}"
    made = service.acme.encrypt(name, plaintext, context=ROW)
    found = service.acme.decrypt(name, made.ciphertext, context=ROW)
    assert (found.plaintext, found.version, found.primary) == (plaintext, made.version, True)
    # A byte of plaintext may stand in a ciphertext by chance.
    assert len(plaintext) < 16 or plaintext[:16] not in made.ciphertext


def test_a_ciphertext_names_its_key_and_version(service: Service) -> None:
    name = "tenants/acme/keys/encrypt"
    header = Header.parse(service.acme.encrypt(name, b"x", context=ROW).ciphertext)
    key = service.acme.get_key(name)
    assert (str(header.key), header.version, header.suite) == (key.uid, key.primary_version, Suite.AES_256_GCM)


def test_randomized_keys_hide_equality_and_deterministic_keys_show_it(service: Service) -> None:
    def twice(key: str) -> set[bytes]:
        return {service.acme.encrypt(f"tenants/acme/keys/{key}", b"same", context=ROW).ciphertext for _ in range(2)}

    assert len(twice("encrypt")) == len(twice("extended")) == 2
    assert len(twice("deterministic")) == 1


def test_the_order_of_the_context_does_not_matter(service: Service) -> None:
    name = "tenants/acme/keys/encrypt"
    made = service.acme.encrypt(name, b"x", context={"a": "1", "b": "2"})
    assert service.acme.decrypt(name, made.ciphertext, context={"b": "2", "a": "1"}).plaintext == b"x"


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "context",
    [{}, {"table": "users"}, {"table": "users", "column": "phone"}, {"table": "Users", "column": "email"}],
    ids=str,
)
def test_another_context_does_not_decrypt(service: Service, key: str, context: dict[str, str]) -> None:
    name = f"tenants/acme/keys/{key}"
    made = service.acme.encrypt(name, b"secret", context=ROW)
    with pytest.raises(errors.CannotDecrypt):
        service.acme.decrypt(name, made.ciphertext, context=context)


def test_every_altered_byte_is_refused(service: Service) -> None:
    name = "tenants/acme/keys/encrypt"
    made = service.acme.encrypt(name, b"secret", context=ROW).ciphertext
    altered = [made[:i] + bytes([made[i] ^ 0x40]) + made[i + 1 :] for i in range(len(made))]
    result = service.acme.decrypt_batch(name, altered, context=ROW)
    assert len(altered) == 22 + 12 + 6 + 16
    assert sorted(result.failures) == list(range(len(altered)))
    assert result.values == [None] * len(altered)
    assert {type(error) for error in result.failures.values()} == {errors.CannotDecrypt, errors.InvalidRequest}


def test_every_truncation_is_refused(service: Service) -> None:
    name = "tenants/acme/keys/encrypt"
    made = service.acme.encrypt(name, b"secret", context=ROW).ciphertext
    cut = [made[:length] for length in range(len(made))]
    result = service.acme.decrypt_batch(name, cut, context=ROW)
    assert sorted(result.failures) == list(range(len(cut)))


def test_a_ciphertext_of_another_tenant_does_not_decrypt(service: Service) -> None:
    foreign = service.globex.encrypt("tenants/globex/keys/encrypt", b"secret", context=ROW).ciphertext
    with pytest.raises(errors.CannotDecrypt):
        service.acme.decrypt("tenants/acme/keys/encrypt", foreign, context=ROW)


def test_anothers_key_and_no_key_get_the_same_answer(service: Service) -> None:
    answers = []
    for name in ("tenants/globex/keys/encrypt", "tenants/nobody/keys/encrypt", "tenants/acme/keys/absent"):
        with pytest.raises(errors.NotFound) as caught:
            service.acme.encrypt(name, b"x")
        answers.append(str(caught.value).replace(name, "<name>"))
    assert len(set(answers)) == 1


def test_a_key_serves_its_purpose_only(service: Service) -> None:
    with pytest.raises(errors.WrongPurpose):
        service.acme.encrypt("tenants/acme/keys/data-key", b"x")
    for purpose in (Purpose.ENCRYPT, Purpose.DETERMINISTIC):
        with pytest.raises(errors.WrongPurpose):
            service.acme.generate_data_key(f"tenants/acme/keys/{key_slug(purpose)}")


def test_a_deterministic_key_takes_table_and_column_only(service: Service) -> None:
    name = "tenants/acme/keys/deterministic"
    with pytest.raises(errors.InvalidRequest, match=r"context\[0\].key: must be table or column"):
        service.acme.encrypt(name, b"x", context={"row": "1"})
    with pytest.raises(errors.InvalidRequest, match="varying: must be absent"):
        service.acme.encrypt_batch(name, [b"x"], context=ROW, varying=("row", ["1"]))


def test_a_data_key_comes_back_in_its_context_only(service: Service) -> None:
    name = "tenants/acme/keys/data-key"
    made = service.acme.generate_data_key(name, context={"file": "1"})
    assert len(made.plaintext) == 32
    assert service.acme.decrypt_data_key(name, made.ciphertext, context={"file": "1"}).plaintext == made.plaintext
    with pytest.raises(errors.CannotDecrypt):
        service.acme.decrypt_data_key(name, made.ciphertext, context={"file": "2"})


def test_random_bytes_have_the_length_asked_for_and_differ(service: Service) -> None:
    first, second = service.acme.generate_random_bytes(1024), service.acme.generate_random_bytes(1024)
    assert len(first) == len(second) == 1024
    assert first != second


@pytest.mark.parametrize("key", ["encrypt", "extended"])
def test_a_batch_is_the_same_as_single_calls(service: Service, key: str) -> None:
    name = f"tenants/acme/keys/{key}"
    values = [f"value {i}".encode() for i in range(600)]
    rows = [str(i) for i in range(600)]
    batch = service.acme.encrypt_batch(name, values, context=ROW, varying=("row", rows)).complete()
    assert len(batch) == 600
    for i in (0, 255, 256, 599):
        assert service.acme.decrypt(name, batch[i], context={**ROW, "row": rows[i]}).plaintext == values[i]
    single = service.acme.encrypt(name, b"alone", context={**ROW, "row": "7"}).ciphertext
    found = service.acme.decrypt_batch(name, [single, *batch], context=ROW, varying=("row", ["7", *rows]))
    assert found.complete() == [b"alone", *values]


def test_one_bad_item_does_not_spoil_its_neighbours(service: Service) -> None:
    name = "tenants/acme/keys/encrypt"
    values = [b"a", b"b", b"c", bytes((1 << 20) + 1), b"e"]
    stub = crypto_pb2_grpc.CryptoServiceStub(channel(service.acme_profile))
    made = stub.EncryptBatch(
        crypto_pb2.EncryptBatchRequest(
            name=name,
            plaintexts=values,
            varying=crypto_pb2.VaryingContext(key="row", values=[b"0", b"\xff", b"nul\0", b"3", b"4"]),
        )
    )
    assert [failure.index for failure in made.failures] == [1, 2, 3]
    assert [len(value) for value in made.ciphertexts] == [51, 0, 0, 0, 51]
    rules = [failure.status.message for failure in made.failures]
    assert rules == [
        "varying.values[1]: must be UTF-8",
        "varying.values[2]: must not contain NUL",
        "plaintexts[3]: must have at most 1048576 bytes, has 1048577",
    ]
    found = service.acme.decrypt_batch(
        name, [made.ciphertexts[0], b"garbage", made.ciphertexts[4]], varying=("row", ["0", "1", "4"])
    )
    assert found.values == [b"a", None, b"e"]
    assert isinstance(found.failures[1], errors.InvalidRequest)


def test_ciphertexts_of_many_versions_decrypt_in_one_batch_and_reencrypt_to_the_primary(service: Service) -> None:
    name = "tenants/acme/keys/rotating"
    service.acme.create_key("tenants/acme", "rotating", purpose=Purpose.ENCRYPT)
    made = []
    for i in range(4):
        made.append(service.acme.encrypt(name, f"{i}".encode(), context=ROW).ciphertext)
        service.acme.rotate_key(name)
    assert [Header.parse(c).version for c in made] == [1, 2, 3, 4]
    mixed = [made[i % 4] for i in range(100)]
    want = [f"{i % 4}".encode() for i in range(100)]
    found = service.acme.decrypt_batch(name, mixed, context=ROW)
    assert (found.complete(), found.primary_version) == (want, 5)
    brought = service.acme.reencrypt_batch(name, mixed, context=ROW)
    assert brought.changed == 100
    assert {Header.parse(c).version for c in brought.complete()} == {5}
    assert service.acme.decrypt_batch(name, brought.complete(), context=ROW).complete() == want
    again = service.acme.reencrypt_batch(name, brought.complete(), context=ROW)
    assert (again.changed, again.values) == (0, brought.values)
    one = service.acme.reencrypt(name, made[0], context=ROW)
    assert (one.changed, one.version) == (True, 5)
    assert service.acme.reencrypt(name, one.ciphertext, context=ROW).ciphertext == one.ciphertext


def test_reencryption_checks_the_context_of_what_is_already_current(service: Service) -> None:
    name = "tenants/acme/keys/encrypt"
    made = service.acme.encrypt(name, b"x", context=ROW).ciphertext
    with pytest.raises(errors.CannotDecrypt):
        service.acme.reencrypt(name, made, context={"table": "other"})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.binary(max_size=80), min_size=1, max_size=40),
    context=st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_.-]{0,20}", fullmatch=True).filter(
            lambda key: not key.startswith("kms.") and key != "row"
        ),
        st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=30),
        max_size=5,
    ),
)
def test_any_values_in_any_legal_context_come_back(
    service: Service, values: list[bytes], context: dict[str, str]
) -> None:
    name = "tenants/acme/keys/encrypt"
    rows = [str(i) for i in range(len(values))]
    made = service.acme.encrypt_batch(name, values, context=context, varying=("row", rows)).complete()
    assert service.acme.decrypt_batch(name, made, context=context, varying=("row", rows)).complete() == values


def test_what_was_encrypted_before_a_restart_decrypts_after_it(installation: Installation) -> None:
    daemon = installation.start()
    with installation.tenant("acme") as client:
        client.create_key("tenants/acme", "k1", purpose=Purpose.ENCRYPT)
        made = client.encrypt("tenants/acme/keys/k1", b"kept", context=ROW).ciphertext
        client.rotate_key("tenants/acme/keys/k1")
        client.rotate_kek("tenants/acme")
        client.rotate_key("tenants/acme/keys/k1")
        assert daemon.stop() == 0
        installation.start()
        wait_for_service(client)
        assert client.decrypt("tenants/acme/keys/k1", made, context=ROW).plaintext == b"kept"
        assert [kek.primary for kek in client.list_keks("tenants/acme")] == [False, True]
        *older, newest = client.list_key_versions("tenants/acme/keys/k1")
        assert newest.kek == "tenants/acme/keks/2"
        assert {version.kek for version in older} <= {
            "tenants/acme/keks/1",
            newest.kek,
        }  # they are re-wrapped meanwhile


def test_the_daemon_keeps_its_answers_for_the_caller_alone(service: Service) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        crypto_pb2_grpc.CryptoServiceStub(channel(service.acme_profile)).Encrypt(
            crypto_pb2.EncryptRequest(name="tenants/globex/keys/encrypt", plaintext=b"planted plaintext")
        )
    assert "planted" not in str(caught.value)
