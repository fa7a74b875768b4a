"""What every store of bodies promises, in a directory, in either database, and in S3."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from kms.core.body_ports import MAX_NUMBER, MAX_PIECE, BodyName
from kms.core.errors import BodyMissing, LimitExceeded
from kms.core.names import TenantUid
from kms.core.ports import HealthStatus
from storage.bodies import pieces
from tests.bodies import Bodies, collected, noise, stream, wall

LONG = 9 << 20  # more than one part of a multipart upload
HOUR = timedelta(hours=1)


class Broken(Exception):
    """The caller's connection, or whatever it reads from, is gone."""


async def broken(content: bytes, error: BaseException) -> AsyncIterator[bytes]:
    async for piece in stream(content):
        yield piece
    raise error


@pytest.mark.parametrize("length", [0, 1, MAX_PIECE, MAX_PIECE + 1, LONG])
async def test_what_is_written_comes_back(bodies: Bodies, length: int):
    name, content = bodies.name(), noise(length)
    assert await bodies.store.write(name, stream(content)) == length
    got = [piece async for piece in bodies.store.read(name, 0, length)]
    assert b"".join(got) == content
    assert all(0 < len(piece) <= MAX_PIECE for piece in got)


async def test_any_range_comes_back(bodies: Bodies):
    name, content = bodies.name(), noise(LONG)
    await bodies.store.write(name, stream(content))
    for start, length in [
        (0, 1),
        (LONG - 1, 1),
        (MAX_PIECE - 1, 2),
        (MAX_PIECE, MAX_PIECE),
        (5, 3 * MAX_PIECE),
        (7, LONG - 7),
        (LONG, 0),
    ]:
        assert await collected(bodies.store, name, start, length) == content[start : start + length]


@pytest.mark.parametrize(("start", "length"), [(0, 1_001), (999, 2), (1_000, 1), (5_000, 1)])
async def test_a_range_beyond_the_end_is_missing(bodies: Bodies, start: int, length: int):
    name = bodies.name()
    await bodies.store.write(name, stream(noise(1_000)))
    with pytest.raises(BodyMissing):
        await collected(bodies.store, name, start, length)


async def test_what_is_not_there_is_missing(bodies: Bodies):
    name = bodies.name()
    await bodies.store.write(name, stream(b"x"))
    others = [
        bodies.name(2, blob=name.blob),
        bodies.name(1, 1, blob=name.blob),
        bodies.name(tenant=1, blob=name.blob),
        bodies.name(),
    ]
    for other in others:
        with pytest.raises(BodyMissing):
            await collected(bodies.store, other, 0, 1)


@pytest.mark.parametrize(
    ("length", "error"),
    [(1_000, OSError("the caller")), (LONG, Broken("the caller")), (LONG, TimeoutError("the caller"))],
)
async def test_a_source_that_breaks_leaves_nothing_and_its_own_error(bodies: Bodies, length: int, error: Exception):
    name = bodies.name()
    with pytest.raises(type(error), match="the caller"):
        await bodies.store.write(name, broken(noise(length), error))
    assert await bodies.store.list(None, None, 10) == []
    with pytest.raises(BodyMissing):
        await collected(bodies.store, name, 0, 1)


@pytest.mark.parametrize("length", [1_000, LONG])
async def test_what_was_there_stays_until_the_new_one_is_whole(bodies: Bodies, length: int):
    name = bodies.name()
    await bodies.store.write(name, stream(b"before"))
    with pytest.raises(Broken):
        await bodies.store.write(name, broken(noise(length), Broken()))
    assert await collected(bodies.store, name, 0, 6) == b"before"
    content = noise(length)
    await bodies.store.write(name, stream(content))
    assert await collected(bodies.store, name, 0, length) == content
    [listed] = await bodies.store.list(None, None, 10)
    assert (listed.name, listed.length) == (name, length)


@pytest.mark.parametrize("length", [1_000, LONG])
async def test_nobody_sees_a_body_before_it_is_whole(bodies: Bodies, length: int):
    name = bodies.name()
    seen: list[object] = []

    async def looked() -> AsyncIterator[bytes]:
        async for piece in stream(noise(length)):
            yield piece
        seen.extend(await bodies.store.list(None, None, 10))
        with pytest.raises(BodyMissing):
            await collected(bodies.store, name, 0, 1)

    await bodies.store.write(name, looked())
    assert seen == []
    assert len(await bodies.store.list(None, None, 10)) == 1


async def test_a_write_that_is_cancelled_shows_nothing(bodies: Bodies):
    name, reached = bodies.name(), asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield noise(LONG)
        reached.set()
        await asyncio.Event().wait()

    writing = asyncio.create_task(bodies.store.write(name, endless()))
    await reached.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await bodies.store.list(None, None, 10) == []
    await bodies.store.write(name, stream(b"after"))
    assert await collected(bodies.store, name, 0, 5) == b"after"


async def test_of_two_that_write_one_name_one_is_whole(bodies: Bodies):
    name, contents = bodies.name(), [bytes([number]) * 2_000_000 for number in range(4)]
    await asyncio.gather(*(bodies.store.write(name, stream(content)) for content in contents), return_exceptions=True)
    assert await collected(bodies.store, name, 0, 2_000_000) in contents
    assert len(await bodies.store.list(None, None, 10)) == 1


async def test_what_is_deleted_is_gone_and_the_rest_stays(bodies: Bodies):
    blob = uuid.uuid4()
    names = [bodies.name(generation, segment, blob=blob) for generation in (1, 2) for segment in (0, 1)]
    for name in names:
        await bodies.store.write(name, stream(str(name).encode()))
    await bodies.store.delete(names[1])
    await bodies.store.delete(names[1])
    await bodies.store.delete(bodies.name())
    with pytest.raises(BodyMissing):
        await collected(bodies.store, names[1], 0, 1)
    left = [names[0], *names[2:]]
    assert [body.name for body in await bodies.store.list(None, None, 10)] == left
    for name in left:
        assert await collected(bodies.store, name, 0, len(str(name))) == str(name).encode()
        await bodies.store.delete(name)
    assert await bodies.store.list(None, None, 10) == []
    await bodies.store.write(names[1], stream(b"again"))
    assert await collected(bodies.store, names[1], 0, 5) == b"again"


async def test_bodies_are_listed_by_name_page_by_page(bodies: Bodies):
    blobs = [uuid.uuid4() for _ in range(3)]
    names = sorted(
        bodies.name(generation, segment, tenant=tenant, blob=blob)
        for tenant in (0, 1)
        for blob in blobs
        for generation, segment in ((1, 0), (1, 10), (2, 0), (MAX_NUMBER, MAX_NUMBER))
    )
    started = wall()
    for number, name in enumerate(names):
        await bodies.store.write(name, stream(bytes(number)))
    assert [body.name for body in await bodies.store.list(None, None, 100)] == names
    found: list[BodyName] = []
    while page := await bodies.store.list(None, found[-1] if found else None, 5):
        assert len(page) <= 5
        found += [body.name for body in page]
    assert found == names
    for tenant in bodies.tenants:
        own = [name for name in names if name.tenant == tenant]
        assert [body.name for body in await bodies.store.list(tenant, None, 100)] == own
        assert [body.name for body in await bodies.store.list(tenant, own[3], 2)] == own[4:6]
    for number, body in enumerate(await bodies.store.list(None, None, 100)):
        assert body.length == number
        assert started - HOUR < body.written_at < wall() + HOUR
    assert await bodies.store.list(TenantUid(uuid.uuid4()), None, 10) == []


async def test_a_sweep_leaves_whole_bodies_alone(bodies: Bodies):
    name = bodies.name()
    await bodies.store.write(name, stream(b"whole"))
    assert await bodies.store.sweep(wall() + HOUR) == 0
    assert await collected(bodies.store, name, 0, 5) == b"whole"


async def test_a_store_that_answers_is_healthy(bodies: Bodies):
    assert (await bodies.store.health()).status is HealthStatus.HEALTHY
    assert await bodies.store.list(None, None, 10) == []


async def test_a_body_has_an_end(bodies: Bodies, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pieces, "MAX_BODY", 1_000_000)
    name = bodies.name()
    with pytest.raises(LimitExceeded, match="at most"):
        await bodies.store.write(name, stream(noise(1_000_001)))
    assert await bodies.store.list(None, None, 10) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "../../etc/passwd",
        f"{uuid.UUID(int=1)}/{uuid.UUID(int=2)}/1/0",
        f"{uuid.UUID(int=1)}/{uuid.UUID(int=2)}/0000000000/0000000000",
        f"{uuid.UUID(int=1)}/{uuid.UUID(int=2)}/0000000001/4294967296",
        f"{uuid.UUID(int=1)}/../0000000001/0000000000",
        f"{uuid.UUID(int=0xA)}/{uuid.UUID(int=2)}/0000000001/0000000000/x",
        f"{uuid.UUID(int=0xA)}/{uuid.UUID(int=2)}/0000000001/0000000000".upper(),
    ],
)
def test_what_is_no_name_is_refused(text: str):
    with pytest.raises(ValueError, match=r".+"):
        BodyName.parse(text)


def test_a_name_comes_back_from_its_text():
    name = BodyName(TenantUid(uuid.uuid4()), uuid.uuid4(), 7, 12)
    assert BodyName.parse(str(name)) == name
    with pytest.raises(ValueError, match="generation"):
        BodyName(name.tenant, name.blob, 0, 0)
