"""A stream of bytes in pieces of one size, however it comes in."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

from kms.core.body_ports import MAX_BODY
from kms.core.errors import LimitExceeded


async def pieces_of(size: int, data: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Yield what comes in pieces of *size* bytes; the last may be shorter, and is never empty.

    Raises:
        LimitExceeded: there are more than MAX_BODY bytes.
    """
    held = bytearray()
    length = 0
    async for come in data:
        length += len(come)
        if length > MAX_BODY:
            raise LimitExceeded(f"a body has at most {MAX_BODY} bytes")
        held += come
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)
