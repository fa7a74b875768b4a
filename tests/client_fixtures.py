"""Both clients behind one face, so that one suite shows that they behave the same; and peers for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from kms_client import AsyncClient, Client

from tests.client_peer import Peer
from tests.client_pki import Authority


class Caller:
    """Calls a method of a client and returns what it returns; a list for what iterates."""

    kind: Any = Client

    def __init__(self) -> None:
        self.clients: list[Any] = []

    def client(self, *args, **kwargs) -> Any:
        client = self.kind(*args, **kwargs)
        self.clients.append(client)
        return client

    def client_of(self, profile: Path) -> Any:
        client = self.kind.from_profile(profile)
        self.clients.append(client)
        return client

    def call(self, act: Callable[[], Any]) -> Any:
        answer = act()
        return list(answer) if isinstance(answer, Iterator) else answer

    def close_one(self, client: Any) -> None:
        client.close()

    def close(self) -> None:
        for client in self.clients:
            self.close_one(client)


class AsyncCaller(Caller):
    kind = AsyncClient

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()

    def call(self, act: Callable[[], Any]) -> Any:
        async def run() -> Any:
            answer = act()
            if isinstance(answer, AsyncIterator):
                return [entry async for entry in answer]
            return await answer

        return self.runner.run(run())

    def close_one(self, client: Any) -> None:
        self.runner.run(client.close())

    def close(self) -> None:
        super().close()
        self.runner.close()


@pytest.fixture(params=[Caller, AsyncCaller], ids=["sync", "async"])
def caller(request):
    made = request.param()
    yield made
    made.close()


@pytest.fixture
def peer(tmp_path):
    made = Peer(tmp_path / "peer.sock").start()
    yield made
    made.stop()


def tls_peer(certificate, key, client_ca) -> Peer:
    """Return a peer on TCP that asks for client certificates; not started."""
    pair = (key.read_bytes(), certificate.read_bytes())
    return Peer(None, grpc.ssl_server_credentials([pair], client_ca.read_bytes(), require_client_auth=True))


@pytest.fixture
def ca(tmp_path):
    return Authority(tmp_path)
