"""A throw-away PostgreSQL for tests, or the one that KMS_TEST_POSTGRESQL (a libpq URI of a superuser) names."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from storage.migrate import upgrade

MISSING = "PostgreSQL's server is not installed (Debian: apt-get install postgresql)"
DEADLINE = 20.0  # seconds for the server to start or stop
LONGEST_PLACE = 60  # characters
# Months of the audit log for tests whose clock stands still, or runs for a year; see tests.keyrings.NOW.
PARTITIONS = """
    SELECT audit.add_partition(month::date)
    FROM generate_series(timestamp '2024-02-01', '2025-04-01', '1 month') month"""


def _binaries() -> Path | None:
    """Return the newest version's directory."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    return Path(on_path).resolve().parent if on_path else None


def _place() -> Path:
    """Return where servers have their directories: in memory where scripts/test has made room there.

    A socket's path has at most 107 bytes, and the server's user has to reach it.
    """
    place = Path(tempfile.gettempdir()).absolute()
    open_to_all = all(one.stat().st_mode & 0o001 for one in (place, *place.parents))
    return place if open_to_all and len(str(place)) <= LONGEST_PLACE else Path("/tmp")


def _system_user() -> str | None:
    """Return who runs the server: it refuses root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@dataclass
class PostgresqlServer:
    """A server of our own: one process tree, a Unix socket only."""

    binaries: Path
    directory: Path
    user: str | None
    process: subprocess.Popen[bytes] | None = field(default=None)
    port: int = 5432  # of the socket's name, and of TCP where a test listens there

    @classmethod
    def create(cls) -> PostgresqlServer:
        binaries = _binaries()
        if binaries is None:
            if os.environ.get("CI"):
                pytest.fail(MISSING)
            pytest.skip(MISSING)
        user = _system_user()
        directory = Path(tempfile.mkdtemp(prefix="kms-pg-", dir=_place()))
        if user is not None:
            entry = pwd.getpwnam(user)
            os.chown(directory, entry.pw_uid, entry.pw_gid)
        server = cls(binaries, directory, user)
        options = ["--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"]
        subprocess.run(
            [binaries / "initdb", f"--pgdata={directory}/data", *options],
            check=True,
            stdout=subprocess.DEVNULL,
            **server._as_user(),
        )
        return server

    def _as_user(self) -> dict[str, object]:
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        if self.user is None:
            return {"cwd": "/", "env": environment}
        group = pwd.getpwnam(self.user).pw_gid
        return {"cwd": "/", "env": environment, "user": self.user, "group": group, "extra_groups": []}

    def start(self, *settings: str) -> None:
        """Start with further settings, each `name=value`."""
        # fsync is for power cuts; killed processes lose nothing without it.
        options = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=60", "-k", str(self.directory)]
        options += ["-c", "max_wal_size=256MB", "-p", str(self.port)]
        options += [word for setting in settings for word in ("-c", setting)]
        command = [self.binaries / "postgres", "-D", f"{self.directory}/data", *options]
        deadline = time.monotonic() + DEADLINE
        while self.process is None or self.process.poll() is not None:  # one that was killed may hold its memory still
            with (self.directory / "log").open("ab") as log:
                self.process = subprocess.Popen(
                    command, stdout=log, stderr=log, start_new_session=True, **self._as_user()
                )
            self._await(deadline)

    def _await(self, deadline: float) -> None:
        """Return when the server answers, or has ended before its time."""
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    lines = (self.directory / "log").read_text(errors="replace").splitlines()
                    error.add_note("\n".join(["the server's last words:", *lines[-10:]]))
                    raise
                if self.process is None or self.process.poll() is not None:
                    return
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """Stop at once, as a crash of the machine's power would not, but an impatient operator."""
        if self.process is not None:
            self.thaw()
            self.process.send_signal(signal.SIGQUIT)  # "immediate" shutdown
            try:
                self.process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
                self.process.wait(DEADLINE)
            self.process = None

    def _tree(self) -> list[int]:
        """The postmaster first, then its backends."""
        assert self.process is not None
        children = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                if int(stat.read_text().rpartition(")")[2].split()[1]) == self.process.pid:
                    children.append(int(stat.parent.name))
        return [self.process.pid, *children]

    def freeze(self) -> None:
        """Stop every process; the kernel goes on accepting connections and bytes for them."""
        for _ in range(2):  # the second time for a backend that was started in between
            self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._tree():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def destroy(self) -> None:
        self.stop()
        shutil.rmtree(self.directory)

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.directory}&port={self.port}"


@dataclass(frozen=True)
class DatabaseUser:
    """Who logs in, with a password for servers that ask for one."""

    name: str
    password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)


@dataclass(frozen=True)
class Databases:
    """Makes databases on one server, each a copy of a migrated one."""

    admin: str  # URI of a superuser's database

    def url(self, database: str) -> str:
        parts = urlsplit(self.admin)
        return urlunsplit(parts._replace(path=f"/{database}"))

    def url_of(self, user: DatabaseUser, database: str) -> str:
        parts = urlsplit(self.url(database))
        place = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{user.name}:{user.password}@{place}"))

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.admin, autocommit=True) as connection:
            connection.execute(statement)

    def create(self, template: str = "template0") -> str:
        name = f"kms_{uuid.uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} ENCODING 'UTF8'")
        return name

    def drop(self, name: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@contextlib.contextmanager
def own_server() -> Iterator[PostgresqlServer]:
    server = PostgresqlServer.create()
    try:
        server.start()
        yield server
    finally:
        server.destroy()


@pytest.fixture(scope="session")
def own_postgresql_server() -> Iterator[PostgresqlServer]:
    """One server for each test process, whose tests run one after the other."""
    with own_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_databases(request: pytest.FixtureRequest) -> Databases:
    """The server that the tests share."""
    given = os.environ.get("KMS_TEST_POSTGRESQL")
    if given:
        return Databases(given)
    server: PostgresqlServer = request.getfixturevalue("own_postgresql_server")
    return Databases(server.url("postgres"))


@pytest.fixture(scope="session")
def postgresql_template(postgresql_databases: Databases) -> Iterator[str]:
    """A migrated database, for copying."""
    name = postgresql_databases.create()
    upgrade(postgresql_databases.url(name))
    with psycopg.connect(postgresql_databases.url(name)) as connection:
        connection.execute(PARTITIONS)
    yield name
    postgresql_databases.drop(name)


@pytest.fixture
def postgresql_url(postgresql_databases: Databases, postgresql_template: str) -> Iterator[str]:
    """A migrated database for one test."""
    name = postgresql_databases.create(postgresql_template)
    yield postgresql_databases.url(name)
    postgresql_databases.drop(name)


@pytest.fixture(scope="session")
def daemon_user(postgresql_databases: Databases, postgresql_template: str) -> Iterator[DatabaseUser]:
    """A user as docs/storage.md has it for daemons: without rights of its own, but it may take the roles."""
    user = DatabaseUser(f"kms_daemon_{uuid.uuid4().hex}")
    postgresql_databases.execute(f"CREATE ROLE {user.name} LOGIN NOINHERIT PASSWORD '{user.password}'")
    postgresql_databases.execute(f"GRANT kms_app, kms_sweeper, kms_audit TO {user.name}")
    yield user
    postgresql_databases.execute(f"DROP ROLE {user.name}")


@pytest.fixture
def daemon_url(postgresql_databases: Databases, postgresql_url: str, daemon_user: DatabaseUser) -> str:
    """The database of `postgresql_url`, as a daemon's user sees it."""
    return postgresql_databases.url_of(daemon_user, urlsplit(postgresql_url).path.strip("/"))


@pytest.fixture
def empty_postgresql_url(postgresql_databases: Databases) -> Iterator[str]:
    """A database without any table, for one test."""
    name = postgresql_databases.create()
    yield postgresql_databases.url(name)
    postgresql_databases.drop(name)


@pytest.fixture(scope="module")
def unsteady_server() -> Iterator[PostgresqlServer]:
    """One server for the tests of a file that stop it: what goes wrong with it harms no other test."""
    with own_server() as server:
        yield server


@pytest.fixture
def postgresql_server(unsteady_server: PostgresqlServer) -> Iterator[PostgresqlServer]:
    """A server for a test that stops or freezes it; afterwards it runs again."""
    yield unsteady_server
    if unsteady_server.process is None:
        unsteady_server.start()
    unsteady_server.thaw()


@pytest.fixture
def unsteady_url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    """A migrated database of the server that the test stops or freezes."""
    databases = Databases(postgresql_server.url("postgres"))
    name = databases.create()
    upgrade(databases.url(name))
    yield databases.url(name)
    if postgresql_server.process is None:
        postgresql_server.start()
    postgresql_server.thaw()
    databases.drop(name)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what was not tested."""
    missing = sum(
        "is not installed (Debian" in str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])
    )
    if missing:
        terminalreporter.write_line(
            f"NOT TESTED: {missing} tests; servers that they need are not installed, see the reasons with -rs",
            red=True,
            bold=True,
        )
