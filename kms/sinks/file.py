"""A sink that is a file: one JSON object a line, rotated by size, on disk before it counts as delivered."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from kms.core.outbox import OutboxItem, line_of

from .sink import SinkUnavailable

AT_ONCE: Final = 500
DEADLINE: Final = 10.0  # seconds for one writing
_TAIL: Final = 1 << 20  # bytes at the end in which the last whole line must end


class FileSink:
    """Appends to a file; rotated ones are `path.1` (the newest), `path.2` and so on.

    The file is opened anew for every writing, so that it may be moved away by others.
    """

    at_once = AT_ONCE

    def __init__(self, path: Path, max_bytes: int, keep: int) -> None:
        """A file that would pass *max_bytes* is rotated before; *keep* rotated ones stay."""
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        # A thread of its own: a file system that hangs holds up this sink and nothing else.
        self._thread = ThreadPoolExecutor(1, f"sink-{path.name}")
        self._writing: Future[None] | None = None
        self._turn = asyncio.Lock()  # the outbox and streams of the audit trail come to the same file

    async def deliver(self, items: Sequence[OutboxItem]) -> int:
        """Append items and bring them to the disk; calls wait for each other.

        Raises:
            SinkUnavailable: they could not be written, or not in time.
        """
        lines = [line_of(item) + b"\n" for item in items]
        async with self._turn:
            if self._writing is not None and not self._writing.done():
                raise SinkUnavailable("the file system does not answer")
            self._writing = self._thread.submit(self._write, lines)
            try:
                async with asyncio.timeout(DEADLINE):
                    await asyncio.wrap_future(self._writing)
            except TimeoutError as error:
                raise SinkUnavailable("the file system does not answer in time") from error
            except OSError as error:
                raise SinkUnavailable(f"{self._path}: {error.strerror}") from error
        return len(items)

    def _write(self, lines: Sequence[bytes]) -> None:
        descriptor = self._open()
        try:
            size = _whole_lines(descriptor)
            for line in lines:
                if size and size + len(line) > self._max_bytes:
                    os.fsync(descriptor)
                    os.close(descriptor)
                    descriptor = -1
                    self._rotate()
                    descriptor, size = self._open(), 0
                _write_all(descriptor, line)
                size += len(line)
            os.fsync(descriptor)
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _open(self) -> int:
        new = not self._path.exists()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, 0o600)
        if new:
            self._sync_directory()
        return descriptor

    def _rotate(self) -> None:
        for number in range(self._keep, 0, -1):
            older = self._rotated(number)
            newer = self._path if number == 1 else self._rotated(number - 1)
            if newer.exists():
                newer.replace(older)
        if not self._keep:
            self._path.unlink()
        self._sync_directory()

    def _rotated(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _sync_directory(self) -> None:
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _whole_lines(descriptor: int) -> int:
    """Cut off a line that a crash has left unfinished, which is delivered again; returns the size then."""
    size = os.fstat(descriptor).st_size
    start = max(size - _TAIL, 0)
    tail = os.pread(descriptor, size - start, start)
    if not tail or tail.endswith(b"\n"):
        return size
    whole = start + tail.rfind(b"\n") + 1
    os.ftruncate(descriptor, whole)
    return whole


def _write_all(descriptor: int, line: bytes) -> None:
    while line:
        line = line[os.write(descriptor, line) :]
