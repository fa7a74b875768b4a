"""Framing of what a host process and its supervisor say: 4-byte length and msgpack (FORMATS section 10).

The messages:

    call       [serial, expires, kind, arguments]     expires: seconds of CLOCK_MONOTONIC, which both sides share
    answer     [serial, 0, value]
    refusal    [serial, 1, [code, message]]           the host goes on
    farewell   [serial, 2, [code, message]]           the host leaves after it; the rest of its calls fail

This is all that a host process needs; kms/hosts.py is the supervisor's side.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from typing import Any, Final

import msgpack

MAX_MESSAGE: Final = 2 << 20  # bytes, without the length

ANSWER: Final = 0
REFUSAL: Final = 1
FAREWELL: Final = 2

# The host's answers go out together, but none waits longer than this for the others.
_FLUSH_COUNT: Final = 16
_FLUSH_SECONDS: Final = 0.002


class NoMessage(Exception):
    """The bytes are not what this framing sends."""


class Refusal(Exception):
    """What a host's handler raises to refuse a call; with *leaving* it is the host's last answer."""

    def __init__(self, code: str, message: str, *, leaving: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.leaving = leaving


def pack(message: object) -> bytes:
    """Return one message with its length in front.

    Raises:
        NoMessage: longer than MAX_MESSAGE.
    """
    body: bytes = msgpack.packb(message)
    if len(body) > MAX_MESSAGE:
        raise NoMessage(f"a host message has at most {MAX_MESSAGE} bytes")
    return len(body).to_bytes(4, "big") + body


class Unpacker:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """Add bytes; returns the messages that are complete now.

        Raises:
            NoMessage: a length above MAX_MESSAGE, or bytes that are no msgpack.
        """
        self._data += data
        messages: list[Any] = []
        begin = 0
        while len(self._data) >= begin + 4:
            length = int.from_bytes(self._data[begin : begin + 4], "big")
            if length > MAX_MESSAGE:
                raise NoMessage(f"a host message has at most {MAX_MESSAGE} bytes")
            end = begin + 4 + length
            if len(self._data) < end:
                break
            try:
                messages.append(msgpack.unpackb(bytes(self._data[begin + 4 : end])))
            except (ValueError, msgpack.UnpackException) as error:
                raise NoMessage("a host message is no msgpack") from error
            begin = end
        del self._data[:begin]
        return messages


def serve(sock: socket.socket, handle: Callable[[str, list[Any]], object]) -> None:
    """Answer calls one by one, in the host process, until the other side closes or the handler says farewell.

    A call whose caller has given up is not carried out.
    """
    unpacker = Unpacker()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # nobody is waiting any more
        while data := sock.recv(1 << 16):
            answers: list[bytes] = []
            began = time.monotonic()
            for message in unpacker.feed(data):
                serial, expires, kind, arguments = message
                status, value = _carry_out(handle, expires, kind, arguments)
                answers.append(pack([serial, status, value]))
                if status == FAREWELL:
                    sock.sendall(b"".join(answers))
                    return
                if len(answers) >= _FLUSH_COUNT or time.monotonic() - began > _FLUSH_SECONDS:
                    sock.sendall(b"".join(answers))
                    answers.clear()
                    began = time.monotonic()
            sock.sendall(b"".join(answers))


def _carry_out(
    handle: Callable[[str, list[Any]], object], expires: float, kind: str, arguments: list[Any]
) -> tuple[int, object]:
    if time.monotonic() > expires:
        return REFUSAL, ["expired", f"{kind}: the caller's time was over before it began"]
    try:
        return ANSWER, handle(kind, arguments)
    except Refusal as refusal:
        return FAREWELL if refusal.leaving else REFUSAL, [refusal.code, str(refusal)]
    except Exception as error:  # noqa: BLE001  a mistake of ours; its text could hold what the call held
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{trace.tb_frame.f_code.co_name}, line {trace.tb_lineno}" if trace else "?"
        return FAREWELL, ["mistake", f"{kind}: {type(error).__name__} in {where}"]
