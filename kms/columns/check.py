"""Whether a plan can be applied to a live database with the keys that there are: everything that stands against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from . import leakage, state
from .catalogue import Catalogue, Relation
from .check_columns import of_column, of_values
from .check_keys import LookUp, of_keys
from .database import Connection
from .findings import Finding, error, note, warning
from .guard import NAME as GUARD
from .leakage import Leakage
from .plan import CatalogRule, Column, Expiry, Plan, Table
from .state import Known, State

MOST_COLUMNS: Final = 1_600  # of a PostgreSQL table, dropped ones among them

Measure = Callable[[Relation, Column], Leakage]


def check(
    connection: Connection, plan: Plan, catalogue: Catalogue, look_up: LookUp, *, values: bool = True
) -> list[Finding]:
    """Return everything that stands against a plan, or that is good to know; the database first, then by table.

    Args:
        connection: to the database.
        plan: the plan.
        catalogue: of the database.
        look_up: how keys are found.
        values: also measure the values of columns: one pass over each table for each column.
    """
    known = {(one.table, one.column.column): one for one in state.known(connection)}

    def measured(relation: Relation, column: Column) -> Leakage:
        index = column.index
        return leakage.measure(
            connection,
            relation.name,
            column.column,
            guessed_rows=relation.rows,
            rows=column.rows,
            **({} if index is None else {"normaliser": index.normaliser}),
        )

    return list(findings(plan, catalogue, known, look_up, measured if values else None))


def findings(
    plan: Plan,
    catalogue: Catalogue,
    known: Mapping[tuple[str, str], Known],
    look_up: LookUp,
    measured: Measure | None,
) -> Iterator[Finding]:
    """Say what stands against a plan; what is known of columns whose protection has begun is not asked again."""
    yield from _database(catalogue)
    yield from of_keys(plan, look_up)
    for table in plan.tables:
        relation = catalogue.relations.get(table.table)
        if relation is None:
            yield error(
                "no-table",
                table.table,
                "there is no such table, or the role may not use its schema",
                "correct its name, as schema.table",
            )
        else:
            yield from _table(table, relation, catalogue, known, measured)
    for rule in plan.catalog:
        yield from _rule(plan, rule, catalogue.relations.get(rule.table), known)
    planned = {(table.table, column.column) for table in plan.tables for column in table.columns}
    for name, column in known.items():
        if name not in planned:
            yield warning(
                "not-planned",
                ".".join(name),
                f"it is {column.state.value}, and not in this plan",
                "add it, or undo its protection",
            )


def _database(catalogue: Catalogue) -> Iterator[Finding]:
    role = catalogue.role
    if role.recovering:
        yield error("replica", role.database, "the server is a replica", "connect to the primary server")
    if not role.may_create_schema:
        yield error(
            "grant",
            role.database,
            f"the role {role.name} may not make the schema {state.SCHEMA}",
            f"GRANT CREATE ON DATABASE {role.database} TO {role.name}",
        )
    if not role.may_hold_triggers:
        yield warning(
            "triggers",
            role.database,
            f"the role {role.name} may not hold back the applications' triggers: they fire for every row that is written",
            f"GRANT SET ON PARAMETER session_replication_role TO {role.name}",
        )


def _table(
    table: Table,
    relation: Relation,
    catalogue: Catalogue,
    known: Mapping[tuple[str, str], Known],
    measured: Measure | None,
) -> Iterator[Finding]:
    structure = list(_structure(table, relation, catalogue))
    yield from structure
    if not relation.is_table:
        return
    begun = [known[table.table, one.column] for one in table.columns if (table.table, one.column) in known]
    new = [one for one in table.columns if (table.table, one.column) not in known]
    added = sum(3 if one.blind_index else 2 for one in new)
    if len(relation.attributes) + added > MOST_COLUMNS:
        yield error("columns", table.table, f"it would have more than {MOST_COLUMNS} columns", "split the table")
    if not begun:
        yield from _guard(table, relation)
    for one in begun:
        yield from _begun(table, one)
    for column in new:
        found = list(of_column(relation, table, column))
        yield from found
        if measured is not None and not any(one.rule in ("no-column", "rows", "paths") for one in found):
            where = f"{table.table}.{column.column}"
            yield from of_values(where, column, measured(relation, column), unique=relation.unique_alone(column.column))


def _structure(table: Table, relation: Relation, catalogue: Catalogue) -> Iterator[Finding]:
    where = table.table
    if not relation.is_table:
        kind = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}[relation.kind]
        yield error("not-a-table", where, f"it is {kind}", "name the table that holds the rows")
        return
    if relation.partition:
        yield error("partition", where, "it is a partition", "name the partitioned table")
    if relation.children:
        yield error("inheritance", where, "other tables inherit from it", "protect tables that do not inherit")
    if relation.unlogged:
        yield warning(
            "unlogged", where, "it is unlogged: a crash empties it", "ALTER TABLE ... SET LOGGED, if it is to be kept"
        )
    role = catalogue.role.name
    if not relation.owned:
        yield error(
            "grant", where, f"the role {role} does not own it", f"log in as its owner, or GRANT that role TO {role}"
        )
    if not relation.schema_create:
        schema = where.partition(".")[0]
        yield error(
            "grant",
            where,
            f"the role {role} may make no index in schema {schema}",
            f"GRANT CREATE ON SCHEMA {schema} TO {role}",
        )
    if relation.row_security:
        yield error(
            "row-security",
            where,
            f"row-level security hides rows from the role {role}",
            f"ALTER ROLE {role} BYPASSRLS, or log in as an owner that is not forced",
        )
    yield from _identity(table, relation)
    for publication in relation.publications:
        yield note(
            "publication",
            where,
            f"publication {publication} copies its rows elsewhere, plaintext too",
            "protect the subscribers' copy, or remove it",
        )


def _identity(table: Table, relation: Relation) -> Iterator[Finding]:
    if not table.identity:
        if not relation.primary_key:
            yield error(
                "identity",
                table.table,
                "it has no primary key",
                "name the columns that tell its rows apart: identity: [...]",
            )
        return
    missing = [name for name in table.identity if relation.attribute(name) is None]
    if missing:
        yield error("identity", table.table, f"there is no column {', '.join(missing)}", "correct identity")
    elif not relation.identifies(table.identity):
        yield error(
            "identity",
            table.table,
            f"{', '.join(table.identity)} may be NULL or equal in two rows",
            "use columns that are NOT NULL, with a unique index of just these that has no WHERE and is not deferrable",
        )


def _guard(table: Table, relation: Relation) -> Iterator[Finding]:
    """What other triggers do to rows that are protected; the guard itself is not there yet."""
    for trigger in relation.triggers:
        where = f"{table.table} (trigger {trigger.name})"
        if trigger.name == GUARD:
            yield error("trigger", where, "a trigger of this name is there already", "rename it")
        elif trigger.enabled == "D":
            continue
        elif trigger.before_row and trigger.name > GUARD:
            yield error(
                "trigger",
                where,
                "it fires after the guard, and could change what that has seen",
                f"rename it to a name before {GUARD}",
            )
        elif trigger.enabled in ("A", "R"):
            yield warning(
                "trigger",
                where,
                f"it fires also for the runner's writes ({trigger.function})",
                "ALTER TABLE ... ENABLE TRIGGER, without ALWAYS or REPLICA",
            )
        else:
            yield warning(
                "trigger",
                where,
                f"it sees whole rows ({trigger.function}): plaintext now, ciphertext then",
                "look whether it copies rows: a copy is another column to protect",
            )


def _begun(table: Table, known: Known) -> Iterator[Finding]:
    column = next(one for one in table.columns if one.column == known.column.column)
    where = f"{table.table}.{column.column}"
    # What becomes of the plaintext, and what is said of it, may change at any time.
    free = {"plaintext": column.plaintext, "comment": column.comment, "accept_leakage": column.accept_leakage}
    if known.column.model_copy(update=free) != column:
        yield error(
            "changed",
            where,
            f"it is {known.state.value} with other settings than the plan's",
            "undo it first, or write what it was begun with",
        )
    elif table.identity and tuple(table.identity) != known.identity:
        yield error(
            "changed",
            where,
            f"its ciphertexts are bound to {', '.join(known.identity)}",
            "write that identity, or undo it first",
        )
    else:
        yield note("begun", where, f"it is {known.state.value}", "nothing is to do for `check`")


def _rule(
    plan: Plan, rule: CatalogRule, relation: Relation | None, known: Mapping[tuple[str, str], Known]
) -> Iterator[Finding]:
    where = f"{rule.table}.{rule.column}"
    if relation is None or not relation.is_table:
        yield error("catalog", where, "there is no such table", "correct or remove the rule")
        return
    planned = {one.column for table in plan.tables if table.table == rule.table for one in table.columns}
    dropped = (rule.table, rule.column) in known and known[rule.table, rule.column].state is State.DROPPED
    if rule.column != "*" and relation.attribute(rule.column) is None and not dropped:
        yield error("catalog", where, "there is no such column", "correct or remove the rule")
        return
    if rule.encryption_required and (rule.column not in planned if rule.column != "*" else not planned):
        yield error(
            "catalog",
            where,
            "encryption is required, and the plan has none",
            "add the column to tables, or correct the rule",
        )
    if rule.age is not None:
        age = relation.attribute(rule.age)
        if age is None or age.base not in ("timestamptz", "timestamp", "date"):
            yield error(
                "catalog",
                where,
                f"age {rule.age} is no column of a time or day",
                "name the column that says how old a row is",
            )
    elif rule.keep_days is not None:
        yield note("catalog", where, f"nothing enforces its {rule.keep_days} days", "write age and on_expiry")
    if rule.on_expiry is Expiry.DELETE:
        keys = sorted({one.name for one in relation.dependents if one.kind == "referenced"})
        if keys:
            yield warning(
                "catalog",
                where,
                f"other rows refer to its rows ({', '.join(keys)})",
                "see that ON DELETE says what becomes of them",
            )
