"""Both clients against a real server, at the edges that a daemon in good health never shows."""

import inspect
import threading
import time

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
    StorageUnavailable,
    Tls,
    Unavailable,
    Violation,
)
from kms_client.methods import NEVER_RETRIED, SAFE
from kms_client.v1 import crypto_pb2, keys_pb2, tenants_pb2

from tests.client_fixtures import tls_peer
from tests.client_methods import KEY, METHODS, OPERATION, TENANT, encrypted, encrypted_batch, key_of
from tests.client_peer import Peer, refuse, status_of
from tests.client_pki import HOUR, Authority

PRINCIPAL = "tenants/acme/principals/app"


def unavailable(request, context):
    refuse(context, StorageUnavailable("the database does not answer"))


@pytest.mark.parametrize("method", METHODS)
def test_a_method_sends_its_arguments_and_reads_its_answer(caller, peer, method):
    row = METHODS[method]
    peer.answer(row.rpc, row.answer)
    client = caller.client(peer.target)
    assert row.holds(caller.call(lambda: row.call(client)))
    (sent,) = peer.tries(row.rpc)
    assert row.sent is None or sent.request == row.sent


@pytest.mark.parametrize("method", METHODS)
def test_a_method_raises_the_daemons_error_with_its_id(caller, peer, method):
    rpc, call = METHODS[method].rpc, METHODS[method].call
    peer.answer(rpc, lambda _, context: refuse(context, Conflict("somebody was quicker"), "request-9"))
    client = caller.client(peer.target)
    with pytest.raises(Conflict, match="somebody was quicker") as raised:
        caller.call(lambda: call(client))
    assert raised.value.request_id == "request-9"
    assert len(peer.tries(rpc)) == 1


@pytest.mark.parametrize("method", METHODS)
def test_only_what_changes_nothing_is_tried_again_while_the_daemon_is_unavailable(caller, peer, method):
    rpc, answer, call, holds, _ = METHODS[method]
    peer.answer(rpc, unavailable, answer)
    client = caller.client(peer.target)
    if any(rpc in rpcs for rpcs in NEVER_RETRIED.values()):
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


def test_files_that_are_mended_after_a_failed_call_are_taken_up_by_the_next(caller, ca, tmp_path):
    (tmp_path / "other").mkdir()
    certificate, key = Authority(tmp_path / "other").client(PRINCIPAL)
    peer = tls_peer(*ca.server(), ca.path)
    peer.answer("RotateKey", key_of)
    peer.start()
    client = caller.client(peer.target, Tls(ca.path, certificate, key), deadline=5)
    with pytest.raises(Unavailable):
        caller.call(lambda: client.rotate_key(KEY))
    for good, bad in zip(ca.client(PRINCIPAL), (certificate, key), strict=True):
        bad.write_bytes(good.read_bytes())
    assert caller.call(lambda: client.rotate_key(KEY)).name == KEY
    caller.close_one(client)
    with pytest.raises(RuntimeError, match="closed"):
        caller.call(lambda: client.rotate_key(KEY))
    peer.stop()


def test_files_that_are_mended_are_not_looked_at_with_every_call(caller, ca):
    peer = tls_peer(*ca.server(), ca.path)
    peer.answer("RotateKey", key_of)
    peer.start()
    certificate, key = ca.client(PRINCIPAL)
    client = caller.client(peer.target, Tls(ca.path, certificate, key))
    for _ in range(3):
        caller.call(lambda: client.rotate_key(KEY))
        certificate.touch()
    assert len({call.peer for call in peer.calls}) == 1
    peer.stop()


def test_what_a_client_shows_of_itself_holds_no_path_of_a_key(caller, ca):
    client = caller.client("localhost:7443", Tls(ca.path, *ca.client(PRINCIPAL)))
    assert repr(client).endswith("localhost:7443>")
    assert "key" not in repr(client)


def test_both_clients_have_the_same_methods_with_the_same_arguments():
    def methods(kind):
        return {
            name: [(p.name, p.kind, p.default) for p in inspect.signature(member).parameters.values()]
            for name, member in inspect.getmembers(kind, callable)
            if not name.startswith("_")
        }

    assert methods(Client) == methods(AsyncClient)
    calls = {name: arguments for name, arguments in methods(Client).items() if name not in ("close", "from_profile")}
    assert all("deadline" in {argument[0] for argument in arguments} for arguments in calls.values())
    assert {row.rpc for row in METHODS.values()} | {"Check", "List"} == {
        rpc for table in (SAFE, NEVER_RETRIED) for rpcs in table.values() for rpc in rpcs
    }
    assert set(calls) - {"health", "healths"} <= set(METHODS)


def test_what_the_daemon_is_asked_to_wait_is_added_to_the_deadline(caller, peer):
    for name in ("revoke_key", "suspend_key", "wait_operation"):
        peer.answer(METHODS[name].rpc, METHODS[name].answer)
    client = caller.client(peer.target, deadline=7)
    caller.call(lambda: client.revoke_key(KEY, reason="leaked", wait=True))
    caller.call(lambda: client.wait_operation(OPERATION, seconds=20))
    caller.call(lambda: client.suspend_key(KEY, reason="audit"))
    caller.call(lambda: client.revoke_key(KEY, reason="leaked", wait=True, deadline=2))
    revoked, waited, suspended, hurried = (call.remaining for call in peer.calls)
    assert 35 < revoked < 37.5
    assert 25 < waited < 27.5
    assert 5 < suspended < 7.5
    assert 1 < hurried < 2.5


def test_a_wait_that_no_daemon_takes_is_refused_before_anything_is_sent(caller, peer):
    client = caller.client(peer.target)
    for seconds in (-1, 20.5, float("nan"), float("inf")):
        with pytest.raises(InvalidRequest, match="timeout: must be 0 to 20"):
            caller.call(lambda seconds=seconds: client.wait_operation(OPERATION, seconds=seconds))
    assert peer.calls == []
