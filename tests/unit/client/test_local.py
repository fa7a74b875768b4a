"""Local mode against a real server that answers as told: when a lease is asked for, used, renewed and given up."""

import asyncio
import gc
import os
import pickle
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import kms_client
import pytest
from google.protobuf.duration_pb2 import Duration
from kms_client import (
    AsyncClient,
    CannotDecrypt,
    Client,
    DeadlineExceeded,
    Denied,
    FailedPrecondition,
    InvalidRequest,
    KmsError,
    NotFound,
    Unavailable,
    WrongKeyState,
    local_work,
    to_text,
    under,
)
from kms_client.aio import local as aio_local
from kms_client.clock import boottime
from kms_client.formats.aead import Xaes256Gcm
from kms_client.formats.ciphertext import Header
from kms_client.formats.context import Context
from kms_client.formats.dek import Dek as ClientDek
from kms_client.formats.errors import Conflict
from kms_client.formats.names import KeyUid, TenantUid
from kms_client.formats.suites import MAX_PLAINTEXT, Suite
from kms_client.leased_key import MARGIN, LeasedKey
from kms_client.leases import MOST_LEASED, Leases, Wanted
from kms_client.local import Local
from kms_client.v1 import crypto_pb2

from kms.core.suites import Suite as DaemonSuite
from kms.crypto.aead import cipher_for
from kms.crypto.dek import Dek
from tests.client_methods import KEY, UUID_TEXT
from tests.client_peer import refuse
from tests.daemon import wait_until
from tests.leased import KEY_UID, OTHER_UID, TENANT_UID, dek_of, lease_of
from tests.node import until
from tests.vectors.fixed_nonce import urandom_gives

METHOD = "LeaseKeyVersion"
CONTEXT = {"table": "users", "row": "17"}


def granted(primary=1, seconds=30.0, uid=KEY_UID):
    """Lease versions of a key of which this is the primary one."""

    def answer(request, context):
        version = request.version or primary
        lease = Duration()
        lease.FromTimedelta(timedelta(seconds=seconds))
        return crypto_pb2.LeaseKeyVersionResponse(
            key=dek_of(uid, version),
            version=version,
            encrypts=version == primary,
            key_uid=uid,
            tenant_uid=TENANT_UID,
            lease=lease,
        )

    return answer


def refused(error):
    return lambda _, context: refuse(context, error)


class Held:
    """Holds calls back until it is opened."""

    def __init__(self, answer):
        self.answer, self.opened = answer, threading.Event()

    def __call__(self, request, context):
        self.opened.wait(20)
        return self.answer(request, context)


@pytest.fixture
def held():
    made = Held(granted())
    yield made
    made.opened.set()


@pytest.fixture
def local(caller, peer):
    """The Local of either client, its methods as calls that block."""
    kind = Local if caller.kind is Client else aio_local.Local
    client = caller.client(peer.target, deadline=5.0)
    made = caller.call(lambda: _made(kind, client)) if kind is aio_local.Local else kind(client)
    yield Blocking(caller, made)
    if kind is aio_local.Local:
        caller.call(made.close)
    else:
        made.close()


async def _made(kind, client):
    return kind(client)


class Blocking:
    def __init__(self, caller, local):
        self._caller, self.local = caller, local

    def __getattr__(self, name):
        method = getattr(self.local, name)
        return lambda *args, **kwargs: self._caller.call(lambda: method(*args, **kwargs))

    def held(self):
        return list(self.local._leases._held.values())


def opened(ciphertext, context, version=1, uid=KEY_UID):
    """Decrypt with the daemon's module, by the DEK alone."""
    pairs = [(key, value.encode()) for key, value in context.items()]
    canonical = Context.of(TenantUid(UUID(TENANT_UID)), pairs).encode()
    return cipher_for(DaemonSuite.XAES_256_GCM, Dek(dek_of(uid, version))).decrypt(canonical, ciphertext)


# What is encrypted and decrypted.


def test_a_value_is_encrypted_in_the_format_of_the_daemon_and_comes_back(local, peer):
    peer.answer(METHOD, granted(primary=3))
    made = local.encrypt(KEY, b"secret", context=CONTEXT)
    assert made.version == 3
    assert Header.parse(made.ciphertext) == Header(Suite.XAES_256_GCM, KeyUid(UUID(KEY_UID)), 3)
    assert opened(made.ciphertext, CONTEXT, 3) == b"secret"
    found = local.decrypt(KEY, made.ciphertext, context=CONTEXT)
    assert (found.plaintext, found.version, found.primary) == (b"secret", 3, True)
    assert [call.request.version for call in peer.tries(METHOD)] == [0]


def test_the_ciphers_of_the_client_are_c2sps():
    nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX"
    with urandom_gives(nonce):
        [made] = Xaes256Gcm(ClientDek(b"\x03" * 32))._encrypt_each(b"", [b"c2sp.org/XAES-256-GCM"], [b"XAES-256-GCM"])
    assert made.hex() == nonce.hex() + "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"


def test_batches_keep_the_order_and_bad_items_fail_alone(local, peer):
    peer.answer(METHOD, granted(primary=2))
    values = [b"%d" % number for number in range(2_500)]
    rows = [str(number) for number in range(2_500)]
    rows[7] = "nul\0"
    made = local.encrypt_batch(KEY, values, context={"table": "users"}, varying=("row", rows))
    assert (set(made.failures), made.values[7], made.version) == ({7}, None, 2)
    assert [v.field for v in made.failures[7].violations] == ["varying.values[7]"]
    assert opened(made.values[2_499], {"table": "users", "row": "2499"}, 2) == b"2499"
    rows[7] = "7"
    made.values[7] = local.encrypt(KEY, b"7", context={"table": "users", "row": "7"}).ciphertext
    made.values[8] = b"short"
    made.values[9] = made.values[10]
    found = local.decrypt_batch(KEY, made.values, context={"table": "users"}, varying=("row", rows))
    assert {index: type(error) for index, error in found.failures.items()} == {8: InvalidRequest, 9: CannotDecrypt}
    assert [v.field for v in found.failures[8].violations] == ["ciphertexts[8]"]
    assert [value for index, value in enumerate(found.values) if index not in (8, 9)] == values[:8] + values[10:]
    assert found.primary_version == 2
    made.values[0] = b""
    found = local.decrypt_batch(KEY, made.values, context={"table": "users"}, varying=("row", rows))
    assert (set(found.failures), found.values[1], found.values[2_499]) == ({0, 8, 9}, b"1", b"2499")
    assert (local.encrypt_batch(KEY, []).version, local.decrypt_batch(KEY, []).primary_version) == (0, 0)


def test_a_value_that_is_too_long_is_named_with_its_index(local, peer):
    peer.answer(METHOD, granted())
    long = bytes(MAX_PLAINTEXT + 1)
    with pytest.raises(InvalidRequest, match="plaintext: must have at most 1048576 bytes"):
        local.encrypt(KEY, long)
    made = local.encrypt_batch(KEY, [b"a", long, b"b"])
    assert [v.field for v in made.failures[1].violations] == ["plaintexts[1]"]
    assert [value is None for value in made.values] == [False, True, False]


@pytest.mark.parametrize("method", ["encrypt", "decrypt"])
def test_text_is_no_value_and_nothing_is_asked_for(local, peer, method):
    with pytest.raises(TypeError, match="must be bytes"):
        getattr(local, method)(KEY, "text")
    with pytest.raises(TypeError, match="must be bytes"):
        getattr(local, f"{method}_batch")(KEY, ["text"])
    assert peer.calls == []


# What does not decrypt.


def test_what_was_made_elsewhere_or_altered_does_not_decrypt(local, peer):
    peer.answer(METHOD, granted())
    made = local.encrypt(KEY, b"secret", context=CONTEXT).ciphertext
    other_suite = made[:1] + b"\x01" + made[2:]
    other_key = made[:2] + UUID(OTHER_UID).bytes + made[18:]
    for ciphertext in (made[:-1] + bytes([made[-1] ^ 1]), other_suite, other_key):
        with pytest.raises(CannotDecrypt):
            local.decrypt(KEY, ciphertext, context=CONTEXT)
    with pytest.raises(CannotDecrypt):
        local.decrypt(KEY, made, context={**CONTEXT, "row": "18"})
    for damaged in (b"", made[:30], b"\x02" + made[1:], b"plain text that is no ciphertext at all, but long enough"):
        with pytest.raises(InvalidRequest):
            local.decrypt(KEY, damaged, context=CONTEXT)
    assert len(peer.tries(METHOD)) == 1


def test_a_ciphertext_of_another_key_leases_no_version_of_this_one(local, peer):
    peer.answer(METHOD, granted(primary=2))
    local.encrypt(KEY, b"x")
    foreign = Header(Suite.XAES_256_GCM, KeyUid(UUID(OTHER_UID)), 1).encode() + bytes(40)
    with pytest.raises(CannotDecrypt):
        local.decrypt(KEY, foreign)
    assert isinstance(local.decrypt_batch(KEY, [foreign]).failures[0], CannotDecrypt)
    assert [call.request.version for call in peer.tries(METHOD)] == [0]


def test_a_version_that_the_key_does_not_have_does_not_decrypt(local, peer):
    peer.answer(METHOD, refused(NotFound(f"{KEY}/versions/9")))
    unknown = Header(Suite.XAES_256_GCM, KeyUid(UUID(KEY_UID)), 9).encode() + bytes(40)
    with pytest.raises(CannotDecrypt):
        local.decrypt(KEY, unknown)
    assert isinstance(local.decrypt_batch(KEY, [unknown]).failures[0], CannotDecrypt)
    peer.answer(METHOD, refused(NotFound(KEY)))
    for act in (local.decrypt, lambda name, c: local.decrypt_batch(name, [c])):
        with pytest.raises(NotFound):
            act(KEY, unknown)


def test_one_revoked_version_fails_its_items_and_a_revoked_key_the_whole_batch(local, peer):
    def answer(request, context):
        if request.version == 1:
            refuse(context, WrongKeyState(f"{KEY}/versions/1 is revoked: it cannot be used to decrypt"))
        return granted(primary=2)(request, context)

    peer.answer(METHOD, granted(primary=1))
    first = local.encrypt(KEY, b"first").ciphertext
    local.local._leases._forget(KEY)
    peer.answer(METHOD, answer)
    second = local.encrypt(KEY, b"second").ciphertext
    found = local.decrypt_batch(KEY, [second, first, second])
    assert found.values == [b"second", None, b"second"]
    assert isinstance(found.failures[1], WrongKeyState)
    with pytest.raises(WrongKeyState, match="versions/1"):
        local.decrypt(KEY, first)
    local.local._leases._forget(KEY)
    peer.answer(METHOD, refused(WrongKeyState(f"{KEY} is revoked: it cannot be used to decrypt")))
    with pytest.raises(WrongKeyState):
        local.decrypt_batch(KEY, [second, first])


# Leases.


def test_a_lease_is_asked_for_once_and_renewed_by_use_before_it_ends(local, peer):
    peer.answer(METHOD, granted(seconds=0.8))
    made = local.encrypt(KEY, b"x").ciphertext
    while len(peer.tries(METHOD)) < 4:
        assert local.decrypt(KEY, made).plaintext == b"x"
        time.sleep(0.005)
    moments = [call.at for call in peer.tries(METHOD)]
    assert all(later - earlier > 0.09 for earlier, later in pairwise(moments))


def test_a_new_primary_version_encrypts_after_the_renewal_and_the_old_one_is_still_read(local, peer):
    peer.answer(METHOD, granted(primary=1, seconds=0.6))
    old = local.encrypt(KEY, b"old")
    peer.answer(METHOD, granted(primary=2, seconds=30))
    made = old
    while made.version == 1:
        made = local.encrypt(KEY, b"new")
    assert made.version == 2
    found = local.decrypt(KEY, old.ciphertext)
    assert (found.plaintext, found.primary) == (b"old", False)
    assert local.decrypt(KEY, made.ciphertext).primary
    assert local.decrypt_batch(KEY, [old.ciphertext]).primary_version == 0
    assert local.decrypt_batch(KEY, [old.ciphertext, made.ciphertext]).primary_version == 2


def test_a_lease_that_cannot_be_renewed_is_used_to_its_end_and_not_beyond(local, peer):
    peer.answer(METHOD, granted(seconds=1.0), refused(Unavailable("gone")))
    made = local.encrypt(KEY, b"x").ciphertext
    [leased] = local.held()
    last, error = until_refused(lambda: local.decrypt(KEY, made, deadline=0.5))
    assert isinstance(error, (Unavailable, DeadlineExceeded))
    assert leased.ends - 0.2 < last < leased.ends
    assert local.held() == []


def until_refused(act):
    """Repeat until there is an error; returns it, and the moment before the last call that succeeded."""
    last = 0.0
    while True:
        before = boottime()
        try:
            act()
        except KmsError as error:
            return last, error
        last = before


def test_a_refused_renewal_ends_the_use_at_once_with_the_daemons_error(local, peer):
    refusal = WrongKeyState(f"{KEY} is suspended: it cannot be used to decrypt")
    peer.answer(METHOD, granted(seconds=1.6), refused(refusal))
    made = local.encrypt(KEY, b"x").ciphertext
    [leased] = local.held()
    ends, memory = leased.ends, leased._material
    assert bytes(memory) == dek_of(KEY_UID, 1)
    del leased
    last, error = until_refused(lambda: local.decrypt(KEY, made))
    assert (type(error), str(error)) == (WrongKeyState, str(refusal))
    assert last < ends - 0.2
    gc.collect()
    assert bytes(memory) == bytes(32)


@pytest.mark.parametrize("error", [Denied("no"), FailedPrecondition(f"{KEY} is not leasable"), NotFound(KEY)])
def test_what_the_daemon_refuses_is_told_as_it_is(local, peer, error):
    peer.answer(METHOD, refused(error))
    for _ in range(2):
        with pytest.raises(type(error)) as told:
            local.encrypt(KEY, b"x")
        assert str(told.value) == str(error)
        assert told.value.request_id == "request-1"


def test_a_key_that_only_decrypts_does_not_encrypt(local, peer):
    peer.answer(METHOD, granted(primary=1))
    made = local.encrypt(KEY, b"x").ciphertext
    local.local._leases._forget(KEY)

    def archived(request, context):
        answer = granted(primary=1)(request, context)
        answer.encrypts = False
        return answer

    peer.answer(METHOD, archived)
    with pytest.raises(WrongKeyState, match="cannot be used to encrypt"):
        local.encrypt(KEY, b"x")
    assert local.decrypt(KEY, made).plaintext == b"x"
    assert local.local._leases._primary == {}


def test_an_answer_of_another_version_is_not_used(local, peer):
    peer.answer(METHOD, lambda _, context: granted()(crypto_pb2.LeaseKeyVersionRequest(version=5), context))
    unknown = Header(Suite.XAES_256_GCM, KeyUid(UUID(KEY_UID)), 4).encode() + bytes(40)
    with pytest.raises(KmsError, match="leases version 5"):
        local.decrypt(KEY, unknown)
    assert local.held() == []


def test_a_conflict_is_asked_again(local, peer):
    peer.answer(METHOD, refused(Conflict("there is a newer version: try again")), granted(primary=2))
    assert local.encrypt(KEY, b"x").version == 2


def test_a_hanging_daemon_ends_each_call_at_its_own_deadline(local, peer, held):
    peer.answer(METHOD, held)
    for deadline in (0.1, 0.3):
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            local.encrypt(KEY, b"x", deadline=deadline)
        assert deadline <= time.monotonic() - began < deadline + 2
    assert len(peer.tries(METHOD)) == 1  # the second waits for what the first one asked for


def test_a_lease_counts_from_before_it_was_asked_for_however_long_the_answer_takes(peer, held):
    peer.answer(METHOD, held)
    with Client(peer.target) as client, closing(Local(client)) as local:
        thread = threading.Thread(target=lambda: local.encrypt(KEY, b"x"))
        thread.start()
        wait_until(lambda: peer.tries(METHOD), "the lease to be asked for")
        arrived = boottime()
        time.sleep(0.3)  # an answer that takes its time
        held.opened.set()
        thread.join(20)
        [leased] = local._leases._held.values()
        assert leased.ends < arrived + 30.0 - MARGIN


def test_a_renewal_that_hangs_is_given_up_with_the_lease_and_asked_for_afresh(peer, held):
    peer.answer(METHOD, granted(seconds=1.0), held, granted(primary=2))
    with Client(peer.target, deadline=20) as client, closing(Local(client)) as local:
        began = time.monotonic()
        while local.encrypt(KEY, b"x").version == 1:
            pass
        assert time.monotonic() - began < 6


def test_an_error_that_is_kept_holds_no_dek(local, peer):
    peer.answer(METHOD, granted())
    made = local.encrypt(KEY, b"x", context=CONTEXT).ciphertext
    memory = local.held()[0]._material
    with pytest.raises(CannotDecrypt) as kept:
        local.decrypt(KEY, made)
    local.local._leases.close("over")
    gc.collect()
    assert bytes(memory) == bytes(32)
    assert kept.value is not None


def test_a_dek_is_overwritten_at_the_end_of_its_lease_without_any_use(peer):
    peer.answer(METHOD, granted(seconds=0.4))
    with Client(peer.target) as client, closing(Local(client)) as local:
        local.encrypt(KEY, b"x")
        memory = next(iter(local._leases._held.values()))._material
        assert bytes(memory) == dek_of(KEY_UID, 1)
        wait_until(lambda: bytes(memory) == bytes(32), "the DEK to be overwritten")
        assert len(local._leases) == 0
        wait_until(lambda: not local._sweeping, "the thread to end")


async def test_a_dek_is_overwritten_at_the_end_of_its_lease_on_a_loop(peer):
    peer.answer(METHOD, granted(seconds=0.4))
    async with AsyncClient(peer.target) as client, aio_local.Local(client) as local:
        await local.encrypt(KEY, b"x")
        memory = next(iter(local._leases._held.values()))._material
        async with asyncio.timeout(20):
            while bytes(memory) != bytes(32):  # noqa: ASYNC110  a timer of the loop does it and tells nobody
                await asyncio.sleep(0.01)
        assert local._sweeper is None


def test_closing_overwrites_and_ends_the_use(local, peer):
    peer.answer(METHOD, granted())
    made = local.encrypt(KEY, b"x").ciphertext
    memory = local.held()[0]._material
    local.close() if isinstance(local.local, aio_local.Local) else local.local.close()
    gc.collect()
    assert bytes(memory) == bytes(32)
    for act in (lambda: local.encrypt(KEY, b"x"), lambda: local.decrypt(KEY, made)):
        with pytest.raises(RuntimeError, match="is closed"):
            act()


def test_other_keys_go_to_the_daemon_where_the_leased_ones_are_named(caller, peer):
    peer.answer(METHOD, granted())
    peer.answer("Encrypt", lambda r, _: crypto_pb2.EncryptResponse(ciphertext=b"<%b>" % r.plaintext, version=1))
    peer.answer("DecryptBatch", lambda *_: crypto_pb2.DecryptBatchResponse(plaintexts=[b"x"], primary_version=4))
    kind = Local if caller.kind is Client else aio_local.Local
    local = Blocking(caller, kind(caller.client(peer.target), keys=[KEY]))
    other = "tenants/acme/keys/other"
    assert local.encrypt(other, b"a").ciphertext == b"<a>"
    assert local.decrypt_batch(other, [b"c"]).values == [b"x"]
    assert local.encrypt(KEY, b"a").ciphertext[0] == 1
    assert [call.method for call in peer.calls] == ["Encrypt", "DecryptBatch", METHOD]


def test_nothing_shows_a_key(local, peer):
    peer.answer(METHOD, granted())
    local.encrypt(KEY, b"x")
    [leased] = local.held()
    key = dek_of(KEY_UID, 1)
    shown = repr(local.local) + repr(leased) + repr(leased.cipher) + repr(local.local._leases)
    for secret in (repr(key), key.hex(), to_text(key)):
        assert secret not in shown
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(leased)


# Many at once.


def test_threads_wait_for_one_lease_together(peer, held):
    peer.answer(METHOD, held)
    with Client(peer.target) as client, closing(Local(client)) as local:
        made = []
        threads = [threading.Thread(target=lambda: made.append(local.encrypt(KEY, b"x"))) for _ in range(8)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(peer.tries(METHOD)) == 1, "the lease to be asked for")
        held.opened.set()
        for thread in threads:
            thread.join(20)
    assert len({one.ciphertext for one in made}) == 8
    assert len(peer.tries(METHOD)) == 1


async def test_tasks_wait_for_one_lease_together_and_may_be_cancelled_alone(peer, held):
    peer.answer(METHOD, held)
    async with AsyncClient(peer.target) as client, aio_local.Local(client) as local:
        with under(f"tenants/acme/approvals/{UUID_TEXT}"):
            tasks = [asyncio.create_task(local.encrypt(KEY, b"x")) for _ in range(1_000)]
        await until(lambda: peer.tries(METHOD))
        for task in tasks[:500]:
            task.cancel()
        held.opened.set()
        made = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in made[:500])
    assert len({one.ciphertext for one in made[500:]}) == 500
    [call] = peer.tries(METHOD)
    assert not [key for key in call.metadata if "approval" in key]


async def test_who_waits_hears_that_it_was_closed(peer, held):
    peer.answer(METHOD, held)
    async with AsyncClient(peer.target) as client:
        local = aio_local.Local(client)
        tasks = [asyncio.create_task(local.encrypt(KEY, b"x")) for _ in range(3)]
        await until(lambda: peer.tries(METHOD))
        await local.close()
        made = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(one) for one in made] == ["the local mode of this client is closed"] * 3


def test_a_renewal_that_hangs_keeps_nobody_waiting_while_the_lease_holds(peer, held):
    held.answer = granted()
    peer.answer(METHOD, granted(seconds=2.4), held)
    with Client(peer.target) as client, closing(Local(client)) as local:
        local.encrypt(KEY, b"x")
        began = time.monotonic()
        slowest = 0.0
        while time.monotonic() - began < 1.6:
            before = time.monotonic()
            local.encrypt(KEY, b"x")
            slowest = max(slowest, time.monotonic() - before)
            time.sleep(0.01)
        assert len(peer.tries(METHOD)) == 2
        held.opened.set()
    assert slowest < 0.7


async def test_a_long_batch_lets_other_tasks_have_their_turn(peer):
    peer.answer(METHOD, granted())
    async with AsyncClient(peer.target) as client, aio_local.Local(client) as local:
        await local.encrypt(KEY, b"x")
        turns = 0

        async def count():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(count())
        await local.encrypt_batch(KEY, [b"x"] * (10 * local_work.TURN))
        task.cancel()
    assert turns >= 9


# Bounds, and what a fork leaves.


def test_so_many_versions_are_leased_and_the_one_used_longest_ago_makes_room():
    leases = Leases(most=3)
    for version in (1, 2, 3):
        leases.put((KEY, version), LeasedKey(lease_of(version, encrypts=False), 0.0))
    assert leases.look(Wanted(KEY, 1), 0.0)[0] is not None
    leases.put((KEY, 4), LeasedKey(lease_of(4), 0.0))
    assert [leases.look(Wanted(KEY, version), 0.0)[0] is None for version in (1, 2, 3, 4)] == [
        False,
        True,
        False,
        False,
    ]
    assert MOST_LEASED == 256


def test_another_key_that_has_got_the_name_takes_the_place_of_the_first():
    leases = Leases()
    for version in (1, 2):
        leases.put((KEY, version), LeasedKey(lease_of(version), 0.0))
    leases.put((KEY, 0), LeasedKey(lease_of(1, uid=OTHER_UID), 0.0))
    assert len(leases) == 1
    leased, _ = leases.look(Wanted(KEY), 0.0)
    assert leased is not None
    assert str(leased.uid) == OTHER_UID


def test_each_lease_has_a_nonce_prefix_of_its_own():
    made = [LeasedKey(lease_of(), 0.0) for _ in range(50)]
    heads = {one.cipher.encrypt(one.header, b"", b"x")[22:34] for one in made for _ in range(3)}
    assert len(heads) == 50


FORKING = """
import os, sys
from kms_client import Client
from kms_client.formats.context import Context
from kms_client.leased_key import LeasedKey
from kms_client.clock import boottime
from kms_client.local import Local
from kms_client.aio.local import Local as AsyncLocal
from kms_client.aio import AsyncClient
from tests.leased import lease_of
import asyncio

KEY = "tenants/acme/keys/notes"
client = Client("unix:///nowhere/kms.sock", deadline=0.2)
local, other = Local(client), AsyncLocal(AsyncClient("unix:///nowhere/kms.sock", deadline=0.2))
for one in (local, other):
    one._leases.put((KEY, 0), LeasedKey(lease_of(seconds=60), boottime()))
memories = [next(iter(one._leases._held.values()))._material for one in (local, other)]
before = local.encrypt(KEY, b"x").ciphertext
local._lock.acquire()  # as another thread may hold it
child = os.fork()
if child == 0:
    try:
        told = []
        for act in (lambda: local.encrypt(KEY, b"x"), lambda: asyncio.run(other.encrypt(KEY, b"x"))):
            try:
                act()
            except RuntimeError as error:
                told.append("before a fork" in str(error))
        good = told == [True, True] and [bytes(m) for m in memories] == [bytes(32)] * 2
        os._exit(0 if good else 1)
    finally:
        os._exit(2)
local._lock.release()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert local.decrypt(KEY, before).plaintext == b"x"
print("parent goes on")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_uses_neither_leases_nor_prefixes_of_its_parent():
    root = Path(__file__).parents[3]
    path = os.pathsep.join([str(root), str(Path(kms_client.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", FORKING],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("parent goes on\n", 0), done.stderr


def test_importing_the_client_does_not_load_local_mode():
    program = (
        "import sys, kms_client; print([m for m in sys.modules if 'local' in m.split('.')[-1] and 'kms_client' in m])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
