"""Both clients against a real server, at the edges that a daemon in good health never shows."""

import inspect
import threading
import time
from datetime import timedelta

import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from kms_client import (
    AsyncClient,
    CannotDecrypt,
    Client,
    Conflict,
    DeadlineExceeded,
    HealthStatus,
    InvalidRequest,
    KmsError,
    LimitExceeded,
    NotFound,
    NotSupported,
    ProtectionLevel,
    Purpose,
    StorageUnavailable,
    Suite,
    Tls,
    Unavailable,
    Violation,
)
from kms_client.v1 import crypto_pb2, keys_pb2, tenants_pb2

from tests.client_fixtures import tls_peer
from tests.client_peer import Peer, refuse, status_of
from tests.client_pki import HOUR, Authority

TENANT = "tenants/acme"
KEY = "tenants/acme/keys/payroll"
PRINCIPAL = "tenants/acme/principals/app"


def key_of(request, context):
    return keys_pb2.Key(name=KEY, purpose=1, primary_version=2)


def encrypted(request, context):
    return crypto_pb2.EncryptResponse(ciphertext=b"<" + request.plaintext + b">", version=2)


def encrypted_batch(request, context):
    return crypto_pb2.EncryptBatchResponse(ciphertexts=[b"<" + v + b">" for v in request.plaintexts], version=2)


def unavailable(request, context):
    refuse(context, StorageUnavailable("the database does not answer"))


# Each method: its RPC, an answer, the call, and what comes of it.
METHODS = {
    "create_tenant": (
        "CreateTenant",
        lambda r, _: tenants_pb2.Tenant(name=f"tenants/{r.tenant_id}", display_name=r.tenant.display_name),
        lambda c: c.create_tenant("acme", display_name="Acme"),
        lambda v: (v.name, v.display_name) == (TENANT, "Acme"),
    ),
    "get_tenant": (
        "GetTenant",
        lambda r, _: tenants_pb2.Tenant(name=r.name),
        lambda c: c.get_tenant(TENANT),
        lambda v: v.name == TENANT,
    ),
    "list_tenants": (
        "ListTenants",
        lambda *_: tenants_pb2.ListTenantsResponse(tenants=[tenants_pb2.Tenant(name=TENANT)]),
        lambda c: c.list_tenants(),
        lambda v: [t.name for t in v] == [TENANT],
    ),
    "create_key": (
        "CreateKey",
        lambda r, _: keys_pb2.Key(
            name=f"{r.parent}/keys/{r.key_id}",
            purpose=r.key.purpose,
            suite=r.key.suite,
            protection_level=r.key.protection_level,
            display_name=r.key.display_name,
            labels=r.key.labels,
            rotation_period=r.key.rotation_period,
        ),
        lambda c: c.create_key(
            TENANT,
            "payroll",
            Purpose.ENCRYPT,
            suite=Suite.XAES_256_GCM,
            protection_level=ProtectionLevel.SOFTWARE,
            display_name="Pay",
            labels={"team": "pay"},
            rotation_period=timedelta(days=90),
        ),
        lambda v: (
            (v.name, v.purpose, v.suite, v.display_name, v.labels, v.rotation_period)
            == (KEY, Purpose.ENCRYPT, Suite.XAES_256_GCM, "Pay", {"team": "pay"}, timedelta(days=90))
        ),
    ),
    "get_key": ("GetKey", key_of, lambda c: c.get_key(KEY), lambda v: v.primary_version == 2),
    "list_keys": (
        "ListKeys",
        lambda r, _: keys_pb2.ListKeysResponse(keys=[keys_pb2.Key(name=f"{r.parent}/keys/payroll")]),
        lambda c: c.list_keys(TENANT),
        lambda v: [k.name for k in v] == [KEY],
    ),
    "update_key": (
        "UpdateKey",
        lambda r, _: keys_pb2.Key(name=r.key.name, display_name=r.key.display_name, etag=r.key.etag),
        lambda c: c.update_key(KEY, display_name="New", etag="7"),
        lambda v: (v.name, v.display_name, v.etag) == (KEY, "New", "7"),
    ),
    "rotate_key": (
        "RotateKey",
        lambda r, _: keys_pb2.Key(name=r.name, etag=r.etag),
        lambda c: c.rotate_key(KEY, etag="7"),
        lambda v: (v.name, v.etag) == (KEY, "7"),
    ),
    "list_key_versions": (
        "ListKeyVersions",
        lambda r, _: keys_pb2.ListKeyVersionsResponse(
            key_versions=[keys_pb2.KeyVersion(name=f"{r.parent}/versions/4")]
        ),
        lambda c: c.list_key_versions(KEY),
        lambda v: [k.version for k in v] == [4],
    ),
    "list_keks": (
        "ListKeks",
        lambda r, _: keys_pb2.ListKeksResponse(keks=[keys_pb2.Kek(name=f"{r.parent}/keks/4", wraps_reserved=2**31)]),
        lambda c: c.list_keks(TENANT),
        lambda v: [(k.version, k.wraps_reserved) for k in v] == [(4, 2**31)],
    ),
    "rotate_kek": (
        "RotateKek",
        lambda r, _: keys_pb2.Kek(name=f"{r.parent}/keks/{r.primary_version + 1}"),
        lambda c: c.rotate_kek(TENANT, primary_version=4),
        lambda v: v.version == 5,
    ),
    "encrypt": (
        "Encrypt",
        encrypted,
        lambda c: c.encrypt(KEY, b"a", context={"row": "1"}),
        lambda v: (v.ciphertext, v.version) == (b"<a>", 2),
    ),
    "decrypt": (
        "Decrypt",
        lambda r, _: crypto_pb2.DecryptResponse(plaintext=r.ciphertext[1:-1], version=1, primary=False),
        lambda c: c.decrypt(KEY, b"<a>", context={"row": "1"}),
        lambda v: (v.plaintext, v.version, v.primary) == (b"a", 1, False),
    ),
    "reencrypt": (
        "ReEncrypt",
        lambda r, _: crypto_pb2.ReEncryptResponse(ciphertext=r.ciphertext, version=2, changed=True),
        lambda c: c.reencrypt(KEY, b"<a>"),
        lambda v: (v.ciphertext, v.version, v.changed) == (b"<a>", 2, True),
    ),
    "encrypt_batch": (
        "EncryptBatch",
        encrypted_batch,
        lambda c: c.encrypt_batch(KEY, [b"a", b"b"], varying=("row", ["1", "2"])),
        lambda v: v.complete() == [b"<a>", b"<b>"],
    ),
    "decrypt_batch": (
        "DecryptBatch",
        lambda r, _: crypto_pb2.DecryptBatchResponse(plaintexts=[v[1:-1] for v in r.ciphertexts]),
        lambda c: c.decrypt_batch(KEY, [b"<a>", b"<>"]),
        lambda v: v.complete() == [b"a", b""],
    ),
    "reencrypt_batch": (
        "ReEncryptBatch",
        lambda r, _: crypto_pb2.ReEncryptBatchResponse(ciphertexts=r.ciphertexts, version=3, changed=1),
        lambda c: c.reencrypt_batch(KEY, [b"<a>", b"<b>"]),
        lambda v: (v.complete(), v.version, v.changed) == ([b"<a>", b"<b>"], 3, 1),
    ),
    "generate_data_key": (
        "GenerateDataKey",
        lambda r, _: crypto_pb2.GenerateDataKeyResponse(plaintext=bytes(r.length), ciphertext=b"c", version=1),
        lambda c: c.generate_data_key(KEY, length=16),
        lambda v: (v.plaintext, v.ciphertext) == (bytes(16), b"c"),
    ),
    "decrypt_data_key": (
        "DecryptDataKey",
        lambda *_: crypto_pb2.DecryptDataKeyResponse(plaintext=bytes(16), version=1),
        lambda c: c.decrypt_data_key(KEY, b"c"),
        lambda v: (v.plaintext, v.version) == (bytes(16), 1),
    ),
    "generate_random_bytes": (
        "GenerateRandomBytes",
        lambda r, _: crypto_pb2.GenerateRandomBytesResponse(data=bytes(r.length)),
        lambda c: c.generate_random_bytes(32),
        lambda v: v == bytes(32),
    ),
}
CHANGING = {"create_tenant", "create_key", "update_key", "rotate_key", "rotate_kek"}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_sends_its_arguments_and_reads_its_answer(caller, peer, method):
    rpc, answer, call, holds = METHODS[method]
    peer.answer(rpc, answer)
    client = caller.client(peer.target)
    assert holds(caller.call(lambda: call(client)))
    assert len(peer.tries(rpc)) == 1


@pytest.mark.parametrize("method", METHODS)
def test_a_method_raises_the_daemons_error_with_its_id(caller, peer, method):
    rpc, _, call, _ = METHODS[method]
    peer.answer(rpc, lambda _, context: refuse(context, Conflict("somebody was quicker"), "request-9"))
    client = caller.client(peer.target)
    with pytest.raises(Conflict, match="somebody was quicker") as raised:
        caller.call(lambda: call(client))
    assert raised.value.request_id == "request-9"
    assert len(peer.tries(rpc)) == 1


@pytest.mark.parametrize("method", METHODS)
def test_only_what_changes_nothing_is_tried_again_while_the_daemon_is_unavailable(caller, peer, method):
    rpc, answer, call, holds = METHODS[method]
    peer.answer(rpc, unavailable, answer)
    client = caller.client(peer.target)
    if method in CHANGING:
        with pytest.raises(StorageUnavailable):
            caller.call(lambda: call(client))
        assert len(peer.tries(rpc)) == 1
    else:
        assert holds(caller.call(lambda: call(client)))
        assert len(peer.tries(rpc)) == 2


def test_tries_are_bounded_in_number(caller, peer):
    peer.answer("GetKey", unavailable)
    client = caller.client(peer.target)
    with pytest.raises(StorageUnavailable, match="the database does not answer") as raised:
        caller.call(lambda: client.get_key(KEY))
    assert raised.value.request_id == "request-1"
    assert len(peer.tries("GetKey")) == 5


def test_tries_are_bounded_by_the_deadline(caller, peer):
    peer.answer("GetKey", unavailable)
    client = caller.client(peer.target)
    begin = time.monotonic()
    with pytest.raises((DeadlineExceeded, StorageUnavailable)):
        caller.call(lambda: client.get_key(KEY, deadline=0.5))
    assert time.monotonic() - begin < 2.5  # without the deadline the last try begins after that
    tries = peer.tries("GetKey")
    assert 2 <= len(tries) < 5
    assert tries[-1].remaining < tries[0].remaining <= 0.6


def test_waiting_between_tries_has_a_jitter(caller, peer):
    peer.answer("GetKey", *([unavailable, key_of] * 8))
    client = caller.client(peer.target)
    for _ in range(8):
        caller.call(lambda: client.get_key(KEY))
    moments = [call.at for call in peer.tries("GetKey")]
    waits = [again - first for first, again in zip(moments[::2], moments[1::2], strict=True)]
    assert min(waits) > 0.07  # 0.1 s less 20 %, and a margin for the way there
    assert max(waits) - min(waits) > 0.005  # of 0.04 s; eight equal draws are next to impossible


def test_a_batch_of_the_largest_messages_is_tried_again_too(caller, peer):
    peer.answer("EncryptBatch", unavailable, encrypted_batch)
    client = caller.client(peer.target)
    result = caller.call(lambda: client.encrypt_batch(KEY, [bytes(1 << 20)] * 3))
    assert [len(value) for value in result.complete()] == [(1 << 20) + 2] * 3
    assert len(peer.tries("EncryptBatch")) == 2


def test_a_large_batch_goes_in_several_messages_and_keeps_order_and_indexes(caller, peer):
    def answer(request, context):
        reply = encrypted_batch(request, context)
        for index, plaintext in enumerate(request.plaintexts):
            if plaintext in (b"12345", b"7"):
                reply.ciphertexts[index] = b""
                reply.failures.add(index=index, status=status_of(CannotDecrypt()))
        return reply

    peer.answer("EncryptBatch", answer)
    client = caller.client(peer.target)
    values = [str(index).encode() for index in range(25_000)]
    result = caller.call(lambda: client.encrypt_batch(KEY, values, varying=("row", values)))
    assert [len(call.request.plaintexts) for call in peer.tries("EncryptBatch")] == [10_000, 10_000, 5_000]
    assert list(result.failures) == [7, 12_345]
    assert result.values == [None if i in (7, 12_345) else b"<%d>" % i for i in range(25_000)]


def test_nothing_is_sent_of_a_batch_whose_lists_do_not_match(caller, peer):
    peer.answer("EncryptBatch", encrypted_batch)
    client = caller.client(peer.target)
    with pytest.raises(InvalidRequest, match="one for each of the 20000"):
        caller.call(lambda: client.encrypt_batch(KEY, [b""] * 20_000, varying=("row", ["1"] * 19_999)))
    assert peer.calls == []


def test_a_message_that_fails_as_a_whole_fails_the_batch(caller, peer):
    peer.answer("EncryptBatch", encrypted_batch, lambda _, c: refuse(c, LimitExceeded("slow down")), encrypted_batch)
    client = caller.client(peer.target)
    with pytest.raises(LimitExceeded, match="slow down"):
        caller.call(lambda: client.encrypt_batch(KEY, [b""] * 30_000))
    assert len(peer.calls) == 2


def test_an_answer_larger_than_a_request_may_be_is_taken(caller, peer):
    failure = status_of(InvalidRequest(Violation("varying.values[12345]", "must be UTF-8, " + "and so on " * 30)))

    def answer(request, context):
        reply = crypto_pb2.EncryptBatchResponse(ciphertexts=[b""] * len(request.plaintexts))
        for index in range(len(request.plaintexts)):
            reply.failures.add(index=index, status=failure)
        assert reply.ByteSize() > 5 << 20
        return reply

    peer.answer("EncryptBatch", answer)
    client = caller.client(peer.target)
    assert len(caller.call(lambda: client.encrypt_batch(KEY, [b""] * 10_000)).failures) == 10_000


def test_a_message_too_large_for_the_daemon_keeps_grpcs_text(caller, peer):
    peer.answer("Encrypt", encrypted)
    client = caller.client(peer.target)
    with pytest.raises(LimitExceeded, match="larger than max"):
        caller.call(lambda: client.encrypt(KEY, b"", context={"note": "x" * (5 << 20)}))
    assert peer.calls == []


def test_an_error_that_names_many_broken_rules_arrives_whole(caller, peer):
    violations = [Violation(f"context[{index}].key", "must match [a-z][a-z0-9_.-]{0,63}") for index in range(200)]
    peer.answer("Encrypt", lambda _, context: refuse(context, InvalidRequest(*violations)))
    client = caller.client(peer.target)
    with pytest.raises(InvalidRequest) as raised:
        caller.call(lambda: client.encrypt(KEY, b""))
    assert list(raised.value.violations) == violations


def test_a_listing_fetches_all_pages_in_order(caller, peer):
    pages = {"": (["a1", "a2"], "p2"), "p2": ([], "p3"), "p3": (["a3"], "")}

    def answer(request, context):
        names, following = pages[request.page_token]
        assert request.page_size == 2
        return tenants_pb2.ListTenantsResponse(
            tenants=[tenants_pb2.Tenant(name=f"tenants/{name}") for name in names], next_page_token=following
        )

    peer.answer("ListTenants", answer)
    client = caller.client(peer.target)
    assert [t.name for t in caller.call(lambda: client.list_tenants(page_size=2))] == [
        "tenants/a1",
        "tenants/a2",
        "tenants/a3",
    ]


def test_a_listing_that_would_never_end_ends_with_an_error(caller, peer):
    peer.answer("ListKeys", lambda *_: keys_pb2.ListKeysResponse(next_page_token="again"))
    client = caller.client(peer.target)
    with pytest.raises(KmsError, match="same page"):
        caller.call(lambda: client.list_keys(TENANT))
    assert len(peer.calls) == 2


def test_a_slow_daemon_is_left_at_the_deadline(caller, peer):
    release = threading.Event()

    def slow(request, context):
        release.wait(20)
        return key_of(request, context)

    peer.answer("GetKey", slow)
    client = caller.client(peer.target, deadline=0.3)
    begin = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        caller.call(lambda: client.get_key(KEY))
    assert time.monotonic() - begin < 5
    release.set()
    assert len(peer.tries("GetKey")) == 1


def test_calls_have_the_clients_deadline_unless_they_bring_one(caller, peer):
    peer.answer("GetKey", key_of)
    client = caller.client(peer.target, deadline=7)
    caller.call(lambda: client.get_key(KEY))
    caller.call(lambda: client.get_key(KEY, deadline=2))
    first, second = (call.remaining for call in peer.calls)
    assert 5 < first < 7.5
    assert 1 < second < 2.5


def test_an_rpc_that_the_daemon_does_not_have_is_not_supported(caller, peer):
    client = caller.client(peer.target)
    with pytest.raises(NotSupported):
        caller.call(lambda: client.get_key(KEY))


def test_a_daemon_that_is_gone_is_unavailable_and_found_again_when_it_is_back(caller, tmp_path):
    peer = Peer(tmp_path / "peer.sock").start()
    peer.answer("GetKey", key_of)
    peer.answer("RotateKey", key_of)
    client = caller.client(peer.target)
    caller.call(lambda: client.get_key(KEY))
    peer.stop()
    with pytest.raises(Unavailable):
        caller.call(lambda: client.rotate_key(KEY))
    peer.start()
    # The retries of a safe call outlast the pause before gRPC connects again.
    assert caller.call(lambda: client.get_key(KEY)).name == KEY
    assert caller.call(lambda: client.rotate_key(KEY)).name == KEY
    peer.stop()


def test_health_speaks_the_standard_protocol(caller, tmp_path):
    servicer = health.HealthServicer()
    peer = Peer(tmp_path / "health.sock")
    peer.servicers.append(lambda server: health_pb2_grpc.add_HealthServicer_to_server(servicer, server))
    peer.start()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    servicer.set("token", health_pb2.HealthCheckResponse.NOT_SERVING)
    client = caller.client(peer.target)
    assert caller.call(client.health) is HealthStatus.SERVING
    assert caller.call(lambda: client.health("token")) is HealthStatus.NOT_SERVING
    with pytest.raises(NotFound):
        caller.call(lambda: client.health("nothing"))
    peer.stop()


def test_a_closed_client_says_so_and_may_be_closed_twice(caller, peer):
    peer.answer("GetKey", key_of)
    client = caller.client(peer.target)
    caller.call(lambda: client.get_key(KEY))
    caller.close_one(client)
    caller.close_one(client)
    with pytest.raises(RuntimeError, match="closed"):
        caller.call(lambda: client.get_key(KEY))


def test_calls_share_one_connection_with_mutual_tls(caller, ca):
    peer = tls_peer(*ca.server(), ca.path)
    peer.answer("GetKey", key_of)
    peer.answer("Encrypt", encrypted)
    peer.start()
    client = caller.client(peer.target, Tls(ca.path, *ca.client(PRINCIPAL)))
    for _ in range(5):
        caller.call(lambda: client.get_key(KEY))
        caller.call(lambda: client.encrypt(KEY, b"a"))
    assert len({call.peer for call in peer.calls}) == 1
    assert len(peer.calls) == 10
    assert str(client.principal) == PRINCIPAL
    peer.stop()


def tls_failure(caller, peer, tls):
    """Return the error of a call that is not tried again."""
    peer.answer("RotateKey", key_of)
    peer.start()
    client = caller.client(peer.target, tls)
    with pytest.raises(Unavailable) as raised:
        caller.call(lambda: client.rotate_key(KEY))
    peer.stop()
    assert peer.calls == []
    return str(raised.value)


def test_an_expired_certificate_of_the_daemon_shows_in_the_error(caller, ca):
    peer = tls_peer(*ca.server(begin=-2 * HOUR, end=-HOUR), ca.path)
    assert "certificate has expired" in tls_failure(caller, peer, Tls(ca.path, *ca.client(PRINCIPAL)))


def test_a_daemon_of_another_authority_shows_in_the_error(caller, ca, tmp_path):
    other = Authority(tmp_path, "other")
    peer = tls_peer(*ca.server(), other.path)
    text = tls_failure(caller, peer, Tls(other.path, *other.client(PRINCIPAL)))
    assert "CERTIFICATE_VERIFY_FAILED" in text


def test_a_daemon_of_another_name_shows_in_the_error(caller, ca):
    peer = tls_peer(*ca.server(dns="elsewhere.internal"), ca.path)
    text = tls_failure(caller, peer, Tls(ca.path, *ca.client(PRINCIPAL)))
    assert "Hostname Verification" in text


def test_the_name_in_the_certificate_may_be_configured(caller, ca):
    peer = tls_peer(*ca.server(dns="elsewhere.internal"), ca.path)
    peer.answer("GetKey", key_of)
    peer.start()
    tls = Tls(ca.path, *ca.client(PRINCIPAL), server_name="elsewhere.internal")
    client = caller.client(peer.target, tls)
    assert caller.call(lambda: client.get_key(KEY)).name == KEY
    peer.stop()


def test_a_missing_client_certificate_shows_in_the_error(caller, ca):
    text = tls_failure(caller, tls_peer(*ca.server(), ca.path), Tls(ca.path))
    assert "no client certificate is configured" in text


def test_an_expired_client_certificate_shows_in_the_error(caller, ca):
    expired = ca.client(PRINCIPAL, begin=-2 * HOUR, end=-HOUR)
    text = tls_failure(caller, tls_peer(*ca.server(), ca.path), Tls(ca.path, *expired))
    assert "client.pem expired on" in text


def test_a_client_certificate_of_another_authority_shows_in_the_error(caller, ca, tmp_path):
    other = Authority(tmp_path, "other")
    text = tls_failure(caller, tls_peer(*ca.server(), ca.path), Tls(ca.path, *other.client(PRINCIPAL, "strange")))
    assert "not issued by the configured ca" in text


def test_what_a_client_shows_of_itself_holds_no_path_of_a_key(caller, ca):
    client = caller.client("localhost:7443", Tls(ca.path, *ca.client(PRINCIPAL)))
    assert repr(client).endswith("localhost:7443>")
    assert "key" not in repr(client)


def test_both_clients_have_the_same_methods_with_the_same_arguments():
    def methods(kind):
        return {
            name: [(p.name, p.kind, p.default) for p in inspect.signature(member).parameters.values()]
            for name, member in vars(kind).items()
            if callable(member) and not name.startswith("_")
        }

    assert methods(Client) == methods(AsyncClient)
    assert set(METHODS) <= set(methods(Client))
    assert all("deadline" in {p[0] for p in methods(Client)[name]} for name in METHODS)
