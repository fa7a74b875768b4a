from __future__ import annotations

import os
import sys
import threading
from collections import Counter

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kms.crypto import xaes
from kms.crypto.dek import Dek
from kms.crypto.xaes import MESSAGES_PER_PREFIX, SUBKEYS_KEPT, SubkeyCache, SubkeyLease, Subkeys


@pytest.fixture
def cache() -> SubkeyCache:
    return SubkeyCache(Dek(os.urandom(32)))


def test_the_object_of_a_prefix_encrypts_under_its_subkey():
    material, prefix, nonce = os.urandom(32), os.urandom(12), os.urandom(12)
    found = SubkeyCache(Dek(material)).find(prefix)
    subkey = AESGCM(Subkeys(Dek(material)).derive(prefix))
    assert found.encrypt(nonce, b"plain", b"") == subkey.encrypt(nonce, b"plain", b"")


def test_prefixes_used_last_are_kept_and_no_more(cache: SubkeyCache):
    prefixes = [i.to_bytes(12, "big") for i in range(SUBKEYS_KEPT + 1)]
    first = [cache.find(prefix) for prefix in prefixes[:SUBKEYS_KEPT]]
    assert [cache.find(prefix) for prefix in prefixes[:SUBKEYS_KEPT]] == first
    cache.find(prefixes[SUBKEYS_KEPT])
    assert cache.find(prefixes[1]) is first[1]
    assert cache.find(prefixes[0]) is not first[0]


@pytest.mark.parametrize("length", [0, 11, 13, 24])
def test_a_prefix_of_another_length_is_refused(cache: SubkeyCache, length: int):
    with pytest.raises(ValueError, match="a prefix has 12 bytes"):
        cache.find(bytes(length))


def test_a_prefix_serves_exactly_2_20_messages(cache: SubkeyCache):
    assert MESSAGES_PER_PREFIX == 1_048_576
    lease = SubkeyLease(cache)
    first, aead = lease.take(MESSAGES_PER_PREFIX - 1)
    assert lease.take(1) == (first, aead)
    assert lease.take(0) == (first, aead)
    second, another = lease.take(1)
    assert second != first
    assert another is not aead


def test_a_batch_is_never_split_over_two_prefixes(cache: SubkeyCache):
    lease = SubkeyLease(cache)
    first, _ = lease.take(MESSAGES_PER_PREFIX - 5)
    second, _ = lease.take(6)
    assert second != first
    assert lease.take(MESSAGES_PER_PREFIX - 6)[0] == second
    assert lease.take(1)[0] != second


def test_more_messages_than_a_prefix_serves_are_refused(cache: SubkeyCache):
    with pytest.raises(ValueError, match="at most 1048576 messages"):
        SubkeyLease(cache).take(MESSAGES_PER_PREFIX + 1)


def test_every_start_has_a_fresh_prefix(cache: SubkeyCache):
    assert len({SubkeyLease(cache).take(1)[0] for _ in range(100)}) == 100


def test_threads_take_no_more_than_a_prefix_serves(cache: SubkeyCache, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(xaes, "MESSAGES_PER_PREFIX", 100)
    lease = SubkeyLease(cache)
    together = threading.Barrier(4)
    taken: list[bytes] = []

    def take() -> None:
        together.wait(timeout=30)
        taken.extend([lease.take(1)[0] for _ in range(2500)])

    threads = [threading.Thread(target=take) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    counts = Counter(taken)
    assert set(counts.values()) == {100}
    assert len(counts) == 100
