"""Somebody on the way between a process and its TPM."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self


class Listener:
    """Sits on the way to a TPM, passes everything on, and keeps a copy."""

    def __init__(self, target: Path, directory: Path, on_command: Callable[[], None] | None = None) -> None:
        """Listen in *directory*; *on_command* is called before each command is passed on."""
        self.heard = bytearray()
        self._on_command = on_command
        self.socket = directory / "l"
        self._servers = [socket.socket(socket.AF_UNIX) for _ in range(2)]
        self._threads: list[threading.Thread] = []
        for server, suffix in zip(self._servers, ("", ".ctrl"), strict=True):
            server.bind(f"{self.socket}{suffix}")
            server.listen()
            self._start(self._serve, server, f"{target}{suffix}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(60)
        for server in self._servers:
            server.close()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self, server: socket.socket, target: str) -> None:
        with suppress(OSError):  # until it is shut down
            while True:
                near, _ = server.accept()
                self._start(self._connect, near, target)

    def _connect(self, near: socket.socket, target: str) -> None:
        with near, socket.socket(socket.AF_UNIX) as far, suppress(OSError):
            far.connect(target)
            while ends := select.select([near, far], [], [])[0]:
                for end in ends:
                    data = end.recv(65536)
                    if not data:
                        return
                    self.heard += data
                    if end is near and self._on_command is not None and data[:1] == b"\x80":  # the tag of a command
                        self._on_command()
                    (far if end is near else near).sendall(data)
