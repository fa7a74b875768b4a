"""Supervisor of host processes; each answers calls over a socketpair (channel.py, framing.py).

The life of a host:

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
from typing import Final

from .channel import MAX_OUTSTANDING, Channel, HostRefused, HostUnavailable
from .framing import NoMessage

FIRST_BACKOFF: Final = 0.1  # seconds; doubles with every failure in a row
LONGEST_BACKOFF: Final = 10.0
# A host that has lived this long starts a new row of failures.
STABLE_AFTER: Final = 10.0
# What a host gets, after its socket has been closed, to end its call and leave; then it is killed.
KILL_AFTER: Final = 2.0
# A killed process that is still there has hung inside the kernel; it is left behind.
_LEAVE_BEHIND: Final = 5.0


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
        self._alive: Channel | None = None  # of the present process, also while it starts
        self._channel: Channel | None = None  # the same once its greeting has been answered
        self.greeted: object = None  # the last answer to a greeting
        self.refused = ""  # the code with which the last greeting was refused

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
        task = self._task
        if task is None:
            return
        self._stopping.set()
        if self._alive is not None:
            self._alive.lose("is being stopped")
        await asyncio.wait({task})  # unlike `await`, this lets the supervisor end its work when a caller is cancelled
        if self._task is task:  # and no other call of stop() has waited, too, and come first
            self._task = None
            self._enter(HostState.STOPPED)
        if not task.cancelled():
            task.result()

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
            why = f" (before: {self._status.reason})" if self._status.reason else ""
            raise HostUnavailable(f"the {self._name} host did not start in time{why}") from error
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
        channel = self._alive = Channel(self._name, self._on_lost)
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

    async def _greet(self, channel: Channel, greeting: Sequence[object], pid: int) -> tuple[bool, str]:
        """Send the first call and let others follow when it is answered; returns whether and why it is refused."""
        try:
            self.greeted = await channel.request("open", greeting, self._start_deadline, self._start_deadline)
            self.refused = ""
        except HostRefused as error:
            self.refused = error.code
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
