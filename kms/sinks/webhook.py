"""A sink that is a web server: one signed POST an item, and only an answer of 2xx counts."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from kms.core.outbox import OutboxItem, line_of
from kms.core.webhooks import DELIVERY, SHORTEST_SECRET, SIGNATURE, TIMESTAMP, TOPIC, parse_url, sign

from .sink import SinkUnavailable

AT_ONCE: Final = 5
LONGEST_ANSWER: Final = 16 << 10  # bytes of its head; the rest is not read

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: |\r\n)")


class WebhookSink:
    """Sends items one after another, each on a connection of its own; redirections are refused."""

    at_once = AT_ONCE

    def __init__(
        self, url: str, secret: bytes, now: Callable[[], datetime], *, deadline: float = 10.0, ca: Path | None = None
    ) -> None:
        """*deadline* is in seconds, for one item; *ca* is a PEM file of authorities, None for the system's.

        Raises:
            ValueError: the URL is none that may be used, or the secret is too short.
        """
        if len(secret) < SHORTEST_SECRET:
            raise ValueError(f"the secret of a webhook must have at least {SHORTEST_SECRET} bytes")
        self._target = parse_url(url)
        self._secret = secret
        self._now = now
        self._deadline = deadline
        self._tls = ssl.create_default_context(cafile=ca) if self._target.tls else None

    async def deliver(self, items: Sequence[OutboxItem]) -> int:
        """Send items until one is not taken.

        Raises:
            SinkUnavailable: not even the first one was.
        """
        for sent, item in enumerate(items):
            try:
                await self.post(str(item.uid), item.topic.value, line_of(item))
            except SinkUnavailable:
                if sent:
                    return sent
                raise
        return len(items)

    async def post(self, delivery: str, topic: str, body: bytes) -> None:
        """Send one JSON object, signed; *delivery* names it, and both names hold visible ASCII alone.

        Raises:
            SinkUnavailable: the server has not answered 2xx in time.
        """
        timestamp = int(self._now().timestamp())
        headers = {
            "Host": self._target.authority,
            "User-Agent": "kmsd",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            DELIVERY: delivery,
            TOPIC: topic,
            TIMESTAMP: str(timestamp),
            SIGNATURE: sign(self._secret, timestamp, body),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        request = f"POST {self._target.path} HTTP/1.1\r\n{head}\r\n".encode("ascii") + body
        try:
            async with asyncio.timeout(self._deadline):
                status = await self._exchange(request)
        except TimeoutError as error:
            raise SinkUnavailable("the server does not answer in time") from error
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:  # TLS errors are OSErrors
            raise SinkUnavailable(f"the server cannot be reached: {type(error).__name__}") from error
        if not 200 <= status < 300:
            raise SinkUnavailable(f"the server answers {status}")

    async def _exchange(self, request: bytes) -> int:
        """Send a request and return the status of its answer."""
        target = self._target
        reader, writer = await asyncio.open_connection(target.host, target.port, ssl=self._tls, limit=LONGEST_ANSWER)
        try:
            writer.write(request)
            with suppress(ConnectionError):  # who answers early need not read to the end
                await writer.drain()
            while True:
                found = _STATUS.match(await reader.readuntil(b"\r\n\r\n"))
                if found is None:
                    raise SinkUnavailable("the server answers with something else than HTTP")
                if (status := int(found[1])) >= 200:  # before it there may be interim answers
                    return status
        finally:
            writer.transport.abort()
