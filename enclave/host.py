"""The enclave process's side of its socket: framing, and the calls that it answers.

The messages are those of FORMATS section 10, written here a second time on purpose, since the package imports nothing
of the daemon's: a 4-byte length and msgpack, at most 2 MiB.

    call     [serial, expires, kind, arguments]    expires: seconds of CLOCK_MONOTONIC, which both sides share
    answer   [serial, 0, value]
    refusal  [serial, 1, [code, message]]          the process goes on
    farewell [serial, 2, [code, message]]          the process leaves after it

The calls; the first is open, once, with what the backend takes (simulated_start.py, tpm_start.py):

    open               the backend's                                   -> the greeting: who it is, what was closed off
    describe                                                           -> the same
    attest             report data                                     -> quote
    seal               data, policy, associated data                   -> blob
    unseal             blob, associated data                           -> data
    create_counter, read_counter, increment_counter   name             -> value
    execute            function, [[blob, associated data], ...], argument  -> answer
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final, NoReturn, Protocol

import msgpack
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import constant_time, hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from . import allocation, isolation
from .errors import CounterFault, EnclaveError, InvalidParameter, PlatformFault
from .interface import Enclave, Policy, SealedInput
from .xaes import Xaes256Gcm

MAX_MESSAGE: Final = 2 << 20  # bytes, without the length

ANSWER: Final = 0
REFUSAL: Final = 1
FAREWELL: Final = 2


class Backend(Protocol):
    """What makes one kind of enclave."""

    @property
    def descriptors(self) -> Sequence[int]:
        """What it holds open, for itself alone."""

    def ready(self) -> None:
        """Open what can still be opened: the process is closed off, but for its system calls.

        Raises:
            EnclaveError: it cannot be had, and no enclave will start.
        """

    def start(self, measured: bytes, *arguments: Any) -> Enclave:
        """Return the enclave; *measured* is MRENCLAVE, 32 bytes, and the rest is what came with `open`.

        Raises:
            EnclaveError: it may not start, or what it takes is not to be had.
        """


class Host:
    """Carries out calls on one enclave, which the first of them starts."""

    def __init__(self, measured: bytes, backend: Backend, measures: list[isolation.Measure]) -> None:
        """Take MRENCLAVE, 32 bytes, what makes the enclave, and what has been closed off."""
        self._measured = measured
        self._backend = backend
        self._measures = measures
        self._enclave: Enclave | None = None
        self._kinds: dict[str, Callable[..., object]] = {"open": self._open}

    def answer(self, expires: float, kind: str, arguments: list[Any]) -> tuple[int, object]:
        """Carry out one call, unless its caller has given up; returns status and value."""
        if time.monotonic() > expires:
            return REFUSAL, ["expired", f"{kind}: the caller's time was over before it began"]
        try:
            return ANSWER, self._kinds.get(kind, self._refuse)(*arguments)
        except EnclaveError as error:
            # Counters that could not be written, and a TPM that is lost, are opened anew by a fresh process; one that
            # cannot open has no use.
            leaving = isinstance(error, CounterFault | PlatformFault) or self._enclave is None
            return FAREWELL if leaving else REFUSAL, [error.code, str(error)]
        except Exception as error:  # noqa: BLE001  a mistake; its text could hold what the call held
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            where = f"{trace.tb_frame.f_code.co_name}, line {trace.tb_lineno}" if trace else "?"
            return FAREWELL, ["mistake", f"{type(error).__name__} in {where}"]

    def _open(self, *arguments: Any) -> object:
        if self._enclave is not None:
            raise InvalidParameter("open: comes once")
        enclave = self._enclave = self._backend.start(self._measured, *arguments)
        self._kinds |= {
            "describe": lambda: self._greeting(enclave),
            "attest": enclave.attest,
            "seal": lambda data, policy, aad: enclave.seal(data, _policy(policy), aad),
            "unseal": enclave.unseal,
            "create_counter": enclave.create_counter,
            "read_counter": enclave.read_counter,
            "increment_counter": enclave.increment_counter,
            "execute": lambda name, inputs, argument: enclave.execute(
                name, [SealedInput(blob, aad) for blob, aad in inputs], argument
            ),
        }
        return self._greeting(enclave)

    def _refuse(self, *_: object) -> NoReturn:
        raise InvalidParameter("no such call" if self._enclave else "open: comes first")

    def _greeting(self, enclave: Enclave) -> object:
        description = enclave.describe()
        return {
            "backend": description.backend,
            "simulated": description.simulated,
            "freshness": str(description.freshness),
            "identity": asdict(description.identity),
            "measures": [[measure.name, measure.done, measure.detail] for measure in self._measures],
            "pid": os.getpid(),
        }


def _policy(name: str) -> Policy:
    try:
        return Policy(name)
    except ValueError:
        raise InvalidParameter("policy: mrenclave, mrsigner or hybrid") from None


def serve(sock: socket.socket, host: Host) -> None:
    """Answer calls one by one until the other side closes, sends what is no call, or the host says farewell."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # nobody is waiting any more
        for serial, expires, kind, arguments in _calls(sock):
            status, value = host.answer(expires, kind, arguments)
            body = msgpack.packb([serial, status, value])
            if len(body) > MAX_MESSAGE:
                status = REFUSAL
                body = msgpack.packb([serial, status, [InvalidParameter.code, "the answer has more than 2 MiB"]])
            sock.sendall(len(body).to_bytes(4, "big") + body)
            if status == FAREWELL:
                return


def _calls(sock: socket.socket) -> Iterator[list[Any]]:
    length = bytearray(4)
    while _fill(sock, length):
        size = int.from_bytes(length, "big")
        if size > MAX_MESSAGE:
            return
        body = bytearray(size)
        if not _fill(sock, body):
            return
        try:
            call = msgpack.unpackb(body)
        except (ValueError, msgpack.UnpackException):
            return
        finally:
            body[:] = bytes(size)  # it may have held the fuse
        match call:
            case [int(), float(), str(), list()]:
                yield call
            case _:
                return


def _fill(sock: socket.socket, buffer: bytearray) -> bool:
    view, got = memoryview(buffer), 0
    while got < len(buffer):
        received = sock.recv_into(view[got:])
        if not received:
            return False
        got += received
    return True


def warm_up() -> None:
    """Use once what loads its parts late: nothing can be loaded after the process is closed off."""
    for cipher, nonce in ((AESGCM(os.urandom(32)), bytes(12)), (Xaes256Gcm(os.urandom(32)), bytes(24))):
        with contextlib.suppress(InvalidTag):
            cipher.decrypt(nonce, bytes(32), b"")
    HKDF(hashes.SHA256(), 64, salt=bytes(32), info=b"").derive(bytes(32))
    constant_time.bytes_eq(b"", b"")
    for codec in ("ascii", "utf-8"):
        codec.encode(codec)
    sys.stderr.flush()


def main(measured: bytes, backend: Backend, fd: int) -> None:
    """Close the process off and serve the socket *fd*; what was measured is 32 bytes."""
    allocation.keep_freed_memory()
    measures = isolation.close_off(fd, *backend.descriptors)
    try:
        backend.ready()
    except EnclaveError as error:
        sys.stderr.write(f"enclave: {error}\n")
        sys.stderr.flush()
        os._exit(1)
    with socket.socket(fileno=fd) as sock:
        measures.append(isolation.forbid_system_calls())
        serve(sock, Host(measured, backend, measures))
    os._exit(0)
