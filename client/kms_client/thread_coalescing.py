"""Concurrent single calls of threads become batches by themselves: what threads ask for while others are answered goes as one.

There is no thread beside the callers' own. A call that finds a place free is sent by its own thread, as the single call that it
is; what is asked for while both places are taken gathers, and when a batch has landed one of those who wait sends it all: the
one that waits the longest, so that the batch has the deadline of its own thread and nobody is held beyond theirs.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from .batches import MESSAGE_VALUES
from .client import Client
from .connection import checked_deadline
from .formats.errors import Unavailable
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
    one: Callable[..., T]
    many: Callable[..., BatchResult]


@dataclass(eq=False, slots=True)
class _Call(Call, Generic[T]):
    """One thread that waits; what is written here is written before it is woken."""

    woken: threading.Event = field(default_factory=threading.Event, repr=False)
    sends: Sequence[_Call[T]] = field(
        default=(), repr=False
    )  # the batch that this thread is to send, its own call in it
    answers: list[T] = field(default_factory=list, repr=False)  # one, when it is there
    error: BaseException | None = field(default=None, repr=False)


@dataclass(eq=False, slots=True)
class _Group(Generic[T]):
    """Calls that may share a batch: those that wait, in the order of asking, and how many batches are in flight."""

    key: Any = field(repr=False)
    method: _Method[T]
    shared: Shared[T] = field(repr=False)
    waiting: OrderedDict[_Call[T], None] = field(default_factory=OrderedDict, repr=False)
    flying: int = 0


class ThreadCoalescing:
    """The encrypt and decrypt of a Client, where concurrent calls of threads share messages; for any number of threads.

    Calls share a batch if they are of the same method and key, were made under the same approval, and have the same
    context but for the value of the pair *varying*. Each caller has its own deadline, which begins when it asks, and gets
    its own answer or error.

    Raises (both methods, beside what Client raises):
        LimitExceeded: more calls wait than are remembered.
        Unavailable: closed while the call waited to be sent, or the thread that sent it was interrupted.
        RuntimeError: closed before.
    """

    def __init__(self, client: Client, *, varying: str | None = "row", batch_values: int = MESSAGE_VALUES) -> None:
        """Use *client*, which stays the caller's to close; after any fork, as the client itself.

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
        # Over everything below; held for bookkeeping only, never while something is sent or waited for.
        self._lock = threading.Lock()
        self._groups: dict[Any, _Group[Any]] = {}
        self._load = Load()
        self._closed = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._client!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def encrypt(
        self, name: str, plaintext: bytes, *, context: Context | None = None, deadline: float | None = None
    ) -> Encrypted:
        """Encrypt one value, as Client.encrypt does."""
        return self._ask(self._encrypt, name, plaintext, context, deadline)

    def decrypt(
        self, name: str, ciphertext: bytes, *, context: Context | None = None, deadline: float | None = None
    ) -> Decrypted:
        """Decrypt one value, as Client.decrypt does."""
        return self._ask(self._decrypt, name, ciphertext, context, deadline)

    def close(self) -> None:
        """Take no more calls; those that wait to be sent get Unavailable, those in flight their answers. The client stays open."""
        with self._lock:
            self._closed = True
            for group in self._groups.values():
                for call in group.waiting:
                    call.error = Unavailable("the coalescing client was closed before this was sent")
                    call.woken.set()
                group.waiting.clear()

    def _ask(self, method: _Method[T], name: str, value: bytes, context: Context | None, deadline: float | None) -> T:
        timeout = self._client.deadline if deadline is None else checked_deadline(deadline)
        place = Place.of(context, self._varying)
        size = cost(checked_value(value, method.kind), place)
        call: _Call[T] = _Call(value, context, place, time.monotonic() + timeout)
        with self._lock:
            if self._closed:
                raise RuntimeError("the coalescing client is closed")
            self._load.add(size)
            group = self._group(method, name, place)
            if group.flying < IN_FLIGHT:
                group.flying += 1
                call.sends = (call,)
            else:
                group.waiting[call] = None
        try:
            if not call.sends:
                self._wait(group, call)
            if call.sends:
                self._send(group, call.sends)
            if call.error is not None:
                raise call.error
            return call.answers[0]
        finally:
            with self._lock:
                self._load.remove(size)

    def _group(self, method: _Method[T], name: str, place: Place) -> _Group[T]:
        key = group_of(method.kind, name, place)
        group = self._groups.get(key)
        if group is None:
            shared = Shared(method.kind, name, place.shared, None if place.row is None else self._varying)
            group = self._groups[key] = _Group(key, method, shared)
        return group

    def _wait(self, group: _Group[T], call: _Call[T]) -> None:
        """Wait until the call has its answer or error, or a batch to send.

        Raises:
            DeadlineExceeded: neither came in time; where it is in a batch, that goes on for the others.
        """
        try:
            if call.woken.wait(call.expiry - time.monotonic()):
                return
        except BaseException:  # such as KeyboardInterrupt
            if self._leave(group, call):
                self._interrupted(group, call.sends)
            raise
        if not self._leave(group, call):
            raise expired()

    def _leave(self, group: _Group[T], call: _Call[T]) -> bool:
        """Wait no longer; returns whether the call was woken after all."""
        with self._lock:
            group.waiting.pop(call, None)
            return call.woken.is_set()

    def _send(self, group: _Group[T], calls: Sequence[_Call[T]]) -> None:
        """Send a batch in the thread of one of its callers; each of them is woken when it has an answer or error."""
        try:
            deadline = max(max(call.expiry for call in calls) - time.monotonic(), SHORTEST)
            try:
                if len(calls) == 1:
                    [call] = calls
                    name = group.shared.name
                    call.answers.append(group.method.one(name, call.value, context=call.context, deadline=deadline))
                else:
                    self._send_many(group, calls, deadline)
            except Exception as error:  # noqa: BLE001  whatever it is, those who wait have to hear of it
                for call in calls:
                    call.error = error if len(calls) == 1 else group.shared.own(error, call)
        except BaseException:  # such as KeyboardInterrupt
            self._interrupted(group, calls)
            raise
        for call in calls:
            call.woken.set()
        self._landed(group)

    def _send_many(self, group: _Group[T], calls: Sequence[_Call[T]], deadline: float) -> None:
        values, context, varying = group.shared.arguments(calls)
        made = group.method.many(group.shared.name, values, context=context, varying=varying, deadline=deadline)
        for index, call in enumerate(calls):
            try:
                call.answers.append(group.shared.result(calls, made, index))
            except Exception as error:  # noqa: BLE001  of this item alone
                call.error = error

    def _interrupted(self, group: _Group[T], calls: Sequence[_Call[T]]) -> None:
        """Tell the others of a batch whose thread sends it no more."""
        for call in calls:
            call.error = Unavailable("the thread that sent this with others was interrupted: try again")
            call.woken.set()
        if calls:
            self._landed(group)

    def _landed(self, group: _Group[T]) -> None:
        """Give a place free, or to what has gathered."""
        with self._lock:
            calls = take(group.waiting, self._batch_values)
            if calls:
                leader = max(calls, key=_expiry)
                leader.sends = calls
                leader.woken.set()
                return
            group.flying -= 1
            if not group.flying:
                del self._groups[group.key]


def _expiry(call: Call) -> float:
    return call.expiry
