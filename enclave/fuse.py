"""The fuse from a token of its own, through a token host that the enclave process starts: the daemon never has it.

The host is started, and the PIN's file opened, while this process may still do so; both are used only when it is closed
off. The messages are those of host.py, from the other side: open with module, label, PIN, mechanism and seconds; then
fuse with the platform's id.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from .errors import FuseRefused, FuseUnavailable, InvalidParameter

# Loading the module and logging in included; below the daemon's deadline for a start.
SECONDS: Final = 20.0
MAX_PIN: Final = 1024  # bytes of the PIN's file
MAX_ANSWER: Final = 1 << 16  # bytes
FUSE_LENGTH: Final = 32
_REOPEN_AFTER: Final = 30.0  # seconds; of no account for a host that is asked once
_PIN_REFUSED: Final = "pin"


@dataclass(frozen=True, slots=True)
class TokenHost:
    """A token host that has been started and not been spoken to, and the open file of its PIN."""

    sock: socket.socket
    pin: int

    def close(self) -> None:
        """Let the host leave."""
        self.sock.close()
        with contextlib.suppress(OSError):  # closed already
            os.close(self.pin)


def start_token_host(arguments: Sequence[str]) -> TokenHost:
    """Start the host in arguments: the PIN's file, NAME=VALUE for each variable, the program's absolute path, its arguments.

    Raises:
        FuseUnavailable: the PIN's file or the program cannot be opened.
    """
    pin_file, *rest = arguments
    count = next((index for index, one in enumerate(rest) if one.startswith("/")), len(rest))
    environment = dict(one.split("=", 1) for one in rest[:count])
    command = rest[count:]
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            pin = os.open(pin_file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            theirs.set_inheritable(True)
            os.posix_spawn(command[0], [*command, str(theirs.fileno())], environment)
        except (OSError, IndexError) as error:
            ours.close()
            raise FuseUnavailable(f"the host of the fuse's token cannot be started: {error}") from None
    ours.settimeout(SECONDS)
    return TokenHost(ours, pin)


def read_fuse(host: TokenHost, module: str, label: str, platform_id: bytes) -> bytes:
    """Return the fuse, 32 bytes, and let the host leave.

    Raises:
        FuseRefused: the token refuses the PIN: another try would only lock it.
        FuseUnavailable: no such token or key, or no answer in time.
    """
    try:
        pin = os.read(host.pin, MAX_PIN).rstrip(b"\r\n").decode()
        if not pin:
            raise FuseUnavailable("the file of the fuse token's PIN is empty")
        _ask(host.sock, 1, "open", [module, label, pin, "probe", _REOPEN_AFTER])
        fuse = _ask(host.sock, 2, "fuse", [platform_id])
    except (OSError, ValueError, msgpack.UnpackException) as error:
        raise FuseUnavailable(f"the host of the fuse's token does not answer ({type(error).__name__})") from None
    finally:
        host.close()
    if not isinstance(fuse, bytes) or len(fuse) != FUSE_LENGTH:
        raise FuseUnavailable("the token has made a fuse of another length")
    return fuse


def _ask(sock: socket.socket, serial: int, kind: str, arguments: list[object]) -> Any:
    body = msgpack.packb([serial, time.monotonic() + SECONDS, kind, arguments])
    sock.sendall(len(body).to_bytes(4, "big") + body)
    length = int.from_bytes(_receive(sock, 4), "big")
    if length > MAX_ANSWER:
        raise ValueError("a longer answer than there is")
    match msgpack.unpackb(_receive(sock, length)):
        case [int(number), 0, value] if number == serial:
            return value
        case [int(), 1 | 2, [str(code), str(message)]]:
            raise (FuseRefused if code == _PIN_REFUSED else FuseUnavailable)(f"the fuse's token: {message}")
        case _:
            raise ValueError("no answer to what was asked")


def _receive(sock: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = sock.recv(length - len(data))
        if not piece:
            raise FuseUnavailable("the host of the fuse's token has left without an answer")
        data += piece
    return data


def chosen_fuse(given: object, host: TokenHost | None) -> bytes:
    """Return the fuse that `open` names: 32 bytes as they are, or what [module, label, platform id] has in its token.

    Raises:
        InvalidParameter: neither of them, or a token without a host.
        FuseRefused, FuseUnavailable: as read_fuse().
    """
    match given:
        case bytes():
            return given
        case [str(module), str(label), bytes(platform_id)] if host is not None:
            return read_fuse(host, module, label, platform_id)
        case _:
            raise InvalidParameter("fuse: 32 bytes, or module, label and platform id where a token host was started")
