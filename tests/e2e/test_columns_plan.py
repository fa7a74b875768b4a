"""What `kms columns plan` proposes for real databases: what it finds, what it leaves, and that no value is in it."""

from __future__ import annotations

import importlib
import json
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import yaml
from kms_client import Purpose
from psycopg import sql

from examples.made_up import statements
from kms.cli.main import run
from kms.columns import catalogue, plan_text, propose
from kms.columns.check import findings
from kms.columns.check_keys import DETERMINISTIC, ENCRYPT, INDEX, KeyFacts
from kms.columns.database import connect, named
from kms.columns.leakage import measure
from kms.columns.plan import Mode, Normaliser, Plaintext, Plan, load, parse
from tests.daemon import Installation
from tests.postgresql_server import Databases

pytestmark = pytest.mark.postgresql

ROOT = Path(__file__).parents[2]
ROWS, SEED = 200, 7
ALL_KEYS = {"columns": ENCRYPT, "columns-secret": ENCRYPT, "columns-index": INDEX, "columns-equal": DETERMINISTIC}

# Sensitive columns by the examples' own plans, which people made: how many there are, which are not proposed, and
# which are proposed though they are not among them.
MEASURED = {
    "neo": (14, set(), set()),
    "idp": (30, set(), set()),
    "aybiza": (
        46,
        set(),
        {("phone_manager.phone_numbers", "number"), ("phone_manager.phone_numbers", "formatted_number")},
    ),
    "mem0_governance": (5, {("public.audit_logs", "user_agent")}, set()),
    "neo_service_layer": (
        56,
        set(),
        {
            ("audit.audit_log", "resource_id"),
            ("audit.security_events_log", "additional_context"),
            ("security_confidential.transactions", "input_data_hash"),
            ("security_secret.sgx_sealed_data", "additional_data"),
        },
    ),
}

Pair = tuple[str, str]


@dataclass(frozen=True)
class Proposed:
    name: str
    url: str
    text: str

    @property
    def plan(self) -> Plan:
        return parse(self.text.encode(), "the proposal")

    @property
    def columns(self) -> dict[Pair, object]:
        return {(table.table, one.column): one for table in self.plan.tables for one in table.columns}


def proposed(url: str, name: str = "") -> Proposed:
    with connect(url) as connection:
        proposal = propose.propose(connection, catalogue.read(connection))
    return Proposed(name, url, plan_text.write(proposal, "acme"))


@pytest.fixture(params=sorted(MEASURED))
def system(request: pytest.FixtureRequest, postgresql_databases: Databases) -> Iterator[Proposed]:
    """One of the examples, with made-up rows, and what is proposed for it."""
    name = postgresql_databases.create()
    url = postgresql_databases.url(name)
    rows = importlib.import_module(f"examples.{request.param}.seed").rows(ROWS, SEED)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute((ROOT / "examples" / request.param / "schema.sql").read_text())
        connection.execute("".join(statements(rows)))
    yield proposed(url, request.param)
    postgresql_databases.drop(name)


def finds_the_sensitive_columns(system: Proposed) -> None:
    made = load(ROOT / "examples" / system.name / "plan.yaml")
    sensitive = {(table.table, one.column) for table in made.tables for one in table.columns}
    number, missed, beyond = MEASURED[system.name]
    assert len(sensitive) == number
    assert sensitive - set(system.columns) == missed
    assert set(system.columns) - sensitive == beyond


def test_the_page_has_the_measured_figures():
    number = sum(all_ for all_, _, _ in MEASURED.values())
    found = number - sum(len(missed) for _, missed, _ in MEASURED.values())
    beyond = sum(len(more) for _, _, more in MEASURED.values())
    assert f"{found} of {number} columns, and {beyond} others" in (ROOT / "docs/columns.md").read_text()


def telling(connection: psycopg.Connection) -> set[str]:
    """Values of the database that are in no name and in no text of ours: with digits, or signs beyond letters."""
    found: set[str] = set()
    for relation in catalogue.read(connection).tables():
        for one in relation.attributes:
            if one.base in ("text", "varchar", "jsonb") and "data_classification" not in relation.name:
                query = sql.SQL("SELECT {}::text FROM {}").format(sql.Identifier(one.name), named(relation.name))
                for (value,) in connection.execute(query):
                    found |= set(re.findall(r'[^"{}\[\],:\s]{6,}', value or ""))
    return {value for value in found if re.search(r"[0-9@]|[^\x00-\x7f]", value)}


def tells_no_sampled_value(system: Proposed) -> None:
    with connect(system.url) as connection:
        values = telling(connection)
    assert len(values) > 300
    one = min(values)
    with_one = f"{system.text}\n# {one}"
    assert one in {value for value in values if value in with_one}  # it would be found
    assert {value for value in values if value in system.text} == set()


def can_be_applied_as_it_is(system: Proposed) -> None:
    def look_up(name: str) -> KeyFacts:
        return KeyFacts(ALL_KEYS[name.rpartition("/")[2]], "CONFIDENTIAL", "ACTIVE")

    with connect(system.url) as connection:

        def measured(relation, column):
            normaliser = column.index.normaliser if column.index else Normaliser.NONE
            return measure(connection, relation.name, column.column, guessed_rows=relation.rows, normaliser=normaliser)

        found = list(findings(system.plan, catalogue.read(connection), {}, look_up, measured))
    assert [one for one in found if one.severity == "error"] == []
    assert len(found) > 3


def gives_a_reason_for_each_column(system: Proposed) -> None:
    lines = system.text.splitlines()
    places = [place for place, line in enumerate(lines) if line.startswith("      - column: ")]
    assert len(places) == len(system.columns)
    assert [lines[place] for place in places if not lines[place - 1].startswith("      # ")] == []


def test_a_real_system_is_proposed_a_plan_that_can_be_applied_and_tells_no_value(system: Proposed):
    finds_the_sensitive_columns(system)
    gives_a_reason_for_each_column(system)
    tells_no_sampled_value(system)
    can_be_applied_as_it_is(system)
    assert proposed(system.url).text == system.text  # the same each time


@pytest.fixture
def site(postgresql_databases: Databases) -> Iterator[psycopg.Connection]:
    """An empty database."""
    name = postgresql_databases.create()
    with psycopg.connect(postgresql_databases.url(name), autocommit=True) as connection:
        yield connection
    postgresql_databases.drop(name)


def plan_for(connection: psycopg.Connection) -> Proposed:
    info = connection.info
    return proposed(f"host={info.host} port={info.port} user={info.user} dbname={info.dbname}")


CLASSIFICATION = """
    CREATE TABLE data_classification (table_name text, column_name text, classification text, contains_pii bool,
        contains_phi bool, encryption_required bool, retention_days int);
"""


def test_the_documents_catalog_is_kept_and_obeyed(site):
    site.execute(CLASSIFICATION)
    site.execute("CREATE TABLE visits (id int PRIMARY KEY, reason text, ward text, email text, created_at timestamptz)")
    site.execute("CREATE TABLE logs (id int PRIMARY KEY, who text, what text, at int)")
    site.execute(
        "INSERT INTO data_classification VALUES ('visits', 'reason', 'restricted', false, true, true, 2555),"
        " ('visits', 'email', 'public', true, false, false, NULL), ('logs', '*', 'confidential', true, false, true, 30),"
        " ('gone', 'x', 'public', false, false, false, 1), ('visits', 'ward', 'strange', false, false, false, 1)"
    )
    made = plan_for(site)
    assert {pair: str(one.classification) for pair, one in made.columns.items()} == {
        ("public.visits", "reason"): "secret",
        ("public.logs", "who"): "confidential",
        ("public.logs", "what"): "confidential",
    }
    assert [rule.model_dump(mode="json", exclude_defaults=True) for rule in made.plan.catalog] == [
        {"table": "public.logs", "column": "*", "level": "confidential", "personal": True, "encryption_required": True, "keep_days": 30},
        {"table": "public.visits", "column": "email", "level": "public", "personal": True},
        {"table": "public.visits", "column": "reason", "level": "secret", "health": True, "encryption_required": True, "keep_days": 2555, "age": "created_at"},
    ]  # fmt: skip
    assert "Not kept: gone.x: no such table" in made.text
    assert "Not kept: public.visits.ward: its level is none of" in made.text
    assert "Not proposed: email: documents: it is public, personal data, no encryption required" in made.text


def card(number: int) -> str:
    digits = f"4{number:014d}"
    total = sum(sum(divmod(int(one) * (2 - place % 2), 10)) for place, one in enumerate(reversed(digits)))
    return digits + str(-total % 10)


def iban(number: int) -> str:
    account = f"{number:018d}"
    return f"DE{98 - int(f'{account}131400') % 97:02d}{account}"


BY_VALUE = {
    "a": lambda n: f"u{n}@example.org",
    "b": lambda n: f"+351 912 {n:03d} 678",
    "c": card,
    "d": iban,
    "e": lambda n: "JBSWY3DPEHPK3PX" + "ABCDEFGHIJKLMNOP234567"[n % 22],
    "f": lambda _: f"sk_live_{secrets.token_urlsafe(24)}",
    "g": lambda _: "$2b$12$" + "".join(secrets.choice("abcdefgABCDEFG./0123") for _ in range(53)),
    "h": lambda n: f"198.51.100.{n}",
    "i": lambda n: f"word {n}",
    "j": lambda n: f"2024-02-{n % 28 + 1:02d} 10:00:00",
    "k": lambda _: secrets.token_hex(32),
    "m": lambda n: json.dumps({"kind": "x", "api_key": f"k{n}"}),
    "n": lambda n: json.dumps({"kind": "x", "size": f"k{n}"}),
}


def test_values_speak_where_names_do_not(site):
    types = {"m": "jsonb", "n": "jsonb"}
    columns = ", ".join(f"{name} {types.get(name, 'text')}" for name in BY_VALUE)
    site.execute(f"CREATE TABLE t (id int PRIMARY KEY, {columns})")
    for n in range(1, 41):
        values = [sql.Literal(make(n)) for make in BY_VALUE.values()]
        site.execute(sql.SQL("INSERT INTO t VALUES ({}, {})").format(n, sql.SQL(", ").join(values)))
    site.execute("CREATE INDEX ON t (f)")
    made = plan_for(site)
    levels = {name: str(one.classification) for (_, name), one in made.columns.items()}
    assert levels == {
        "a": "confidential",
        "b": "confidential",
        "c": "secret",
        "d": "confidential",
        "e": "secret",
        "f": "secret",
        "g": "secret",
        "h": "confidential",
        "m": "confidential",
    }
    assert made.columns["public.t", "f"].mode is Mode.HASH_ONLY
    assert {one.mode for (_, name), one in made.columns.items() if name != "f"} == {Mode.RANDOMIZED}
    assert "100% of 40 sampled are card numbers (their Luhn digit is right)" in made.text


def test_few_different_values_are_refused_an_index_with_the_reason(site):
    site.execute("CREATE TABLE people (id int PRIMARY KEY, email text, phone text)")
    site.execute("CREATE INDEX ON people (email); CREATE INDEX ON people (phone)")
    site.execute(
        "INSERT INTO people SELECT n, 'u' || n || '@example.org', '+351 912 345 ' || n % 4 FROM generate_series(1, 400) n"
    )
    made = plan_for(site)
    assert made.columns["public.people", "email"].mode is Mode.BLIND_INDEX
    assert made.columns["public.people", "phone"].mode is Mode.RANDOMIZED
    told = " ".join(line.strip(" #") for line in made.text.splitlines())
    assert (
        "an index is refused: there are only 4 different values (4 different values in 400 rows, min-entropy 2.0 bits;"
        " guessing success 25% with one guess, 100% with ten, 25% by counting)" in told
    )


def test_a_normaliser_that_would_break_uniqueness_is_not_proposed(site):
    site.execute("CREATE TABLE people (id int PRIMARY KEY, email text UNIQUE)")
    site.execute("INSERT INTO people VALUES (1, 'A@example.org'), (2, 'b@example.org')")
    index = plan_for(site).columns["public.people", "email"].index
    assert (index.normaliser, index.unique) == (Normaliser.EMAIL, True)
    site.execute("INSERT INTO people VALUES (3, 'a@example.org')")
    index = plan_for(site).columns["public.people", "email"].index
    assert (index.normaliser, index.unique) == (Normaliser.NONE, True)


def test_what_cannot_be_protected_is_left_with_the_reason(site):
    site.execute("CREATE TABLE people (email text PRIMARY KEY, phone text UNIQUE)")
    site.execute("CREATE TABLE calls (id int PRIMARY KEY, caller_phone text REFERENCES people (phone))")
    site.execute("CREATE TABLE loose (email text)")
    site.execute("CREATE TABLE made (id int PRIMARY KEY, v text, email text GENERATED ALWAYS AS (lower(v)) STORED)")
    site.execute("CREATE TABLE kept (id int PRIMARY KEY, email text); ALTER TABLE kept ENABLE ROW LEVEL SECURITY")
    site.execute("CREATE POLICY own ON kept USING (email = current_user)")
    made = plan_for(site)
    assert made.plan.tables == ()
    told = " ".join(line.strip(" #") for line in made.text.splitlines())
    for reason in (
        "email: name and type: e-mail addresses; but it is of the row's identity",
        "phone: name and type: phone numbers; but it is part of the foreign key calls_caller_phone_fkey",
        "but the table has no key",
        "but it is generated from others: protect those",
        "but policy own on table public.kept reads it",
    ):
        assert reason in told


def test_settings_that_are_flagged_are_protected_in_flagged_rows_only(site):
    site.execute("CREATE TABLE settings (id int PRIMARY KEY, value text, is_sensitive bool)")
    column = plan_for(site).columns["public.settings", "value"]
    assert (column.rows.column, column.rows.values) == ("is_sensitive", ("true",))
    assert column.plaintext is Plaintext.BLANK


def test_names_that_are_taken_are_replaced(site):
    site.execute("CREATE TABLE people (id int PRIMARY KEY, email text, email_ct text, email_kv int)")
    column = plan_for(site).columns["public.people", "email"]
    assert (column.ciphertext, column.version) == ("email_kms_ct", "email_kms_kv")


NAMES = (
    'e"mail',
    "email\n- x",
    "email: #1",
    "email %s",
    "EMail",
    "e-mail",
    "true_email",
    "éemail",
    "1_email",
    "'email'",
)


def test_names_of_any_kind_are_proposed_as_they_are(site):
    for name in NAMES:
        table, column = sql.Identifier(f"T {name}"), sql.Identifier(name)
        site.execute(sql.SQL("CREATE TABLE {} (id int PRIMARY KEY, {} text)").format(table, column))
        index = sql.Identifier(f"\x1b[31m {name}")  # stands in a comment
        site.execute(sql.SQL("CREATE INDEX {} ON {} ({})").format(index, table, column))
        for n in range(3):
            site.execute(sql.SQL("INSERT INTO {} VALUES ({}, {})").format(table, n, f"u{n}@example.org"))
    made = plan_for(site)
    assert set(made.columns) == {(f"public.T {name}", name) for name in NAMES}
    named_so = {one["column"] for table in yaml.safe_load(made.text)["tables"] for one in table["columns"]}
    assert named_so == set(NAMES)
    assert "\x1b" not in made.text


def test_large_tables_are_sampled(site):
    site.execute("CREATE TABLE people (id int PRIMARY KEY, contact text)")
    site.execute("INSERT INTO people SELECT n, 'u' || n || '@example.org' FROM generate_series(1, 120000) n")
    site.execute("ANALYZE people")
    assert "100% of 200 sampled are e-mail addresses" in plan_for(site).text
    info = site.info
    with connect(f"host={info.host} port={info.port} user={info.user} dbname={info.dbname}") as connection:
        leak = measure(connection, "public.people", "contact", guessed_rows=10_000_000)  # as if a tenth were enough
        assert not leak.whole
        assert 0 < leak.rows == leak.distinct < 120_000
        assert measure(connection, "public.people", "contact", guessed_rows=120_000).rows == 120_000


def test_the_command_prints_the_plan_and_needs_no_daemon_for_it(site, capsys, monkeypatch):
    monkeypatch.delenv("KMS_PROFILE", raising=False)
    site.execute("CREATE TABLE people (id int PRIMARY KEY, email text)")
    info = site.info
    monkeypatch.setenv(
        "KMS_COLUMNS_DATABASE", f"host={info.host} port={info.port} user={info.user} dbname={info.dbname}"
    )
    assert run(["columns", "plan", "--tenant", "tenants/acme"]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == (plan_for(site).text, "")


def test_a_database_that_is_not_there_is_one_line(capsys, tmp_path):
    assert run(["columns", "plan", "--tenant", "acme", "--database", f"host={tmp_path} dbname=x"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"kms: the database cannot be reached: .*\n", err)


def test_other_commands_load_no_database_driver():
    code = "import sys, kms.cli.main; print(sorted({'psycopg', 'yaml', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.softhsm
def test_a_plan_is_checked_with_the_keys_of_a_real_daemon(site, installation: Installation, tmp_path, capsys):
    site.execute("CREATE TABLE people (id int PRIMARY KEY, email text, name text, code text)")
    info = site.info
    database = f"host={info.host} port={info.port} user={info.user} dbname={info.dbname}"
    columns = [
        {"column": "email", "classification": "confidential", "mode": "randomized", "key": "crm"},
        {"column": "name", "classification": "internal", "mode": "deterministic", "key": "equal"},
        {"column": "code", "classification": "confidential", "mode": "randomized", "key": "weak"},
    ]
    path, policies = tmp_path / "plan.yaml", "tenants/acme/policies"
    profile = installation.directory.parent / "clients/tenants-acme-principals-app/kms.toml"

    def written(tables: list[dict]) -> list[str]:
        path.write_text(yaml.safe_dump({"version": 1, "tenant": "acme", "tables": tables}))
        return ["columns", "check", str(path), "--database", database, "--profile", str(profile), "--output", "json"]

    installation.start()
    with installation.tenant("acme") as kms:
        kms.create_key("tenants/acme", "crm", Purpose.ENCRYPT, policy=f"{policies}/confidential")
        kms.create_key("tenants/acme", "weak", Purpose.ENCRYPT, policy=f"{policies}/public")
        command = written([{"table": "public.people", "columns": columns}])
        assert run(command) == 3
        out, err = capsys.readouterr()
        found = {(one["severity"], one["rule"], one["where"]) for one in json.loads(out)}
        assert found == {
            ("error", "no-key", "tenants/acme/keys/equal"),
            ("error", "class", "tenants/acme/keys/weak"),
            ("note", "leakage", "public.people.name"),
        }
        assert err == f"kms: {path}: 2 of 3 findings have to be mended first\n"
        kms.create_key("tenants/acme", "equal", Purpose.DETERMINISTIC, policy=f"{policies}/internal")
        command = written([{"table": "public.people", "columns": columns[:2]}])
        assert run([*command, "--catalogue-only"]) == 0
        assert json.loads(capsys.readouterr().out) == []
        assert run(command[:-2]) == 0
        assert capsys.readouterr().out.startswith("note: public.people.name: equality shows: no value is there")
