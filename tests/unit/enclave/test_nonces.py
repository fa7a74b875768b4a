from __future__ import annotations

from datetime import timedelta
from threading import Barrier, Thread

import pytest

from enclave.attestation_errors import TooManyChallenges, UnknownNonce
from enclave.nonces import MAX_NONCES, Challenge, NonceStore
from tests.attestation import NOW

MINUTE = timedelta(minutes=1)


def test_a_nonce_counts_once():
    nonces = NonceStore()
    nonce = nonces.issue(NOW)
    assert len(nonce) == 32
    assert nonces.redeem(nonce, b"channel", b"claims") == Challenge(nonce, NOW, b"channel", b"claims")
    with pytest.raises(UnknownNonce):
        nonces.redeem(nonce)


def test_a_nonce_of_somebody_else_does_not_count():
    nonces = NonceStore()
    with pytest.raises(UnknownNonce):
        nonces.redeem(NonceStore().issue(NOW))
    with pytest.raises(UnknownNonce):
        nonces.redeem(b"")


def test_nonces_differ():
    nonces = NonceStore()
    assert len({nonces.issue(NOW) for _ in range(100)}) == 100


def test_no_more_wait_than_the_bound_and_none_gives_way_to_a_new_one():
    nonces = NonceStore(lifetime=MINUTE)
    first = [nonces.issue(NOW) for _ in range(MAX_NONCES)]
    with pytest.raises(TooManyChallenges):
        nonces.issue(NOW + MINUTE)
    assert nonces.redeem(first[0]).nonce == first[0]
    nonces.issue(NOW + MINUTE)
    with pytest.raises(TooManyChallenges):
        nonces.issue(NOW + MINUTE)


def test_nonces_that_nobody_answered_make_room_when_their_time_is_over():
    nonces = NonceStore(lifetime=MINUTE)
    old = nonces.issue(NOW)
    for _ in range(MAX_NONCES - 1):
        nonces.issue(NOW + MINUTE)
    nonces.issue(NOW + MINUTE + timedelta(seconds=1))
    with pytest.raises(UnknownNonce):
        nonces.redeem(old)


def test_of_many_threads_one_has_the_nonce():
    nonces, barrier, taken = NonceStore(), Barrier(8), []
    nonce = nonces.issue(NOW)

    def take():
        barrier.wait()
        try:
            taken.append(nonces.redeem(nonce))
        except UnknownNonce:
            taken.append(None)

    threads = [Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 8
    assert sum(one is not None for one in taken) == 1
