"""Concurrent single calls become batches by themselves: what is asked for in one pass of the event loop goes as one.

At most two batches of one kind are in flight, and what is asked for meanwhile gathers; nothing ever waits for a timer. A
call that is alone is sent as the single call that it is. For threads there is `kms_client.thread_coalescing`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from .aio import AsyncClient
from .batches import MESSAGE_VALUES
from .connection import checked_deadline
from .formats.errors import KmsError, Unavailable
from .gathering import (
    DECRYPT,
    ENCRYPT,
    IN_FLIGHT,
    SHORTEST,
    Call,
    Kind,
    Load,
    Place,
    Shared,
    checked_batch_values,
    checked_value,
    cost,
    expired,
    group_of,
    take,
)
from .requests.crypto import Context
from .values import BatchResult, Decrypted, Encrypted

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Method(Generic[T]):
    """A method of the client in both its forms."""

    kind: Kind[T]
    one: Callable[..., Awaitable[T]]
    many: Callable[..., Awaitable[BatchResult]]


@dataclass(eq=False, slots=True)
class _Call(Call, Generic[T]):
    """One task that waits."""

    waiter: asyncio.Future[T] = field(repr=False)
    batch: _Batch[T] | None = None


@dataclass(eq=False, slots=True)
class _Batch(Generic[T]):
    """Calls that are sent together, and how many of their callers still wait."""

    calls: Sequence[_Call[T]] = field(repr=False)
    waiting: int
    task: asyncio.Task[None] = field(repr=False)


class Coalescing:
    """The encrypt and decrypt of an AsyncClient, where concurrent calls share messages; for use on the client's loop.

    Calls share a batch if they are of the same method and key, were made under the same approval, and have the same
    context but for the value of the pair *varying*. Each caller has its own deadline, which begins when it asks, may be
    cancelled alone, and gets its own answer or error.

    Raises (both methods, beside what AsyncClient raises):
        LimitExceeded: more calls wait than are remembered.
        Unavailable: closed while the call waited.
        RuntimeError: closed before.
    """

    def __init__(self, client: AsyncClient, *, varying: str | None = "row", batch_values: int = MESSAGE_VALUES) -> None:
        """Use *client*, which stays the caller's to close.

        *varying* is the key of the one pair of the context that may differ within a batch, None for none. *batch_values* is
        the daemon's limit on the values of a message, where that is configured to be lower.

        Raises:
            ValueError: *batch_values* is not 1 to 10,000.
        """
        self._client = client
        self._varying = varying
        self._batch_values = checked_batch_values(batch_values)
        self._encrypt = _Method(ENCRYPT, client.encrypt, client.encrypt_batch)
        self._decrypt = _Method(DECRYPT, client.decrypt, client.decrypt_batch)
        self._groups: dict[Any, _Group[Any]] = {}
        self._load = Load()
        self._closed = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._client!r}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def encrypt(
        self, name: str, plaintext: bytes, *, context: Context | None = None, deadline: float | None = None
    ) -> Encrypted:
        """Encrypt one value, as AsyncClient.encrypt does."""
        return await self._ask(self._encrypt, name, plaintext, context, deadline)

    async def decrypt(
        self, name: str, ciphertext: bytes, *, context: Context | None = None, deadline: float | None = None
    ) -> Decrypted:
        """Decrypt one value, as AsyncClient.decrypt does."""
        return await self._ask(self._decrypt, name, ciphertext, context, deadline)

    async def close(self) -> None:
        """Give up what is in flight; whoever waits gets Unavailable. The client stays open. Closing twice is allowed."""
        self._closed = True
        tasks = [task for group in list(self._groups.values()) for task in group.close()]
        if tasks:
            await asyncio.wait(tasks)

    async def _ask(
        self, method: _Method[T], name: str, value: bytes, context: Context | None, deadline: float | None
    ) -> T:
        timeout = self._client.deadline if deadline is None else checked_deadline(deadline)
        if self._closed:
            raise RuntimeError("the coalescing client is closed")
        place = Place.of(context, self._varying)
        size = cost(checked_value(value, method.kind), place)
        self._load.add(size)
        loop = asyncio.get_running_loop()
        call: _Call[T] = _Call(value, context, place, loop.time() + timeout, loop.create_future())
        group = self._group(method, name, place)
        timer = loop.call_at(call.expiry, _expire, call.waiter)
        group.ask(call)
        try:
            return await call.waiter
        finally:
            timer.cancel()
            self._load.remove(size)
            group.leave(call)

    def _group(self, method: _Method[T], name: str, place: Place) -> _Group[T]:
        key = group_of(method.kind, name, place)
        group = self._groups.get(key)
        if group is None:
            shared = Shared(method.kind, name, place.shared, None if place.row is None else self._varying)
            group = _Group(method, shared, self._batch_values, partial(self._groups.pop, key))
            self._groups[key] = group
        return group


class _Group(Generic[T]):
    """Calls that may share a batch: those that wait, and the batches in flight."""

    def __init__(self, method: _Method[T], shared: Shared[T], batch_values: int, forget: Callable[[], object]) -> None:
        self._method = method
        self._shared = shared
        self._batch_values = batch_values
        self._forget = forget
        # In the order of asking; quick to leave from the middle, and, unlike a dict, to take from the front.
        self._waiting: OrderedDict[_Call[T], None] = OrderedDict()
        self._flying: set[_Batch[T]] = set()
        self._scheduled = False

    def ask(self, call: _Call[T]) -> None:
        """Let a call join what waits."""
        self._waiting[call] = None
        self._schedule()

    def leave(self, call: _Call[T]) -> None:
        """Let a caller go; a batch for which nobody waits any more is given up."""
        self._waiting.pop(call, None)
        batch = call.batch
        if batch is not None:
            batch.waiting -= 1
            if not batch.waiting:
                batch.task.cancel()

    def close(self) -> list[asyncio.Task[None]]:
        """Tell everybody that this is over; returns what still has to end."""
        for call in self._waiting:
            _fail(call, Unavailable("the coalescing client was closed before this was sent"))
        self._waiting.clear()
        tasks = [batch.task for batch in self._flying]
        for task in tasks:
            task.cancel()
        return tasks

    def _schedule(self) -> None:
        # The rest of this pass of the loop joins: callers that an answer has just woken, too.
        if not self._scheduled and len(self._flying) < IN_FLIGHT:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        while len(self._flying) < IN_FLIGHT and (calls := take(self._waiting, self._batch_values, _waits)):
            batch = _Batch(calls, len(calls), asyncio.create_task(self._send(calls)))
            for call in calls:
                call.batch = batch
            self._flying.add(batch)
            # No part of the task, which may be cancelled before it has begun.
            batch.task.add_done_callback(partial(self._landed, batch))
        if not self._flying and not self._waiting:
            self._forget()

    async def _send(self, calls: Sequence[_Call[T]]) -> None:
        deadline = max(max(call.expiry for call in calls) - asyncio.get_running_loop().time(), SHORTEST)
        try:
            if len(calls) == 1:
                await self._send_one(calls[0], deadline)
            else:
                await self._send_many(calls, deadline)
        except Exception as error:  # noqa: BLE001  whatever it is, those who wait have to hear of it
            for call in calls:
                _fail(call, error if len(calls) == 1 else self._shared.own(error, call))

    async def _send_one(self, call: _Call[T], deadline: float) -> None:
        _answer(call, await self._method.one(self._shared.name, call.value, context=call.context, deadline=deadline))

    async def _send_many(self, calls: Sequence[_Call[T]], deadline: float) -> None:
        values, context, varying = self._shared.arguments(calls)
        made = await self._method.many(self._shared.name, values, context=context, varying=varying, deadline=deadline)
        for index, call in enumerate(calls):
            try:
                _answer(call, self._shared.result(calls, made, index))
            except KmsError as error:
                _fail(call, error)

    def _landed(self, batch: _Batch[T], task: asyncio.Task[None]) -> None:
        if task.cancelled():
            for call in batch.calls:
                _fail(call, Unavailable("the client was closed under this call"))
        self._flying.discard(batch)
        self._schedule()


def _waits(call: _Call[Any]) -> bool:
    return not call.waiter.done()


def _answer(call: _Call[T], made: T) -> None:
    if _waits(call):  # the caller may have gone
        call.waiter.set_result(made)


def _fail(call: _Call[T], error: Exception) -> None:
    if _waits(call):
        call.waiter.set_exception(error)


def _expire(waiter: asyncio.Future[Any]) -> None:
    if not waiter.done():
        waiter.set_exception(expired())
