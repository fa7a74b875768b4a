"""Reading parts of an encrypted file without decrypting the rest."""

from __future__ import annotations

import os
import threading
from typing import BinaryIO, Final

from .chunks import Opener
from .formats.errors import invalid
from .formats.stream import plain_length
from .pieces import read_full

LONGEST_RANGE: Final = 64 << 20  # bytes of one answer, all of which are in memory


class RangeReader:
    """The plaintext of a seekable encrypted file, by offset; threads may share it. The file stays its opener's to close.

    Each chunk that a range touches is authenticated in its place, and the length by the last chunk. Chunks that no range
    touches are not looked at.
    """

    def __init__(self, opener: Opener, file: BinaryIO) -> None:
        """Take a file that stands at its first chunk, and authenticate the last.

        Raises:
            InvalidRequest: a stream cannot have this length.
            CannotDecrypt: the file is cut off, or something is appended.
        """
        self._opener = opener
        self._file = file
        self._lock = threading.Lock()
        self._start = file.tell()
        self.size = plain_length(file.seek(0, os.SEEK_END) - self._start, opener.chunk_bits, "file")
        self._last = max(0, (self.size - 1) // opener.chunk_length)
        self._chunk(self._last)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.size} bytes>"

    def read_at(self, offset: int, length: int) -> bytes:
        """Return *length* bytes (at most 64 MiB) from *offset* on, fewer at the end.

        Raises:
            InvalidRequest: a negative number, or more than 64 MiB.
            CannotDecrypt: a chunk of the range is altered or in another place.
        """
        if offset < 0:
            raise invalid("offset", "must be 0 or more")
        if not 0 <= length <= LONGEST_RANGE:
            raise invalid("length", f"must be 0 to {LONGEST_RANGE} bytes")
        end = min(offset + length, self.size)
        if offset >= end:
            return b""
        first, size = offset // self._opener.chunk_length, self._opener.chunk_length
        plain = b"".join(self._chunk(number) for number in range(first, (end - 1) // size + 1))
        return plain[offset - first * size : end - first * size]

    def _chunk(self, number: int) -> bytes:
        size = self._opener.sealed_length
        with self._lock:
            self._file.seek(self._start + number * size)
            sealed = read_full(self._file, size)
        return self._opener.open(number, sealed, number == self._last)
