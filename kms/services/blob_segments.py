"""The bodies of blobs, sealed and opened piece by piece: FORMATS section 4, with the cipher in the enclave.

The enclave derives a segment's keys, encrypts its chunks, and gives out nothing of what it is asked to open unless all of
it is authentic. The daemon frames: it chooses salts, counts chunks, and compresses.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from typing import Final

from kms.core.blobs import (
    Blob,
    BlobUid,
    Compression,
    Segment,
    check_header,
    segment_context,
    segment_header,
)
from kms.core.body_ports import BodyName, BodyStore
from kms.core.context import Context
from kms.core.enclave_ports import Enclave, SealedInput
from kms.core.errors import CannotDecrypt, CorruptRecord, InvalidRequest
from kms.core.names import TenantUid
from kms.core.stream import CHUNK_BITS, HEADER_LENGTH, SALT_LENGTH, TAG_LENGTH, StreamHeader
from kms.crypto.compression import FRAME, Decompressor, compress

CHUNK: Final = 1 << CHUNK_BITS  # bytes
SEALED_CHUNK: Final = CHUNK + TAG_LENGTH
AT_ONCE: Final = 16  # chunks in one call of the enclave: 1 MiB, of the 1.5 MiB that it takes


@dataclass(frozen=True, slots=True)
class Sealer:
    """The key of one generation of a blob, and what its segments are bound to."""

    enclave: Enclave
    key: SealedInput
    tenant: TenantUid
    blob: BlobUid
    generation: int
    context: Context  # the caller's
    compression: Compression

    def body(self, number: int) -> BodyName:
        """Return where a segment is kept."""
        return BodyName(self.tenant, self.blob, self.generation, number)

    async def seal(self, number: int, data: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """Yield the body of a segment: header, commitment, chunks. *data* is what is encrypted, compressed or not.

        Raises:
            EnclaveUnavailable, CorruptRecord: the enclave is away, or does not open the key.
        """
        header = segment_header(self.blob, self.generation, os.urandom(SALT_LENGTH), self.compression).encode()
        digest = segment_context(self.context, self.blob, self.generation, number).digest()
        counter, waiting = 0, bytearray()

        async def sealed(length: int, *, last: bool) -> bytes:
            nonlocal counter
            part = bytes(waiting[:length])
            del waiting[:length]
            chunks = [part[at : at + CHUNK] for at in range(0, len(part), CHUNK)] or [b""]
            commitment, out = await self.enclave.execute(
                "seal_chunks", [self.key], [header, digest, counter, last, chunks]
            )
            before = header + commitment if counter == 0 else b""
            counter += len(chunks)
            return before + b"".join(out)

        async for piece in data:
            waiting += piece
            # One byte more than that has to be there, since only then is it known that they are not the last.
            while len(waiting) > AT_ONCE * CHUNK:
                yield await sealed(AT_ONCE * CHUNK, last=False)
        yield await sealed(len(waiting), last=True)

    async def open(
        self, store: BodyStore, segment: Segment, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield what is encrypted in a segment from *start* to before *end*, each piece once it is authentic.

        Raises:
            CannotDecrypt: another context, or a body that has been changed.
            CorruptRecord: the body is missing, or of another segment.
            EnclaveUnavailable, BodyStoreUnavailable: the enclave or the store is away.
        """
        end = segment.data if end is None else end
        name = self.body(segment.number)
        digest = segment_context(self.context, self.blob, self.generation, segment.number).digest()
        counter, ends = start >> CHUNK_BITS, max((end - 1) >> CHUNK_BITS, start >> CHUNK_BITS) + 1
        first = HEADER_LENGTH + counter * SEALED_CHUNK
        length = min(HEADER_LENGTH + ends * SEALED_CHUNK, segment.sealed) - first
        # From the beginning, both in one go: for a short body a store takes longer to begin than to read.
        source = Source(store.read(name, 0, HEADER_LENGTH + (0 if counter else length)))
        header, commitment = self._header(b"".join([piece async for piece in source.part(HEADER_LENGTH)]))
        body = store.read(name, first, length) if counter else source.part(length)
        position = counter * CHUNK  # of the next chunk, among what is encrypted
        async for sealed in _batches(body, AT_ONCE * SEALED_CHUNK):
            chunks = [sealed[at : at + SEALED_CHUNK] for at in range(0, len(sealed), SEALED_CHUNK)]
            last = counter + len(chunks) == segment.chunks
            opened = await self.enclave.execute(
                "open_chunks", [self.key], [header, digest, counter, last, chunks, commitment]
            )
            if opened is None:
                raise CannotDecrypt
            plain = b"".join(opened)
            if wanted := plain[max(start - position, 0) : end - position]:
                yield wanted
            counter += len(chunks)
            position += len(plain)

    async def read(
        self, store: BodyStore, segment: Segment, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield a segment's part of the blob from *start* to before *end*, as open() does, decompressed.

        Raises:
            As open().
        """
        end = segment.size if end is None else end
        if self.compression is Compression.NONE:
            async for piece in self.open(store, segment, start, end):
                yield piece
            return
        position, frames = 0, Decompressor()
        async for data in self.open(store, segment):
            for piece in frames.feed(data):
                if wanted := piece[max(start - position, 0) : max(end - position, 0)]:
                    yield wanted
                position += len(piece)
                if position > segment.size:
                    raise CannotDecrypt
        frames.end()
        if position != segment.size:
            raise CannotDecrypt

    def _header(self, raw: bytes) -> tuple[bytes, bytes]:
        try:
            header, commitment = StreamHeader.parse(raw, "body", compressed=True)
        except InvalidRequest as error:
            raise CorruptRecord("the body of a blob has no header of a stream") from error
        check_header(header, segment_header(self.blob, self.generation, header.salt, self.compression))
        return header.encode(), commitment


def sealer_of(blob: Blob, enclave: Enclave, key: SealedInput, context: Context) -> Sealer:
    """Return what opens the segments of a blob."""
    return Sealer(enclave, key, blob.tenant, blob.uid, blob.generation, context, blob.compression)


async def _batches(pieces: AsyncIterable[bytes], length: int) -> AsyncIterator[bytes]:
    """Cut what comes in pieces of any length into pieces of *length* bytes, the last one shorter."""
    waiting = bytearray()
    async for piece in pieces:
        waiting += piece
        while len(waiting) >= length:
            yield bytes(waiting[:length])
            del waiting[:length]
    if waiting:
        yield bytes(waiting)


class Source:
    """The bytes of an upload, handed on in parts of a given length; nothing is read ahead but one message."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._next: bytes = b""

    async def more(self) -> bool:
        """Whether there is at least one byte more."""
        while not self._next:
            try:
                self._next = await anext(self._pieces)
            except StopAsyncIteration:
                return False
        return True

    async def part(self, length: int) -> AsyncIterator[bytes]:
        """Yield the next *length* bytes, or as many as there are."""
        while length and await self.more():
            piece, self._next = self._next[:length], self._next[length:]
            length -= len(piece)
            yield piece


async def framed(pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Compress, one frame for each MiB."""
    async for data in _batches(pieces, FRAME):
        yield compress(data)
