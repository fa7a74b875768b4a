"""The listeners, health as gRPC tells it, and the stop, on a real server."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kms.core.ports import HealthStatus, PartHealth
from kms.rpc.health import HealthServicer
from kms.rpc.methods import SERVICES
from kms.rpc.server import LONGEST_SOCKET_PATH, ListenError, RpcServer
from kms.settings import Limits, Listen, TcpListener
from kms.v1 import crypto_pb2 as pb
from tests.node import until
from tests.rpc_server import Edge, Serve, StalledPeer, listener, refused

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.UNKNOWN
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
WATCH = "/grpc.health.v1.Health/Watch"


def health(edge: Edge) -> health_pb2_grpc.HealthStub:
    return health_pb2_grpc.HealthStub(edge.channel)


async def stopped(server: RpcServer, grace: float, within: float) -> None:
    async with asyncio.timeout(within):
        await server.stop(grace)


async def test_the_daemon_and_its_services_serve_and_parts_are_as_they_were_told(serve: Serve):
    edge = await serve()
    for part, status in (("storage", HealthStatus.HEALTHY), ("token", HealthStatus.UNHEALTHY)):
        await edge.server.health.tell(part, PartHealth(status))
    await edge.server.health.tell("slow", PartHealth(HealthStatus.DEGRADED))
    listed = (await health(edge).List(health_pb2.HealthListRequest())).statuses
    assert {name: response.status for name, response in listed.items()} == {
        "": SERVING,
        **{service.full_name: SERVING for service in SERVICES},
        "storage": SERVING,
        "token": NOT_SERVING,
        "slow": SERVING,
    }
    for name, response in listed.items():
        assert (await health(edge).Check(health_pb2.HealthCheckRequest(service=name))).status == response.status
    error, _ = await refused(health(edge).Check(health_pb2.HealthCheckRequest(service="absent")))
    assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_a_watcher_sees_every_status_that_lasts_and_is_let_go_at_the_stop(serve: Serve):
    edge = await serve()
    watch = health(edge).Watch(health_pb2.HealthCheckRequest(service="token"))
    seen = [(await watch.read()).status]
    for status in (HealthStatus.UNKNOWN, HealthStatus.HEALTHY, HealthStatus.UNHEALTHY, HealthStatus.HEALTHY):
        await edge.server.health.tell("token", PartHealth(status))
        seen.append((await watch.read()).status)
    await stopped(edge.server, 30.0, within=10)
    seen.append((await watch.read()).status)
    assert await watch.read() == grpc.aio.EOF
    assert seen == [SERVICE_UNKNOWN, UNKNOWN, SERVING, NOT_SERVING, SERVING, NOT_SERVING]


async def test_a_watcher_that_reads_nothing_stops_neither_health_nor_the_stop(serve: Serve):
    edge = await serve()
    peer = StalledPeer(edge.path, WATCH)
    await peer.begun()
    watch = health(edge).Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == SERVING
    async with asyncio.timeout(5):
        for status, seen in ((HealthStatus.UNHEALTHY, NOT_SERVING), (HealthStatus.HEALTHY, SERVING)):
            await edge.server.health.tell("", PartHealth(status))
            assert (await watch.read()).status == seen
    await stopped(edge.server, 0.2, within=10)
    peer.close()


async def test_nothing_serves_any_more_once_the_stop_has_begun():
    servicer = HealthServicer()
    servicer.set("", SERVING)
    servicer.stop()
    await servicer.tell("", PartHealth(HealthStatus.HEALTHY))
    await servicer.tell("late", PartHealth(HealthStatus.HEALTHY))
    listed = (await servicer.List(health_pb2.HealthListRequest(), None)).statuses
    assert {name: response.status for name, response in listed.items()} == {"": NOT_SERVING}


async def test_a_stop_lets_running_calls_finish_and_ends_those_that_outlast_it(serve: Serve):
    edge = await serve()
    go = asyncio.Event()

    async def quick(request, caller):
        await go.wait()
        return pb.EncryptResponse(version=1)

    async def endless(request, caller):
        await asyncio.Event().wait()

    edge.answers.by_name |= {"Encrypt": quick, "Decrypt": endless}
    short = edge.crypto.Encrypt(pb.EncryptRequest())
    long = edge.crypto.Decrypt(pb.DecryptRequest())
    await until(lambda: len(edge.observer.spans) == 2)
    stopping = asyncio.create_task(stopped(edge.server, 0.5, within=10))
    await until(lambda: edge.server.health._stopping)
    go.set()
    assert (await short).version == 1
    error, _ = await refused(long)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    await stopping
    await until(lambda: len(edge.observer.finished) == 2)
    assert set(edge.observer.finished) == {("Encrypt", "OK"), ("Decrypt", "CANCELLED")}
    assert not edge.path.exists()


def make_server(path: Path, mode: str = "0600") -> RpcServer:
    return RpcServer((), Listen(unix=listener(path, mode)), Limits())


@pytest.mark.parametrize("mode", ["0600", "0660", "0666"])
async def test_a_socket_has_its_mode_before_anybody_else_may_connect(
    socket_directory: Path, monkeypatch: pytest.MonkeyPatch, mode: str
):
    path = socket_directory / "s"
    born = []
    chmod = Path.chmod

    def seen(self: Path, wanted: int) -> None:
        born.append(stat.S_IMODE(self.lstat().st_mode))
        chmod(self, wanted)

    monkeypatch.setattr(Path, "chmod", seen)
    before = os.umask(0)
    try:
        server = make_server(path, mode)
        server._bind_unix(listener(path, mode))
        assert os.umask(0) == 0  # as it was
    finally:
        os.umask(before)
    assert [bits & 0o077 for bits in born] == [0]
    assert stat.S_IMODE(path.lstat().st_mode) == int(mode, 8)
    await server.stop(0.0)


async def test_a_stale_socket_is_replaced(socket_directory: Path):
    path = socket_directory / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(path))
    server = make_server(path)
    assert await server.start() == [f"unix:{path}"]
    await server.stop(0.0)
    assert not path.exists()


async def test_a_socket_that_somebody_listens_on_is_left_alone(socket_directory: Path):
    path = socket_directory / "s"
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(os.fspath(path))
        alive.listen()
        with pytest.raises(ListenError, match="another process listens there"):
            await make_server(path).start()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(os.fspath(path))


async def test_a_file_that_is_no_socket_is_left_alone(socket_directory: Path):
    path = socket_directory / "s"
    path.write_text("precious")
    with pytest.raises(ListenError, match="is no socket"):
        await make_server(path).start()
    assert path.read_text() == "precious"


async def test_what_may_be_wrong_with_a_tls_listener_is_named(tmp_path: Path):
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    files = {"certificate": junk, "private_key": junk, "client_ca": junk}
    cases = [
        (files, "private_key and client_ca are no PEM files"),
        (files | {"client_ca": tmp_path / "absent"}, "absent"),
    ]
    for given, reason in cases:
        listen = Listen(tcp=TcpListener(address="127.0.0.1:0", **given))
        with pytest.raises(ListenError, match=reason):
            await RpcServer((), listen, Limits()).start()


async def test_a_path_that_cannot_be_used_is_refused_by_name(socket_directory: Path):
    (socket_directory / "file").write_text("")
    too_long = socket_directory / ("x" * LONGEST_SOCKET_PATH)
    cases = [
        (socket_directory / "absent" / "s", "cannot be made"),
        (socket_directory / "file" / "s", "Not a directory"),
        (too_long, "longer than 107 bytes"),
    ]
    for path, reason in cases:
        with pytest.raises(ListenError, match=reason) as caught:
            await make_server(path).start()
        assert str(path) in str(caught.value)
