"""What carries the calls of an AsyncClient: its connection, and how requests go over it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from ..approval import metadata
from ..batches import Batch
from ..connection import DEADLINE, RENEWAL, Connection, checked_deadline
from ..errors import is_from_daemon
from ..formats.errors import KmsError, Unavailable
from ..formats.names import Principal
from ..methods import bind
from ..profile import Profile
from ..requests.messages import Listing, Request
from ..tls import StrPath, Tls

T = TypeVar("T")


class Calls:
    """A connection, without the methods that use it."""

    def __init__(
        self, target: str, credentials: Tls | None = None, *, deadline: float = DEADLINE, token: str | None = None
    ) -> None:
        """Prepare a connection to `host:port` with TLS or to `unix:///path`; the first call opens it.

        *token* is the text of an API token, which then shows who calls: read it from a file, never from a command line.

        Raises:
            ConfigurationError: a target of another form, TCP without TLS, a file of *credentials* is not usable, or
                *token* is none.
            ValueError: *deadline* is not positive.
        """
        self._connection = Connection.to(target, credentials, deadline, token)
        self._next_look = time.monotonic() + RENEWAL
        self._previous: grpc.aio.Channel | None = None  # calls under way end on it; the next renewal closes it
        self._channel: grpc.aio.Channel | None = None
        self._methods: dict[str, Any] = {}
        self._closed = False

    @classmethod
    def from_profile(cls, path: StrPath | None = None, *, deadline: float | None = None) -> Self:
        """Prepare the connection that a profile file describes: the one at *path*, or the one KMS_PROFILE names.

        Raises:
            ConfigurationError: the profile, or a file that it names, is missing or not usable.
        """
        profile = Profile.load(path)
        chosen = next((value for value in (deadline, profile.deadline) if value is not None), DEADLINE)
        return cls(profile.target, profile.tls, deadline=chosen, token=profile.read_token())

    @property
    def principal(self) -> Principal | None:
        """Whom the client's certificate names; None without one, and on a Unix socket. A token's is told by who_am_i()."""
        identity = self._connection.identity
        return None if identity is None else identity.principal

    @property
    def deadline(self) -> float:
        """Seconds for a call that brings no deadline of its own."""
        return self._connection.deadline

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._connection.target}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls under way end with Unavailable. Closing twice is allowed."""
        self._closed = True
        channels = self._channel, self._previous
        self._channel = self._previous = None
        self._methods = {}
        for channel in channels:
            if channel is not None:
                await channel.close()

    def _open(self) -> None:
        # Only here, for a channel belongs to the loop that runs when it is made.
        target, identity = self._connection.target, self._connection.identity
        self._channel = (
            grpc.aio.insecure_channel(target, self._connection.options)
            if identity is None
            else grpc.aio.secure_channel(target, identity.credentials, self._connection.options)
        )
        self._methods = bind(self._channel)

    async def _renew(self) -> None:
        """Go on with the TLS files of now, where they have been renewed and it is time to look."""
        if time.monotonic() < self._next_look or self._closed:
            return
        self._next_look = time.monotonic() + RENEWAL
        renewed = self._connection.renewed()
        if renewed is None:
            return
        self._connection = renewed
        ended, self._previous = self._previous, self._channel
        self._open()
        if ended is not None:
            await ended.close()

    async def _run(self, request: Request[T], deadline: float | None) -> T:
        timeout = self._connection.timeout(deadline, request.waits)
        call = await self._started(request.method, request.message, timeout)
        try:
            return request.read(await call)
        except grpc.RpcError as failure:
            raise self._failed(failure) from failure

    async def _send(self, request: Request[T], messages: AsyncIterator[Message], deadline: float | None) -> T:
        """Send messages, the request's first; without *deadline* that takes as long as it takes."""

        async def all_of() -> AsyncIterator[Message]:
            yield request.message
            async for message in messages:
                yield message

        timeout = None if deadline is None else checked_deadline(deadline)
        call = await self._started(request.method, all_of(), timeout)
        try:
            return request.read(await call)
        except grpc.RpcError as failure:
            error = self._failed(failure)
            # What grpc.aio says of a message that it could not write any more, where the line is cut between two of them.
            if type(error) is KmsError and not is_from_daemon(failure):
                raise Unavailable("the connection was lost while a message was sent") from failure
            raise error from failure

    async def _receive(self, request: Request[T], deadline: float | None) -> AsyncIterator[T]:
        """Yield what comes; without *deadline* that takes as long as it takes."""
        timeout = None if deadline is None else checked_deadline(deadline)
        answers = await self._started(request.method, request.message, timeout)
        try:
            async for answer in answers:
                yield request.read(answer)
        except grpc.RpcError as failure:
            raise self._failed(failure) from failure
        finally:
            answers.cancel()  # of a reader who has seen enough; nothing for a call that is over

    async def _started(self, method: str, message: Message | AsyncIterator[Message], seconds: float | None) -> Any:
        await self._renew()
        if self._closed:
            raise RuntimeError("the client is closed")
        if self._channel is None:
            self._open()
        return self._methods[method](message, timeout=seconds, metadata=(*self._connection.metadata, *metadata()))

    def _failed(self, failure: Any) -> KmsError:
        error = self._connection.error(failure, datetime.now(UTC))
        if type(error) is Unavailable:
            self._next_look = 0.0  # the next call looks whether the files are why
        return error

    async def _run_all(self, batch: Batch[T], deadline: float | None) -> T:
        return batch.result([await self._run(request, deadline) for request in batch.requests()])

    async def _pages(self, listing: Listing, deadline: float | None) -> AsyncIterator[Any]:
        token = ""
        while True:
            page = await self._run(listing(token), deadline)
            for entry in page.entries:
                yield entry
            token = page.after(token)
            if not token:
                return
