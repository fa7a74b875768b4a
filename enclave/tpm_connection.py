"""The way to a TPM: one descriptor, opened before the process is closed off, over which commands and answers go.

    device:/dev/tpmrm0        a character device; one with a resource manager serves several processes
    swtpm:path=/run/tpm/s     the socket of a software TPM, which serves one client at a time

Not the transports of libtss2: these would load a library by name, and that for swtpm opens a socket for each command, so
that neither opening files nor making sockets could be forbidden. Nor do they have a deadline.

Source: TCG TPM 2.0 Library, Part 1, section 18 (headers of commands and answers); Linux, drivers/char/tpm/tpm-dev-common.c.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from typing import Final

from .errors import PlatformFault

DEVICE: Final = "device:"
SOCKET: Final = "swtpm:path="
# One command. What this package asks for takes a chip at most some seconds; below the daemon's deadline for a start.
SECONDS: Final = 20.0
MAX_ANSWER: Final = 4096  # bytes
_ANSWER: Final = struct.Struct(">HII")  # tag, length, code


class Connection:
    """Speaks to one TPM; one caller at a time."""

    def __init__(self, descriptor: int) -> None:
        """Take over an open descriptor that does not block."""
        self.descriptor = descriptor

    def send(self, command: bytes) -> None:
        """Send a command.

        Raises:
            PlatformFault: the TPM has gone, or does not take it in time.
        """
        end = time.monotonic() + SECONDS
        rest = memoryview(command)
        while rest:
            self._wait(select.POLLOUT, end)
            try:
                rest = rest[os.write(self.descriptor, rest) :]
            except OSError as error:
                raise PlatformFault(f"TPM: does not take a command ({error.strerror})") from None

    def receive(self) -> bytes:
        """Return the answer, at most 4,096 bytes.

        Raises:
            PlatformFault: the TPM has gone, does not answer in time, or its answer is none.
        """
        end = time.monotonic() + SECONDS
        answer = b""
        length = _ANSWER.size
        while len(answer) < length:
            self._wait(select.POLLIN, end)
            try:
                piece = os.read(self.descriptor, MAX_ANSWER)
            except OSError as error:
                raise PlatformFault(f"TPM: does not answer ({error.strerror})") from None
            answer += piece
            if len(answer) >= _ANSWER.size:
                length = max(_ANSWER.unpack_from(answer)[1], _ANSWER.size)
            if not piece or length > MAX_ANSWER or len(answer) > length:
                raise PlatformFault("TPM: has gone" if not piece else "TPM: an answer of another length than it says")
        return answer

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.descriptor)

    def _wait(self, event: int, end: float) -> None:
        poll = select.poll()
        poll.register(self.descriptor, event)
        if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
            raise PlatformFault(f"TPM: does not answer within {SECONDS:g} s")


def check_place(tcti: str) -> None:
    """Refuse what names no TPM in one of the two forms.

    Raises:
        PlatformFault: it is another form; a path has to be absolute.
    """
    if not tcti.startswith((f"{DEVICE}/", f"{SOCKET}/")):
        raise PlatformFault(f"TPM {tcti}: must be {DEVICE}PATH or {SOCKET}PATH, with an absolute path")


def connect(tcti: str) -> Connection:
    """Open the way to the TPM at *tcti*; the module's docstring has the two forms.

    Raises:
        PlatformFault: nothing is there, or it is another form.
    """
    check_place(tcti)
    try:
        if tcti.startswith(DEVICE):
            return Connection(os.open(tcti[len(DEVICE) :], os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK))
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(SECONDS)
            sock.connect(tcti[len(SOCKET) :])
            sock.setblocking(False)
            return Connection(sock.detach())
    except OSError as error:
        raise PlatformFault(f"TPM {tcti}: cannot be opened ({error.strerror or type(error).__name__})") from None
