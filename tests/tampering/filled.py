"""What is attacked: the database of an installation with a history, once for each engine, and its keys.

One worker makes it for all; each puts the rows into a database of its own. The daemons that made it have stopped.
"""

from __future__ import annotations

import asyncio
import fcntl
import hmac
import os
import pickle
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kms.core.audit_ports import Anchor
from kms.parts import opened_parts
from kms.settings import load
from storage.database import Database
from storage.migrate import upgrade
from storage.postgresql import open_postgresql
from storage.sqlite import open_sqlite
from tests.daemon import Installation
from tests.postgresql_server import Databases
from tests.tampering.history import History
from tests.tampering.surface import PostgresqlSurface, Snapshot, SqliteSurface, Surface

FILE = "data/kms.db"


@dataclass(frozen=True)
class Sealer:
    """Seals with a key in memory, as daemons do with the one that the token derives."""

    key: bytes = field(repr=False)

    def mac(self, message: bytes) -> bytes:
        return hmac.digest(self.key, message, "sha256")


@dataclass(frozen=True)
class Token:
    """What the token knows: the keys of MACs and reports, the key that verifies checkpoints, and the anchor."""

    key: bytes = field(repr=False)
    reports: bytes = field(repr=False)
    public_key: bytes = field(repr=False)
    anchor: Anchor


@dataclass(frozen=True)
class Content:
    """What the database held after the first daemon and after the last, and what the token knows after it."""

    token: Token
    earlier: Snapshot = field(repr=False)
    pristine: Snapshot = field(repr=False)


@dataclass(frozen=True)
class Filled:
    """A database of one worker's own with that content; *place* is the file, or the URI of its owner."""

    engine: str
    place: str
    surface: Surface
    content: Content

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Database]:
        """Open it as a daemon does."""
        sealer = Sealer(self.content.token.key)
        storage: Database
        if self.engine == "sqlite":
            storage = await open_sqlite(Path(self.place), sealer=sealer)
        else:
            storage = await open_postgresql(self.place, sealer=sealer)
        try:
            yield storage
        finally:
            await storage.close()


def surface_of(engine: str, place: str) -> Surface:
    return SqliteSurface(Path(place)) if engine == "sqlite" else PostgresqlSurface(place)


def make_content(url: str = "") -> Content:
    """Let an installation have its history, on SQLite or on a PostgreSQL database."""
    parent = Path(tempfile.mkdtemp(prefix="kms"))
    installation = Installation(parent / "i")

    def look() -> Snapshot:
        surface = surface_of("postgresql", url) if url else surface_of("sqlite", str(installation.directory / FILE))
        try:
            return surface.snapshot()
        finally:
            surface.close()

    try:
        if url:
            installation.move_to_postgresql(url)
        history = History(installation)
        history.prepare()
        history.first_part()
        earlier = look()
        asyncio.run(history.between())
        history.second_part()
        return Content(asyncio.run(_look_into_token(installation)), earlier, look())
    except Exception as error:
        error.add_note(installation.story()[-5000:])
        raise
    finally:
        installation.close()
        shutil.rmtree(parent)


async def _look_into_token(installation: Installation) -> Token:
    async with opened_parts(load(installation.config)) as parts:
        anchor = await parts.anchors.store.newest()
        assert anchor is not None
        key = await parts.vault.derive("records", parts.installation)
        return Token(key, parts.keys.reports, await parts.vault.public_key(), anchor)


def shared(directory: Path, make: Callable[[], Content]) -> Content:
    """Return what the first worker has made, or be the first."""
    directory.mkdir(mode=0o700, exist_ok=True)
    made = directory / "content"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            made.write_bytes(pickle.dumps(make()))
    content: Content = pickle.loads(made.read_bytes())  # noqa: S301  our own, of this run
    return content


@contextmanager
def filled(engine: str, place: str, content: Content) -> Iterator[Filled]:
    """Fill a migrated database."""
    surface = surface_of(engine, place)
    try:
        surface.restore(content.pristine)
        yield Filled(engine, place, surface, content)
    finally:
        surface.close()


@pytest.fixture(scope="session")
def common_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that all workers of this run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def filled_sqlite(tmp_path_factory: pytest.TempPathFactory, common_directory: Path) -> Iterator[Filled]:
    """An SQLite database with a history."""
    content = shared(common_directory / "filled-sqlite", make_content)
    path = tmp_path_factory.mktemp("filled") / "kms.db"
    upgrade(path)
    with filled("sqlite", str(path), content) as made:
        yield made


@pytest.fixture(scope="session")
def filled_postgresql(
    postgresql_databases: Databases, postgresql_template: str, common_directory: Path
) -> Iterator[Filled]:
    """A PostgreSQL database with a history."""

    def make() -> Content:
        name = postgresql_databases.create(postgresql_template)
        try:
            return make_content(postgresql_databases.url(name))
        finally:
            postgresql_databases.drop(name)

    content = shared(common_directory / "filled-postgresql", make)
    name = postgresql_databases.create(postgresql_template)
    with filled("postgresql", postgresql_databases.url(name), content) as made:
        yield made
    postgresql_databases.drop(name)
