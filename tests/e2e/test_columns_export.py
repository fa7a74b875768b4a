"""Copies of databases for development: no protected value is in them, and they are joined as before."""

from __future__ import annotations

import itertools
import re
import subprocess
from collections import Counter
from pathlib import Path

import psycopg
import pytest
from kms_client import Purpose
from psycopg import sql

from kms.cli.exit_codes import ExitCode
from kms.cli.main import run as command
from kms.columns.database import connect as connect_as_runner
from kms.columns.errors import PlanError
from kms.columns.export import export
from kms.columns.plan import parse
from tests.column_systems import EXAMPLES, SYSTEMS, Markers, connect, load_system, plaintexts, protected
from tests.e2e.test_columns_apply import PLAN, ROWS
from tests.protected import runner

pytestmark = [pytest.mark.softhsm, pytest.mark.postgresql, pytest.mark.timeout(300)]

TEXTS = {"character varying": "text", "character": "text"}  # joined with each other
LONG = 12  # bytes of a value that stands nowhere by chance
numbers = itertools.count(1)


@pytest.fixture
def key(service):
    return service.acme.create_key("tenants/acme", f"export-{next(numbers)}", Purpose.PSEUDONYM).name


@pytest.fixture
def people(empty_postgresql_url):
    with psycopg.connect(empty_postgresql_url) as connection:
        connection.execute(ROWS)
    return empty_postgresql_url


def exported(url, service, plan, key, out, tables=()):
    connection = connect_as_runner(url)
    try:
        return export(connection, service.acme, plan, key, out, tables, tell=lambda *_: None)
    finally:
        connection.close()


def joins(connection, plan):
    """How many pairs of rows each two protected columns of a type join, and how often the values of each column occur."""
    columns = [(table, column) for table, column in protected(plan) if column.rows is None and not column.paths]
    values, types = {}, {}
    for table, column in columns:
        query = sql.SQL("SELECT {0}::text, pg_typeof({0})::text FROM {1} WHERE {0} IS NOT NULL").format(
            sql.Identifier(column.column), sql.Identifier(*table.parts)
        )
        place = table.table, column.column
        values[place] = Counter()
        for value, kind in connection.execute(query):
            values[place][value] += 1
            types[place] = TEXTS.get(kind, kind)
    pairs = {
        (one, other): sum(count * values[other][value] for value, count in values[one].items())
        for one, other in itertools.combinations(values, 2)
        if types.get(one) == types.get(other)
    }
    return pairs, {place: sorted(counts.values()) for place, counts in values.items()}


def unprotected(connection, plan):
    """All that the plan leaves as it is: other columns, and rows that a column's own rule leaves out."""
    kept = []
    for table in plan.tables:
        replaced = {column.column: sql.SQL("NULL") for column in table.columns}
        for column in table.columns:
            if column.rows is not None:
                replaced[column.column] = sql.SQL("CASE WHEN {}::text = ANY ({}) THEN NULL ELSE {} END").format(
                    sql.Identifier(column.rows.column),
                    sql.Literal(list(column.rows.values)),
                    sql.Identifier(column.column),
                )
        names = connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
            (table.table,),
        ).fetchall()
        outputs = [replaced.get(name, sql.Identifier(name)) for (name,) in names]
        copied = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(
            sql.SQL(", ").join(outputs), sql.Identifier(*table.parts)
        )
        with connection.cursor().copy(copied) as copy:
            kept += [bytes(data) for data in copy]
    return b"".join(kept)


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_a_copy_of_each_system_has_its_joins_and_none_of_its_values(
    system, service, key, own_postgresql_server, postgresql_databases, tmp_path
):
    names = postgresql_databases.create(), postgresql_databases.create()
    original, copy = map(postgresql_databases.url, names)
    markers, plan = Markers(), system.plan
    with connect(original) as connection:
        load_system(connection, system, 60, markers)
        values = {value for found in plaintexts(connection, plan).values() for value in found.values()}
        files = exported(original, service, plan, key, tmp_path / "out")
        assert {one.table for one in files} == {table.table for table in plan.tables}
        written = b"".join(one.file.read_bytes() for one in files)
        stored = b"".join(values)
        assert markers.text in stored  # what is looked for is there
        assert markers.text not in written
        kept = unprotected(connection, plan)
        long = {value for value in values if len(value) >= LONG and value not in kept}
        assert len(long) > 50
        assert [value for value in long if value in written] == []
        with connect(copy) as other:
            for file in ("schema.sql", "application.sql"):
                if (EXAMPLES / system.name / file).exists():
                    other.execute((EXAMPLES / system.name / file).read_bytes())
            other.execute("RESET ALL")
            other.execute("SET session_replication_role = replica")
            for table in plan.tables:  # rows that the schema itself brings
                other.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(*table.parts)))
        for one in files:
            load(own_postgresql_server, copy, one.file)
        with connect(copy) as other:
            for found, wanted in zip(joins(other, plan), joins(connection, plan), strict=True):
                assert {place: (found[place], wanted[place]) for place in wanted if found[place] != wanted[place]} == {}
            for one in files:
                count = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(*one.table.split(".")))
                assert other.execute(count).fetchall() == connection.execute(count).fetchall() == [(one.rows,)]
    for name in names:
        postgresql_databases.drop(name)


def load(server, url, file):
    done = subprocess.run(
        [server.binaries / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", file, url],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_copy_is_the_same_before_and_after_the_columns_are_protected(people, service, key, tmp_path):
    text = PLAN.replace("hash_only", "blind_index")
    plan, found = parse(text.encode(), "plan.yaml"), []

    def copy():
        [one] = exported(people, service, plan, key, tmp_path / str(len(found)))
        assert one.rows == 40
        head, *lines = one.file.read_text().partition("FROM stdin;\n")[::2]
        names = head.rpartition("(")[2].rpartition(")")[0].split(", ")
        rows = [dict(zip(names, line.split("\t"), strict=True)) for line in lines[0].splitlines()[:-1]]
        found.append([{name: value for name, value in row.items() if name != '"updated_at"'} for row in rows])

    copy()
    with runner(people, service.acme, text) as run:
        for step in (run.apply, run.blank, run.drop):
            step()
            copy()
    assert found[1:] == found[:1] * 3
    first = found[0][2]
    assert first['"note"'] == "note"
    assert first['"settings"'].count('"bearer of it"') == 0
    assert '"x": 0.10' in first['"settings"']  # what is at no path is as PostgreSQL prints it
    assert re.fullmatch(r"[\w-]{16}@kms\.invalid", first['"email"'])
    assert first['"country"'] == r"\N"  # no pseudonym fits into two characters


def test_a_rotation_in_the_middle_divides_no_values(people, service, key, tmp_path, monkeypatch):
    monkeypatch.setattr("kms.columns.export.BATCH", 10)
    rotated = []

    def rotate(_table, progress):
        rotated.append(progress.seen)
        service.acme.rotate_key(key)

    connection = connect_as_runner(people)
    try:
        [one] = export(connection, service.acme, parse(PLAN.encode(), "plan.yaml"), key, tmp_path, (), tell=rotate)
    finally:
        connection.close()
    assert rotated == [10, 20, 30, 40]
    found = re.findall(r'"pin": "([\w-]+)"', one.file.read_text())
    assert len(found) > 15
    assert len(set(found)) == 2  # a document, and JSON null


def test_a_column_for_which_nothing_can_stand_is_refused_and_nothing_is_written(people, service, key, tmp_path):
    with psycopg.connect(people) as connection:
        connection.execute("UPDATE people SET country = 'DE'; ALTER TABLE people ALTER country SET NOT NULL")
    out = tmp_path / "out"
    with pytest.raises(PlanError, match=r"public\.people\.country: no pseudonym fits into its type character\(2\)"):
        exported(people, service, parse(PLAN.encode(), "plan.yaml"), key, out)
    assert list(out.iterdir()) == []


def test_hashes_whose_values_are_gone_are_refused(people, service, key, tmp_path):
    with runner(people, service.acme, PLAN) as run:
        run.apply()
        run.blank()
    with pytest.raises(PlanError, match=r"public\.people\.token: its values are gone for good"):
        exported(people, service, parse(PLAN.encode(), "plan.yaml"), key, tmp_path / "out")


def test_the_command_writes_no_file_over_and_nothing_in_the_clear(people, service, key, tmp_path, capsys):
    plan, out = tmp_path / "plan.yaml", tmp_path / "out"
    plan.write_text(PLAN)
    words = ["columns", "export", str(plan), "--key", key, "--out", str(out), "--database", people]
    words += ["--profile", str(service.acme_profile)]
    assert command(words) is ExitCode.USAGE
    assert "--pseudonymized" in capsys.readouterr().err
    assert not out.exists()
    assert command([*words, "--pseudonymized", "--output", "json"]) is ExitCode.OK
    assert '"rows": 40' in capsys.readouterr().out
    (file,) = out.iterdir()
    assert (file.name, file.stat().st_mode & 0o777) == ("public.people.sql", 0o600)
    before = file.read_bytes()
    assert command([*words, "--pseudonymized"]) is ExitCode.USAGE
    assert "public.people.sql" in capsys.readouterr().err
    assert file.read_bytes() == before
    assert [path for path in Path(out).iterdir() if path != file] == []
