"""One history of migrations, with the same promises on both engines."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from storage import revision
from storage.errors import CannotOpen, DatabaseMissing, DatabaseOutdated, DatabaseTooNew
from storage.migrate import current, require_current, upgrade
from storage.revision import HEAD, script
from tests.sealing import open_postgresql, open_sqlite

NEXT = """
from alembic import op
import sqlalchemy as sa

revision = "0020"
down_revision = "0019"


def upgrade():
    schema = "security_internal" if op.get_bind().dialect.name == "postgresql" else None
    op.add_column("tenants", sa.Column("note", sa.Text()), schema=schema)
    {more}
"""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def target(request, tmp_path):
    if request.param == "sqlite":
        return tmp_path / "kms.db"
    return request.getfixturevalue("empty_postgresql_url")


@pytest.fixture
def history(tmp_path, monkeypatch):
    """Add a migration to the history, in a folder with a name that is no good in configuration files."""

    def add(more=""):
        folder = tmp_path / "100% new"
        shutil.copytree(revision.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "versions" / "0020_next.py").write_text(NEXT.format(more=more))
        monkeypatch.setattr(revision, "MIGRATIONS", folder)
        monkeypatch.setattr(revision, "HEAD", "0020")

    return add


def test_the_revision_that_is_needed_is_the_last_of_the_history():
    assert script().get_heads() == [HEAD]


def execute(target, statement):
    if isinstance(target, Path):
        connection = sqlite3.connect(target)
        with connection:
            connection.execute(statement.replace("security_internal.", "").replace("security_secret.", ""))
        connection.close()
    else:
        with psycopg.connect(target) as connection:
            connection.execute(statement)


async def open_storage(target):
    return await (open_sqlite(target) if isinstance(target, Path) else open_postgresql(target))


def test_an_upgrade_makes_what_is_required_and_a_second_one_changes_nothing(target):
    if not isinstance(target, Path):
        assert current(target) == []
    for _ in range(2):
        upgrade(target)
        require_current(target)
        assert current(target) == [HEAD]


def test_nothing_is_required_to_be_something(target):
    with pytest.raises(DatabaseMissing, match="`kmsd migrate`"):
        require_current(target)


async def test_a_database_from_a_newer_release_is_left_alone(target):
    upgrade(target)
    execute(target, "UPDATE security_internal.alembic_version SET version_num = 'f00d'")
    for call in (require_current, upgrade):
        with pytest.raises(DatabaseTooNew, match="from a newer release"):
            call(target)
    with pytest.raises(DatabaseTooNew, match=r"f00d.* run that release"):
        await open_storage(target)
    assert current(target) == ["f00d"]


async def test_a_database_of_an_older_release_is_used_after_its_migration_only(target, history):
    upgrade(target)
    history()
    with pytest.raises(DatabaseOutdated, match=r"older release .*`kmsd migrate`"):
        require_current(target)
    with pytest.raises(DatabaseOutdated):
        await open_storage(target)
    upgrade(target)
    storage = await open_storage(target)
    await storage.check()
    await storage.close()
    execute(target, "UPDATE security_internal.tenants SET note = 'there'")


def test_a_migration_that_fails_leaves_nothing_behind(target, history):
    upgrade(target)
    history("raise ZeroDivisionError")
    with pytest.raises(ZeroDivisionError):
        upgrade(target)
    assert current(target) == [HEAD]
    with pytest.raises((sqlite3.OperationalError, psycopg.errors.UndefinedColumn), match="note"):
        execute(target, "UPDATE security_internal.tenants SET note = 'there'")


def test_upgrades_at_the_same_time_run_once(target):
    with ThreadPoolExecutor(3) as pool:
        for outcome in [pool.submit(upgrade, target) for _ in range(3)]:
            outcome.result()
    assert current(target) == [HEAD]


def handlers():
    loggers = (logging.root, logging.getLogger("alembic"), logging.getLogger("alembic.runtime.migration"))
    return [(list(logger.handlers), logger.level, logger.disabled) for logger in loggers]


def test_migrations_are_quiet_and_leave_logging_alone(target, capfd):
    before = handlers()
    upgrade(target)
    assert capfd.readouterr() == ("", "")
    assert handlers() == before


def test_a_migration_may_not_leave_references_to_nothing(tmp_path, history):
    path = tmp_path / "kms.db"
    upgrade(path)
    history(
        """op.execute("INSERT INTO counters (tenant_id, subject_uid, version, reserved) VALUES ('nobody', 'nothing', 1, 1)")"""
    )
    with pytest.raises(CannotOpen, match="1 references to nothing"):
        upgrade(path)
    assert current(path) == [HEAD]


def test_rebuilding_a_table_does_not_delete_what_refers_to_it(tmp_path, history):
    path = tmp_path / "kms.db"
    upgrade(path)
    tenant = "INSERT INTO tenants VALUES ('t', 'slug', '', 'k', 0, 0, 1, x'', NULL)"
    for statement in (
        tenant,
        "INSERT INTO counters (tenant_id, subject_uid, version, reserved) VALUES ('t', 's', 1, 1)",
    ):
        execute(path, statement)
    history("""
    with op.batch_alter_table("tenants", recreate="always") as batch:
        batch.drop_column("note")""")
    upgrade(path)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM counters").fetchone() == (1,)
    connection.close()


def test_a_file_that_cannot_be_made_is_named(tmp_path):
    with pytest.raises(CannotOpen, match=r"absent/kms.db cannot be made: No such file"):
        upgrade(tmp_path / "absent" / "kms.db")


def test_a_new_file_is_for_its_owner_only(tmp_path):
    upgrade(tmp_path / "kms.db")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
