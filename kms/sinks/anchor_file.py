"""Anchors in a file that is only ever appended to, for storage that can be written once: one JSON object a line."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

from kms.core.anchors import NodeAnchor, newest_of, open_value, value_of
from kms.core.audit_ports import Anchor
from kms.core.errors import CorruptRecord, Unavailable
from kms.core.receipts import json_text

DEADLINE: Final = 5.0  # seconds for one reading or writing
_TAIL: Final = 1 << 18  # bytes at the end that are read: some thousand anchors of all nodes that share the file

T = TypeVar("T")


class FileAnchors:
    """AnchorStore in a file. Lines of several nodes may stand in one file, where its file system appends whole lines."""

    def __init__(self, path: Path, key: Callable[[UUID], Awaitable[bytes]], node: str) -> None:
        """*key* returns the key that anchors of an installation are MACed under, 32 bytes."""
        self._path = path
        self._key = key
        self._node = node
        self._thread = ThreadPoolExecutor(1, f"anchor-{path.name}")
        self._working: Future[Any] | None = None

    async def newest(self) -> Anchor | None:
        """Return the newest; None where there is no file, or an empty one.

        Raises:
            Unavailable: it cannot be read.
            CorruptRecord: there are lines, and none that is genuine, or they contradict each other.
        """
        data = await self._done(self._read)
        lines = data.split(b"\n")[:-1]  # what a crash has cut off has no end
        found = [anchor for line in lines if line and (anchor := await self._opened(line)) is not None]
        if lines and not found:
            raise CorruptRecord(f"no anchor in {self._path} is genuine")
        return newest_of(found)

    async def put(self, anchor: Anchor) -> None:
        """Append a line, bring it to the disk, and read it back.

        Raises:
            Unavailable: it is not known to be there.
        """
        entry = NodeAnchor(anchor, self._node)
        value = value_of(entry, await self._key(anchor.installation))
        line = json_text(
            {
                "hash": anchor.hash.hex(),
                "installation": str(anchor.installation),
                "node": self._node,
                "serial": anchor.serial,
                "value": value.hex(),
            }
        ).encode()
        await self._done(lambda: self._append(line))

    async def _opened(self, line: bytes) -> Anchor | None:
        try:
            fields = json.loads(line)
            key = await self._key(UUID(fields["installation"]))
            return open_value(bytes.fromhex(fields["value"]), key).anchor
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    async def _done(self, work: Callable[[], T]) -> T:
        if self._working is not None and not self._working.done():
            raise Unavailable("the file system of the anchors does not answer")
        working = self._working = self._thread.submit(work)
        try:
            async with asyncio.timeout(DEADLINE):
                return await asyncio.wrap_future(working)
        except TimeoutError as error:
            raise Unavailable("the file system of the anchors does not answer in time") from error
        except OSError as error:
            raise Unavailable(f"{self._path}: {error.strerror}") from error

    def _read(self) -> bytes:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return b""
        try:
            size = os.fstat(descriptor).st_size
            start = max(size - _TAIL, 0)
            data = os.pread(descriptor, size - start, start)
            return data if start == 0 else data.partition(b"\n")[2]
        finally:
            os.close(descriptor)

    def _append(self, line: bytes) -> None:
        new = not self._path.exists()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            # What a crash has cut off cannot be taken away again: a line of its own is made of it.
            begun = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            written = (b"\n" if begun else b"") + line + b"\n"
            if os.write(descriptor, written) != len(written):
                raise OSError(28, "the line was not written whole")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if new:
            self._sync_directory()
        if line not in self._read().split(b"\n"):
            raise OSError(5, "the line is not there")

    def _sync_directory(self) -> None:
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
