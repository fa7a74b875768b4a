"""A real HTTP server that takes webhooks as a test tells it: at once, slowly, with an error, or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass
class Taken:
    """One request, as it came."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def item(self) -> dict[str, Any]:
        return json.loads(self.body)

    def verifies(self, secret: bytes) -> bool:
        """Check the signature as docs/security-events.md tells receivers to, with nothing of the daemon's."""
        signed = self.headers["x-kms-timestamp"].encode() + b"." + self.body
        expected = "v1=" + hmac.new(secret, signed, hashlib.sha256).hexdigest()
        return hmac.compare_digest(self.headers["x-kms-signature"], expected)


@dataclass
class WebhookServer:
    """Answers each request with `answer`; with `held` only when that is set."""

    answer: bytes = b"HTTP/1.1 204 No Content\r\n\r\n"
    held: asyncio.Event | None = None
    tls: ssl.SSLContext | None = None
    taken: list[Taken] = field(default_factory=list)
    port: int = 0
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/kms?team=soc"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in list(self._writers):
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers["content-length"]))
            self.taken.append(Taken(head[0], headers, body))
            if self.held is not None:
                await self.held.wait()
            writer.write(self.answer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()


@pytest.fixture
async def webhook_server() -> AsyncIterator[WebhookServer]:
    """A server that runs."""
    server = WebhookServer()
    await server.start()
    yield server
    if server.held is not None:
        server.held.set()
    await server.stop()
