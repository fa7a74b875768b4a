"""A TCP proxy that a test cuts or freezes: what stands between a node and its database."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class TcpProxy:
    """Listens on 127.0.0.1 and forwards to a PostgreSQL server's TCP or Unix socket; runs in a thread of its own."""

    def __init__(self, url: str) -> None:
        given = conninfo_to_dict(url)
        self._host, self._port = str(given["host"]), str(given.get("port", 5432))
        self._given = url
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._accepted, "127.0.0.1", 0))
        self.port = int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """The database's connection string, through the proxy."""
        return make_conninfo(self._given, host="127.0.0.1", port=self.port, sslmode="disable")

    def cut(self) -> None:
        """Close every connection, and every new one at once."""
        self._call(self._cut)

    def freeze(self) -> None:
        """Forward nothing more and close nothing: the other side's kernel goes on confirming what it gets."""
        self._call(self._flowing.clear)

    def heal(self) -> None:
        """Forward again, what was held back first."""
        self._call(self._heal)

    def close(self) -> None:
        self._do(self._closed())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def _call(self, act: Callable[[], None]) -> None:
        async def call() -> None:
            act()

        self._do(call())

    def _cut(self) -> None:
        self._refusing = True
        for writer in self._writers:
            writer.transport.abort()

    def _heal(self) -> None:
        self._refusing = False
        self._flowing.set()

    async def _closed(self) -> None:
        self._server.close()
        self._cut()
        self._flowing.set()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._forward(reader, writer)
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flowing.wait()
        if self._refusing:
            return
        if self._host.startswith("/"):
            back, forth = await asyncio.open_unix_connection(f"{self._host}/.s.PGSQL.{self._port}")
        else:
            back, forth = await asyncio.open_connection(self._host, int(self._port))
        self._writers.add(forth)
        pumps = {asyncio.create_task(self._pump(reader, forth)), asyncio.create_task(self._pump(back, writer))}
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._writers.discard(forth)
            forth.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await self._flowing.wait()
            data = await reader.read(1 << 16)
            await self._flowing.wait()
            if not data:
                return
            writer.write(data)
            await writer.drain()


@contextmanager
def proxied(url: str) -> Iterator[TcpProxy]:
    """Stand a proxy before the database *url*."""
    proxy = TcpProxy(url)
    try:
        yield proxy
    finally:
        proxy.close()
