"""A plan against a real PostgreSQL: whatever stands against it is found, named, and comes with what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg
import pytest

from kms.columns import catalogue, state
from kms.columns.check import check, findings
from kms.columns.check_keys import KeyFacts
from kms.columns.database import connect
from kms.columns.errors import PlanError
from kms.columns.findings import Finding
from kms.columns.plan import Column, Plan, Table, parse
from tests.postgresql_server import Databases

pytestmark = pytest.mark.postgresql

KEYS = {
    "crm": KeyFacts("ENCRYPT", "CONFIDENTIAL", "ACTIVE"),
    "equal": KeyFacts("DETERMINISTIC", "CONFIDENTIAL", "ACTIVE"),
    "search": KeyFacts("INDEX", "CONFIDENTIAL", "ROTATING"),
    "public": KeyFacts("ENCRYPT", "PUBLIC", "ACTIVE"),
    "revoked": KeyFacts("ENCRYPT", "CONFIDENTIAL", "REVOKED"),
}


def look_up(name: str) -> KeyFacts | None:
    return KEYS.get(name.removeprefix("tenants/acme/keys/"))


def column(**given) -> dict:
    return {"column": "v", "classification": "confidential", "mode": "randomized", "key": "crm", **given}


def indexed(**given) -> dict:
    index = {"key": "search", **{name: given.pop(name) for name in ("normaliser", "unique") if name in given}}
    return column(mode="blind_index", index=index, **given)


DETERMINISTIC = {"mode": "deterministic", "key": "equal"}


@dataclass(frozen=True)
class Trap:
    """A table, a plan for it, and what is to be found."""

    name: str
    ddl: str
    columns: list[dict]
    errors: set[str] = field(default_factory=set)
    warnings: set[str] = field(default_factory=set)
    notes: set[str] = field(default_factory=set)
    identity: tuple[str, ...] = ()


def plain(more: str = "v text", after: str = "") -> str:
    return f"CREATE TABLE t.{{}} (id int PRIMARY KEY, {more}); {after}"


EMAILS = "INSERT INTO t.{} (id, v) SELECT n, 'u' || n || '@example.org' FROM generate_series(1, 300) n"
FEW = "INSERT INTO t.{} (id, v) SELECT n, 'v' || n % 5 FROM generate_series(1, 300) n"
TRIGGER = "CREATE TRIGGER {} BEFORE UPDATE ON t.{{}} FOR EACH ROW EXECUTE FUNCTION t.touch()"

TRAPS = [
    Trap("nothing", plain(), [column()]),
    Trap("no_column", plain("w text"), [column()], {"no-column"}),
    Trap("no_key", "CREATE TABLE t.{} (id int, v text)", [column()], {"identity"}),
    Trap("identity_null", "CREATE TABLE t.{} (id int UNIQUE, v text)", [column()], {"identity"}, identity=("id",)),
    Trap("identity_equal", "CREATE TABLE t.{} (id int NOT NULL, v text)", [column()], {"identity"}, identity=("id",)),
    Trap("identity_unique", "CREATE TABLE t.{} (id int NOT NULL UNIQUE, v text)", [column()], identity=("id",)),
    Trap(
        "identity_partial",
        "CREATE TABLE t.{} (id int NOT NULL, v text); CREATE UNIQUE INDEX ON t.{} (id) WHERE id > 0",
        [column()],
        {"identity"},
        identity=("id",),
    ),
    Trap(
        "identity_deferrable",
        "CREATE TABLE t.{} (id int NOT NULL UNIQUE DEFERRABLE, v text)",
        [column()],
        {"identity"},
        identity=("id",),
    ),
    Trap("identity_missing", plain(), [column()], {"identity"}, identity=("nr",)),
    Trap("primary_key", "CREATE TABLE t.{} (id int, v text, PRIMARY KEY (id, v))", [column()], {"primary-key"}, notes={"not-null"}),
    Trap("refers", plain("v int REFERENCES t.referred (v)"), [column()], {"foreign-key"}),
    Trap("referred_to", plain("v int UNIQUE", "CREATE TABLE t.refers_to (w int REFERENCES t.{} (v))"), [column()], {"foreign-key"}, {"uniqueness"}),
    Trap("generated", plain("w text, v text GENERATED ALWAYS AS (upper(w)) STORED"), [column()], {"generated"}, notes={"default"}),
    Trap("copied", plain("v text, w text GENERATED ALWAYS AS (upper(v)) STORED"), [column()], set(), {"copy"}),
    Trap("viewed", plain(after="CREATE VIEW t.of_{} AS SELECT id, lower(v) AS w FROM t.{}"), [column()], set(), {"view"}),
    Trap("viewed_kept", plain(after="CREATE VIEW t.of_{} AS SELECT v FROM t.{}"), [column(plaintext="keep")]),
    Trap("materialized", plain(after="CREATE MATERIALIZED VIEW t.of_{} AS SELECT * FROM t.{}"), [column()], set(), {"view"}),
    Trap("checked", plain("v text CHECK (v LIKE '%@%')"), [column()], set(), {"check"}),
    Trap("unique_lost", plain("v text UNIQUE"), [column()], set(), {"uniqueness"}),
    Trap("unique_kept", plain("v text UNIQUE", EMAILS), [indexed(unique=True)], notes={"leakage"}),
    Trap("unique_pair", plain("w text, v text, UNIQUE (w, v)"), [column()], set(), {"uniqueness"}),
    Trap("excluded", plain("v text, EXCLUDE USING btree (v WITH =)"), [column()], set(), {"uniqueness", "index"}),
    Trap("searched", plain(after="CREATE INDEX ON t.{} (v)"), [column()], set(), {"index"}),
    Trap("searched_by_expression", plain(after="CREATE INDEX ON t.{} (lower(v))"), [indexed()], set(), {"index"}, {"leakage"}),
    Trap("not_null", plain("v text NOT NULL"), [column()], notes={"not-null"}),
    Trap("defaulted", plain("v text DEFAULT 'x'"), [column()], notes={"default"}),
    Trap("partitioned", "CREATE TABLE t.{} (id int, v text, PRIMARY KEY (id, v)) PARTITION BY LIST (v)", [column()], {"primary-key", "partition-key"}, notes={"not-null"}),
    Trap("a_partition", "CREATE TABLE t.whole (id int PRIMARY KEY, v text) PARTITION BY LIST (id); CREATE TABLE t.{} PARTITION OF t.whole DEFAULT", [column()], {"partition"}),
    Trap("inherited", plain(after="CREATE TABLE t.heir () INHERITS (t.{})"), [column()], {"inheritance"}),
    Trap("a_view", "CREATE VIEW t.{} AS SELECT 1 AS id, 'x'::text AS v", [column()], {"not-a-table"}),
    Trap("unlogged", "CREATE UNLOGGED TABLE t.{} (id int PRIMARY KEY, v text)", [column()], set(), {"unlogged"}),
    Trap("policy", plain(after="ALTER TABLE t.{} ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON t.{} USING (v = current_user)"), [column()], {"policy"}),
    Trap("stamped", plain(after=TRIGGER.format("stamp")), [column()], set(), {"trigger"}),
    Trap("stamped_last", plain(after=TRIGGER.format("zzzz_stamp")), [column()], {"trigger"}),
    Trap("guard_taken", plain(after=TRIGGER.format("zzz_kms_columns")), [column()], {"trigger"}),
    Trap("stamp_disabled", plain(after=TRIGGER.format("stamp") + "; ALTER TABLE t.{} DISABLE TRIGGER stamp"), [column()]),
    Trap("stamped_always", plain(after=TRIGGER.format("stamp") + "; ALTER TABLE t.{} ENABLE ALWAYS TRIGGER stamp"), [column()], set(), {"trigger"}),
    Trap("published", plain(after="CREATE PUBLICATION of_{} FOR TABLE t.{}"), [column()], notes={"publication"}),
    Trap("published_column", plain(after="CREATE PUBLICATION column_of_{} FOR TABLE t.{} (id, v)"), [column()], set(), {"publication"}, {"publication"}),
    Trap("name_taken", plain("v text, v_ct bytea"), [column()], {"name-taken"}),
    Trap("name_chosen", plain("v text, v_ct bytea"), [column(ciphertext_column="v_c2")]),
    Trap("money", plain("v money"), [column()], {"unstable-type"}),
    Trap("regclass_array", plain("v regclass[]"), [column()], {"unstable-type"}),
    Trap("no_document", plain("v json"), [column(paths=[["a"]])], {"paths"}),
    Trap("document", plain("v jsonb"), [column(paths=[["a"]])]),
    Trap("normalised_number", plain("v int"), [indexed(normaliser="email")], {"normaliser"}, notes={"leakage"}),
    Trap("normalised_array", plain("v text[]"), [indexed(normaliser="text")], {"normaliser"}, notes={"leakage"}),
    Trap("secret_deterministic", plain(), [column(classification="secret", **DETERMINISTIC)], {"secret-deterministic"}, notes={"leakage"}),
    Trap("too_long", plain(after="INSERT INTO t.{} VALUES (1, repeat('x', 1048577))"), [column()], {"too-long"}),
    Trap("just_short", plain(after="INSERT INTO t.{} VALUES (1, repeat('x', 1048576))"), [column()]),
    Trap("long_for_an_index", plain(after="INSERT INTO t.{} VALUES (1, repeat('x', 2501))"), [column(**DETERMINISTIC)], {"too-long"}, notes={"leakage"}),
    Trap("case_differs", plain("v text UNIQUE", "INSERT INTO t.{} VALUES (1, 'A@example.org'), (2, 'a@example.org')"), [indexed(unique=True, normaliser="email")], {"not-unique"}, notes={"leakage"}),
    Trap("case_kept", plain("v text UNIQUE", "INSERT INTO t.{} VALUES (1, 'A@example.org'), (2, 'a@example.org')"), [indexed(unique=True)], notes={"leakage"}),
    Trap("few_values", plain(after=FEW), [indexed()], {"leakage"}),
    Trap("few_values_borne", plain(after=FEW), [indexed(accept_leakage=True)], set(), {"leakage"}),
    Trap("few_values_deterministic", plain(after=FEW), [column(**DETERMINISTIC)], {"leakage"}),
    Trap("few_values_randomized", plain(after=FEW), [column()]),
    Trap("many_values", plain(after=EMAILS), [indexed(normaliser="email")], notes={"leakage"}),
    Trap("rows_missing", plain(), [column(rows={"column": "w", "values": ["x"]}, plaintext="blank")], {"rows"}),
    Trap("rows_boolean", plain("v text, w bool"), [column(rows={"column": "w", "values": ["t"]}, plaintext="blank")], {"rows"}),
    Trap("rows_true", plain("v text, w bool"), [column(rows={"column": "w", "values": ["true"]}, plaintext="blank")]),
]  # fmt: skip

BEFORE = """
    CREATE SCHEMA t;
    CREATE TABLE t.referred (id int PRIMARY KEY, v int UNIQUE);
    CREATE FUNCTION t.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
"""


@dataclass
class Scene:
    url: str
    found: list[Finding]

    def of(self, name: str) -> list[Finding]:
        place = f"t.{name}"
        return [one for one in self.found if one.where == place or one.where.startswith((f"{place}.", f"{place} "))]


@pytest.fixture(scope="module")
def scene(postgresql_databases: Databases) -> Iterator[Scene]:
    """All traps in one database, checked at once."""
    name = postgresql_databases.create()
    url = postgresql_databases.url(name)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(BEFORE)
        for trap in TRAPS:
            connection.execute(trap.ddl.replace("{}", trap.name))
    tables = [{"table": f"t.{one.name}", "identity": one.identity, "columns": one.columns} for one in TRAPS]
    plan = Plan.model_validate({"version": 1, "tenant": "acme", "tables": tables})
    with connect(url) as connection:
        yield Scene(url, check(connection, plan, catalogue.read(connection), look_up))
    postgresql_databases.drop(name)


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)
def test_what_stands_against_a_table_is_found_and_nothing_else(trap: Trap, scene: Scene):
    found = {
        severity: {one.rule for one in scene.of(trap.name) if one.severity == severity}
        for severity in ("error", "warning", "note")
    }
    assert found == {"error": trap.errors, "warning": trap.warnings, "note": trap.notes}


def test_every_finding_says_what_to_do(scene: Scene):
    assert {one.rule for one in scene.found if not one.todo or not one.what} == set()
    assert all("{" not in one.todo or "unique: true" in one.todo for one in scene.found)


def test_no_value_is_in_a_finding(scene: Scene):
    told = "\n".join(f"{one.where} {one.what} {one.todo}" for one in scene.found)
    assert "t.many_values" in told
    assert "example.org" not in told


def plan_of(*columns: dict, **more) -> Plan:
    tables = [{"table": "t.nothing", "columns": list(columns)}] if columns else []
    return Plan.model_validate({"version": 1, "tenant": "acme", "tables": tables, **more})


def checked(scene: Scene, plan: Plan) -> dict[str, set[str]]:
    with connect(scene.url) as connection:
        found = check(connection, plan, catalogue.read(connection), look_up)
    return {one.rule: {str(one.severity), one.where} for one in found}


@pytest.mark.parametrize(
    ("given", "rule", "severity"),
    [
        ({"key": "absent"}, "no-key", "error"),
        ({"key": "search"}, "purpose", "error"),
        ({"key": "revoked"}, "key-state", "error"),
        ({"key": "public"}, "class", "error"),
        ({"classification": "secret"}, "class", "warning"),
        ({"mode": "deterministic"}, "purpose", "error"),
        ({"mode": "blind_index", "index": {"key": "crm"}}, "purpose", "error"),
        ({"mode": "hash_only", "key": "search", "index": {"key": "crm"}}, "purpose", "error"),
    ],
)
def test_a_key_that_does_not_fit_is_found(given, rule, severity, scene: Scene):
    name = given.get("index", {}).get("key") or given.get("key", "crm")
    assert checked(scene, plan_of(column(**given)))[rule] == {severity, f"tenants/acme/keys/{name}"}


def test_keys_that_fit_are_found_to(scene: Scene):
    hashed = column(mode="hash_only", key="search", index={"key": "search"})
    assert set(checked(scene, plan_of(hashed))) == {"leakage"}


def test_a_table_that_is_not_there_is_found(scene: Scene):
    plan = Plan.model_validate({"version": 1, "tenant": "acme", "tables": [{"table": "t.gone", "columns": [column()]}]})
    assert checked(scene, plan)["no-table"] == {"error", "t.gone"}


def test_catalog_rules_are_held_against_the_database_and_the_plan(scene: Scene):
    rules = [
        {"table": "t.gone", "column": "*", "level": "internal"},
        {"table": "t.money", "column": "w", "level": "internal"},
        {"table": "t.document", "column": "v", "level": "confidential", "encryption_required": True},
        {"table": "t.not_null", "column": "*", "level": "internal", "keep_days": 7, "age": "v"},
    ]
    with connect(scene.url) as connection:
        found = check(connection, plan_of(catalog=rules), catalogue.read(connection), look_up)
    assert [(str(one.severity), one.where) for one in found if one.rule == "catalog"] == [
        ("error", "t.gone.*"),
        ("error", "t.money.w"),
        ("error", "t.document.v"),
        ("error", "t.not_null.*"),
    ]


def test_rows_that_others_refer_to_are_named_before_they_are_deleted(scene: Scene):
    rule = {"table": "t.aged", "column": "*", "level": "internal", "keep_days": 7, "age": "at", "on_expiry": "delete"}
    with psycopg.connect(scene.url) as connection:
        connection.execute("CREATE TABLE t.aged (id int PRIMARY KEY, at date)")
        connection.execute("CREATE TABLE t.of_aged (id int REFERENCES t.aged)")
    assert checked(scene, plan_of(catalog=[rule]))["catalog"] == {"warning", "t.aged.*"}


def test_what_a_role_may_not_do_is_found_with_the_grant_that_it_needs(scene: Scene):
    with psycopg.connect(scene.url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS columns_nobody")
        connection.execute("CREATE ROLE columns_nobody LOGIN")
        connection.execute("CREATE TABLE t.of_others (id int PRIMARY KEY, v text)")
        connection.execute("ALTER TABLE t.of_others ENABLE ROW LEVEL SECURITY")
        connection.execute("GRANT USAGE ON SCHEMA t TO columns_nobody")
        connection.execute("GRANT SELECT ON t.of_others TO columns_nobody")
    plan = Plan.model_validate(
        {"version": 1, "tenant": "acme", "tables": [{"table": "t.of_others", "columns": [column()]}]}
    )
    try:
        with connect(scene.url.replace("postgres@", "columns_nobody@", 1)) as connection:
            found = check(connection, plan, catalogue.read(connection), look_up, values=False)
    finally:
        with psycopg.connect(scene.url, autocommit=True) as connection:
            connection.execute("DROP OWNED BY columns_nobody")
            connection.execute("DROP ROLE columns_nobody")
    assert {(one.rule, str(one.severity)) for one in found} == {
        ("grant", "error"),
        ("triggers", "warning"),
        ("row-security", "error"),
    }
    todo = " ".join(one.todo for one in found)
    assert "GRANT CREATE ON DATABASE" in todo
    assert "GRANT CREATE ON SCHEMA t TO columns_nobody" in todo
    assert "GRANT SET ON PARAMETER session_replication_role" in todo


def test_a_column_that_is_begun_is_not_checked_again_unless_the_plan_differs(postgresql_databases: Databases):
    name = postgresql_databases.create()
    url = postgresql_databases.url(name)
    table = {"table": "public.people", "columns": [column()]}
    plan = Plan.model_validate({"version": 1, "tenant": "acme", "tables": [table]})
    try:
        with connect(url) as connection:
            connection.execute("CREATE TABLE public.people (id int PRIMARY KEY, v text, v_ct bytea, v_kv bigint)")
            state.create(connection)
            begun: Table = plan.tables[0]
            state.add(connection, begun, begun.columns[0], "tenants/acme/keys/crm", ("id",), "text")
            for other, rule, severity in (
                ({}, "begun", "note"),
                ({"plaintext": "keep", "comment": "later"}, "begun", "note"),
                ({"ciphertext_column": "w"}, "changed", "error"),
                (DETERMINISTIC, "changed", "error"),
            ):
                changed = Column.model_validate(column(**other))
                read = catalogue.read(connection)
                found = check(connection, _with(plan, changed), read, look_up)
                assert {(one.rule, str(one.severity)) for one in found} == {(rule, severity)}
            found = check(connection, plan_of(), catalogue.read(connection), look_up)
            assert [(one.rule, one.where) for one in found] == [("not-planned", "public.people.v")]
    finally:
        postgresql_databases.drop(name)


def _with(plan: Plan, changed: Column) -> Plan:
    table = plan.tables[0].model_copy(update={"columns": (changed,)})
    return plan.model_copy(update={"tables": (table,)})


def test_a_replica_is_found():
    role = catalogue.Role("r", "d", recovering=True, may_create_schema=True, may_hold_triggers=True)
    found = list(findings(plan_of(), catalogue.Catalogue(role), {}, look_up, None))
    assert [one.rule for one in found] == ["replica"]


@pytest.mark.parametrize("mode", ["tokenized", "format_preserving"])
def test_a_mode_without_a_cipher_is_refused_clearly(mode: str):
    text = f"{{version: 1, tenant: acme, tables: [{{table: a.b, columns: [{json.dumps(column(mode=mode))}]}}]}}"
    with pytest.raises(PlanError, match=f"mode {mode} is not there yet: no cipher of the daemon does it"):
        parse(text.encode(), "the plan")
