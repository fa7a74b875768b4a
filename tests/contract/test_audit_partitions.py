"""The audit log itself: only ever added to, whoever asks; room for every month; where its chains end."""

from __future__ import annotations

import itertools
import re
import sqlite3
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from kms.core.errors import AuditUnavailable, CorruptRecord, KmsError, StorageUnavailable
from kms.core.ports import HealthStatus
from kms.services import partitions
from kms.services.partitions import AuditPartitions
from storage.audit_writer_postgresql import PostgresqlAuditStore, open_postgresql_audit
from storage.errors import UserRefused
from storage.migrate import upgrade
from tests.audit import NODE, AuditLog, new_event, told, wall
from tests.keyrings import NOW
from tests.postgresql_server import Databases, DatabaseUser
from tests.sealing import open_postgresql, open_sqlite

# ruff: noqa: S608  no input


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def log(request, tmp_path) -> AuditLog:
    if request.param == "sqlite":
        upgrade(tmp_path / "kms.db")
        return AuditLog(tmp_path / "kms.db")
    return AuditLog(request.getfixturevalue("postgresql_url"))


async def opened(log: AuditLog):
    return await (open_sqlite(log.target) if isinstance(log.target, Path) else open_postgresql(log.target))


async def filled(log: AuditLog) -> list[dict]:
    async with log.opened() as writer:
        for number in range(3):
            await writer.append(new_event(number))
    return log.rows()


SQLITE_CHANGES = [
    "UPDATE audit_log SET reason = 'x'",
    "UPDATE OR IGNORE audit_log SET hash = hash WHERE sequence = 2",
    "UPDATE OR REPLACE audit_log SET sequence = 1 WHERE sequence = 2",
    "DELETE FROM audit_log",
    "DELETE FROM audit_log WHERE sequence = 3",
    "INSERT OR REPLACE INTO audit_log SELECT * FROM audit_log WHERE sequence = 2",
    "REPLACE INTO audit_log SELECT * FROM audit_log",
    "INSERT INTO audit_log SELECT * FROM audit_log WHERE sequence = 2 ON CONFLICT DO UPDATE SET reason = 'x'",
    "INSERT OR IGNORE INTO audit_log SELECT * FROM audit_log WHERE sequence = 2",
]


@pytest.mark.parametrize("recursive", ["off", "on"])
@pytest.mark.parametrize("change", SQLITE_CHANGES)
async def test_nothing_is_changed_in_a_sqlite_log(tmp_path, change, recursive):
    upgrade(tmp_path / "kms.db")
    log = AuditLog(tmp_path / "kms.db")
    before = await filled(log)
    connection = sqlite3.connect(tmp_path / "kms.db")
    connection.execute(f"PRAGMA recursive_triggers = {recursive}")
    with pytest.raises(sqlite3.IntegrityError, match="added to, and never changed"), connection:
        connection.execute(change)
    connection.close()
    assert log.rows() == before


async def test_a_number_of_a_stream_is_given_once_in_a_sqlite_log(tmp_path):
    """Even with another time, which alone would make it another key."""
    upgrade(tmp_path / "kms.db")
    log = AuditLog(tmp_path / "kms.db")
    [row, *_] = await filled(log)
    names = ", ".join(name for name in row if name != "at")
    with pytest.raises(sqlite3.IntegrityError, match="never changed"):
        log.execute(f"INSERT INTO audit_log (at, {names}) SELECT at + 1, {names} FROM audit_log WHERE sequence = 2")


@pytest.mark.postgresql
class TestPostgresql:
    """Who may do what to the table and to its partitions, asked as every role."""

    @pytest.fixture
    def log(self, postgresql_databases: Databases) -> Iterator[AuditLog]:
        """A log whose owner is no superuser."""
        owner = DatabaseUser(f"kms_owner_{uuid.uuid4().hex}")
        postgresql_databases.execute(f"CREATE ROLE {owner.name} LOGIN CREATEROLE PASSWORD '{owner.password}'")
        name = postgresql_databases.create()
        postgresql_databases.execute(f"ALTER DATABASE {name} OWNER TO {owner.name}")
        upgrade(postgresql_databases.url_of(owner, name))
        self.owner = postgresql_databases.url_of(owner, name)
        yield AuditLog(postgresql_databases.url(name))
        postgresql_databases.drop(name)
        postgresql_databases.execute(f"DROP ROLE {owner.name}")

    def attempt(self, log: AuditLog, role: str, statement: str) -> None:
        """Run a statement as a role, the owner while it migrates, or a superuser who replays replicated changes."""
        url = self.owner if role == "owner" else log.target
        with psycopg.connect(url) as connection:
            if role == "owner":
                connection.execute("SELECT set_config('app.migrating', 'on', true)")
            elif role == "replica":
                connection.execute("SET session_replication_role = replica")
            elif role != "superuser":
                connection.execute(f"SET LOCAL ROLE {role}")
            connection.execute("SELECT set_config('app.current_tenant_id', %s, true)", [str(new_event().tenant)])
            connection.execute(statement)

    @pytest.mark.parametrize(
        "role",
        [
            "kms_app",
            "kms_sweeper",
            "kms_readonly",
            "kms_audit",
            "kms_auditor",
            "kms_analyst",
            "owner",
            "superuser",
            "replica",
        ],
    )
    async def test_nobody_changes_or_removes_an_event(self, log, role):
        before = await filled(log)
        month = wall().strftime("%Y_%m")
        upsert = "ON CONFLICT (stream_id, sequence, at) DO UPDATE SET reason = 'x'"
        for table in ("audit.audit_log", f"audit.audit_log_{month}"):
            for statement in (
                f"UPDATE {table} SET reason = 'x'",
                f"UPDATE {table} SET reason = 'x' WHERE sequence = 2",
                f"DELETE FROM {table}",
                f"TRUNCATE {table}",
                f"TRUNCATE {table} CASCADE",
                f"MERGE INTO {table} l USING (SELECT 2) s ON l.sequence = 2 WHEN MATCHED THEN DELETE",
                f"INSERT INTO {table} SELECT * FROM {table} WHERE sequence = 2 {upsert}",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    self.attempt(log, role, statement)
        assert log.rows() == before

    async def test_a_partition_shows_nothing_by_its_own_name(self, log):
        await filled(log)
        month = wall().strftime("%Y_%m")
        for role in ("kms_app", "kms_sweeper", "kms_readonly", "kms_audit", "kms_auditor"):
            for statement in (
                f"SELECT 1 FROM audit.audit_log_{month}",
                f"INSERT INTO audit.audit_log_{month} DEFAULT VALUES",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    self.attempt(log, role, statement)
        with psycopg.connect(self.owner) as connection:
            connection.execute("SELECT set_config('app.migrating', 'on', true)")
            assert connection.execute(f"SELECT 1 FROM audit.audit_log_{month}").fetchall() == []
            assert len(connection.execute("SELECT 1 FROM audit.audit_log").fetchall()) == 4

    def test_every_partition_is_as_the_table_and_the_first_four_months_are_there(self, log):
        with psycopg.connect(log.target) as connection:
            found = connection.execute("""
                SELECT c.relname, c.relrowsecurity, c.relforcerowsecurity, c.relacl IS NULL OR cardinality(c.relacl) = 1,
                    (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid),
                    (SELECT array_agg(t.tgname || ' ' || t.tgenabled::text ORDER BY 1) FROM pg_trigger t WHERE t.tgrelid = c.oid),
                    (SELECT count(*) FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid),
                    pg_get_expr(c.relpartbound, c.oid)
                FROM pg_class c WHERE c.relispartition AND c.relkind = 'r' ORDER BY 1""").fetchall()
        first = date(wall().year, wall().month, 1)
        months = [partitions._later(first, count) for count in range(5)]
        assert found == [
            (
                f"audit_log_{month:%Y_%m}",
                *(True, True, True, 0, ["audit_log_refuse A", "audit_log_refuse_row A"], 11),
                f"FOR VALUES FROM ('{month} 00:00:00+00') TO ('{after} 00:00:00+00')",
            )
            for month, after in itertools.pairwise(months)
        ]

    async def test_the_daemon_makes_months_near_the_present_one_and_no_others(self, log):
        storage = await open_postgresql(log.target)
        present = date(wall().year, wall().month, 1)
        for count in (0, 3, 4, 12):
            await storage.ensure_audit_month(partitions._later(present, count))
        for month in (partitions._later(present, 15), date(1999, 1, 1)):
            with pytest.raises(CorruptRecord):
                await storage.ensure_audit_month(month)
        await storage.close()
        with psycopg.connect(log.target) as connection:
            [[made]] = connection.execute(
                "SELECT count(*) FROM pg_class WHERE relispartition AND relkind = 'r'"
            ).fetchall()
        assert made == 6

    @pytest.mark.parametrize("role", ["kms_app", "kms_readonly", "kms_audit", "kms_auditor"])
    def test_nobody_else_makes_partitions(self, log, role):
        for name in ("make_partition", "add_partition"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                self.attempt(log, role, f"SELECT audit.{name}(current_date)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            self.attempt(log, "kms_sweeper", "SELECT audit.add_partition('1999-01-01')")

    async def test_a_partition_is_made_while_somebody_writes(self, log):
        """The writer is not blocked, and does not block."""
        [row, *_] = await filled(log)
        names = ", ".join(name for name in row if name != "sequence")
        with psycopg.connect(log.target) as writer:
            writer.execute(
                f"INSERT INTO audit.audit_log (sequence, {names}) SELECT 9, {names} FROM audit.audit_log LIMIT 1"
            )
            storage = await open_postgresql(log.target)
            await storage.ensure_audit_month(partitions._later(date(wall().year, wall().month, 1), 7))
            await storage.close()
            await filled(log)  # another writer, meanwhile
        assert [row["sequence"] for row in log.rows()] == [1, 1, 2, 2, 3, 3, 4, 4, 9]

    async def test_the_writer_may_have_a_user_of_its_own(self, log, postgresql_databases):
        user = DatabaseUser(f"kms_writer_{uuid.uuid4().hex}")
        postgresql_databases.execute(f"CREATE ROLE {user.name} LOGIN NOINHERIT PASSWORD '{user.password}'")
        postgresql_databases.execute(f"GRANT kms_audit TO {user.name}")
        url = postgresql_databases.url_of(user, urlsplit(log.target).path.strip("/"))
        try:
            store = PostgresqlAuditStore(url, lambda _: None)
            assert await store.excess() == ""
            await store.close()
            async with log.opened(url=url) as writer:
                await writer.append(new_event(1))
                assert len(log.verified(writer.head.stream)) == 2
            with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT canonical FROM audit.audit_log")
        finally:
            postgresql_databases.execute(f"DROP ROLE {user.name}")

    async def test_a_user_who_may_not_write_is_refused_with_what_to_do(self, log, postgresql_databases):
        user = DatabaseUser(f"kms_nobody_{uuid.uuid4().hex}")
        postgresql_databases.execute(f"CREATE ROLE {user.name} LOGIN PASSWORD '{user.password}'")
        url = postgresql_databases.url_of(user, urlsplit(log.target).path.strip("/"))
        try:
            with pytest.raises(UserRefused, match=re.escape(f'GRANT kms_audit TO "{user.name}"')):
                await open_postgresql_audit(url, installation=log.installation, node=NODE, now=wall)
        finally:
            postgresql_databases.execute(f"DROP ROLE {user.name}")

    async def test_commits_are_on_disk_even_where_the_server_does_without(self, log):
        name = urlsplit(log.target).path.strip("/")
        log.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
        log.execute("CREATE TABLE public.seen (value text)")
        log.execute("GRANT INSERT ON public.seen TO kms_audit")
        log.execute("""CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO public.seen VALUES (current_setting(''synchronous_commit'')); RETURN NEW; END'""")
        log.execute("CREATE TRIGGER see AFTER INSERT ON audit.audit_log FOR EACH ROW EXECUTE FUNCTION see()")
        await filled(log)
        with psycopg.connect(log.target) as connection:
            assert connection.execute("SELECT DISTINCT value FROM public.seen").fetchall() == [("on",)]
            assert connection.execute("SHOW synchronous_commit").fetchone() == ("off",)

    async def test_nothing_of_the_writer_stays_behind_in_its_session(self, log):
        async with log.opened() as writer:
            await writer.append(new_event(1))
            connection = writer._store._connection
            asked = await connection.execute(
                "SELECT current_user = session_user, current_setting('lock_timeout'), (SELECT count(*) FROM pg_prepared_statements)"
            )
            assert await asked.fetchall() == [(True, "0", 0)]


class Months:
    """Room for what is asked for, unless it fails."""

    def __init__(self) -> None:
        self.made: set[date] = set()
        self.failure: KmsError | None = None

    async def ensure_audit_month(self, month: date) -> None:
        if self.failure is not None and month not in self.made:
            raise self.failure
        self.made.add(month)


async def test_months_are_made_ahead_and_somebody_is_told_in_time():
    months, shown = Months(), datetime(2024, 11, 30, 23, 59, tzinfo=UTC)
    service = AuditPartitions(months, lambda: shown)
    assert (await service.health()).status is HealthStatus.DEGRADED
    assert await service.look()
    assert months.made == {date(2024, 11, 1), date(2024, 12, 1), date(2025, 1, 1), date(2025, 2, 1)}
    assert (await service.health()).status is HealthStatus.HEALTHY
    months.failure = StorageUnavailable("not now")
    shown = datetime(2024, 12, 1, tzinfo=UTC)
    assert not await service.look()
    assert (await service.health()).status is HealthStatus.HEALTHY  # two months ahead still
    shown = datetime(2025, 1, 1, tzinfo=UTC)
    health = await service.health()
    assert (health.status, "1 months ahead" in health.reason, "not now" in health.reason) == (
        HealthStatus.DEGRADED,
        True,
        True,
    )
    months.failure = None
    assert await service.look()
    assert (await service.health()).status is HealthStatus.HEALTHY
    assert max(months.made) == date(2025, 4, 1)


async def test_a_log_that_cannot_be_read_gives_no_writer(tmp_path):
    upgrade(tmp_path / "kms.db")
    log = AuditLog(tmp_path / "kms.db")
    log.execute("DROP TABLE audit_log")
    with pytest.raises(AuditUnavailable):
        async with log.opened():
            pytest.fail("a writer without a log")


async def test_the_newest_stream_is_the_one_that_began_last(log):
    async with log.opened(now=lambda: NOW + timedelta(days=1)) as writer:
        last = writer.head
    async with log.opened(now=lambda: NOW):
        pass
    async with log.opened(now=lambda: NOW + timedelta(days=2)) as writer:
        assert told(log.verified(writer.head.stream)[0])["previous_stream"] == str(last.stream)
