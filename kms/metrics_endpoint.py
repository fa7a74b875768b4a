"""Metrics and health over HTTP/1.1, on the daemon's own event loop: two paths, GET and HEAD, one answer a connection.

There is no TLS and no authentication here, which is why the address should be a loopback or otherwise private one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

from kms.core.ports import HealthStatus, PartHealth
from kms.metrics import CONTENT_TYPE, Metrics

_MAX_CONNECTIONS: Final = 32
_MAX_HEAD: Final = 8_192  # bytes of request line and headers
_DEADLINE: Final = 5.0  # seconds for a whole request and its answer


class MetricsEndpoint:
    """Answers `/metrics` and `/healthz` on one address."""

    def __init__(self, metrics: Metrics, health: Callable[[], Mapping[str, PartHealth]], host: str, port: int) -> None:
        self._metrics = metrics
        self._parts = health
        self._host = host
        self._port = port
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        """Listen; returns HOST:PORT with the port that the system chose for port 0.

        Raises:
            OSError: the address is in use or not one of this host.
        """
        self._server = await asyncio.start_server(self._serve, self._host, self._port, limit=_MAX_HEAD)
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def stop(self) -> None:
        """Stop listening and cut off whoever is connected."""
        if self._server is not None:
            self._server.close()
            for writer in self._open:
                writer.transport.abort()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if len(self._open) <= _MAX_CONNECTIONS:
                async with asyncio.timeout(_DEADLINE):
                    writer.write(await self._answer(reader))
                    await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            pass  # whoever asks is gone or too slow; the next scrape will tell
        finally:
            self._open.discard(writer)
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()  # a reader that does not read would keep the connection for ever
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        method, _, rest = head.partition(b" ")
        target, _, version = rest.partition(b"\r\n")[0].partition(b" ")
        if not version.startswith(b"HTTP/1."):
            return _response(HTTPStatus.BAD_REQUEST)
        if method not in {b"GET", b"HEAD"}:
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, headers="Allow: GET, HEAD\r\n")
        match target.partition(b"?")[0]:
            case b"/metrics":
                answer = _response(HTTPStatus.OK, self._metrics.render(), CONTENT_TYPE)
            case b"/healthz":
                answer = self._health()
            case _:
                answer = _response(HTTPStatus.NOT_FOUND)
        return answer if method == b"GET" else answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    def _health(self) -> bytes:
        parts = {part: health.status for part, health in self._parts().items()}
        serving = all(status in {HealthStatus.HEALTHY, HealthStatus.DEGRADED} for status in parts.values())
        status = HTTPStatus.OK if serving else HTTPStatus.SERVICE_UNAVAILABLE
        # The reasons stay in the log: this answer goes to whoever reaches the port.
        return _response(status, json.dumps(parts, sort_keys=True).encode() + b"\n", "application/json")


def _response(status: HTTPStatus, body: bytes = b"", content_type: str = "text/plain", headers: str = "") -> bytes:
    body = body or f"{status.phrase}\n".encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        f"Cache-Control: no-store\r\nConnection: close\r\n{headers}\r\n"
    )
    return head.encode("ascii") + body
