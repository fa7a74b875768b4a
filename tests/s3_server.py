"""Object storage that speaks S3: moto's server in a process of its own, and a proxy that lets chosen requests fail."""

from __future__ import annotations

import http.client
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from storage.bodies.objects import S3, ObjectBodies, s3_store

BUCKET = "bodies"
GENEROUS = timedelta(seconds=30)
RUN = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(*server.get_host_and_port(), flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class S3Server:
    """A server, and credentials that it takes; it takes any."""

    endpoint: str
    access_key_id: str = field(default_factory=lambda: secrets.token_hex(8))
    secret_access_key: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    def at(self, prefix: str, endpoint: str | None = None, timeout: timedelta = GENEROUS) -> S3:
        return S3(
            BUCKET,
            "eu-central-1",
            endpoint or self.endpoint,
            prefix,
            self.access_key_id,
            self.secret_access_key,
            allow_http=True,
            timeout=timeout,
        )

    def bodies(self, prefix: str, endpoint: str | None = None, timeout: timedelta = GENEROUS) -> ObjectBodies:
        return ObjectBodies(s3_store(self.at(prefix, endpoint, timeout)), timeout)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A server with an empty bucket, for all tests of a worker; each takes a prefix of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    with subprocess.Popen(
        [sys.executable, "-c", RUN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as process:
        assert process.stdout is not None
        host, port = process.stdout.readline().decode().split()
        connection = http.client.HTTPConnection(host, int(port), timeout=30)
        location = "<CreateBucketConfiguration><LocationConstraint>eu-central-1</LocationConstraint></CreateBucketConfiguration>"
        connection.request("PUT", f"/{BUCKET}", location)
        assert connection.getresponse().status == 200
        connection.close()
        yield S3Server(f"http://{host}:{port}")
        process.kill()


class Forwarding(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    server: ForwardingServer

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.server.proxy.failing():
            self.fail()
            return
        target = urlsplit(self.server.target)
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=30)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"transfer-encoding", "connection", "date", "server"}:
                self.send_header(name, value)
        if answer.getheader("content-length") is None:
            self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        connection.close()

    def fail(self) -> None:
        proxy = self.server.proxy
        if proxy.way == "error":
            self.send_response(500)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        if proxy.way == "hang":
            proxy.over.wait(60)
        self.close_connection = True

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = forward  # noqa: N815  http.server's names

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class ForwardingServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, target: str, proxy: FailingProxy) -> None:
        super().__init__(("127.0.0.1", 0), Forwarding)
        self.target = target
        self.proxy = proxy


class FailingProxy:
    """Forwards requests, counts them, and fails some, by their number from 1, in one way: error, close or hang."""

    def __init__(self, endpoint: str) -> None:
        self.way = "error"
        self.first = self.last = 0
        self.count = 0
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._server = ForwardingServer(endpoint, self)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def failing(self) -> bool:
        with self._lock:
            self.count += 1
            return self.first <= self.count <= self.last

    def fail(self, way: str, first: int, last: int) -> None:
        """Fail requests from now on by their numbers, which begin at 1 again."""
        with self._lock:
            self.way, self.first, self.last, self.count = way, first, last, 0

    def heal(self) -> None:
        self.fail("error", 0, 0)

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def failing(endpoint: str) -> Iterator[FailingProxy]:
    proxy = FailingProxy(endpoint)
    try:
        yield proxy
    finally:
        proxy.close()
