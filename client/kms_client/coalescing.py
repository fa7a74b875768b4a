"""Concurrent single calls become batches by themselves: what is asked for in one pass of the event loop goes as one.

At most two batches of one kind are in flight, and what is asked for meanwhile gathers; nothing ever waits for a timer. A
call that is alone is sent as the single call that it is.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from .aio import AsyncClient
from .approval import metadata
from .batches import ITEM_OVERHEAD, MARGIN, MESSAGE_BYTES, MESSAGE_VALUES
from .connection import checked_deadline
from .formats.ciphertext import Header
from .formats.context import MAX_LENGTH
from .formats.errors import DeadlineExceeded, InvalidRequest, KmsError, LimitExceeded, Unavailable, Violation
from .requests.crypto import Context, context_value, single
from .values import BatchResult, Decrypted, DecryptedBatch, Encrypted, EncryptedBatch

# Measured: a second batch fills the time in which the first one's answer is on its way; more only make them smaller.
IN_FLIGHT: Final = 2
# What has been asked for and not been answered, over all batches; beyond it a call is refused rather than remembered.
MOST_CALLS: Final = 100_000
MOST_BYTES: Final = 64 << 20
# Of values and their varying pairs in one batch. Shared pairs that a daemon takes fit beside them into a message.
BATCH_BYTES: Final = MESSAGE_BYTES - MARGIN - 4 * MAX_LENGTH
SHORTEST: Final = 0.001  # seconds; gRPC takes no deadline of nothing
PAUSE: Final = timedelta(milliseconds=100)  # as the daemon says where too much is in flight

T = TypeVar("T")
Pairs = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class _Kind(Generic[T]):
    """A method in both its forms, and how one item of a batch becomes what the single call returns."""

    value: str  # the request's field; that of a batch has an s at its end
    one: Callable[..., Awaitable[T]]
    many: Callable[..., Awaitable[BatchResult]]
    item: Callable[[bytes, bytes, Any], T]


@dataclass(frozen=True, slots=True)
class _Place:
    """A context, parted into the pairs that a batch shares and the one that may vary."""

    shared: Pairs
    row: bytes | None  # the varying pair's value; None where there is no such pair
    at: int  # where that stands among the caller's pairs; behind the last where it is not
    size: int  # bytes of all


@dataclass(eq=False, slots=True)
class _Call(Generic[T]):
    """One caller who waits."""

    value: bytes = field(repr=False)
    context: Context | None = field(repr=False)
    place: _Place = field(repr=False)
    expiry: float  # by the loop's clock
    waiter: asyncio.Future[T] = field(repr=False)
    batch: _Batch[T] | None = None

    @property
    def cost(self) -> int:
        """Bytes in a batch's message, at most."""
        return len(self.value) + len(self.place.row or b"") + ITEM_OVERHEAD


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
        if not 1 <= batch_values <= MESSAGE_VALUES:
            raise ValueError(f"batch_values must be 1 to {MESSAGE_VALUES}, not {batch_values}")
        self._client = client
        self._varying = varying
        self._batch_values = batch_values
        self._encrypt = _Kind("plaintext", client.encrypt, client.encrypt_batch, _encrypted)
        self._decrypt = _Kind("ciphertext", client.decrypt, client.decrypt_batch, _decrypted)
        self._groups: dict[Any, _Group[Any]] = {}
        self._calls = self._bytes = 0
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

    async def _ask(self, kind: _Kind[T], name: str, value: bytes, context: Context | None, deadline: float | None) -> T:
        timeout = self._client.deadline if deadline is None else checked_deadline(deadline)
        if self._closed:
            raise RuntimeError("the coalescing client is closed")
        if not isinstance(value, bytes):
            raise TypeError(f"{kind.value} must be bytes, not {type(value).__name__}")
        single(value, kind.value)
        place = self._place(context)
        size = len(value) + place.size + ITEM_OVERHEAD
        if self._calls >= MOST_CALLS or self._bytes + size > MOST_BYTES:
            raise LimitExceeded(f"{self._calls} calls of {self._bytes} bytes wait in this client already", PAUSE)
        loop = asyncio.get_running_loop()
        call: _Call[T] = _Call(value, context, place, loop.time() + timeout, loop.create_future())
        group = self._group(kind, name, place)
        timer = loop.call_at(call.expiry, _expire, call.waiter)
        self._calls += 1
        self._bytes += size
        group.ask(call)
        try:
            return await call.waiter
        finally:
            timer.cancel()
            self._calls -= 1
            self._bytes -= size
            group.leave(call)

    def _place(self, context: Context | None) -> _Place:
        shared: list[tuple[str, bytes]] = []
        row, at, size = None, -1, 0
        for index, (key, value) in enumerate((context or {}).items()):
            encoded = context_value(value, f"context[{index}].value")
            size += len(key) + len(encoded)
            if key == self._varying:
                row, at = encoded, index
            else:
                shared.append((key, encoded))
        return _Place(tuple(shared), row, len(shared) if row is None else at, size)

    def _group(self, kind: _Kind[T], name: str, place: _Place) -> _Group[T]:
        key = (kind.value, name, place.shared, place.row is None, metadata())
        group = self._groups.get(key)
        if group is None:
            varying = None if place.row is None else self._varying
            group = _Group(kind, name, place.shared, varying, self._batch_values, partial(self._groups.pop, key))
            self._groups[key] = group
        return group


class _Group(Generic[T]):
    """Calls that may share a batch: those that wait, and the batches in flight."""

    def __init__(
        self,
        kind: _Kind[T],
        name: str,
        shared: Pairs,
        varying: str | None,
        batch_values: int,
        forget: Callable[[], object],
    ) -> None:
        self._kind = kind
        self._name = name
        self._shared = shared
        self._varying = varying
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
        while len(self._flying) < IN_FLIGHT and (calls := self._take()):
            batch = _Batch(calls, len(calls), asyncio.create_task(self._send(calls)))
            for call in calls:
                call.batch = batch
            self._flying.add(batch)
            # No part of the task, which may be cancelled before it has begun.
            batch.task.add_done_callback(partial(self._landed, batch))
        if not self._flying and not self._waiting:
            self._forget()

    def _take(self) -> list[_Call[T]]:
        """Return the calls of the next batch, the oldest first; none only where none wait."""
        taken: list[_Call[T]] = []
        spent = 0
        while self._waiting and len(taken) < self._batch_values:
            call = next(iter(self._waiting))
            if not call.waiter.done():
                spent += call.cost
                if taken and spent > BATCH_BYTES:
                    break
                taken.append(call)
            del self._waiting[call]
        return taken

    async def _send(self, calls: Sequence[_Call[T]]) -> None:
        deadline = max(max(call.expiry for call in calls) - asyncio.get_running_loop().time(), SHORTEST)
        try:
            if len(calls) == 1:
                await self._send_one(calls[0], deadline)
            else:
                await self._send_many(calls, deadline)
        except Exception as error:  # noqa: BLE001  whatever it is, those who wait have to hear of it
            for call in calls:
                _fail(call, error if len(calls) == 1 else self._own(error, call))

    async def _send_one(self, call: _Call[T], deadline: float) -> None:
        _answer(call, await self._kind.one(self._name, call.value, context=call.context, deadline=deadline))

    async def _send_many(self, calls: Sequence[_Call[T]], deadline: float) -> None:
        varying = None if self._varying is None else (self._varying, [call.place.row or b"" for call in calls])
        values = [call.value for call in calls]
        made = await self._kind.many(self._name, values, context=dict(self._shared), varying=varying, deadline=deadline)
        for index, (call, value) in enumerate(zip(calls, made.values, strict=True)):
            if value is None:
                _fail(call, self._own(made.failures[index], call))
            else:
                _answer(call, self._kind.item(call.value, value, made))

    def _landed(self, batch: _Batch[T], task: asyncio.Task[None]) -> None:
        if task.cancelled():
            for call in batch.calls:
                _fail(call, Unavailable("the client was closed under this call"))
        self._flying.discard(batch)
        self._schedule()

    def _own(self, error: Exception, call: _Call[T]) -> Exception:
        """Return an error of a batch as the single call would have raised it, one object for each who raises it."""
        if isinstance(error, InvalidRequest):
            named = (Violation(_own_field(v.field, self._kind.value, call.place.at), v.rule) for v in error.violations)
            own: Exception = InvalidRequest(*named)
        else:
            own = type(error).__new__(type(error), *error.args)
        vars(own).update({key: value for key, value in vars(error).items() if key != "violations"})
        own.__cause__ = error
        return own


_FIELD: Final = re.compile(
    r"(plaintext|ciphertext)s(?:\[\d+\])?|varying(?:\.values)?(?:\[\d+\])?(\.key)?|context\[(\d+)\]"
)


def _own_field(name: str, value: str, place: int) -> str:
    """Return what a field of a batch is called in the single request."""
    found = _FIELD.match(name)
    if found is None:
        return name
    rest = name[found.end() :]
    if found[1]:
        return value + rest
    if found[3]:
        index = int(found[3])
        return f"context[{index + (index >= place)}]{rest}"
    return f"context[{place}]{found[2] or '.value'}{rest}"


def _answer(call: _Call[T], made: T) -> None:
    if not call.waiter.done():  # the caller may have gone
        call.waiter.set_result(made)


def _fail(call: _Call[T], error: Exception) -> None:
    if not call.waiter.done():
        call.waiter.set_exception(error)


def _expire(waiter: asyncio.Future[Any]) -> None:
    if not waiter.done():
        waiter.set_exception(DeadlineExceeded("the daemon has not answered within the deadline of this call"))


def _encrypted(_: bytes, made: bytes, batch: EncryptedBatch) -> Encrypted:
    return Encrypted(made, batch.version)


def _decrypted(ciphertext: bytes, made: bytes, batch: DecryptedBatch) -> Decrypted:
    if not batch.primary_version:
        raise KmsError("the daemon does not tell the primary version with a batch: it is too old for coalescing")
    version = Header.read(ciphertext).version
    return Decrypted(made, version, version >= batch.primary_version)
