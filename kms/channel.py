"""The supervisor's end of one host's socket: calls out, answers in, all of it bounded and with deadlines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .framing import ANSWER, FAREWELL, NoMessage, Unpacker, pack

MAX_OUTSTANDING: Final = 1024  # calls
MAX_OUTSTANDING_BYTES: Final = 8 << 20


class HostUnavailable(Exception):
    """No host that answers; the message says why and holds no secret."""


class HostRefused(Exception):
    """The host has answered with an error of its own."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class _Call:
    future: asyncio.Future[object]
    timer: asyncio.TimerHandle
    size: int
    spared_until: float


class Channel(asyncio.Protocol):
    """The parent's end of one host's socket."""

    def __init__(self, name: str, on_lost: Callable[[], None]) -> None:
        self._name = name
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._unpacker = Unpacker()
        self._serial = 0
        self._calls: dict[int, _Call] = {}
        self._bytes = 0
        self._unsent: list[bytes] = []
        self._heard = 0.0  # last sign of life while calls were waiting
        self.lost: asyncio.Future[str] = self._loop.create_future()  # why; empty when the host went by itself
        self.spared_until = 0.0

    def request(self, kind: str, arguments: Sequence[object], deadline: float, spare: float) -> asyncio.Future[object]:
        """Send a call; its answer, refusal or failure comes through the future."""
        if self.lost.done():
            raise HostUnavailable(f"the {self._name} host has gone")
        now = time.monotonic()
        message = pack([self._serial + 1, now + deadline, kind, arguments])
        if len(self._calls) >= MAX_OUTSTANDING or self._bytes + len(message) > MAX_OUTSTANDING_BYTES:
            raise HostUnavailable(f"the {self._name} host has too many calls waiting")
        if not self._calls:
            self._heard = now
        self._serial += 1
        self._bytes += len(message)
        future: asyncio.Future[object] = self._loop.create_future()
        timer = self._loop.call_later(deadline, self._expire, self._serial, deadline)
        self._calls[self._serial] = _Call(future, timer, len(message), now + spare)
        if not self._unsent:
            self._loop.call_soon(self._flush)  # one write for all calls of this pass of the loop
        self._unsent.append(message)
        return future

    def _flush(self) -> None:
        if self._transport is not None and self._unsent:
            self._transport.write(b"".join(self._unsent))
            self._unsent.clear()

    def _expire(self, serial: int, deadline: float) -> None:
        call = self._calls.get(serial)
        if call is None:
            return
        if not call.future.done():
            call.future.set_exception(HostUnavailable(f"the {self._name} host did not answer within {deadline:g} s"))
        # A queue that moves is a busy host; one that has not moved for a whole deadline is a hung one. The loop's
        # timers may fire a little early.
        if time.monotonic() - self._heard >= 0.9 * deadline:
            self.lose(f"hung: it did not answer within {deadline:g} s")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to send."""
        self._transport = transport  # type: ignore[assignment]
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Take answers."""
        self._heard = time.monotonic()
        try:
            for message in self._unpacker.feed(data):
                self._take(message)
        except (NoMessage, TypeError, ValueError, KeyError):
            self.lose("sent what is no answer")

    def _take(self, message: Any) -> None:
        serial, status, value = message
        call = self._calls.pop(serial)
        call.timer.cancel()
        self._bytes -= call.size
        if status == ANSWER:
            if not call.future.done():
                call.future.set_result(value)
            return
        code, text = value
        if not call.future.done():
            call.future.set_exception(HostRefused(str(code), str(text)))
        if status == FAREWELL:
            self.lose(f"left: {text}")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  the exit status says more
        """Fail all that waits; the process has closed its end."""
        self.lose("")

    def lose(self, reason: str) -> None:
        """Close the socket, which asks the host to leave, and fail all that waits."""
        if self.lost.done():
            return
        self.lost.set_result(reason)
        self.spared_until = max((call.spared_until for call in self._calls.values()), default=0.0)
        for call in self._calls.values():
            call.timer.cancel()
            if not call.future.done():
                call.future.set_exception(HostUnavailable(f"the {self._name} host {reason or 'has died'}"))
        self._calls.clear()
        self._unsent.clear()
        self._on_lost()
        if self._transport is not None:
            self._transport.abort()
