"""The acceptance test of column protection: five databases that have data, from plaintext to files without any.

What an operator does is done by the command, what an application does by the SDK and SQL; time alone is moved, with the
daemon's clock.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Self
from uuid import UUID

import pytest
from kms_client import Client, KeyState, KeyVersion, Purpose
from psycopg import sql

from kms.cli.exit_codes import ExitCode
from kms.cli.main import run
from kms.columns import census, state
from kms.columns import database as database_of_columns
from kms.columns.plan import Normaliser, Plan
from tests.column_systems import (
    FIRST_TWO,
    SYSTEMS,
    Connection,
    Markers,
    Reader,
    System,
    Values,
    application_write,
    connect,
    load_system,
    plaintexts,
    protected,
    search_values,
)
from tests.daemon import Installation, wait_until
from tests.postgresql_server import Databases, PostgresqlServer

pytestmark = [pytest.mark.softhsm, pytest.mark.postgresql, pytest.mark.timeout(300)]

PURPOSES = {
    "personal": Purpose.ENCRYPT,
    "secrets": Purpose.ENCRYPT,
    "equal": Purpose.DETERMINISTIC,
    "search": Purpose.INDEX,
}
ROTATED = ("personal", "secrets")
PACE = 0.02  # seconds between two writes of the application
LATER = timedelta(hours=1)  # after the grace of a rotation
# Nothing is in them but copies that a trigger makes of what is planted in other columns.
FILLED_BY_TRIGGER = {("public.audit_logs", "old_values"), ("public.audit_logs", "new_values")}


class Site:
    """A daemon with one tenant, a database of its application, and somebody who runs commands on both."""

    def __init__(self, installation: Installation, server: PostgresqlServer, url: str, system: System) -> None:
        self.installation, self.server, self.url, self.system = installation, server, url, system
        self.plan: Plan = system.plan
        self._daemon = installation.start()
        with installation.operator() as operator:
            operator.create_tenant(self.plan.tenant)
        self.profile = installation.issue(f"tenants/{self.plan.tenant}/principals/app")

    def client(self) -> Client:
        return Client.from_profile(self.profile, deadline=30)

    def command(self, word: str) -> None:
        code = run(
            ["columns", word, str(self.system.plan_file), "--database", self.url, "--profile", str(self.profile)]
        )
        assert code is ExitCode.OK, word

    @property
    def keys(self) -> list[str]:
        """The keys of the plan, by the names that it gives them."""
        named = {column.key for _, column in protected(self.plan)}
        return sorted(named | {column.index.key for _, column in protected(self.plan) if column.index})

    def pass_time(self) -> None:
        """Let an hour pass for the daemon."""
        self._daemon.stop()
        self.installation.start(KMS_CLOCK_OFFSET=str(LATER.total_seconds()))


@pytest.fixture
def database(own_postgresql_server: PostgresqlServer) -> Iterator[tuple[PostgresqlServer, str]]:
    databases = Databases(own_postgresql_server.url("postgres"))
    name = databases.create()
    yield own_postgresql_server, databases.url(name)
    databases.drop(name)


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_a_database_that_has_data_is_protected_from_end_to_end(
    system: System, installation: Installation, database: tuple[PostgresqlServer, str]
) -> None:
    protect(Site(installation, *database, system), 150)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_ten_thousand_rows_are_protected_from_end_to_end(
    system: System, installation: Installation, database: tuple[PostgresqlServer, str]
) -> None:
    protect(Site(installation, *database, system), 10_000)


def protect(site: Site, count: int) -> None:
    """Go the whole way, with so many rows in the largest tables."""
    with site.client() as kms, connect(site.url) as connection:
        tenant = f"tenants/{site.plan.tenant}"
        for key in site.keys:
            kms.create_key(tenant, key, PURPOSES[key], policy=f"{tenant}/policies/confidential")
        markers = Markers()
        load_system(connection, site.system, count, markers)
        every = {(table.table, column.column) for table, column in protected(site.plan)}
        planted = set(markers.places.values())
        assert every - planted <= FILLED_BY_TRIGGER
        assert markers.found(site.server, connection) == planted  # what is there is found
        original = plaintexts(connection, site.plan)

        site.command("check")
        site.command("apply")
        site.command("verify")
        reader = Reader(kms, connection, site.plan)
        assert reader.differences(original) == []
        assert plaintexts(connection, site.plan) == original  # nothing is taken away yet
        rows_are_found_by_their_address(site, kms, connection, original)

        rotated = [key for key in ROTATED if key in site.keys]
        for key in rotated:
            kms.rotate_key(site.plan.key_name(key))
        expected = {place: dict(values) for place, values in original.items()}
        with Writer(site, expected) as writer:
            site.command("reencrypt")
            writer.wait_for_one_more()
        assert reader.differences(expected) == []
        rows_are_found_by_their_address(site, kms, connection, expected)

    site.pass_time()
    with site.client() as kms, connect(site.url) as connection:
        versions_are_counted_and_retire(site, kms, rotated)
        site.command("blank")
        site.command("drop")
        connection.execute("VACUUM (FULL, ANALYZE)")
        assert markers.found(site.server, connection) == set()
        assert Reader(kms, connection, site.plan).differences(expected) == []
        rows_are_found_by_their_address(site, kms, connection, expected)


def rows_are_found_by_their_address(site: Site, kms: Client, connection: Connection, expected: Values) -> None:
    """Look one address up, and two at once, in whatever case the plan allows; the index alone leads there."""
    system, column = site.system, site.system.column
    assert column.index is not None
    assert column.blind_index is not None
    values = expected[system.searched]
    one, another = list(dict.fromkeys(values.values()))[5:7]
    query = sql.SQL("SELECT id::text FROM {} WHERE {} = ANY (%s)").format(
        sql.Identifier(*system.table.parts), sql.Identifier(column.blind_index)
    )
    for wanted in ({one}, {one, another}):
        asked = {value.upper() if column.index.normaliser is Normaliser.EMAIL else value for value in wanted}
        parameters = [search_values(kms, system, *asked)]
        found = {row for (row,) in connection.execute(query, parameters)}
        assert found == {row[0] for row, value in values.items() if value in wanted}
        assert found
    connection.execute("ANALYZE")
    plan = "\n".join(line for (line,) in connection.execute(sql.SQL("EXPLAIN ") + query, parameters))
    assert f"Index Cond: ({column.blind_index} = ANY" in plan, plan
    assert "Seq Scan" not in plan, plan
    # Both are legal, and the plan says whether they are the same to a search.
    both = [row for row, value in values.items() if value.decode() in FIRST_TWO]
    found = {row for (row,) in connection.execute(query, [search_values(kms, system, FIRST_TWO[0].encode())])}
    if len(both) == 2:
        assert len(found) == (2 if column.index.normaliser is Normaliser.EMAIL else 1)


def versions_are_counted_and_retire(site: Site, kms: Client, rotated: list[str]) -> None:
    """Count what is left under the old versions, which is nothing, and retire them."""
    names = [site.plan.key_name(key) for key in rotated]

    def oldest(name: str) -> KeyVersion:
        return next(kms.list_key_versions(name))

    for name in names:
        wait_until(lambda name=name: oldest(name).state is KeyState.ARCHIVED, "the end of the grace")
        assert not oldest(name).census.zero  # unknown is not zero
    with closing(database_of_columns.connect(site.url)) as connection:
        counts = census.count(connection, kms, state.known(connection), now=lambda: datetime.now(UTC) + LATER)
        census.report(kms, counts)
    for name in names:
        kms.declare_places(name, complete=True)
        assert oldest(name).census.zero
        assert kms.retire_key_version(oldest(name).name).state is KeyState.DESTRUCTION_SCHEDULED


class Writer:
    """An application that goes on writing while the operator works: one row after another, in a thread of its own."""

    def __init__(self, site: Site, expected: Values) -> None:
        self._site, self._expected = site, expected[site.system.searched]
        self._thread = threading.Thread(target=self._run)
        self._stopped, self._moved = threading.Event(), threading.Condition()
        self._written = 0
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self.wait_for_one_more()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(30)
        if self._error is not None:
            raise self._error

    def wait_for_one_more(self) -> None:
        with self._moved:
            reached = self._written + 1
            assert self._moved.wait_for(lambda: self._written >= reached or self._error is not None, 30)

    def _run(self) -> None:
        dice = Random(1)
        rows = [row for row, value in self._expected.items() if value.decode() not in FIRST_TWO]
        try:
            with self._site.client() as kms, connect(self._site.url) as connection:
                while not self._stopped.wait(PACE):
                    new = self._site.system.appends_only
                    row = (str(UUID(int=dice.getrandbits(128), version=4)),) if new else dice.choice(rows)
                    value = f"Writer.{self._written}@Example.org"
                    application_write(connection, kms, self._site.system, row, value, plaintext_too=True)
                    self._expected[row] = value.encode()
                    with self._moved:
                        self._written += 1
                        self._moved.notify_all()
        except BaseException as error:  # noqa: BLE001  raised again where the test can see it
            with self._moved:
                self._error = error
                self._moved.notify_all()
