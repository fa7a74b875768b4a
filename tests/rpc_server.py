"""The daemon's gRPC edge in the test's own process: the real server and wrapper, with answers that the test gives."""

from __future__ import annotations

import asyncio
import shutil
import socket
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from kms.clock import boottime_ns
from kms.core.callers import Address, Caller, Credential, CredentialKind
from kms.core.errors import InvalidRequest, Unauthenticated
from kms.core.names import Principal
from kms.rpc.admission import FairAdmission
from kms.rpc.calls import Calls
from kms.rpc.gates import Authenticator, CallTrail, Gates, QuorumGate, Watch
from kms.rpc.identity import Identities
from kms.rpc.methods import METHODS, SERVICES, Method
from kms.rpc.resources import Resource, resources_of
from kms.rpc.server import RpcServer
from kms.rpc.watch import NoWatch
from kms.settings import Limits, Listen, UnixListener
from kms.v1 import crypto_pb2_grpc
from tests.trail import NoTrail

CALLER = Principal("acme", "app")

Answer = Callable[[Any, Principal], Awaitable[Any]]


class OpenAuthorizer:
    """Leaves it to the services whose resource it is."""

    async def check(self, method: Method, caller: Caller, request: Any) -> tuple[Resource, ...]:
        """Let a call pass."""
        try:
            return resources_of(method.resources, request, caller.principal)
        except InvalidRequest:
            return ()


class OpenQuorum:
    """Needs nobody's approval."""

    @asynccontextmanager
    async def passage(self, method: Method, caller: Caller, request: Any, approval: str) -> AsyncIterator[None]:
        """Let a request pass."""
        del method, caller, request, approval
        yield


class Answers:
    """A servicer of every method; each does what the test has set under its name."""

    def __init__(self) -> None:
        self.by_name: dict[str, Answer] = {}
        self.streams: dict[str, Any] = {}  # of methods that stream, where one message each way is not enough

    def __getattr__(self, name: str) -> Any:
        method = next(method for method in METHODS if method.name == name)

        async def answer(request: Any, caller: Principal) -> Any:
            return await self.by_name[name](request, caller)

        async def upload(first: Any, rest: Any, caller: Principal) -> Any:
            if name in self.streams:
                return await self.streams[name](first, rest, caller)
            return await answer(first, caller)

        async def download(request: Any, caller: Principal) -> Any:
            if name not in self.streams:
                yield await answer(request, caller)
                return
            async for response in self.streams[name](request, caller):
                yield response

        return upload if method.uploads else download if method.downloads else answer


class Claims:
    """An authenticator for tests of what comes after it: believes the metadata of a call.

    `caller` is a principal's name and CALLER where there is none, `address` where it comes from; `credentials` are by the
    name of the principal that shows them. A caller who is `nobody` is not known.
    """

    def __init__(self, credentials: Mapping[str, Credential] | None = None) -> None:
        self._credentials = credentials or {}

    async def of(self, context: Any) -> Caller:
        text = _claim(context, "caller") or str(CALLER)
        if text == "nobody":
            raise Unauthenticated("nobody is known by that name")
        credential = self._credentials.get(text, Credential(CredentialKind.CERTIFICATE))
        return Caller(Principal.parse(text), credential, self.address_of(context))

    def address_of(self, context: Any) -> Address | None:
        text = _claim(context, "address")
        return ip_address(text) if text else None


def _claim(context: Any, name: str) -> str:
    return next((str(value) for key, value in context.invocation_metadata() if key == name), "")


@dataclass
class Observer:
    """Remembers what it is told."""

    spans: list[tuple[str, str]] = field(default_factory=list)
    finished: list[tuple[str, str]] = field(default_factory=list)

    def span(self, method: str, request_id: str) -> AbstractContextManager[object]:
        self.spans.append((method, request_id))
        return nullcontext()

    def call_finished(self, method: str, code: str, seconds: float) -> None:
        assert seconds >= 0
        self.finished.append((method.rpartition("/")[2], code))


@dataclass
class Edge:
    """A server on a Unix socket and a channel to it."""

    server: RpcServer
    path: Path
    answers: Answers
    observer: Observer
    channel: grpc.aio.Channel
    admission: FairAdmission

    @property
    def crypto(self) -> Any:
        return crypto_pb2_grpc.CryptoServiceStub(self.channel)


Serve = Callable[..., Awaitable[Edge]]


def listener(path: Path, mode: str = "0600") -> UnixListener:
    return UnixListener(path=path, principal=str(CALLER), mode=mode)


@pytest.fixture
def socket_directory() -> Iterator[Path]:
    """A short path: a socket's has at most 107 bytes."""
    directory = Path(tempfile.mkdtemp(prefix="kms-rpc-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
async def serve(socket_directory: Path) -> AsyncIterator[Serve]:
    """Start servers: `await serve(limits=..., deadline=...)`."""
    async with AsyncExitStack() as stack:

        async def start(
            *,
            limits: Limits = Limits(),  # noqa: B008  frozen
            deadline: float = 20.0,
            idle: float = 60.0,
            clock: Callable[[], int] = boottime_ns,
            authenticator: Authenticator | None = None,
            quorum: QuorumGate | None = None,
            watch: Watch | None = None,
            trail: CallTrail | None = None,
            identity: Principal | None = CALLER,
        ) -> Edge:
            answers, observer, admission = Answers(), Observer(), FairAdmission(limits, clock)
            gates = Gates(
                authenticator or Identities("test", identity),
                admission,
                OpenAuthorizer(),
                quorum or OpenQuorum(),
                watch or NoWatch(),
                trail or NoTrail(),
            )
            calls = Calls(gates, observer, deadline=deadline, idle=idle)
            handlers = calls.handlers(METHODS, {service.full_name: answers for service in SERVICES})
            path = socket_directory / "kmsd.sock"
            server = RpcServer(handlers, Listen(unix=listener(path)), limits)
            await server.start()
            stack.push_async_callback(server.stop, 0.0)
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"unix:{path}"))
            return Edge(server, path, answers, observer, channel, admission)

        yield start


def aio_single(channel: grpc.aio.Channel, method: Method) -> Callable[..., Awaitable[Any]]:
    """Return what makes a call of one request, whatever kind of method it is; of a stream of answers the last is returned."""
    form = channel.stream_unary if method.uploads else channel.unary_stream if method.downloads else channel.unary_unary
    stub: Any = form(
        method.full_name,
        request_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
        response_deserializer=method.response._concrete_class.FromString,
    )

    async def made(request: Any, **options: Any) -> Any:
        if method.downloads:
            return [method.response._concrete_class(), *[one async for one in stub(request, **options)]][-1]
        return await stub(iter([request]) if method.uploads else request, **options)

    return made


async def refused(call: Awaitable[Any]) -> tuple[grpc.aio.AioRpcError, status_pb2.Status]:
    """Await a call that must fail; returns the error and its details."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    trailers = dict(caught.value.trailing_metadata() or ())
    return caught.value, status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))


def info_of(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo of a status."""
    return error_details_pb2.ErrorInfo.FromString(status.details[0].value)


def retry_of(status: status_pb2.Status) -> timedelta:
    """What a refusal says to wait; it must say so."""
    [packed] = [detail for detail in status.details if detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR)]
    retry = error_details_pb2.RetryInfo.FromString(packed.value)
    return retry.retry_delay.ToTimedelta()


class StalledPeer:
    """An HTTP/2 client that makes one call and then reads nothing: its flow-control window is 0 (RFC 9113, section 6.9.2)."""

    def __init__(self, path: Path, method: str, message: bytes = b"") -> None:
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": method,
            ":authority": "test",
            "content-type": "application/grpc",
            "te": "trailers",
        }
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        window = struct.pack(">HI", 4, 0)  # SETTINGS_INITIAL_WINDOW_SIZE
        self._socket.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + _frame(4, 0, 0, window)
            + _frame(1, 4, 1, b"".join(_literal(name, value) for name, value in fields.items()))
            + _frame(0, 1, 1, b"\0" + struct.pack(">I", len(message)) + message)
        )

        self._socket.setblocking(False)

    async def begun(self) -> None:
        """Wait for the header of the answer, which is the last thing that needs no window."""
        loop, data = asyncio.get_running_loop(), b""
        async with asyncio.timeout(10):
            while True:
                while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3], "big"):
                    kind, data = data[3], data[9 + int.from_bytes(data[:3], "big") :]
                    if kind == 1:
                        return
                data += await loop.sock_recv(self._socket, 4096)

    def close(self) -> None:
        self._socket.close()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def _literal(name: str, value: str) -> bytes:
    """A header field that enters no table (RFC 7541, section 6.2.2)."""
    return b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
