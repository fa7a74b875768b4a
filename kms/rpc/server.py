"""The gRPC server: listeners, limits of the transport, health and reflection."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from kms.rpc.health import HealthServicer
from kms.rpc.methods import SERVICES
from kms.settings import Limits, Listen, TcpListener, TlsListener, UnixListener

# sockaddr_un.sun_path without its NUL (unix(7)).
LONGEST_SOCKET_PATH: Final = 107  # bytes


class ListenError(Exception):
    """A listener cannot be opened; the message says which and why."""


class RpcServer:
    """Serves the handlers on every configured listener."""

    def __init__(
        self,
        handlers: Sequence[grpc.GenericRpcHandler],
        listen: Listen,
        limits: Limits,
        told: HealthServicer | None = None,
    ) -> None:
        """Prepare; nothing is open before start().

        Args:
            handlers: of the services.
            listen: where.
            limits: of the transport.
            told: what knows the health of the parts.
        """
        self._listen = listen
        self._limits = limits
        self.health = told or HealthServicer()
        self._server = grpc.aio.server(options=_options(limits))
        self._server.add_generic_rpc_handlers(tuple(handlers))
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        names = [service.full_name for service in SERVICES]
        reflection.enable_server_reflection((*names, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)

    async def start(self) -> list[str]:
        """Open the listeners and serve; returns the addresses, with the port that was found for port 0.

        Raises:
            ListenError: an address is in use or not to be had, or a certificate or key cannot be read.
        """
        addresses = []
        if self._listen.tcp is not None:
            addresses.append(self._bind_tcp(self._listen.tcp))
        if self._listen.tls is not None:
            addresses.append(self._bind_tls(self._listen.tls))
        if self._listen.unix is not None:
            addresses.append(self._bind_unix(self._listen.unix))
        await self._server.start()
        for service in ("", *(service.full_name for service in SERVICES)):
            self.health.set(service, health_pb2.HealthCheckResponse.SERVING)
        return addresses

    async def stop(self, grace: float) -> None:
        """Tell health checks first, refuse new calls, and give the running ones *grace* seconds."""
        self.health.stop()
        await self._server.stop(grace)
        if self._listen.unix is not None:
            self._listen.unix.path.unlink(missing_ok=True)

    def _bind_tcp(self, listener: TcpListener) -> str:
        credentials = grpc.ssl_server_credentials(
            [(_read(listener.private_key), _read(listener.certificate))],
            root_certificates=_read(listener.client_ca),
            require_client_auth=True,
        )
        return self._bind_secure("listen.tcp", listener.address, credentials, "certificate, private_key and client_ca")

    def _bind_tls(self, listener: TlsListener) -> str:
        # Without a certificate to ask for, a caller's identity can only be its token.
        pair = (_read(listener.private_key), _read(listener.certificate))
        credentials = grpc.ssl_server_credentials([pair], root_certificates=None, require_client_auth=False)
        return self._bind_secure("listen.tls", listener.address, credentials, "certificate and private_key")

    def _bind_secure(self, name: str, address: str, credentials: grpc.ServerCredentials, files: str) -> str:
        host = address.rpartition(":")[0]
        try:
            port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            # gRPC logs which of them it is, and tells us nothing.
            raise ListenError(
                f"{name}.address {address}: in use, or not an address of this host; "
                f"or {files} are no PEM files or do not belong together"
            ) from error
        return f"{host}:{port}"

    def _bind_unix(self, listener: UnixListener) -> str:
        path = listener.path
        if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
            raise ListenError(f"listen.unix.path {path}: longer than {LONGEST_SOCKET_PATH} bytes")
        _remove_stale(path)
        # From here on peers can connect, and who may is decided then: nobody else until the file has its mode.
        before = os.umask(0o177)
        try:
            self._server.add_insecure_port(f"unix:{path}")
        except RuntimeError as error:
            raise ListenError(f"listen.unix.path {path}: cannot be made") from error
        finally:
            os.umask(before)
        path.chmod(int(listener.mode, 8))
        return f"unix:{path}"


def _remove_stale(path: Path) -> None:
    """Remove the socket file that a killed daemon left, but never one that somebody listens on."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ListenError(f"listen.unix.path {path}: is there and is no socket")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            probe.connect(os.fspath(path))
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        pass
    except OSError as error:
        raise ListenError(f"listen.unix.path {path}: {error.strerror or error}") from error
    else:
        raise ListenError(f"listen.unix.path {path}: another process listens there")
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ListenError(f"listen.unix.path {path}: {error.strerror}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ListenError(f"{path}: cannot be read: {error.strerror}") from error


def _options(limits: Limits) -> tuple[tuple[str, int], ...]:
    return (
        # With it, which is gRPC's default, a second daemon on the same port would silently take half the calls.
        ("grpc.so_reuseport", 0),
        # For each connection: calls beyond it wait at the client. A peer that does not read costs some 100 KB a call.
        ("grpc.max_concurrent_streams", 128),
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", 8192),
        ("grpc.absolute_max_metadata_size", 16384),
        ("grpc.max_connection_idle_ms", 600_000),
        # Clients spread over new nodes, and a peer that never reads is cut off.
        ("grpc.max_connection_age_ms", 900_000),
        ("grpc.max_connection_age_grace_ms", int(limits.call_deadline.total_seconds() * 1000) + 1000),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.ping_timeout_ms", 20_000),
    )
