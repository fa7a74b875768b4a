"""Bodies of blobs in a directory: written apart, brought to the disk, and named only then.

    <root>/<tenant>/<blob>/<generation>/<segment>     whole bodies
    <root>/parts/<random>                             what is being written

Every step goes from one open directory to the next, so that no link is followed, whoever puts one there meanwhile.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar
from uuid import uuid4

from kms.core.body_ports import MAX_PIECE, BodyName, StoredBody
from kms.core.errors import BodyMissing, BodyStoreUnavailable
from kms.core.names import TenantUid
from kms.core.ports import HealthStatus, PartHealth

from .pieces import pieces_of

DEADLINE: Final = 10.0  # seconds for one step; one that takes longer is a file system that does not answer
THREADS: Final = 4  # steps at once, which a file system that hangs can hold up
TRIES: Final = 3  # of a name whose empty directories somebody removes at the same time
PARTS: Final = "parts"  # no tenant is called so
DEPTH: Final = 3  # tenant, blob, generation

_T = TypeVar("_T")
_Listing = list[StoredBody]  # where the method's name stands in the way
_OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WORDS: Final = {
    errno.ENOSPC: "has no room left",
    errno.EDQUOT: "has no room left",
    errno.ELOOP: "holds a link where a file or directory should be",
    errno.ENOTDIR: "holds a link where a file or directory should be",
}


class DirectoryBodies:
    """BodyStore in one directory, made with mode 0700; files have mode 0600, and links are refused."""

    def __init__(self, root: Path, deadline: float = DEADLINE) -> None:
        self._root = root
        # Made only here: a directory that is not there later has been lost, and is not begun anew.
        with suppress(OSError):
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._deadline = deadline
        # Threads of its own: a file system that hangs holds up bodies and nothing else.
        self._threads = ThreadPoolExecutor(THREADS, "bodies")

    async def write(self, name: BodyName, data: AsyncIterable[bytes]) -> int:
        """Store a body, whole and durable when this returns, or not at all; returns its length in bytes."""
        part = uuid4().hex
        length = 0
        try:
            await self._do(lambda: self._begin(part))
            async for piece in pieces_of(MAX_PIECE, data):
                await self._append(part, piece)
                length += len(piece)
            await self._do(lambda: self._finish(part, name))
        except BaseException:
            # Not waited for: the caller may be gone. What a crash leaves instead is swept.
            self._threads.submit(self._discard, part)
            raise
        return length

    async def read(self, name: BodyName, start: int, length: int) -> AsyncIterator[bytes]:
        """Yield exactly *length* bytes from *start*, in pieces of at most MAX_PIECE."""
        # One descriptor for the whole reading: a body that is replaced or removed meanwhile is read to its end.
        descriptor = await self._do(lambda: self._open(name), name)
        try:
            while length:
                piece = await self._piece(descriptor, start, min(length, MAX_PIECE))
                if not piece:
                    raise BodyMissing(f"body {name} ends before it should")
                start, length = start + len(piece), length - len(piece)
                yield piece
        finally:
            self._threads.submit(os.close, descriptor)

    async def delete(self, name: BodyName) -> None:
        """Remove a body for good; one that is not there is removed."""
        await self._do(lambda: self._remove(name))

    async def list(self, tenant: TenantUid | None, after: BodyName | None, limit: int) -> list[StoredBody]:
        """Return at most *limit* (MAX_LISTED) whole bodies behind *after*, by name; of one tenant, or of all for None."""
        return await self._do(lambda: self._listed(tenant, after, limit))

    async def sweep(self, before: datetime) -> int:
        """Remove what writes that never ended had begun before a time; returns how many were removed at this call."""
        return await self._do(lambda: self._swept(before.timestamp()))

    async def health(self) -> PartHealth:
        """Tell whether the directory can be written to, by a file that is made and removed."""
        started = time.monotonic()
        part = uuid4().hex
        try:
            await self._do(lambda: self._begin(part))
            await self._do(lambda: self._discard(part))
        except BodyStoreUnavailable as error:
            return PartHealth(HealthStatus.UNHEALTHY, str(error), time.monotonic() - started)
        return PartHealth(HealthStatus.HEALTHY, "", time.monotonic() - started)

    async def _do(self, work: Callable[[], _T], name: BodyName | None = None) -> _T:
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            async with asyncio.timeout(self._deadline):
                return await running
        except TimeoutError as error:
            raise BodyStoreUnavailable("the directory of bodies does not answer in time") from error
        except OSError as error:
            if name is not None and isinstance(error, FileNotFoundError):
                raise BodyMissing(f"body {name} is not there") from error
            words = _WORDS.get(error.errno or 0) or f"refuses ({error.strerror})"
            raise BodyStoreUnavailable(f"the directory of bodies {words}") from error

    async def _append(self, part: str, piece: bytes) -> None:
        await self._do(lambda: self._written(part, piece))

    async def _piece(self, descriptor: int, start: int, length: int) -> bytes:
        return await self._do(lambda: os.pread(descriptor, length, start))

    # What follows runs on the threads.

    def _begin(self, part: str) -> None:
        with self._walked((PARTS,), make=True) as parts:
            os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parts))

    def _written(self, part: str, piece: bytes) -> None:
        with self._walked((PARTS,)) as parts, _opened(part, os.O_WRONLY | os.O_APPEND, parts) as descriptor:
            view = memoryview(piece)
            while view:
                view = view[os.write(descriptor, view) :]

    def _finish(self, part: str, name: BodyName) -> None:
        *directories, file = str(name).split("/")
        with self._walked((PARTS,)) as parts:
            with _opened(part, os.O_RDONLY, parts) as descriptor:
                os.fsync(descriptor)
            for left in reversed(range(TRIES)):
                try:
                    with self._walked(directories, make=True) as directory:
                        os.rename(part, file, src_dir_fd=parts, dst_dir_fd=directory)
                        os.fsync(directory)
                except FileNotFoundError:
                    if not left:
                        raise
                else:
                    return

    def _discard(self, part: str) -> None:
        with suppress(FileNotFoundError), self._walked((PARTS,)) as parts:
            os.unlink(part, dir_fd=parts)

    def _open(self, name: BodyName) -> int:
        *directories, file = str(name).split("/")
        with self._walked(directories) as directory:
            descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise OSError(errno.ELOOP, "no file")

    def _remove(self, name: BodyName) -> None:
        *directories, file = str(name).split("/")
        with suppress(FileNotFoundError), self._walked(directories) as directory:
            os.unlink(file, dir_fd=directory)
            os.fsync(directory)
        while directories:
            last = directories.pop()
            with suppress(FileNotFoundError), self._walked(directories) as directory:
                try:
                    os.rmdir(last, dir_fd=directory)
                except OSError as error:
                    if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                        return
                    raise

    def _listed(self, tenant: TenantUid | None, after: BodyName | None, limit: int) -> _Listing:
        found: _Listing = []
        with suppress(FileNotFoundError):
            for body in self._bodies((), str(after) if after else "", str(tenant) if tenant else ""):
                found.append(body)
                if len(found) == limit:
                    break
        return found

    def _bodies(self, above: tuple[str, ...], after: str, only: str) -> Iterator[StoredBody]:
        """Yield what lies below a directory, in the order of names; what is gone by then, or is none of ours, is passed over."""
        with suppress(FileNotFoundError), self._walked(above) as directory:
            with os.scandir(directory) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
            for entry in entries:
                path = "/".join((*above, entry.name))
                # A name's text has parts of fixed widths, so the part of `after` at this depth decides.
                if path < after[: len(path)] or (only and not above and entry.name != only):
                    continue
                if len(above) < DEPTH and entry.is_dir(follow_symlinks=False):
                    yield from self._bodies((*above, entry.name), after, only)
                elif path > after and (name := _name(path)) is not None:
                    with suppress(FileNotFoundError):
                        about = os.stat(entry.name, dir_fd=directory, follow_symlinks=False)
                        if stat.S_ISREG(about.st_mode):
                            yield StoredBody(name, about.st_size, datetime.fromtimestamp(about.st_mtime, UTC))

    def _swept(self, before: float) -> int:
        swept = 0
        with suppress(FileNotFoundError), self._walked((PARTS,)) as parts, os.scandir(parts) as scanned:
            for entry in scanned:
                with suppress(FileNotFoundError):  # a write that ends at this moment
                    # The time of the last piece: what is still being written is younger.
                    if os.stat(entry.name, dir_fd=parts, follow_symlinks=False).st_mtime < before:
                        os.unlink(entry.name, dir_fd=parts)
                        swept += 1
        return swept

    @contextmanager
    def _walked(self, directories: Sequence[str], *, make: bool = False) -> Iterator[int]:
        """Open a directory below the root, step by step; its descriptor is closed at the end."""
        try:
            current = os.open(self._root, _OPEN_DIRECTORY)
        except FileNotFoundError as error:
            raise BodyStoreUnavailable("the directory of bodies is not there") from error
        try:
            if os.fstat(current).st_mode & 0o077:
                raise PermissionError(errno.EACCES, "others may enter it; its mode has to be 0700")
            for directory in directories:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(directory, 0o700, dir_fd=current)
                        os.fsync(current)
                following = os.open(directory, _OPEN_DIRECTORY, dir_fd=current)
                os.close(current)
                current = following
            yield current
        finally:
            os.close(current)


@contextmanager
def _opened(file: str, flags: int, directory: int) -> Iterator[int]:
    descriptor = os.open(file, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _name(path: str) -> BodyName | None:
    try:
        return BodyName.parse(path)
    except ValueError:
        return None
