"""Encryption and decryption in this process, under DEKs that the daemon leases: local mode, for threads.

    with Client.from_profile() as kms, Local(kms) as local:
        made = local.encrypt("tenants/acme/keys/notes", b"...", context={"table": "notes", "row": "17"})

The key is one that was created as leasable. `kms_client.aio.local` has the same for asyncio.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from types import TracebackType
from typing import Self, TypeVar

from . import local_work
from .batches import Varying
from .client import Client
from .clock import boottime
from .connection import checked_deadline
from .errors import another
from .formats.errors import Conflict, DeadlineExceeded, Unavailable, WrongKeyState
from .formats.normalisation import IndexNormaliser
from .leased_key import LeasedKey
from .leases import CLOSED, LOOK, MOST_RENEWALS, SHORTEST, TRANSIENT, TRIES, Asked, Leases, Wanted
from .local_work import Work
from .requests.crypto import Context
from .values import Decrypted, DecryptedBatch, Encrypted, EncryptedBatch, IndexBatch

T = TypeVar("T")


class _Asking:
    """A lease that is being asked for; whoever needs it waits for this one."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.answer: Future[LeasedKey] = Future()


class Local:
    """The encrypt and decrypt of a Client, with leased DEKs in this process; for any number of threads.

    Ciphertexts, contexts, results and errors are those of the daemon. A lease is renewed by use; one that cannot be renewed is
    used to its end and not beyond, whatever becomes of the daemon. Make it, like the client, after any fork.

    Raises (all methods, beside what Client raises):
        FailedPrecondition: the key is not leasable.
        Unavailable, DeadlineExceeded: no lease holds, and none could be had.
        RuntimeError: closed before, or made before a fork.
    """

    def __init__(self, client: Client, *, keys: Collection[str] | None = None) -> None:
        """Use *client*, which stays the caller's to close.

        *keys* are the names of those that are leased; values under others go to the daemon. None: all are leased.
        """
        self._client = client
        self._keys = None if keys is None else frozenset(keys)
        self._leases = Leases()
        self._lock = threading.Lock()
        self._asking: dict[Asked, _Asking] = {}
        self._sweeping = False
        self._closed = threading.Event()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._client!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop and overwrite all DEKs; the client stays open. Closing twice is allowed."""
        with self._lock:
            self._leases.close(CLOSED)
        self._closed.set()

    def encrypt(
        self, name: str, plaintext: bytes, *, context: Context | None = None, deadline: float | None = None
    ) -> Encrypted:
        """Encrypt one value, as Client.encrypt does; *deadline* is for getting a lease where none holds."""
        if self._is_remote(name):
            return self._client.encrypt(name, plaintext, context=context, deadline=deadline)
        return self._run(local_work.encrypt(name, plaintext, context), deadline)

    def decrypt(
        self, name: str, ciphertext: bytes, *, context: Context | None = None, deadline: float | None = None
    ) -> Decrypted:
        """Decrypt one value, as Client.decrypt does."""
        if self._is_remote(name):
            return self._client.decrypt(name, ciphertext, context=context, deadline=deadline)
        return self._run(local_work.decrypt(name, ciphertext, context), deadline)

    def encrypt_batch(
        self,
        name: str,
        plaintexts: Sequence[bytes],
        *,
        context: Context | None = None,
        varying: Varying | None = None,
        deadline: float | None = None,
    ) -> EncryptedBatch:
        """Encrypt many values, as Client.encrypt_batch does; *deadline* is for all that is waited for."""
        if self._is_remote(name):
            return self._client.encrypt_batch(name, plaintexts, context=context, varying=varying, deadline=deadline)
        return self._run(local_work.encrypt_batch(name, plaintexts, context, varying), deadline)

    def decrypt_batch(
        self,
        name: str,
        ciphertexts: Sequence[bytes],
        *,
        context: Context | None = None,
        varying: Varying | None = None,
        deadline: float | None = None,
    ) -> DecryptedBatch:
        """Decrypt many values, as Client.decrypt_batch does.

        *primary_version* of the result is 0 where none of the versions that it needed is the primary one.
        """
        if self._is_remote(name):
            return self._client.decrypt_batch(name, ciphertexts, context=context, varying=varying, deadline=deadline)
        return self._run(local_work.decrypt_batch(name, ciphertexts, context, varying), deadline)

    def compute_index_batch(
        self,
        name: str,
        values: Sequence[bytes],
        *,
        scope: str,
        normaliser: IndexNormaliser | str = IndexNormaliser.NONE,
        length: int = 16,
        all_versions: bool = False,
        deadline: float | None = None,
    ) -> IndexBatch:
        """Have the daemon compute a blind index: keys of purpose INDEX are never leased."""
        return self._client.compute_index_batch(
            name,
            values,
            scope=scope,
            normaliser=normaliser,
            length=length,
            all_versions=all_versions,
            deadline=deadline,
        )

    def _is_remote(self, name: str) -> bool:
        return self._keys is not None and name not in self._keys

    def _run(self, work: Work[T], deadline: float | None) -> T:
        timeout = self._client.deadline if deadline is None else checked_deadline(deadline)
        expiry = time.monotonic() + timeout
        try:
            return self._driven(work, expiry)
        except BaseException as error:
            # The frames below hold the DEK, and who keeps the error would keep them.
            error.__traceback__ = None
            raise

    def _driven(self, work: Work[T], expiry: float) -> T:
        try:
            wanted = next(work)
            while True:
                try:
                    leased = self._lease(wanted, expiry)
                except Exception as error:  # noqa: BLE001  what it means is for the work to say
                    wanted = work.throw(error)
                else:
                    wanted = work.send(leased)
        except StopIteration as end:
            done: T = end.value
            return done

    def _lease(self, wanted: Wanted, expiry: float) -> LeasedKey:
        """Return what is wanted, of a lease that holds now; wait for one where none does."""
        arrived: float | None = None
        for _ in range(TRIES):
            self._leases.check()  # before the lock, which a thread that a fork has left behind may hold for ever
            with self._lock:
                now = boottime()
                leased, due = self._leases.look(wanted, now)
                asking = self._ask(wanted, now, leased, expiry) if due else None
            if leased is not None:
                return leased
            arrived = now if arrived is None else arrived
            assert asking is not None  # noqa: S101
            error = self._waited(asking, expiry)
            if error is None:
                if wanted.version == 0 and not asking.answer.result().encrypts:
                    raise WrongKeyState(f"{wanted.name} is leased for decryption only: it cannot be used to encrypt")
            elif not isinstance(error, Conflict) and (asking.began >= arrived or not isinstance(error, TRANSIENT)):
                raise another(error) from error
        raise Unavailable(f"leases of {wanted.name} end before they can be used")

    def _waited(self, asking: _Asking, expiry: float) -> BaseException | None:
        try:
            return asking.answer.exception(max(expiry - time.monotonic(), 0.0))
        except NotYet:
            raise DeadlineExceeded("the daemon has given no lease within the deadline of this call") from None

    def _ask(self, wanted: Wanted, now: float, leased: LeasedKey | None, expiry: float) -> _Asking | None:
        """Let a thread ask for a lease, if none does yet; with the lock held."""
        asked = wanted.name, wanted.version
        asking = self._asking.get(asked)
        if asking is not None or (leased is not None and len(self._asking) >= MOST_RENEWALS):
            return asking
        # What replaces a lease that holds is given up with it, so that who then waits begins with a fresh call.
        patience = max(self._client.deadline, expiry - time.monotonic()) if leased is None else leased.ends - now
        asking = self._asking[asked] = _Asking(now)
        try:
            threading.Thread(
                target=self._fetch, args=(asked, asking, max(patience, SHORTEST)), name="kms-lease", daemon=True
            ).start()
        except RuntimeError:  # no thread can be started: the interpreter ends, or the system has no more
            del self._asking[asked]
            if leased is None:
                raise
        return asking

    def _fetch(self, asked: Asked, asking: _Asking, patience: float) -> None:
        try:
            began = boottime()  # before the request is sent: the lease counts from here
            leased = LeasedKey(self._client.lease_key_version(*asked, deadline=patience), began)
            with self._lock:
                self._leases.put(asked, leased)
                del self._asking[asked]
                self._watch()
        except BaseException as error:  # noqa: BLE001  whatever it is, those who wait have to hear of it
            with self._lock:
                self._asking.pop(asked, None)
                self._leases.failed(asked, error)
            asking.answer.set_exception(error)
        else:
            asking.answer.set_result(leased)

    def _watch(self) -> None:
        """Have a thread drop leases when they end, used or not, as long as there are any; with the lock held."""
        if not self._sweeping and len(self._leases):
            self._sweeping = True
            threading.Thread(target=self._sweep, name="kms-lease-end", daemon=True).start()

    def _sweep(self) -> None:
        while True:
            with self._lock:
                now = boottime()
                earliest = self._leases.sweep(now)
                if earliest is None:
                    self._sweeping = False
                    return
            self._closed.wait(max(earliest - now, LOOK))
