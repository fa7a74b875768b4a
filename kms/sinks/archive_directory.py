"""A directory of archive files: written apart, brought to the disk, and named only then."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from kms.core.errors import NotFound, Unavailable

DEADLINE: Final = 5.0  # seconds for one step; one that takes longer is a file system that does not answer
PARTS_KEPT: Final = 86_400.0  # seconds: what a crash has left is older than any export takes

_T = TypeVar("_T")


class ArchiveDirectory:
    """ArchiveFiles in one directory, which is made with mode 0700; files have mode 0600, and links are not followed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # A thread of its own: a file system that hangs holds up archives and nothing else.
        self._thread = ThreadPoolExecutor(1, "archives")
        self._running: Future[object] | None = None

    async def create(self, name: str, part: str) -> None:
        """Begin a file that will have a name, under the name *part*; what crashes left of that file long ago is removed."""
        await self._do(lambda: self._create(name, part))

    async def append(self, part: str, data: bytes) -> None:
        """Write at the end of a file that was begun."""
        await self._do(lambda: self._append(part, data))

    async def finish(self, part: str, name: str) -> None:
        """Bring a file to the disk, then give it its name."""
        await self._do(lambda: self._finish(part, name))

    async def read(self, name: str, offset: int, length: int) -> bytes:
        """Return at most *length* bytes of a file; none behind its end.

        Raises:
            NotFound: there is no such file.
        """
        return await self._do(lambda: self._read(name, offset, length))

    async def remove(self, name: str) -> None:
        """Remove a file; one that is not there is removed."""
        await self._do(lambda: self._remove(name))

    async def _do(self, work: Callable[[], _T]) -> _T:
        if self._running is not None and not self._running.done():
            raise Unavailable(f"{self._path} does not answer")
        running = self._thread.submit(work)
        self._running = running  # type: ignore[assignment]  # of whatever type, it is only asked whether it is done
        try:
            async with asyncio.timeout(DEADLINE):
                return await asyncio.shield(asyncio.wrap_future(running))
        except TimeoutError as error:
            raise Unavailable(f"{self._path} does not answer in time") from error
        except FileNotFoundError as error:
            raise NotFound(f"{error.filename} is not there") from error
        except OSError as error:
            raise Unavailable(f"{self._path}: {error.strerror}") from error

    def _create(self, name: str, part: str) -> None:
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for other in self._path.glob(f"{name}.*.part"):
            if time.time() - other.stat().st_mtime > PARTS_KEPT:
                other.unlink(missing_ok=True)
        os.close(os.open(self._path / part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))

    def _append(self, part: str, data: bytes) -> None:
        descriptor = os.open(self._path / part, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)

    def _finish(self, part: str, name: str) -> None:
        descriptor = os.open(self._path / part, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        (self._path / part).replace(self._path / name)
        self._sync_directory()

    def _read(self, name: str, offset: int, length: int) -> bytes:
        descriptor = os.open(self._path / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FileNotFoundError(2, "no file", str(self._path / name))
            return os.pread(descriptor, length, offset)
        finally:
            os.close(descriptor)

    def _remove(self, name: str) -> None:
        (self._path / name).unlink(missing_ok=True)
        self._sync_directory()

    def _sync_directory(self) -> None:
        directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
