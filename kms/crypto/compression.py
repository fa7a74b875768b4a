"""Compression of blobs before they are encrypted: one zstd frame for each MiB (RFC 8878), so that memory has a bound.

What is compressed tells by its length something of what it holds; docs/threat-model.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import zstandard

from kms.core.errors import CannotDecrypt

FRAME: Final = 1 << 20  # bytes that go into one frame
LEVEL: Final = 3  # zstd's own default
_SLICE: Final = 4 << 10  # bytes that are looked at together: a frame of zeros has less than 100


def compress(data: bytes) -> bytes:
    """Return one frame of at most FRAME bytes."""
    if len(data) > FRAME:
        raise ValueError(f"a frame takes at most {FRAME} bytes")
    return zstandard.ZstdCompressor(level=LEVEL).compress(data)


class Decompressor:
    """Undoes a row of frames, piece by piece."""

    def __init__(self) -> None:
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what comes out of the next bytes, in pieces of at most FRAME.

        Raises:
            CannotDecrypt: they are no frames that compress() has made.
        """
        for start in range(0, len(data), _SLICE):
            rest = data[start : start + _SLICE]
            while rest:
                try:
                    out, self._begun = self._frame.decompress(rest), True
                except zstandard.ZstdError as error:
                    raise CannotDecrypt from error
                if len(out) > FRAME:
                    raise CannotDecrypt
                if out:
                    yield out
                rest = b""
                if self._frame.eof:
                    rest = self._frame.unused_data
                    self._frame = zstandard.ZstdDecompressor().decompressobj()
                    self._begun = False

    def end(self) -> None:
        """Make sure that the last frame was whole.

        Raises:
            CannotDecrypt: it was not.
        """
        if self._begun:
            raise CannotDecrypt
