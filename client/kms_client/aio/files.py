"""kms_client.files for asyncio: the daemon is called on the loop, files are read, encrypted and written beside it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Generator
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from ..chunks import Opener, Sealer
from ..envelope import Envelope
from ..files import canonical, open_steps, seal_steps, sealing, tenant_of
from ..formats.stream import CHUNK_BITS, KEY_LENGTH
from ..pieces import Reader, Writer
from ..requests.crypto import Context
from ..tls import StrPath
from ..whole_file import whole_file
from . import AsyncClient

T = TypeVar("T")

# Going to a thread costs about as much as a chunk of 64 KiB does; a cancelled call ends after as many.
_STEPS_AT_ONCE: Final = 16


async def encrypt_stream(
    kms: AsyncClient,
    name: str,
    reader: Reader,
    writer: Writer,
    *,
    context: Context | None = None,
    chunk_bits: int = CHUNK_BITS,
    deadline: float | None = None,
) -> int:
    """As kms_client.files.encrypt_stream(); reader and writer are used in a thread, by one call at a time."""
    prepared = await _seal(kms, name, context, chunk_bits, deadline)
    return await _sum(seal_steps(prepared, reader, writer))


async def decrypt_stream(
    kms: AsyncClient,
    name: str,
    reader: Reader,
    writer: Writer,
    *,
    context: Context | None = None,
    deadline: float | None = None,
) -> int:
    """As kms_client.files.decrypt_stream(); reader and writer are used in a thread, by one call at a time."""
    return await _sum(open_steps(await _open(kms, name, reader, context, deadline), reader, writer))


async def encrypt_file(
    kms: AsyncClient,
    name: str,
    source: StrPath,
    target: StrPath,
    *,
    context: Context | None = None,
    overwrite: bool = False,
    chunk_bits: int = CHUNK_BITS,
    deadline: float | None = None,
) -> int:
    """As kms_client.files.encrypt_file(); cancelled, it leaves nothing."""

    def steps(prepared: tuple[bytes, Sealer]) -> Generator[int, None, None]:
        with Path(source).open("rb") as reader, whole_file(target, overwrite=overwrite) as writer:
            yield from seal_steps(prepared, reader, writer)

    return await _sum(steps(await _seal(kms, name, context, chunk_bits, deadline)))


async def decrypt_file(
    kms: AsyncClient,
    name: str,
    source: StrPath,
    target: StrPath,
    *,
    context: Context | None = None,
    overwrite: bool = False,
    deadline: float | None = None,
) -> int:
    """As kms_client.files.decrypt_file(); cancelled, it leaves nothing."""

    def steps(reader: Reader, opener: Opener) -> Generator[int, None, None]:
        with whole_file(target, overwrite=overwrite) as writer:
            yield from open_steps(opener, reader, writer)

    with await asyncio.to_thread(Path(source).open, "rb") as reader:
        return await _sum(steps(reader, await _open(kms, name, reader, context, deadline)))


async def _seal(
    kms: AsyncClient, name: str, context: Context | None, chunk_bits: int, deadline: float | None
) -> tuple[bytes, Sealer]:
    bound = canonical(await kms.get_tenant(tenant_of(name), deadline=deadline), context)
    data_key = await kms.generate_data_key(name, length=KEY_LENGTH, context=context, deadline=deadline)
    return sealing(data_key, bound, chunk_bits)


async def _open(kms: AsyncClient, name: str, reader: Reader, context: Context | None, deadline: float | None) -> Opener:
    found = await _apart(lambda: Envelope.read(reader))
    bound = canonical(await kms.get_tenant(tenant_of(name), deadline=deadline), context)
    data_key = await kms.decrypt_data_key(name, found.wrapped, context=context, deadline=deadline)
    return Opener(data_key.plaintext, found.header, found.commitment, bound)


async def _sum(steps: Generator[int, None, None]) -> int:
    def some() -> list[int]:
        return list(islice(steps, _STEPS_AT_ONCE))

    total = 0
    try:
        while lengths := await _apart(some):
            total += sum(lengths)
    finally:
        # Removes what is not whole, in a thread like all that touches a disk.
        await _apart(steps.close)
    return total


async def _apart(act: Callable[[], T]) -> T:
    """Run in a thread. A cancelled caller waits for the thread: nobody else may touch its files before."""
    running = asyncio.ensure_future(asyncio.to_thread(act))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        running.exception()
        raise
