"""What a client needs to reach the daemon, checked before anything is sent: target, credentials, options, deadline."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from .batches import MESSAGE_BYTES
from .errors import RpcFailure, from_rpc, is_from_daemon
from .formats.errors import KmsError, Unavailable
from .methods import service_config
from .profile import checked_token
from .tls import ConfigurationError, Tls

if TYPE_CHECKING:
    from .identity import Identity

DEADLINE: Final = 10.0  # seconds for one call, its retries included

# Values are kept below MESSAGE_BYTES in both directions; failures of items come on top of them, up to some 400 bytes
# for each of 10,000. An answer that the client would not take has already been worked for (and audited) by the daemon.
LARGEST_ANSWER: Final = 4 * MESSAGE_BYTES

# Seconds after which TLS files are looked at again. A certificate is renewed days before it ends, and a daemon ends each
# connection after 15 minutes, so that it is early enough; three calls of stat are some 5 us.
RENEWAL: Final = 60.0

_TCP = re.compile(r"(?:(?:dns|ipv4|ipv6):/{0,3})?[^/\s]+:(\d{1,5})")
_LONGEST_SOCKET: Final = 107  # bytes; sun_path of Linux without its NUL


@dataclass(frozen=True, slots=True)
class Connection:
    """A checked target with its loaded credentials; None on a Unix socket."""

    target: str
    identity: Identity | None
    deadline: float
    token: str | None = field(default=None, repr=False)

    @classmethod
    def to(cls, target: str, credentials: Tls | None, deadline: float, token: str | None = None) -> Connection:
        """Check where to connect and how.

        Raises:
            ConfigurationError: no target of a known form, TCP without TLS, a file of *credentials* is not usable, or
                *token* is none.
            ValueError: *deadline* is not positive.
        """
        checked_deadline(deadline)
        if token is not None:
            checked_token(token)
        if target.startswith("unix:"):
            path = target.removeprefix("unix:").removeprefix("//")
            if credentials is not None:
                raise ConfigurationError(f"target {target}: a Unix socket takes no TLS credentials")
            if not 0 < len(path.encode()) <= _LONGEST_SOCKET:
                raise ConfigurationError(f"target {target}: the path must have 1 to {_LONGEST_SOCKET} bytes")
            return cls(target, None, deadline, token)
        port = _TCP.fullmatch(target)
        if port is None or not 0 < int(port[1]) < 2**16:
            raise ConfigurationError(f"target {target!r}: must have the form host:port or unix:///path")
        if credentials is None:
            raise ConfigurationError(f"target {target}: TCP needs TLS: give credentials")
        return cls(target, credentials.load(), deadline, token)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What is sent with every call: the API token. It goes over TLS, or to a local socket, only."""
        return () if self.token is None else (("authorization", f"Bearer {self.token}"),)

    @property
    def options(self) -> list[tuple[str, str | int]]:
        """The channel options of gRPC."""
        options: list[tuple[str, str | int]] = [
            ("grpc.service_config", service_config()),
            ("grpc.service_config_disable_resolution", 1),  # no policy out of DNS
            # Calls larger than this buffer (256 KiB if not set) would never be retried.
            ("grpc.per_rpc_retry_buffer_size", MESSAGE_BYTES),
            ("grpc.max_send_message_length", MESSAGE_BYTES),
            ("grpc.max_receive_message_length", LARGEST_ANSWER),
            # An error that names every broken rule of a request arrives in the trailing metadata; gRPC's limit is 8 KiB.
            ("grpc.max_metadata_size", 64 << 10),
            ("grpc.absolute_max_metadata_size", 128 << 10),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.http2.ping_timeout_ms", 20_000),
            # A daemon that has come back is found within seconds; gRPC would wait for up to two minutes.
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 5_000),
            ("grpc.enable_http_proxy", 0),  # keys are asked for directly
        ]
        if self.identity is not None and self.identity.tls.server_name is not None:
            options.append(("grpc.ssl_target_name_override", self.identity.tls.server_name))
        return options

    def renewed(self) -> Connection | None:
        """Return the connection with the TLS files of now; None where they are as they were, or not whole yet."""
        if self.identity is None or self.identity.tls.state() == self.identity.state:
            return None
        try:
            return replace(self, identity=self.identity.tls.load())
        except ConfigurationError:
            return None  # somebody is writing them, or has made a mistake: those that were loaded may serve still

    def timeout(self, deadline: float | None, waits: float) -> float:
        """Return the seconds for one call: its own deadline, or the client's and what the daemon is asked to wait.

        Raises:
            ValueError: *deadline* is not positive.
        """
        return self.deadline + waits if deadline is None else checked_deadline(deadline)

    def error(self, failure: RpcFailure, now: datetime) -> KmsError:
        """Return the error for a failed call; where the daemon was not reached, with what is wrong on this side."""
        error = from_rpc(failure)
        if type(error) is not Unavailable or self.identity is None or is_from_daemon(failure):
            return error
        complaints = self.identity.complaints(now, by_token=self.token is not None)
        if not complaints and self.identity.foreign and "Socket closed" in str(error):
            # With TLS 1.3 the daemon refuses a certificate after the client's side of the handshake has ended well.
            complaints = ["the daemon may not accept the client certificate: it was not issued by the configured ca"]
        return Unavailable("; ".join([*complaints, str(error)])) if complaints else error


def checked_deadline(seconds: float) -> float:
    """Return *seconds*.

    Raises:
        ValueError: not a positive number.
    """
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"a deadline must be a positive number of seconds, not {seconds}")
    return float(seconds)
