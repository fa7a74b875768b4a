"""Coalescing of threads against a real server that answers as told: what is sent together, and who hears what of it."""

from __future__ import annotations

import ctypes
import inspect
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from kms_client import (
    CannotDecrypt,
    Client,
    DeadlineExceeded,
    Denied,
    InvalidRequest,
    KmsError,
    LimitExceeded,
    Unavailable,
    Violation,
    gathering,
    under,
)
from kms_client.batches import MESSAGE_BYTES
from kms_client.thread_coalescing import ThreadCoalescing
from kms_client.v1 import crypto_pb2

from tests.client_methods import KEY, UUID_TEXT, encrypted, encrypted_batch
from tests.client_peer import refuse
from tests.coalesced import ROW, Gate, ciphertext_of, decrypted, failing, refused_for_a_while, row
from tests.daemon import wait_until

APPROVAL = f"tenants/acme/approvals/{UUID_TEXT}"


class Threads:
    """Callers in threads of their own."""

    def __init__(self, made: ThreadCoalescing, pool: ThreadPoolExecutor) -> None:
        self.made = made
        self.pool = pool

    def encrypt(self, value: bytes, context: Any = None, name: str = KEY, **options: Any) -> Future[Any]:
        """Ask, and return once the thread waits or its call has begun."""
        before = self.made._load.calls
        asked = self.pool.submit(self.made.encrypt, name, value, context=context, **options)
        wait_until(lambda: asked.done() or self.made._load.calls > before, "the call to be counted")
        return asked

    @property
    def waiting(self) -> int:
        return sum(len(group.waiting) for group in self.made._groups.values())


@contextmanager
def threads_to(peer: Any, deadline: float = 10.0, **options: Any) -> Iterator[Threads]:
    with (
        Client(peer.target, deadline=deadline) as client,
        ThreadPoolExecutor(80) as pool,
        ThreadCoalescing(client, **options) as made,
    ):
        yield Threads(made, pool)


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate(encrypted)
    yield made
    made.opened.set()


def two_in_flight(threads: Threads, gate: Gate) -> list[Future[Any]]:
    """Fill the two places of a kind with single calls that hang."""
    asked = [threads.encrypt(b"%d" % number, row(number)) for number in range(2)]
    wait_until(lambda: gate.inside == 2, "both calls at the server")
    return asked


def outcomes(asked: list[Future[Any]]) -> list[Any]:
    """What each caller got: the ciphertext, or the kind of error."""
    wait(asked, 20)
    return [type(one.exception()) if one.exception() else one.result().ciphertext for one in asked]


def test_a_call_that_is_alone_is_sent_as_the_single_call(peer):
    peer.answer("Encrypt", encrypted)
    with threads_to(peer) as threads:
        for number in range(3):
            made = threads.made.encrypt(KEY, b"a", context={"row": str(number), "table": "users"})
            assert (made.ciphertext, made.version) == (b"<a>", 2)
    assert [call.method for call in peer.calls] == ["Encrypt"] * 3
    assert [(pair.key, pair.value) for pair in peer.calls[1].request.context] == [("row", b"1"), ("table", b"users")]


def test_what_is_asked_for_while_two_are_in_flight_goes_as_one_message_and_everybody_gets_the_own_answer(peer, gate):
    peer.answer("Encrypt", gate)
    peer.answer("EncryptBatch", encrypted_batch)
    with threads_to(peer) as threads:
        first = two_in_flight(threads, gate)
        later = [threads.encrypt(b"v%d" % number, row(number)) for number in range(50)]
        assert len(peer.calls) == 2
        gate.opened.set()
        assert outcomes(first) == [b"<0>", b"<1>"]
        assert outcomes(later) == [b"<v%d>" % number for number in range(50)]
    assert gate.most == 2
    [batch] = [call.request for call in peer.calls[2:]]
    assert batch.name == KEY
    assert {pair.key: pair.value for pair in batch.context} == {"table": b"users", "column": b"email"}
    assert batch.varying.key == "row"
    assert list(batch.plaintexts) == [b"v%b" % value for value in batch.varying.values]


def test_other_keys_contexts_and_approvals_do_not_share_a_message_and_have_places_of_their_own(peer, gate):
    peer.answer("Encrypt", gate, gate, encrypted)
    peer.answer("EncryptBatch", encrypted_batch)
    with threads_to(peer) as threads:
        first = two_in_flight(threads, gate)
        later = [threads.encrypt(b"a", row(number)) for number in range(3)]
        for context, name in ((row(1), f"{KEY}-2"), ({"table": "orders", "row": "1"}, KEY), (ROW, KEY), (None, KEY)):
            assert threads.made.encrypt(name, b"b", context=context).ciphertext == b"<b>"
        with under(APPROVAL):
            assert threads.made.encrypt(KEY, b"c", context=row(1)).ciphertext == b"<c>"
        gate.opened.set()
        assert outcomes(first + later) == [b"<0>", b"<1>", *[b"<a>"] * 3]
    assert [call.method for call in peer.calls] == ["Encrypt"] * 7 + ["EncryptBatch"]
    assert [call.metadata.get("x-kms-approval") for call in peer.calls].index(APPROVAL) == 6
    assert "x-kms-approval" not in peer.calls[7].metadata


def test_an_item_fails_alone_with_the_error_of_the_single_call(peer, gate):
    bad = InvalidRequest(Violation("varying.values[1]", "must be UTF-8"))
    peer.answer("Encrypt", gate)
    peer.answer("EncryptBatch", failing({1: bad, 2: CannotDecrypt()}))
    with threads_to(peer) as threads:
        two_in_flight(threads, gate)
        asked = [threads.encrypt(b"%d" % number, row(number)) for number in range(4)]
        gate.opened.set()
        assert outcomes(asked) == [b"<0>", InvalidRequest, CannotDecrypt, b"<3>"]
    assert asked[1].exception().violations == (Violation("context[2].value", "must be UTF-8"),)


def test_an_error_of_a_whole_batch_reaches_everybody_in_it_as_an_object_of_their_own(peer, gate):
    peer.answer("Encrypt", gate)
    peer.answer("EncryptBatch", refused_for_a_while)
    with threads_to(peer) as threads:
        two_in_flight(threads, gate)
        asked = [threads.encrypt(b"a", row(number)) for number in range(20)]
        gate.opened.set()
        assert outcomes(asked) == [LimitExceeded] * 20
    errors = [one.exception() for one in asked]
    assert {(str(e), e.request_id, e.retry_after) for e in errors} == {("too many", "request-7", timedelta(seconds=2))}
    assert len({id(error) for error in errors}) == 20
    assert len(peer.calls) == 3


def test_each_thread_gives_up_at_its_own_deadline_and_the_batch_has_the_longest(peer, gate):
    peer.answer("Encrypt", encrypted)
    slow = Gate(encrypted_batch)
    peer.answer("EncryptBatch", slow)
    peer.answer("Encrypt", gate)
    with threads_to(peer, deadline=60) as threads:
        first = two_in_flight(threads, gate)
        short = threads.encrypt(b"s", row(1), deadline=1)
        long = threads.encrypt(b"l", row(2), deadline=30)
        other = threads.encrypt(b"o", row(3), deadline=20)
        gate.opened.set()
        wait_until(lambda: slow.inside == 1, "the batch at the server")
        begin = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            short.result(10)
        assert time.monotonic() - begin < 5
        assert not long.done()
        slow.opened.set()
        assert outcomes([*first, long, other]) == [b"<0>", b"<1>", b"<l>", b"<o>"]
    assert list(peer.calls[2].request.plaintexts) == [b"s", b"l", b"o"]
    assert 20 < peer.calls[2].remaining < 30.5


def test_who_gave_up_while_waiting_is_not_sent_and_not_kept(peer, gate):
    peer.answer("Encrypt", gate)
    peer.answer("EncryptBatch", encrypted_batch)
    with threads_to(peer, deadline=60) as threads:
        first = two_in_flight(threads, gate)
        gone = [threads.encrypt(b"gone", row(number), deadline=0.05) for number in range(5)]
        assert outcomes(gone) == [DeadlineExceeded] * 5
        assert (threads.waiting, threads.made._load.calls) == (0, 2)
        kept = [threads.encrypt(b"kept", row(number)) for number in range(2)]
        gate.opened.set()
        assert outcomes(first + kept) == [b"<0>", b"<1>", b"<kept>", b"<kept>"]
    assert list(peer.calls[2].request.plaintexts) == [b"kept"] * 2


def test_the_deadline_of_a_thread_begins_when_it_asks(peer, gate):
    peer.answer("Encrypt", gate)
    with threads_to(peer, deadline=60) as threads:
        two_in_flight(threads, gate)
        late = threads.encrypt(b"late", row(1), deadline=5)
        time.sleep(0.2)  # not to wait for something: that time passes is what this is about
        gate.opened.set()
        assert outcomes([late]) == [b"<late>"]
    assert peer.calls[2].remaining < 4.85


def test_values_beyond_a_message_go_in_the_next_batch_and_every_message_fits(peer, gate):
    peer.answer("Encrypt", gate)
    peer.answer("EncryptBatch", encrypted_batch)
    with threads_to(peer) as threads:
        two_in_flight(threads, gate)
        values = [bytes([number]) * (1 << 20) for number in range(6)]
        asked = [threads.encrypt(value, row(number)) for number, value in enumerate(values)]
        gate.opened.set()
        assert outcomes(asked) == [b"<%b>" % value for value in values]
    assert [len(call.request.plaintexts) for call in peer.calls[2:]] == [3, 3]
    assert max(call.request.ByteSize() for call in peer.calls) <= MESSAGE_BYTES


def test_a_daemon_that_takes_fewer_values_gets_fewer(peer, gate):
    peer.answer("Encrypt", gate)
    peer.answer("EncryptBatch", encrypted_batch)
    with threads_to(peer, batch_values=10) as threads:
        two_in_flight(threads, gate)
        asked = [threads.encrypt(b"a", row(number)) for number in range(35)]
        gate.opened.set()
        assert outcomes(asked) == [b"<a>"] * 35
    assert Counter(len(call.request.plaintexts) for call in peer.calls[2:]) == {10: 3, 5: 1}
    with Client("unix:///nowhere") as client, pytest.raises(ValueError, match="1 to 10000"):
        ThreadCoalescing(client, batch_values=0)


@pytest.mark.parametrize(("bound", "most"), [("MOST_CALLS", 4), ("MOST_BYTES", 4 * (100 + 15 + 72) + 50)])
def test_what_waits_is_bounded_and_more_is_refused_at_once(peer, gate, monkeypatch, bound, most):
    peer.answer("Encrypt", gate)
    peer.answer("EncryptBatch", encrypted_batch)
    monkeypatch.setattr(gathering, bound, most)
    context = {"table": "users", "row": "12"}
    with threads_to(peer) as threads:
        asked = [threads.encrypt(bytes(100), context) for _ in range(4)]
        with pytest.raises(LimitExceeded, match="4 calls") as refused:
            threads.made.encrypt(KEY, bytes(100), context=context)
        assert refused.value.retry_after == gathering.PAUSE
        gate.opened.set()
        wait(asked, 20)
        assert threads.made.encrypt(KEY, bytes(100), context=context)  # there is room again


def test_what_is_wrong_with_a_value_is_said_before_anything_is_sent(peer):
    with threads_to(peer) as threads:
        with pytest.raises(TypeError, match="plaintext must be bytes"):
            threads.made.encrypt(KEY, "text")
        with pytest.raises(TypeError, match=r"context\[1\].value must be str or bytes"):
            threads.made.encrypt(KEY, b"a", context={"table": "users", "row": 7})
        with pytest.raises(InvalidRequest, match="ciphertext"):
            threads.made.decrypt(KEY, bytes(3 << 20))
        with pytest.raises(ValueError, match="deadline"):
            threads.made.encrypt(KEY, b"a", deadline=0)
        assert threads.made._load == gathering.Load(0, 0)
    assert not peer.calls


def test_closing_tells_those_who_wait_and_leaves_what_is_in_flight_and_the_client(peer, gate):
    peer.answer("Encrypt", gate)
    with threads_to(peer) as threads:
        first = two_in_flight(threads, gate)
        waiting = [threads.encrypt(b"q", row(number)) for number in range(3)]
        threads.made.close()
        assert outcomes(waiting) == [Unavailable] * 3
        assert all("closed" in str(one.exception()) for one in waiting)
        with pytest.raises(RuntimeError, match="closed"):
            threads.made.encrypt(KEY, b"a")
        threads.made.close()
        gate.opened.set()
        assert outcomes(first) == [b"<0>", b"<1>"]
        assert threads.made._client.encrypt(KEY, b"a").ciphertext == b"<a>"


def test_closing_the_client_tells_everybody(peer, gate):
    peer.answer("Encrypt", gate)
    with threads_to(peer) as threads:
        first = two_in_flight(threads, gate)
        waiting = [threads.encrypt(b"q", row(number)) for number in range(3)]
        threads.made._client.close()
        assert set(outcomes(first)) == {Unavailable}
        assert set(outcomes(waiting)) <= {Unavailable, RuntimeError}


def test_a_thread_that_is_interrupted_while_it_sends_leaves_nobody_waiting(peer, gate):
    peer.answer("Encrypt", gate, gate, encrypted)
    held = Gate(encrypted_batch)
    peer.answer("EncryptBatch", held)
    sender = []

    with threads_to(peer, deadline=30) as threads:

        def ask():
            sender.append(threading.get_ident())
            return threads.made.encrypt(KEY, b"a", context=row(9), deadline=60)

        two_in_flight(threads, gate)
        asked = [threads.encrypt(b"a", row(number)) for number in range(2)]
        asked.append(threads.pool.submit(ask))  # waits the longest, and so it sends
        wait_until(lambda: threads.waiting == 3, "all to wait")
        gate.opened.set()
        wait_until(lambda: held.inside == 1, "the batch at the server")
        # What a signal does to the main thread.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(sender[0]), ctypes.py_object(KeyboardInterrupt))
        held.opened.set()
        assert outcomes(asked) == [Unavailable, Unavailable, KeyboardInterrupt]
        assert "interrupted" in str(asked[0].exception())
        assert threads.made._groups == {}
        assert threads.made.encrypt(KEY, b"b", context=row(1)).ciphertext == b"<b>"


def test_nothing_is_kept_of_calls_that_have_ended(peer):
    peer.answer("EncryptBatch", encrypted_batch)
    peer.answer("Encrypt", lambda _, c: refuse(c, Denied("no")))
    with threads_to(peer) as threads:
        asked = [threads.encrypt(b"a", {"table": str(number % 20), "row": str(number)}) for number in range(60)]
        wait(asked, 20)
        assert threads.made._groups == {}
        assert threads.made._load == gathering.Load(0, 0)


def test_a_plaintext_comes_with_its_version_and_whether_that_is_the_primary_one(peer):
    held = Gate(lambda *_: crypto_pb2.DecryptResponse(plaintext=b"p", version=1, primary=True))
    peer.answer("Decrypt", held)
    peer.answer("DecryptBatch", decrypted)
    with threads_to(peer) as threads:
        pool, made = threads.pool, threads.made
        first = [pool.submit(made.decrypt, KEY, ciphertext_of(1), context=row(9)) for _ in range(2)]
        wait_until(lambda: held.inside == 2, "both calls at the server")
        found = [pool.submit(made.decrypt, KEY, ciphertext_of(v, b"%d" % v), context=row(v)) for v in (1, 3, 4)]
        wait_until(lambda: threads.waiting == 3, "the others to wait")
        held.opened.set()
        answers = [one.result(20) for one in found]
        wait(first, 20)
    assert [(one.plaintext, one.version, one.primary) for one in answers] == [
        (b"1", 1, False),
        (b"3", 3, True),
        (b"4", 4, True),  # of a rotation since
    ]


def test_a_daemon_that_does_not_tell_the_primary_version_is_no_guess(peer):
    held = Gate(lambda *_: crypto_pb2.DecryptResponse(plaintext=b"p", version=1, primary=True))
    peer.answer("Decrypt", held)
    peer.answer("DecryptBatch", lambda r, _: crypto_pb2.DecryptBatchResponse(plaintexts=[b"p"] * len(r.ciphertexts)))
    with threads_to(peer) as threads:
        pool, made = threads.pool, threads.made
        asked = [pool.submit(made.decrypt, KEY, ciphertext_of(1), context=row(number)) for number in range(2)]
        wait_until(lambda: held.inside == 2, "both calls at the server")
        later = [pool.submit(made.decrypt, KEY, ciphertext_of(1), context=row(number)) for number in range(2)]
        wait_until(lambda: threads.waiting == 2, "the others to wait")
        held.opened.set()
        wait([*asked, *later], 20)
    assert {type(one.exception()) for one in later} == {KmsError}
    assert all("too old" in str(one.exception()) for one in later)


@pytest.mark.parametrize("method", ["encrypt", "decrypt"])
def test_the_methods_take_and_return_what_the_clients_do(method):
    assert inspect.signature(getattr(ThreadCoalescing, method)) == inspect.signature(getattr(Client, method))


def test_what_it_shows_of_itself_holds_no_value(peer, gate):
    peer.answer("Encrypt", gate)
    with threads_to(peer) as threads:
        two_in_flight(threads, gate)
        threads.encrypt(b"plain-value", {**ROW, "row": "row-7"})
        [group] = threads.made._groups.values()
        [call] = group.waiting
        shown = f"{threads.made!r} {group!r} {call!r}"
        assert peer.target in shown
        assert "plain-value" not in shown
        assert "row-7" not in shown
        gate.opened.set()
