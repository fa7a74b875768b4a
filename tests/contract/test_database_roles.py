"""What PostgreSQL itself refuses, asked in SQL by users that are made as docs/storage.md says.

The tables belong to a user that is no superuser, and the rows to two tenants: one in every table with a tenant.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from storage.errors import UserRefused
from storage.migrate import current, excess, upgrade
from tests.contract.storage import PATIENCE, with_kek
from tests.postgresql_server import Databases, DatabaseUser, own_server
from tests.sealing import open_postgresql, open_unadopted

pytestmark = pytest.mark.postgresql

# ruff: noqa: S608  no input
PAGE = Path(__file__).parents[2] / "docs/storage.md"
OWN, OTHER = uuid.UUID(int=0xA), uuid.UUID(int=0xB)
ROLES = ("kms_app", "kms_sweeper", "kms_readonly", "kms_audit", "kms_auditor", "kms_analyst")
TABLES = 39  # with those that have no tenant, and the one of the revision
OF_TENANTS = 32
_positions = itertools.count(1)
READ, ADD, CHANGE, REMOVE = "SELECT", "INSERT", "UPDATE", "DELETE"

# What kms_app may do, on rows of its tenant where the table has tenants; nothing on the other tables.
APP = {
    "tenants": {READ, ADD, CHANGE},
    "keks": {READ, ADD, CHANGE},
    "encryption_keys": {READ, ADD, CHANGE},
    "key_versions": {READ, ADD, CHANGE},
    "policies": {READ, ADD, CHANGE},  # the MAC only, as of the others that are written once
    "places": {READ, ADD, CHANGE, REMOVE},
    "place_counts": {READ, ADD, CHANGE, REMOVE},
    "operations": {READ, ADD, CHANGE},
    "receipts": {READ, ADD, CHANGE},
    "counters": {READ, ADD, CHANGE},
    "version_uses": {READ},
    "epochs": {READ, ADD, CHANGE},
    "installation": {READ, ADD, CHANGE},
    "principals": {READ, ADD, CHANGE},
    "grants": {READ, ADD, CHANGE, REMOVE},
    "api_tokens": {READ, ADD, CHANGE},
    "token_uses": {READ},
    "certificate_pins": {READ, ADD, CHANGE, REMOVE},
    "approvals": {READ, ADD, CHANGE},
    "approval_votes": {READ, ADD, CHANGE},
    "quorum_rules": {READ, ADD, CHANGE},
    "security_events": {READ, ADD, CHANGE},
    "compliance_reports": {READ, ADD, CHANGE, REMOVE},
    "outbox_items": {READ, ADD, CHANGE},
    "tree_nodes": {READ, ADD, CHANGE},
    "tenant_roots": {READ, ADD, CHANGE},
    "outbox_head": {READ, ADD, CHANGE},
    "audit_log": {READ},
    "legal_holds": {READ, ADD, CHANGE},
    "enclave_upgrades": {READ, ADD, CHANGE},
    "audit_archives": {READ, ADD, CHANGE},
    "blob_bodies": {READ, ADD, CHANGE, REMOVE},
    "blob_chunks": {READ, ADD, REMOVE},
    "blobs": {READ, ADD, CHANGE, REMOVE},
    "blob_uploads": {READ, ADD, CHANGE, REMOVE},
    "blob_uses": {READ, ADD, CHANGE, REMOVE},
    "enclaves": {READ, ADD, CHANGE, REMOVE},
}
# What kms_sweeper may do to some row at least. Where it may only lock rows, CHANGE is not there.
SWEEPER = {
    "tenants": {READ},
    "keks": {READ},
    "encryption_keys": {READ},
    "operations": {READ, REMOVE},
    "counters": {READ},
    "version_uses": {READ, ADD, CHANGE},
    "claims": {READ, ADD, CHANGE, REMOVE},
    "epochs": {READ},
    "nodes": {READ, ADD, CHANGE, REMOVE},
    "installation": {READ, ADD, CHANGE},
    "alembic_version": {READ},
    "api_tokens": {READ},
    "token_uses": {READ, ADD, CHANGE},
    "outbox_items": {READ, REMOVE},
    "outbox_head": {READ},
    "sink_positions": {READ, ADD, CHANGE, REMOVE},
    "tree_nodes": {READ},
    "tenant_roots": {READ},
    "audit_log": {READ},
    "checkpoints": {READ, ADD},
    "checkpoint_roots": {READ, ADD, CHANGE, REMOVE},
    "checkpoint_head": {READ, ADD, CHANGE},
    "blob_bodies": {READ},
}
AUDITOR = {"audit_log", "checkpoints", "checkpoint_roots", "checkpoint_head"}


@dataclass(frozen=True)
class Table:
    schema: str
    name: str
    columns: dict[str, str]  # with their types

    @property
    def full(self) -> str:
        return f"{self.schema}.{self.name}"

    def row(self, tenant: uuid.UUID) -> dict[str, Any]:
        """A row that breaks no rule but, perhaps, that of a reference."""
        values = {
            "uuid": uuid.uuid4(),
            "text": uuid.uuid4().hex,
            "bytea": bytes(32),
            "bigint": 1,
            "integer": 1,
            "smallint": 1,
            "timestamp with time zone": datetime.now(UTC)
            if self.name == "audit_log"
            else datetime(2024, 1, 1, tzinfo=UTC),
        }
        row = {name: values.get(kind) for name, kind in self.columns.items()}
        given = {"tenant_id": tenant, "effect": "allow", "position": next(_positions)}
        if self.name == "blob_bodies":
            given["status"] = "writing"
        if self.name == "enclaves":
            given |= {"attestation_status": "pending", "health_status": "healthy"}
        return row | {name: value for name, value in given.items() if name in row}

    def change(self, role: str) -> str:
        """An UPDATE of a column that is in every role's reach, where any is."""
        sealed = dict.fromkeys(
            ("policies", "receipts", "grants", "certificate_pins", "approval_votes", "outbox_items"), "mac"
        )
        own = {"counters": "reserved", "installation": "revocations" if role == "kms_app" else "seen_at"}
        name = ((sealed if role == "kms_app" else {}) | own).get(self.name, next(reversed(self.columns)))
        return f"UPDATE {self.full} SET {name} = {name}"


def added(connection: psycopg.Connection[Any], table: Table, row: dict[str, Any]) -> None:
    names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    connection.execute(f"INSERT INTO {table.full} ({names}) VALUES ({marks})", list(row.values()))


@dataclass(frozen=True)
class Installation:
    databases: Databases
    name: str
    owner: DatabaseUser
    daemon: DatabaseUser
    tables: dict[str, Table] = field(default_factory=dict)

    def url(self, user: DatabaseUser | None = None) -> str:
        return self.databases.url(self.name) if user is None else self.databases.url_of(user, self.name)

    def execute(self, statement: str, *values: object, user: DatabaseUser | None = None) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url(user)) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    @property
    def of_tenants(self) -> list[Table]:
        return [table for table in self.tables.values() if "tenant_id" in table.columns]

    def rows(self, table: Table, tenant: uuid.UUID) -> list[tuple[Any, ...]]:
        return self.execute(f"SELECT * FROM {table.full} WHERE tenant_id = %s", tenant)

    def connected(self, role: str | None = None, tenant: object = None) -> psycopg.Connection[Any]:
        """Connect as the daemon's user, which takes a role and says for whom it works, where these are given."""
        member = self.daemon if role in {None, "kms_app", "kms_sweeper"} else None
        connection = psycopg.connect(self.url(member))
        if tenant is not None:
            connection.execute("SELECT set_config('app.current_tenant_id', %s, true)", [str(tenant)])
        if role is not None:
            connection.execute("SELECT set_config('role', %s, true)", [role])
        return connection

    def counted(self, statement: str, *values: object, role: str | None, tenant: object = None) -> int | None:
        """How many rows a statement finds or changes; None where it is refused. It is committed."""
        with self.connected(role, tenant) as connection:
            try:
                return connection.execute(statement, values or None).rowcount
            except psycopg.errors.InsufficientPrivilege:
                connection.rollback()
                return None

    def allowed(self, role: str, table: Table, tenant: object = None) -> set[str]:
        """What a role may do to a row of its own tenant, or of any."""
        names = ", ".join(table.columns if table.name != "installation" or role != "kms_app" else ["id"])
        commands = {
            READ: f"SELECT {names} FROM {table.full}",
            CHANGE: table.change(role),
            REMOVE: f"DELETE FROM {table.full}",
        }
        found = set()
        for command, statement in commands.items():
            with self.connected(role, tenant) as connection:
                try:
                    count = connection.execute(statement).rowcount
                except psycopg.errors.InsufficientPrivilege:
                    continue
                finally:
                    connection.rollback()
                found |= {command} if count else set()
        with self.connected(role, tenant) as connection:
            try:
                added(connection, table, table.row(tenant if isinstance(tenant, uuid.UUID) else OWN))
            except psycopg.errors.InsufficientPrivilege:
                return found
            except psycopg.errors.IntegrityError:
                pass  # it got as far as the rules of the table
            finally:
                connection.rollback()
        return found | {ADD}


COLUMNS = """
    SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
    AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY c.relname, a.attnum"""


def statements(names: dict[str, str]) -> list[str]:
    """What docs/storage.md lets an administrator run, with other names."""
    [block] = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
    words = re.sub(r"--.*", "", block)
    for name, other in names.items():
        words, count = re.subn(rf"(?<![\w]){name}(?![\w])", other, words)
        assert count, name
    return [statement.strip() for statement in words.split(";") if statement.strip()]


@pytest.fixture(scope="module")
def installation(postgresql_databases: Databases) -> Iterator[Installation]:
    """An installation set up as docs/storage.md says, with one row of each tenant in every table that has tenants."""
    unique = uuid.uuid4().hex
    owner, daemon = DatabaseUser(f"kms_owner_{unique}"), DatabaseUser(f"kms_daemon_{unique}")
    made = Installation(postgresql_databases, f"kms_{unique}", owner, daemon)
    others = {"kms_owner": owner.name, "kms_daemon": daemon.name, "kms": made.name}
    passwords = {"choose one": owner.password, "choose another": daemon.password}
    try:
        for statement in statements(others | passwords):
            try:
                postgresql_databases.execute(statement)
            except psycopg.errors.DuplicateObject:
                assert statement.split()[2] in ROLES
        upgrade(made.url(owner))
        _fill(made)
        yield made
    finally:
        postgresql_databases.drop(made.name)
        for user in (owner, daemon):
            postgresql_databases.execute(f"DROP ROLE IF EXISTS {user.name}")


def _fill(made: Installation) -> None:
    with psycopg.connect(made.url()) as connection:
        for schema, name, column, kind in connection.execute(COLUMNS).fetchall():
            made.tables.setdefault(name, Table(schema, name, {})).columns[column] = kind
        connection.execute("SET session_replication_role = replica")  # rows without what they refer to
        for table in made.tables.values():
            if table.name != "alembic_version":
                for tenant in (OWN, OTHER) if "tenant_id" in table.columns else (OWN,):
                    added(connection, table, table.row(tenant))
        connection.execute("UPDATE security_secret.keks SET status = 'pending'")


def test_every_table_is_looked_at(installation):
    assert len(installation.tables) >= TABLES
    assert len(installation.of_tenants) >= OF_TENANTS
    for table in installation.of_tenants:
        assert len(installation.rows(table, OWN)) == len(installation.rows(table, OTHER)) == 1


def test_every_table_with_a_tenant_has_row_level_security_and_a_role_that_uses_it(installation):
    secured = "SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity AND NOT relispartition"
    assert {name for (name,) in installation.execute(secured)} == {table.name for table in installation.of_tenants}
    granted = "SELECT DISTINCT table_name FROM information_schema.column_privileges WHERE grantee IN %s"
    used = {
        name
        for role in ("kms_app", "kms_sweeper")
        for (name,) in installation.execute(granted.replace("IN %s", "= %s"), role)
    }
    assert used == set(installation.tables)


def test_the_owner_is_no_superuser_and_migrated_all(installation):
    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname LIKE 'security%' OR schemaname = 'audit'"
    assert installation.execute(owners) == [(installation.owner.name,)]
    assert installation.execute("SHOW is_superuser", user=installation.owner) == [("off",)]
    upgrade(installation.url(installation.owner))  # again: nothing to do


class TestApp:
    """The daemon's user, working for one tenant."""

    def test_it_may_do_to_its_own_rows_what_it_needs_and_no_more(self, installation):
        allowed = {name: installation.allowed("kms_app", table, OWN) for name, table in installation.tables.items()}
        assert {name: commands for name, commands in allowed.items() if commands} == APP

    @pytest.mark.parametrize("setting", [None, "", uuid.UUID(int=0xC)], ids=["none", "empty", "another"])
    def test_without_a_tenant_or_with_another_it_sees_and_changes_nothing(self, installation, setting):
        tried = 0
        for table in installation.of_tenants:
            before = installation.rows(table, OWN)
            for statement in (f"SELECT 1 FROM {table.full}", table.change("kms_app"), f"DELETE FROM {table.full}"):
                assert not installation.counted(statement, role="kms_app", tenant=setting), statement
                tried += 1
            row = table.row(OWN)
            names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
            insert = f"INSERT INTO {table.full} ({names}) VALUES ({marks})"
            assert installation.counted(insert, *row.values(), role="kms_app", tenant=setting) is None
            assert installation.rows(table, OWN) == before
            tried += 1
        assert tried >= 4 * OF_TENANTS

    def test_with_one_tenant_it_neither_sees_nor_changes_another_ones_rows(self, installation):
        for table in installation.of_tenants:
            before = installation.rows(table, OTHER)
            named = f"FROM {table.full} WHERE tenant_id = '{OTHER}'"
            assert not installation.counted(f"SELECT 1 {named}", role="kms_app", tenant=OWN)
            assert not installation.counted(f"DELETE {named}", role="kms_app", tenant=OWN)
            change = f"{table.change('kms_app')} WHERE tenant_id = '{OTHER}'"
            assert not installation.counted(change, role="kms_app", tenant=OWN)
            assert installation.rows(table, OTHER) == before

    def test_it_gives_no_row_to_another_tenant(self, installation):
        for table in installation.of_tenants:
            moved = f"UPDATE {table.full} SET tenant_id = '{OTHER}'"
            assert installation.counted(moved, role="kms_app", tenant=OWN) is None
            assert len(installation.rows(table, OWN)) == 1

    def test_a_tenant_that_is_no_uuid_is_an_error(self, installation):
        with (
            installation.connected("kms_app", "acme") as connection,
            pytest.raises(psycopg.errors.InvalidTextRepresentation),
        ):
            connection.execute("SELECT 1 FROM security_internal.tenants")


class TestSweeper:
    """The daemon's user, working over tenants."""

    def test_it_may_do_what_is_listed_and_no_more(self, installation):
        installation.execute("UPDATE security_internal.operations SET ended_at = now()")
        allowed = {name: installation.allowed("kms_sweeper", table) for name, table in installation.tables.items()}
        assert {name: commands for name, commands in allowed.items() if commands} == SWEEPER

    def test_it_sees_rows_of_every_tenant(self, installation):
        for name in SWEEPER.keys() & {table.name for table in installation.of_tenants}:
            table = installation.tables[name]
            found = installation.counted(
                f"SELECT 1 FROM {table.full} WHERE tenant_id IN ('{OWN}', '{OTHER}')", role="kms_sweeper"
            )
            assert found == 2, name

    @pytest.mark.parametrize(("status", "seen"), [("pending", 2), ("destroying", 2), ("active", 0), ("retired", 0)])
    def test_of_keks_it_sees_intents_only(self, installation, status, seen):
        mechanism = "mechanism = 1, canary = '\\x01', hsm_key_id = 'x'"
        installation.execute(f"UPDATE security_secret.keks SET status = %s, {mechanism}", status)
        asked = f"SELECT 1 FROM security_secret.keks WHERE tenant_id IN ('{OWN}', '{OTHER}')"
        found = installation.counted(asked, role="kms_sweeper")
        installation.execute("UPDATE security_secret.keks SET status = 'pending'")
        assert found == seen

    def test_it_removes_no_operation_that_runs(self, installation):
        table = "security_internal.operations"
        installation.execute(f"UPDATE {table} SET ended_at = NULL")
        assert installation.counted(f"DELETE FROM {table}", role="kms_sweeper") == 0

    @pytest.mark.parametrize("table", ["security_internal.tenants", "security_secret.encryption_keys"])
    def test_it_locks_rows_that_it_may_not_change(self, installation, table):
        lock = f"SELECT 1 FROM {table} WHERE tenant_id = '{OWN}' FOR NO KEY UPDATE SKIP LOCKED"
        assert installation.counted(lock, role="kms_sweeper") == 1
        assert installation.counted(f"UPDATE {table} SET due_at = NULL", role="kms_sweeper") is None


class TestOthers:
    def test_without_a_role_the_daemons_user_may_do_nothing(self, installation):
        tried = 0
        for table in installation.tables.values():
            for statement in (f"SELECT 1 FROM {table.full}", table.change("kms_app"), f"DELETE FROM {table.full}"):
                assert installation.counted(statement, role=None, tenant=OWN) is None
                tried += 1
        assert tried >= 3 * TABLES

    def test_who_reads_sees_one_tenant_and_changes_nothing(self, installation):
        for table in installation.tables.values():
            assert installation.allowed("kms_readonly", table, OWN) == {READ}
        for table in installation.of_tenants:
            assert installation.counted(f"SELECT 1 FROM {table.full}", role="kms_readonly", tenant=OWN) == 1
            assert installation.counted(f"SELECT 1 FROM {table.full}", role="kms_readonly") == 0

    @pytest.mark.parametrize(
        ("role", "commands"), [("kms_audit", {ADD}), ("kms_auditor", {READ}), ("kms_analyst", set())]
    )
    def test_the_roles_of_the_audit_trail_have_nothing_else(self, installation, role, commands):
        for table in installation.tables.values():
            own = {"audit_log"} if role == "kms_audit" else AUDITOR
            assert installation.allowed(role, table, OWN) == (commands if table.name in own else set())

    @pytest.mark.parametrize("role", ROLES)
    def test_nobody_empties_a_table_or_makes_one(self, installation, role):
        for table in installation.tables.values():
            assert installation.counted(f"TRUNCATE {table.full} CASCADE", role=role, tenant=OWN) is None
        for schema in ("security_internal", "security_secret", "audit"):
            assert installation.counted(f"CREATE TABLE {schema}.mine ()", role=role) is None

    def test_the_owner_sees_rows_only_while_it_migrates(self, installation):
        for table in installation.of_tenants:
            asked = f"SELECT 1 FROM {table.full}"
            assert installation.execute(asked, user=installation.owner) == []
            with psycopg.connect(installation.url(installation.owner)) as connection:
                connection.execute("SELECT set_config('app.migrating', 'on', true)")
                assert len(connection.execute(asked).fetchall()) >= 2

    def test_who_is_not_the_owner_gains_nothing_by_saying_that_it_migrates(self, installation):
        for role in ("kms_app", "kms_readonly"):
            with installation.connected(role) as connection:
                connection.execute("SELECT set_config('app.migrating', 'on', true)")
                assert connection.execute("SELECT 1 FROM security_internal.tenants").fetchall() == []


async def test_a_daemon_works_with_such_users(installation):
    storage = await open_postgresql(
        installation.url(installation.daemon), acting=lambda: "tenants/acme/principals/app", organization="kms.local"
    )
    tenant, kek = await with_kek(storage)
    asked = """SELECT session_user::text, current_user::text, current_setting('app.current_tenant_id'),
        current_setting('app.current_user_id'), current_setting('app.current_organization_id')"""
    for given, role in ((tenant.uid, "kms_app"), (None, "kms_sweeper")):
        async with storage._session(given, write=False) as session:
            [told] = await session.raw(asked)
        acting = ("tenants/acme/principals/app", "kms.local")
        assert tuple(told) == (installation.daemon.name, role, str(given or ""), *acting)
    async with storage.transaction() as work:
        assert await work.tenants.get(tenant.slug) == tenant
    async with storage.transaction(tenant.uid) as work:
        assert await work.keks.get(tenant.uid, 1) == kek
    assert storage.excess == ""
    await storage.close()
    assert excess(installation.url(installation.daemon), ("kms_app", "kms_sweeper", "kms_audit")) == ""
    assert current(installation.url(installation.daemon)) == current(installation.url())


@pytest.mark.parametrize("name", ["x'; RESET ROLE; --", "tenants/acme\n", "ä", "a" * 513, "\0"])
async def test_what_is_no_name_is_not_told_to_the_database(installation, name):
    for told in ({"acting": lambda: name}, {"organization": name}):
        storage = await open_unadopted(installation.url(installation.daemon), **told)
        with pytest.raises(ValueError, match="no resource name"):
            async with storage.transaction():
                pytest.fail("a transaction began")
        await storage.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("SUPERUSER", "is a superuser"),
        ("BYPASSRLS", "has BYPASSRLS"),
        ("INHERIT", "has the rights of kms_app and kms_sweeper without taking the role: make it NOINHERIT"),
        ("IN ROLE {owner}", "owns tables, or may become who does"),
    ],
)
async def test_a_user_that_can_do_too_much_is_told(installation, options, words):
    user = DatabaseUser(f"kms_much_{uuid.uuid4().hex}")
    inherits = "" if options == "INHERIT" else "NOINHERIT"
    made = f"CREATE ROLE {user.name} LOGIN {inherits} PASSWORD '{user.password}' {options}"
    installation.execute(made.format(owner=installation.owner.name))
    installation.execute(
        f"GRANT kms_app, kms_sweeper TO {user.name}; GRANT CONNECT ON DATABASE {installation.name} TO {user.name}"
    )
    try:
        storage = await open_postgresql(installation.url(user))
        assert storage.excess == excess(installation.url(user)) == f"the database's user {user.name} {words}"
        await storage.close()
    finally:
        installation.execute(f"DROP OWNED BY {user.name}; DROP ROLE {user.name}")


@pytest.mark.parametrize("granted", [[], ["kms_app"], ["kms_sweeper"]])
async def test_a_user_that_may_not_take_the_roles_is_refused_with_what_to_do(installation, granted):
    user = DatabaseUser(f"kms_little_{uuid.uuid4().hex}")
    installation.execute(f"CREATE ROLE {user.name} LOGIN PASSWORD '{user.password}'")
    installation.execute(f"GRANT CONNECT ON DATABASE {installation.name} TO {user.name}")
    for role in granted:
        installation.execute(f"GRANT {role} TO {user.name}")
    try:
        with pytest.raises(UserRefused, match=rf'let its owner run: GRANT .* TO "{user.name}"') as refused:
            await open_postgresql(installation.url(user))
        assert not any(
            role in str(refused.value).rpartition("GRANT")[2] for role in granted if "kms_sweeper" in granted
        )
        with pytest.raises(UserRefused, match="cannot migrate"):
            upgrade(installation.url(user))
    finally:
        installation.execute(f"DROP OWNED BY {user.name}; DROP ROLE {user.name}")


def test_a_migration_of_rows_that_nobody_sees_is_refused(installation):
    """As after REASSIGN OWNED: it would change no row, and say nothing."""
    user = DatabaseUser(f"kms_heir_{uuid.uuid4().hex}")
    installation.execute(f"CREATE ROLE {user.name} LOGIN IN ROLE {installation.owner.name} PASSWORD '{user.password}'")
    installation.execute(f"GRANT CONNECT ON DATABASE {installation.name} TO {user.name}")
    try:
        upgrade(installation.url(user))  # it has the owner's rights, so the owner's policy holds for it
        installation.execute(f"ALTER TABLE security_internal.tenants OWNER TO {user.name}")
        installation.execute("ALTER POLICY migration ON security_internal.tenants TO postgres")
        with pytest.raises(UserRefused, match="hides all rows"):
            upgrade(installation.url(user))
    finally:
        installation.execute(f"ALTER POLICY migration ON security_internal.tenants TO {installation.owner.name}")
        installation.execute(f"ALTER TABLE security_internal.tenants OWNER TO {installation.owner.name}")
        installation.execute(f"DROP OWNED BY {user.name}; DROP ROLE {user.name}")


@pytest.fixture
def bare(tmp_path) -> Iterator[Databases]:
    """A server of the test's own, without the roles."""
    with own_server() as server:
        yield Databases(server.url("postgres"))


def test_who_may_make_no_roles_is_told_what_an_administrator_runs(bare):
    owner = DatabaseUser("weak")
    bare.execute("CREATE ROLE weak LOGIN")
    name = bare.create()
    bare.execute(f"ALTER DATABASE {name} OWNER TO weak")
    with pytest.raises(
        UserRefused, match="weak may not create roles; let an administrator of the server run: "
    ) as told:
        upgrade(bare.url_of(owner, name))
    assert current(bare.url(name)) == []
    said = str(told.value).partition("run: ")[2]
    assert [line.split()[2] for line in said.rstrip(";").split("; ")] == [*ROLES]
    bare.execute(said)
    upgrade(bare.url_of(owner, name))
    assert current(bare.url(name)) != []


def test_databases_that_are_migrated_at_once_make_the_roles_once(bare):
    owner = DatabaseUser("maker")
    bare.execute("CREATE ROLE maker LOGIN CREATEROLE")
    names = [bare.create() for _ in range(3)]
    for name in names:
        bare.execute(f"ALTER DATABASE {name} OWNER TO maker")
    # Alembic has one migration at a time in a process.
    words = "import sys; from storage.migrate import upgrade; upgrade(sys.argv[1])"
    running = [subprocess.Popen([sys.executable, "-c", words, bare.url_of(owner, name)]) for name in names]
    assert [process.wait(PATIENCE) for process in running] == [0, 0, 0]
    with psycopg.connect(bare.admin) as connection:
        made = connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s) AND NOT rolcanlogin", [[*ROLES]]
        )
        assert {role for (role,) in made} == {*ROLES}
