"""Encryption and decryption in this process, under DEKs that the daemon leases: local mode, for asyncio.

    async with AsyncClient.from_profile() as kms, Local(kms) as local:
        made = await local.encrypt("tenants/acme/keys/notes", b"...", context={"table": "notes", "row": "17"})

As `kms_client.local` for threads.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Self, TypeVar

from .. import local_work
from ..batches import Varying
from ..clock import boottime
from ..connection import checked_deadline
from ..errors import another
from ..formats.errors import Conflict, DeadlineExceeded, Unavailable, WrongKeyState
from ..formats.normalisation import IndexNormaliser
from ..leased_key import LeasedKey
from ..leases import CLOSED, LOOK, MOST_RENEWALS, SHORTEST, TRANSIENT, TRIES, Asked, Leases, Wanted
from ..local_work import Work
from ..requests.crypto import Context
from ..values import Decrypted, DecryptedBatch, Encrypted, EncryptedBatch, IndexBatch
from . import AsyncClient

T = TypeVar("T")


class _Asking:
    """A lease that is being asked for; whoever needs it waits for this one."""

    def __init__(self, began: float, task: asyncio.Task[LeasedKey | BaseException]) -> None:
        self.began = began
        self.task = task


class Local:
    """The encrypt and decrypt of an AsyncClient, with leased DEKs in this process; for use on the client's loop.

    As kms_client.local.Local: leases, results and errors are the same.
    """

    def __init__(self, client: AsyncClient, *, keys: Collection[str] | None = None) -> None:
        """Use *client*, which stays the caller's to close.

        *keys* are the names of those that are leased; values under others go to the daemon. None: all are leased.
        """
        self._client = client
        self._keys = None if keys is None else frozenset(keys)
        self._leases = Leases()
        self._asking: dict[Asked, _Asking] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._client!r}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Drop and overwrite all DEKs; the client stays open. Closing twice is allowed."""
        self._leases.close(CLOSED)
        if self._sweeper is not None:
            self._sweeper.cancel()
        tasks = [asking.task for asking in self._asking.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def encrypt(
        self, name: str, plaintext: bytes, *, context: Context | None = None, deadline: float | None = None
    ) -> Encrypted:
        """Encrypt one value, as AsyncClient.encrypt does; *deadline* is for getting a lease where none holds."""
        if self._is_remote(name):
            return await self._client.encrypt(name, plaintext, context=context, deadline=deadline)
        return await self._run(local_work.encrypt(name, plaintext, context), deadline)

    async def decrypt(
        self, name: str, ciphertext: bytes, *, context: Context | None = None, deadline: float | None = None
    ) -> Decrypted:
        """Decrypt one value, as AsyncClient.decrypt does."""
        if self._is_remote(name):
            return await self._client.decrypt(name, ciphertext, context=context, deadline=deadline)
        return await self._run(local_work.decrypt(name, ciphertext, context), deadline)

    async def encrypt_batch(
        self,
        name: str,
        plaintexts: Sequence[bytes],
        *,
        context: Context | None = None,
        varying: Varying | None = None,
        deadline: float | None = None,
    ) -> EncryptedBatch:
        """Encrypt many values, as AsyncClient.encrypt_batch does; *deadline* is for all that is waited for."""
        if self._is_remote(name):
            return await self._client.encrypt_batch(
                name, plaintexts, context=context, varying=varying, deadline=deadline
            )
        return await self._run(local_work.encrypt_batch(name, plaintexts, context, varying), deadline)

    async def decrypt_batch(
        self,
        name: str,
        ciphertexts: Sequence[bytes],
        *,
        context: Context | None = None,
        varying: Varying | None = None,
        deadline: float | None = None,
    ) -> DecryptedBatch:
        """Decrypt many values, as AsyncClient.decrypt_batch does.

        *primary_version* of the result is 0 where none of the versions that it needed is the primary one.
        """
        if self._is_remote(name):
            return await self._client.decrypt_batch(
                name, ciphertexts, context=context, varying=varying, deadline=deadline
            )
        return await self._run(local_work.decrypt_batch(name, ciphertexts, context, varying), deadline)

    async def compute_index_batch(
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
        return await self._client.compute_index_batch(
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

    async def _run(self, work: Work[T], deadline: float | None) -> T:
        timeout = self._client.deadline if deadline is None else checked_deadline(deadline)
        expiry = asyncio.get_running_loop().time() + timeout
        try:
            return await self._driven(work, expiry)
        except BaseException as error:
            # The frames below hold the DEK, and who keeps the error would keep them.
            error.__traceback__ = None
            raise

    async def _driven(self, work: Work[T], expiry: float) -> T:
        try:
            wanted = next(work)
            while True:
                if wanted.pause:
                    await asyncio.sleep(0)
                try:
                    leased = await self._lease(wanted, expiry)
                except Exception as error:  # noqa: BLE001  what it means is for the work to say
                    wanted = work.throw(error)
                else:
                    wanted = work.send(leased)
        except StopIteration as end:
            done: T = end.value
            return done

    async def _lease(self, wanted: Wanted, expiry: float) -> LeasedKey:
        """Return what is wanted, of a lease that holds now; wait for one where none does."""
        arrived: float | None = None
        for _ in range(TRIES):
            self._leases.check()
            now = boottime()
            leased, due = self._leases.look(wanted, now)
            asking = self._ask(wanted, now, leased, expiry) if due else None
            if leased is not None:
                return leased
            arrived = now if arrived is None else arrived
            assert asking is not None  # noqa: S101
            answer = await _waited(asking, expiry)
            if isinstance(answer, LeasedKey):
                if wanted.version == 0 and not answer.encrypts:
                    raise WrongKeyState(f"{wanted.name} is leased for decryption only: it cannot be used to encrypt")
            elif not isinstance(answer, Conflict) and (asking.began >= arrived or not isinstance(answer, TRANSIENT)):
                raise another(answer) from answer
        raise Unavailable(f"leases of {wanted.name} end before they can be used")

    def _ask(self, wanted: Wanted, now: float, leased: LeasedKey | None, expiry: float) -> _Asking | None:
        """Let a task ask for a lease, if none does yet."""
        asked = wanted.name, wanted.version
        asking = self._asking.get(asked)
        if asking is not None or (leased is not None and len(self._asking) >= MOST_RENEWALS):
            return asking
        loop = asyncio.get_running_loop()
        # What replaces a lease that holds is given up with it, so that who then waits begins with a fresh call.
        patience = max(self._client.deadline, expiry - loop.time()) if leased is None else leased.ends - now
        # In a context of its own: who asks first may act under an approval, which is not for this.
        task = loop.create_task(self._fetch(asked, max(patience, SHORTEST)), context=contextvars.Context())
        asking = self._asking[asked] = _Asking(now, task)
        return asking

    async def _fetch(self, asked: Asked, patience: float) -> LeasedKey | BaseException:
        try:
            began = boottime()  # before the request is sent: the lease counts from here
            leased = LeasedKey(await self._client.lease_key_version(*asked, deadline=patience), began)
            self._leases.put(asked, leased)
        except asyncio.CancelledError:
            return RuntimeError(CLOSED)
        except Exception as error:  # noqa: BLE001  whatever it is, those who wait have to hear of it
            self._leases.failed(asked, error)
            return error
        else:
            self._watch()
            return leased
        finally:
            self._asking.pop(asked, None)

    def _watch(self) -> None:
        """Drop leases when they end, used or not, as long as there are any."""
        if self._sweeper is None and len(self._leases):
            self._sweep()

    def _sweep(self) -> None:
        self._sweeper = None
        now = boottime()
        earliest = self._leases.sweep(now)
        if earliest is not None:
            self._sweeper = asyncio.get_running_loop().call_later(max(earliest - now, LOOK), self._sweep)


async def _waited(asking: _Asking, expiry: float) -> LeasedKey | BaseException:
    """Wait for an answer, which goes on for others when this caller is cancelled or gives up."""
    timeout = max(expiry - asyncio.get_running_loop().time(), 0.0)
    done, _ = await asyncio.wait({asking.task}, timeout=timeout)
    if not done:
        raise DeadlineExceeded("the daemon has given no lease within the deadline of this call")
    return asking.task.result() if not asking.task.cancelled() else RuntimeError(CLOSED)
