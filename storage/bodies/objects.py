"""Bodies of blobs in object storage that speaks S3, or whatever else obstore does.

A short body is one PUT; a longer one is a multipart upload, which shows itself when it is completed and not before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import obstore
from obstore.exceptions import BaseError, GenericError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from kms.core.body_ports import MAX_BODY, MAX_PIECE, BodyName, StoredBody
from kms.core.errors import BodyMissing, BodyStoreUnavailable
from kms.core.names import TenantUid
from kms.core.ports import HealthStatus, PartHealth

from .pieces import pieces_of

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, S3Config

# S3 allows 10,000 parts, of at least 5 MiB but the last.
PART: Final = 8 << 20  # bytes; also of one range that is read
PARTS_AT_ONCE: Final = 2
MAX_PARTS: Final = 10_000
RETRIES: Final = 2  # of one request
TIMEOUT: Final = timedelta(seconds=10)  # for one request, which carries PART bytes at most
BACKOFF: Final = timedelta(milliseconds=100)
MAX_BACKOFF: Final = timedelta(seconds=2)

assert MAX_BODY <= PART * MAX_PARTS  # noqa: S101  checked once, when the module is loaded


@dataclass(frozen=True, slots=True)
class S3:
    """A bucket, and how to reach it; empty texts are left to the environment and the instance's own credentials."""

    bucket: str
    region: str = ""
    endpoint: str = ""  # for what is not Amazon's
    prefix: str = ""
    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)
    path_style: bool = True  # bucket in the path, not in the host's name
    allow_http: bool = False
    ca: str = field(default="", repr=False)  # PEM, beside those of the system
    timeout: timedelta = TIMEOUT


def s3_store(s3: S3) -> ObjectStore:
    """Return a client of a bucket; nothing is sent yet.

    Raises:
        ValueError: the parameters cannot be used together.
    """
    client: ClientConfig = {"timeout": s3.timeout, "connect_timeout": s3.timeout, "allow_http": s3.allow_http}
    if s3.ca:
        client["root_certificate"] = s3.ca
    config: S3Config = {"virtual_hosted_style_request": not s3.path_style}
    if s3.region:
        config["region"] = s3.region
    if s3.endpoint:
        config["endpoint"] = s3.endpoint
    if s3.access_key_id:
        config["access_key_id"] = s3.access_key_id
        config["secret_access_key"] = s3.secret_access_key
    try:
        return S3Store(
            s3.bucket,
            prefix=s3.prefix or None,
            config=config,
            client_options=client,
            retry_config={
                "max_retries": RETRIES,
                "retry_timeout": s3.timeout * (RETRIES + 1),
                "backoff": {"init_backoff": BACKOFF, "max_backoff": MAX_BACKOFF},
            },
        )
    except BaseError as error:
        raise ValueError("the S3 store's parameters cannot be used") from error


class ObjectBodies:
    """BodyStore in one bucket, or in one prefix of it."""

    def __init__(self, store: ObjectStore, timeout: timedelta = TIMEOUT) -> None:
        self._store = store
        # Each request is bounded by the client; this bounds what has not come back all the same.
        self._bound = (timeout * (RETRIES + 2)).total_seconds() + MAX_BACKOFF.total_seconds() * RETRIES

    async def write(self, name: BodyName, data: AsyncIterable[bytes]) -> int:
        """Store a body, whole and durable when this returns, or not at all; returns its length in bytes."""
        parts = aiter(pieces_of(PART, data))
        first = await anext(parts, b"")
        if len(first) < PART:
            with _translated(None):
                async with asyncio.timeout(self._bound):
                    await obstore.put_async(self._store, str(name), first, use_multipart=False)
            return len(first)
        source = _Source(first, parts, self._bound)
        try:
            with _translated(None):
                async with asyncio.timeout(self._bound) as source.clock:
                    await obstore.put_async(
                        self._store, str(name), source, chunk_size=PART, max_concurrency=PARTS_AT_ONCE
                    )
        except Exception:
            if source.failure is not None:
                raise source.failure from None  # not in the words that obstore has for it
            raise
        return source.length

    async def read(self, name: BodyName, start: int, length: int) -> AsyncIterator[bytes]:
        """Yield exactly *length* bytes from *start*, in pieces of at most MAX_PIECE."""
        while length:
            asked = min(length, PART)
            part = await self._range(name, start, asked)
            if len(part) != asked:
                raise BodyMissing(f"body {name} ends before it should")
            for offset in range(0, asked, MAX_PIECE):
                yield bytes(part[offset : offset + MAX_PIECE])
            start, length = start + asked, length - asked

    async def _range(self, name: BodyName, start: int, length: int) -> memoryview:
        with _translated(name):
            async with asyncio.timeout(self._bound):
                try:
                    got = await obstore.get_range_async(self._store, str(name), start=start, length=length)
                except GenericError:
                    # A range behind the end has no error of its own.
                    if (await obstore.head_async(self._store, str(name)))["size"] <= start:
                        return memoryview(b"")
                    raise
        return memoryview(got)

    async def delete(self, name: BodyName) -> None:
        """Remove a body for good; one that is not there is removed."""
        try:
            with _translated(name):
                async with asyncio.timeout(self._bound):
                    await obstore.delete_async(self._store, str(name))
        except BodyMissing:
            return

    async def list(self, tenant: TenantUid | None, after: BodyName | None, limit: int) -> list[StoredBody]:
        """Return at most *limit* (MAX_LISTED) whole bodies behind *after*, by name; of one tenant, or of all for None."""
        found: list[StoredBody] = []
        prefix, offset = (None if tenant is None else str(tenant)), (None if after is None else str(after))
        with _translated(None):
            async with asyncio.timeout(self._bound):
                async for some in obstore.list(self._store, prefix, offset=offset, chunk_size=limit):
                    for each in some:
                        try:
                            name = BodyName.parse(each["path"])
                        except ValueError:
                            continue  # somebody else's
                        found.append(StoredBody(name, each["size"], each["last_modified"]))
                    if len(found) >= limit:
                        break
        return found[:limit]

    async def sweep(self, before: datetime) -> int:  # noqa: ARG002  the port's
        """Remove nothing: uploads that were given up are the bucket's lifecycle rule's matter, since obstore lists none."""
        return 0

    async def health(self) -> PartHealth:
        """Tell whether the bucket answers."""
        started = time.monotonic()
        try:
            await self.list(None, None, 1)
        except BodyStoreUnavailable as error:
            return PartHealth(HealthStatus.UNHEALTHY, str(error), time.monotonic() - started)
        return PartHealth(HealthStatus.HEALTHY, "", time.monotonic() - started)


class _Source:
    """Parts for a multipart upload; keeps what went wrong in getting them, and stops the clock while it waits for them."""

    def __init__(self, first: bytes, rest: AsyncIterator[bytes], bound: float) -> None:
        self._first = first
        self._rest = rest
        self._bound = bound
        self.length = 0
        self.failure: Exception | None = None
        self.clock: asyncio.Timeout | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        part = self._first
        try:
            while part:
                self.length += len(part)
                self._run_until(asyncio.get_running_loop().time() + self._bound)
                yield part
                self._run_until(None)
                part = await anext(self._rest, b"")
        except Exception as error:
            self.failure = error
            raise
        self._run_until(asyncio.get_running_loop().time() + self._bound)

    def _run_until(self, when: float | None) -> None:
        if self.clock is not None and not self.clock.expired():
            self.clock.reschedule(when)


@contextmanager
def _translated(name: BodyName | None) -> Iterator[None]:
    try:
        yield
    except (NotFoundError, FileNotFoundError) as error:  # obstore raises the one or the other
        if name is None:
            raise BodyStoreUnavailable("the object storage has no such bucket") from error
        raise BodyMissing(f"body {name} is not there") from error
    except TimeoutError as error:
        raise BodyStoreUnavailable("the object storage does not answer in time") from error
    except (PermissionDeniedError, UnauthenticatedError, PermissionError) as error:
        raise BodyStoreUnavailable("the object storage does not let the daemon do this") from error
    except (BaseError, OSError) as error:
        raise BodyStoreUnavailable(f"the object storage cannot be used ({type(error).__name__})") from error
