"""What of a source has been sent to be sealed, over as many calls as that takes."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, cast
from uuid import uuid4

from .formats.errors import KmsError, Unavailable
from .pieces import Reader, read_full
from .values import Blob

CHUNK: Final = 1 << 20  # bytes in one message
TRIES: Final = 5  # of one upload that goes on after a lost connection
BACKOFF: Final = 0.2  # seconds before the second try; doubled for each of the others

Progress = Callable[[int], None]


class Chunks:
    """A Reader of what an iterable gives."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._held = b""

    def read(self, size: int, /) -> bytes:
        """Return at most *size* bytes; none at the end."""
        while not self._held:
            try:
                self._held = bytes(next(self._chunks))
            except StopIteration:
                return b""
        given, self._held = self._held[:size], self._held[size:]
        return given


def reader_of(source: Reader | Iterable[bytes]) -> Reader:
    """Return a Reader of a file, or of whatever gives bytes piece by piece."""
    return cast("Reader", source) if hasattr(source, "read") else Chunks(source)


class Sending:
    """A source, and how much of it has been sent; only the newest call gets anything of it.

    gRPC reads on for a call in a thread of its own, which may still be at work when the call has failed.
    """

    def __init__(self, source: Reader, progress: Progress | None, upload_id: str) -> None:
        """Read the first piece of *source* ahead.

        Raises:
            Exception: whatever *source* raises.
        """
        start = _position(source)
        self._ahead = read_full(source, CHUNK)  # and not sent
        # What is sent in one message is kept, and sent once more as a whole: no upload has to be remembered for it.
        if small := len(self._ahead) < CHUNK:
            source, start, self._ahead = io.BytesIO(self._ahead), 0, b""
        self._source = source
        self._progress = progress
        self._lock = threading.Lock()
        self._turn = 0
        self._start = start
        self._at = 0
        self._hash = hashlib.sha256()
        self._hashed = 0
        self._ended = False
        self.failure: BaseException | None = None  # of the source
        # A source that cannot be read again cannot go on after a lost connection.
        self.upload_id = upload_id or (str(uuid4()) if start is not None and not small else "")
        self._again = small or bool(self.upload_id)

    def begin(self, offset: int) -> int:
        """Go on at *offset* for a new call; returns its number.

        Raises:
            OSError: the source cannot be read there.
        """
        with self._lock:
            self._turn += 1
            if offset != self._at:
                if self._start is None or offset > self._hashed:
                    self._skip(offset)
                else:
                    self._seek(self._start + offset)
                self._at = offset
            return self._turn

    def _skip(self, offset: int) -> None:
        # What another process has sent is read all the same: the hash is of the whole.
        if self._start is not None and self._at != self._hashed:
            self._seek(self._start + self._hashed)
            self._at = self._hashed
        if offset < self._at:
            raise OSError("the source cannot be read again")
        while self._at < offset:
            if not self._read(min(CHUNK, offset - self._at)):
                raise OSError("the source is shorter than what has been sent of it")

    def _seek(self, position: int) -> None:
        self._source.seek(position)  # type: ignore[attr-defined]  # as _position() has seen
        self._ahead = b""

    def _read(self, size: int) -> bytes:
        piece, self._ahead = self._ahead[:size], self._ahead[size:]
        if len(piece) < size:
            piece += read_full(self._source, size - len(piece))
        self._at += len(piece)
        if self._at > self._hashed:
            self._hash.update(piece[-(self._at - self._hashed) :])
            self._hashed = self._at
        self._ended = self._ended or len(piece) < size
        return piece

    def next(self, turn: int) -> bytes:
        """Return the next piece for a call; none at the end, and none for a call that is over."""
        with self._lock:
            if turn != self._turn:
                return b""
            try:
                piece = self._read(CHUNK)
                if piece and self._progress is not None:
                    self._progress(self._at)
            except BaseException as error:
                self.failure = error
                raise
            return piece

    def pieces(self, turn: int) -> Iterator[bytes]:
        """Yield all pieces for a call."""
        while piece := self.next(turn):
            yield piece

    def goes_on(self, error: KmsError, tried: int) -> bool:
        """Tell whether an upload that failed so is tried again."""
        return type(error) is Unavailable and self._again and tried < TRIES

    def is_whole(self, blob: Blob) -> bool:
        """Tell whether a blob is all that was sent: an answer that was lost leaves one behind."""
        return self._ended and (blob.size, blob.sha256) == (self._hashed, self._hash.hexdigest())


def pause(tried: int) -> float:
    """Return the seconds before the next try."""
    return BACKOFF * float(2 ** (tried - 1))


def _position(source: Any) -> int | None:
    """Return where a source stands, None for one that cannot go back."""
    try:
        return int(source.tell()) if source.seekable() else None
    except (AttributeError, OSError):
        return None
