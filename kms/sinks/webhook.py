"""A sink that is a web server: one signed POST an item, and only an answer of 2xx counts."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from kms.core.outbox import OutboxItem, line_of

from .sink import SinkUnavailable

AT_ONCE: Final = 5
LONGEST_ANSWER: Final = 16 << 10  # bytes of its head; the rest is not read
SHORTEST_SECRET: Final = 16  # bytes

SIGNATURE: Final = "X-Kms-Signature"
TIMESTAMP: Final = "X-Kms-Timestamp"
DELIVERY: Final = "X-Kms-Delivery"
TOPIC: Final = "X-Kms-Topic"

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: |\r\n)")
_PATH = re.compile(r"[!-~]*")  # visible ASCII: nothing that could end a line


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send to."""

    tls: bool
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The value of the Host header (RFC 9110, section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def parse_url(text: str) -> Target:
    """Read the URL of a webhook.

    Raises:
        ValueError: neither https, nor http to this machine; or a user name, or what is no visible ASCII.
    """
    parts = urlsplit(text)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if _PATH.fullmatch(text) is None or parts.username is not None or parts.fragment or not parts.hostname:
        raise ValueError("must be a URL in ASCII, without a user name and a fragment")
    tls = parts.scheme == "https"
    if not tls and (parts.scheme != "http" or not _is_loopback(parts.hostname)):
        raise ValueError("must be https, or http to this machine")
    return Target(tls, parts.hostname, parts.port or (443 if tls else 80), path)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def sign(secret: bytes, timestamp: int, body: bytes) -> str:
    """Return the signature of a delivery: HMAC-SHA-256 (RFC 2104) over the time in decimal digits, a dot, and the body."""
    return "v1=" + hmac.new(secret, b"%d." % timestamp + body, hashlib.sha256).hexdigest()


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
                await self._send(item)
            except SinkUnavailable:
                if sent:
                    return sent
                raise
        return len(items)

    async def _send(self, item: OutboxItem) -> None:
        body = line_of(item)
        timestamp = int(self._now().timestamp())
        headers = {
            "Host": self._target.authority,
            "User-Agent": "kmsd",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            DELIVERY: str(item.uid),
            TOPIC: item.topic.value,
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
