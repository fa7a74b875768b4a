"""Cutting what a reader gives into pieces of one length, and writing them whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class Reader(Protocol):
    """A binary file, a pipe, or whatever else gives at most the bytes asked for and b"" at its end."""

    def read(self, size: int, /) -> bytes | None: ...  # noqa: D102


class Writer(Protocol):
    """A binary file, a pipe, or whatever else takes bytes and says how many it has taken."""

    def write(self, data: bytes | memoryview, /) -> int | None: ...  # noqa: D102


def read_full(reader: Reader, size: int) -> bytes:
    """Return *size* bytes, or fewer at the end; a pipe may give them in many reads.

    Raises:
        BlockingIOError: the reader does not wait for what is to come.
        ValueError: it gives more than it was asked for.
    """
    parts: list[bytes] = []
    missing = size
    while missing:
        part = reader.read(missing)
        if part is None:
            raise BlockingIOError("the reader must wait for bytes (it is set to non-blocking)")
        if not part:
            break
        if len(part) > missing:
            raise ValueError(f"the reader gives {len(part)} bytes instead of at most {missing}")
        parts.append(part)
        missing -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def cut(reader: Reader, size: int) -> Iterator[tuple[bytes, bool]]:
    """Yield pieces of *size* bytes and whether each is the last, which may be shorter; b"" only if there is nothing else.

    At most two pieces are in memory.
    """
    piece = read_full(reader, size)
    while True:
        ahead = read_full(reader, size) if len(piece) == size else b""
        yield piece, not ahead
        if not ahead:
            return
        piece = ahead


def write_full(writer: Writer, data: bytes) -> None:
    """Write all of *data*; an unbuffered pipe may take it in many writes.

    Raises:
        BlockingIOError: the writer does not wait until it can take more.
    """
    rest = memoryview(data)
    while rest:
        taken = writer.write(rest)
        if taken is None:
            raise BlockingIOError("the writer must wait until it can take more (it is set to non-blocking)")
        rest = rest[taken:]
