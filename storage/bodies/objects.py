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

from kms.core.body_ports import MAX_BODY, MAX_PIECE, BodyName, StoredBody
from kms.core.errors import BodyMissing, BodyStoreUnavailable
from kms.core.names import TenantUid
from kms.core.ports import HealthStatus, PartHealth

from .pieces import pieces_of

if TYPE_CHECKING:
    from obstore.store import ObjectStore

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
    from obstore.exceptions import BaseError  # noqa: PLC0415  only installations with such a store pay for it
    from obstore.store import S3Store  # noqa: PLC0415

    given = {
        "region": s3.region,
        "endpoint": s3.endpoint,
        "access_key_id": s3.access_key_id,
        "secret_access_key": s3.secret_access_key,
    }
    client = {"timeout": s3.timeout, "connect_timeout": s3.timeout, "allow_http": s3.allow_http}
    if s3.ca:
        client["root_certificate"] = s3.ca
    try:
        return S3Store(
            s3.bucket,
            prefix=s3.prefix or None,
            virtual_hosted_style_request=not s3.path_style,
            client_options=client,
            retry_config={
                "max_retries": RETRIES,
                "retry_timeout": s3.timeout * (RETRIES + 1),
                "backoff": {"init_backoff": BACKOFF, "max_backoff": MAX_BACKOFF},
            },
            **{name: value for name, value in given.items() if value},
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
        import obstore  # noqa: PLC0415  as above

        parts = aiter(pieces_of(PART, data))
        first = await anext(parts, b"")
        if len(first) < PART:
            with _translated(name):
                async with asyncio.timeout(self._bound):
                    await obstore.put_async(self._store, str(name), first, use_multipart=False)
            return len(first)
        source = _Source(first, parts)
        with _translated(name):
            async with asyncio.timeout(self._bound) as bound:
                source.on_progress = lambda: bound.reschedule(asyncio.get_running_loop().time() + self._bound)
                try:
                    await obstore.put_async(
                        self._store, str(name), source, chunk_size=PART, max_concurrency=PARTS_AT_ONCE
                    )
                except Exception:
                    if source.failure is not None:  # obstore tells it in words of its own
                        raise source.failure from None
                    raise
        return source.length

    async def read(self, name: BodyName, start: int, length: int) -> AsyncIterator[bytes]:
        """Yield exactly *length* bytes from *start*, in pieces of at most MAX_PIECE."""
        import obstore  # noqa: PLC0415  as above

        while length:
            asked = min(length, PART)
            with _translated(name):
                async with asyncio.timeout(self._bound):
                    got = await obstore.get_range_async(self._store, str(name), start=start, length=asked)
            part = memoryview(got)
            if len(part) != asked:
                raise BodyMissing(f"body {name} ends before it should")
            for offset in range(0, asked, MAX_PIECE):
                yield bytes(part[offset : offset + MAX_PIECE])
            start, length = start + asked, length - asked

    async def delete(self, name: BodyName) -> None:
        """Remove a body for good; one that is not there is removed."""
        import obstore  # noqa: PLC0415  as above

        try:
            with _translated(name):
                async with asyncio.timeout(self._bound):
                    await obstore.delete_async(self._store, str(name))
        except BodyMissing:
            return

    async def list(self, tenant: TenantUid | None, after: BodyName | None, limit: int) -> list[StoredBody]:
        """Return at most *limit* (MAX_LISTED) whole bodies behind *after*, by name; of one tenant, or of all for None."""
        import obstore  # noqa: PLC0415  as above

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
    """Parts for a multipart upload; keeps what went wrong in getting them."""

    def __init__(self, first: bytes, rest: AsyncIterator[bytes]) -> None:
        self._first = first
        self._rest = rest
        self.length = 0
        self.failure: BaseException | None = None
        self.on_progress = lambda: None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.on_progress()
        self.length = len(self._first)
        yield self._first
        try:
            async for part in self._rest:
                self.on_progress()
                self.length += len(part)
                yield part
        except BaseException as error:
            self.failure = error
            raise


@contextmanager
def _translated(name: BodyName | None) -> Iterator[None]:
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError  # noqa: PLC0415  as above

    try:
        yield
    except (FileNotFoundError, *_not_found()) as error:
        raise BodyMissing(f"body {name} is not there") from error
    except TimeoutError as error:
        raise BodyStoreUnavailable("the object storage does not answer in time") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise BodyStoreUnavailable("the object storage does not let the daemon do this") from error
    except (BaseError, OSError) as error:
        raise BodyStoreUnavailable(f"the object storage cannot be used ({type(error).__name__})") from error


def _not_found() -> tuple[type[Exception], ...]:
    from obstore.exceptions import NotFoundError  # noqa: PLC0415  as above

    return (NotFoundError,)
