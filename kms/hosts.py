"""Supervisor and framing of host processes: 4-byte length and msgpack over a socketpair (FORMATS section 10).

call       [serial, expires, kind, arguments]     expires: seconds of CLOCK_MONOTONIC, which both sides share
answer     [serial, 0, value]
refusal    [serial, 1, [code, message]]           the host goes on
farewell   [serial, 2, [code, message]]           the host leaves after it; the rest of its calls fail

STOPPED --start--> STARTING --greeting answered--> RUNNING
                    ^    |                            | died, left, hung, nonsense
                    |    +--failed--> BACKING_OFF <---+
                    +------delay over------+
A refusal with a fatal code, or a first attempt that fails, ends in FAILED: only start() tries again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgpack

MAX_MESSAGE: Final = 1 << 20  # bytes, without the length
MAX_OUTSTANDING: Final = 1024  # calls
MAX_OUTSTANDING_BYTES: Final = 8 << 20

FIRST_BACKOFF: Final = 0.1  # seconds; doubles with every failure in a row
LONGEST_BACKOFF: Final = 10.0
# A host that has lived this long starts a new row of failures.
STABLE_AFTER: Final = 10.0
# What a host gets, after its socket has been closed, to end its call and leave; then it is killed.
KILL_AFTER: Final = 2.0
# A killed process that is still there has hung inside the kernel; it is left behind.
_LEAVE_BEHIND: Final = 5.0

# The host's answers go out together, but none waits longer than this for the others.
_FLUSH_COUNT: Final = 16
_FLUSH_SECONDS: Final = 0.002

_ANSWER, _REFUSAL, _FAREWELL = 0, 1, 2


class HostUnavailable(Exception):
    """No host that answers; the message says why and holds no secret."""


class HostRefused(Exception):
    """The host has answered with an error of its own."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class NoMessage(Exception):
    """The bytes are not what this framing sends."""


class Refusal(Exception):
    """What a host's handler raises to refuse a call; with *leaving* it is the host's last answer."""

    def __init__(self, code: str, message: str, *, leaving: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.leaving = leaving


def pack(message: object) -> bytes:
    """Return one message with its length in front.

    Raises:
        NoMessage: longer than MAX_MESSAGE.
    """
    body: bytes = msgpack.packb(message)
    if len(body) > MAX_MESSAGE:
        raise NoMessage(f"a host message has at most {MAX_MESSAGE} bytes")
    return len(body).to_bytes(4, "big") + body


class Unpacker:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """Add bytes; returns the messages that are complete now.

        Raises:
            NoMessage: a length above MAX_MESSAGE, or bytes that are no msgpack.
        """
        self._data += data
        messages: list[Any] = []
        begin = 0
        while len(self._data) >= begin + 4:
            length = int.from_bytes(self._data[begin : begin + 4], "big")
            if length > MAX_MESSAGE:
                raise NoMessage(f"a host message has at most {MAX_MESSAGE} bytes")
            end = begin + 4 + length
            if len(self._data) < end:
                break
            try:
                messages.append(msgpack.unpackb(bytes(self._data[begin + 4 : end])))
            except (ValueError, msgpack.UnpackException) as error:
                raise NoMessage("a host message is no msgpack") from error
            begin = end
        del self._data[:begin]
        return messages


def serve(sock: socket.socket, handle: Callable[[str, list[Any]], object]) -> None:
    """Answer calls one by one, in the host process, until the other side closes or the handler says farewell.

    A call whose caller has given up is not carried out.
    """
    unpacker = Unpacker()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # nobody is waiting any more
        while data := sock.recv(1 << 16):
            answers: list[bytes] = []
            began = time.monotonic()
            for message in unpacker.feed(data):
                serial, expires, kind, arguments = message
                status, value = _carry_out(handle, expires, kind, arguments)
                answers.append(pack([serial, status, value]))
                if status == _FAREWELL:
                    sock.sendall(b"".join(answers))
                    return
                if len(answers) >= _FLUSH_COUNT or time.monotonic() - began > _FLUSH_SECONDS:
                    sock.sendall(b"".join(answers))
                    answers.clear()
                    began = time.monotonic()
            sock.sendall(b"".join(answers))


def _carry_out(
    handle: Callable[[str, list[Any]], object], expires: float, kind: str, arguments: list[Any]
) -> tuple[int, object]:
    if time.monotonic() > expires:
        return _REFUSAL, ["expired", f"{kind}: the caller's time was over before it began"]
    try:
        return _ANSWER, handle(kind, arguments)
    except Refusal as refusal:
        return _FAREWELL if refusal.leaving else _REFUSAL, [refusal.code, str(refusal)]
    except Exception as error:  # noqa: BLE001  a mistake of ours; its text could hold what the call held
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{trace.tb_frame.f_code.co_name}, line {trace.tb_lineno}" if trace else "?"
        return _FAREWELL, ["mistake", f"{kind}: {type(error).__name__} in {where}"]


class HostState(StrEnum):
    """Where a host is in its life; the module's docstring has the picture."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    BACKING_OFF = "backing off"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class HostStatus:
    """What health and logs tell of a host."""

    state: HostState
    reason: str = ""  # why it is not running, or why the last one ended
    restarts: int = 0
    pid: int | None = None


@dataclass(slots=True)
class _Call:
    future: asyncio.Future[object]
    timer: asyncio.TimerHandle
    size: int
    spared_until: float


class _Channel(asyncio.Protocol):
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
        self._transport = transport  # type: ignore[assignment]
        self._flush()

    def data_received(self, data: bytes) -> None:
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
        if status == _ANSWER:
            if not call.future.done():
                call.future.set_result(value)
            return
        code, text = value
        if not call.future.done():
            call.future.set_exception(HostRefused(str(code), str(text)))
        if status == _FAREWELL:
            self.lose(f"left: {text}")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  the exit status says more
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


class Host:
    """One supervised host process, started fresh; it is given the number of its socket as its last argument."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        greeting: Callable[[], Sequence[object]],
        start_deadline: float,
        fatal: Collection[str] = (),
        on_change: Callable[[HostStatus], None] | None = None,
    ) -> None:
        """Prepare a host; nothing is started.

        Args:
            name: for messages, such as "token".
            command: program and arguments; they hold no secrets.
            environment: all that the process gets.
            greeting: makes the arguments of the first call, "open", anew for every process; this is where secrets
                travel, and they are kept no longer. It raises HostUnavailable where it cannot.
            start_deadline: seconds until the greeting must be answered; until then the process is never killed.
            fatal: codes of refusals of the greeting after which nothing is tried again by itself.
            on_change: told of every change of status.
        """
        self._name = name
        self._command = tuple(command)
        self._environment = dict(environment)
        self._greeting = greeting
        self._start_deadline = start_deadline
        self._fatal = frozenset(fatal)
        self._on_change = on_change
        self._status = HostStatus(HostState.STOPPED)
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._settled = asyncio.Event()  # the attempt that is under way, or the next one, has come to its end
        self._next_attempt = 0.0
        self._waiting = 0
        self._alive: _Channel | None = None  # of the present process, also while it starts
        self._channel: _Channel | None = None  # the same once its greeting has been answered
        self.greeted: object = None  # the last answer to a greeting

    @property
    def status(self) -> HostStatus:
        """How the host is now."""
        return self._status

    def _enter(self, state: HostState, reason: str = "", *, pid: int | None = None, restarts: int = 0) -> None:
        self._status = HostStatus(state, reason, self._status.restarts + restarts, pid)
        if self._on_change is not None:
            self._on_change(self._status)

    async def start(self) -> object:
        """Start and supervise; returns the answer to the greeting.

        Raises:
            HostUnavailable: the first attempt has failed; nothing is left running.
        """
        if self._task is not None:
            raise RuntimeError(f"the {self._name} host is started already")
        self._stopping = asyncio.Event()
        self._settled = settled = asyncio.Event()
        self._task = asyncio.create_task(self._supervise(), name=f"{self._name} host")
        try:
            await settled.wait()
        except asyncio.CancelledError:
            await self.stop()
            raise
        if self._channel is None:
            reason = self._status.reason
            await self.stop()
            self._enter(HostState.FAILED, reason)
            raise HostUnavailable(reason)
        return self.greeted

    async def stop(self) -> None:
        """Ask the host to leave and wait for it; a host that does not is killed, after the time it is spared."""
        if self._task is None:
            return
        self._stopping.set()
        if self._alive is not None:
            self._alive.lose("is being stopped")
        await self._task
        self._task = None
        self._enter(HostState.STOPPED)

    async def call(self, kind: str, arguments: Sequence[object], *, deadline: float, spare: float = 0.0) -> object:
        """Let the host carry out one call.

        Args:
            kind: the call's name.
            arguments: what msgpack can carry.
            deadline: seconds, waiting for a start that is under way included.
            spare: seconds from now in which the process is not killed while this call is unanswered.

        Raises:
            HostUnavailable: no answer in time, or no host; it may or may not have been carried out.
            HostRefused: the host's own error.
        """
        if self._channel is None:
            until = time.monotonic() + deadline
            await self._wait_for_start(until)
            deadline = until - time.monotonic()
        if self._channel is None:
            raise HostUnavailable(self._status.reason or f"the {self._name} host is not running")
        return await self._channel.request(kind, arguments, deadline, spare)

    async def _wait_for_start(self, until: float) -> None:
        if self._status.state not in (HostState.STARTING, HostState.BACKING_OFF) or self._next_attempt > until:
            return
        if self._waiting >= MAX_OUTSTANDING:
            raise HostUnavailable(f"the {self._name} host has too many calls waiting")
        self._waiting += 1
        try:
            async with asyncio.timeout(until - time.monotonic()):
                await self._settled.wait()
        except TimeoutError as error:
            raise HostUnavailable(f"the {self._name} host did not start in time") from error
        finally:
            self._waiting -= 1

    async def _supervise(self) -> None:
        failures = 0
        try:
            while True:
                began = time.monotonic()
                reason, fatal = await self._live()
                self._channel = self._alive = None
                if self._stopping.is_set():
                    return
                if fatal:
                    self._enter(HostState.FAILED, reason)
                    return
                failures = 1 if time.monotonic() - began >= STABLE_AFTER else failures + 1
                delay = min(FIRST_BACKOFF * 2.0 ** (failures - 1), LONGEST_BACKOFF)
                self._next_attempt = time.monotonic() + delay
                if self._status.state is HostState.STARTING:  # the attempt itself has failed
                    self._settle_and_renew()
                self._enter(HostState.BACKING_OFF, reason)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._stopping.wait()
                if self._stopping.is_set():
                    return
                self._enter(HostState.STARTING, reason, restarts=1)
        except BaseException:
            self._enter(HostState.FAILED, f"the supervisor of the {self._name} host has failed")
            raise
        finally:
            self._settled.set()

    def _settle_and_renew(self) -> None:
        """Let go those who waited for the last attempt; the next ones wait for the next."""
        settled, self._settled = self._settled, asyncio.Event()
        settled.set()

    def _on_lost(self) -> None:
        """Send no more calls to the process, at once; _live() goes on with its end."""
        if self._channel is not None and self._alive is not None:
            self._channel = None
            self._next_attempt = 0.0
            if not self._stopping.is_set():
                reason = self._alive.lost.result() or "has died"
                self._enter(HostState.BACKING_OFF, f"the {self._name} host {reason}")

    async def _live(self) -> tuple[str, bool]:
        """Run one process from start to end; returns why it ended and whether that is for good."""
        if self._status.state is not HostState.STARTING:
            self._enter(HostState.STARTING)
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                greeting = self._greeting()
                process = _spawn(self._command, theirs.fileno(), self._environment)
            except (HostUnavailable, OSError) as error:
                ours.close()
                return f"the {self._name} host cannot be started: {error}", False
        loop = asyncio.get_running_loop()
        channel = self._alive = _Channel(self._name, self._on_lost)
        await loop.create_unix_connection(lambda: channel, sock=ours)
        if self._stopping.is_set():
            channel.lose("is being stopped")
        try:
            fatal, reason = await self._greet(channel, greeting, process.pid)
            await asyncio.wait({channel.lost})  # unlike `await`, this leaves the future alone when it is cancelled
        finally:
            channel.lose("is being stopped")  # a loop that ends without stop() cancels this task
        ending = await _reap(process, channel.spared_until)
        if not channel.lost.result():
            reason = f"the {self._name} host {ending}"
        return reason or f"the {self._name} host {channel.lost.result()}", fatal

    async def _greet(self, channel: _Channel, greeting: Sequence[object], pid: int) -> tuple[bool, str]:
        """Send the first call and let others follow when it is answered; returns whether and why it is refused."""
        try:
            self.greeted = await channel.request("open", greeting, self._start_deadline, self._start_deadline)
        except HostRefused as error:
            channel.lose(f"has been refused its start: {error}")
            return error.code in self._fatal, str(error)
        except (HostUnavailable, NoMessage) as error:
            channel.lose("could not be greeted")
            return False, str(error)
        if not channel.lost.done():
            self._channel = channel
            self._enter(HostState.RUNNING, self._status.reason, pid=pid)
            self._settle_and_renew()
        return False, ""


def _spawn(command: Sequence[str], fd: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    # A session of its own keeps the terminal's signals away: a host leaves when its socket is closed, at a moment of
    # its own choice. What it inherits is this one socket and standard error.
    return subprocess.Popen(  # noqa: S603  the command is the composition root's
        [*command, str(fd)],
        env=dict(environment),
        pass_fds=(fd,),
        close_fds=True,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        cwd="/",
    )


async def _reap(process: subprocess.Popen[bytes], spared_until: float) -> str:
    """Wait for a process whose socket is closed, kill it when its time is over; returns how it ended."""
    loop = asyncio.get_running_loop()
    exited = asyncio.Event()
    fd = os.pidfd_open(process.pid)
    loop.add_reader(fd, exited.set)
    try:
        for seconds in (max(spared_until - time.monotonic(), KILL_AFTER), _LEAVE_BEHIND):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await exited.wait()
            if exited.is_set():
                break
            process.kill()
    finally:
        loop.remove_reader(fd)
        os.close(fd)
    status = process.poll()
    if status is None:
        return "cannot be killed"
    if status < 0:
        return f"was killed by signal {-status} ({signal.strsignal(-status)})"
    return f"left with status {status}"
