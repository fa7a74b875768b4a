"""Looks at every statement that any test lets the storage make: does it name its tenant?

In a transaction of a tenant each table with a column tenant_id has to be bound to that tenant. One over tenants may do
what the migrations let kms_sweeper do, on SQLite as on PostgreSQL.
"""

from __future__ import annotations

import runpy
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import (
    BindParameter,
    ClauseElement,
    Connection,
    Delete,
    Engine,
    FromClause,
    Insert,
    Join,
    Select,
    Subquery,
    Table,
    Tuple,
    Update,
    event,
)
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList, ColumnElement, Grouping
from sqlalchemy.sql.selectable import AliasedReturnsRows
from sqlalchemy.sql.visitors import iterate

import storage

MIGRATIONS = Path(storage.__file__).parent / "migrations/versions"
NAMED = "tenant_id"

Rows = Sequence[Mapping[str, Any]]  # the parameters of each execution

_COMPILER = DefaultDialect.statement_compiler(DefaultDialect(), None)  # type: ignore[arg-type]  # of no statement

FEW = 50  # executions of one statement, whose values are remembered

found: list[str] = []  # what is wrong with statements since somebody last looked
_innocent: set[Hashable] = set()  # what has been looked at and is right


def sweeper_privileges() -> dict[str, set[str]]:
    """What kms_sweeper may do, by table."""
    migration = runpy.run_path(str(MIGRATIONS / "0008_roles.py"))
    tables = (*migration["OF_TENANTS"], *migration["OF_THE_INSTALLATION"])
    found = {table.name: {privilege.partition(" ")[0] for privilege in table.sweeper} for table in tables}
    trees = {name: {"SELECT"} for name in runpy.run_path(str(MIGRATIONS / "0010_integrity.py"))["TREES"]}
    later = runpy.run_path(str(MIGRATIONS / "0011_checkpoints.py"))["SWEEPER"]
    found["sink_positions"].add("DELETE")  # by 0012
    bodies = runpy.run_path(str(MIGRATIONS / "0016_bodies.py"))["SWEEPER"]
    later = {**later, **bodies}
    return found | trees | {"audit_log": {"SELECT"}} | {name: set(privileges) for name, privileges in later.items()}


# Migration 0009 lets it read the trail, whose chains have events of all tenants.
SWEEPER = {**sweeper_privileges(), "audit_log": {"SELECT"}}


def complaints(statement: object, parameters: Rows, tenant: UUID | None) -> list[str]:
    """Say what is wrong with one statement of a transaction, of a tenant or (None) over tenants."""
    if not isinstance(statement, Select | Insert | Update | Delete):
        return []
    if tenant is None:
        return [
            f"{command} on {name} in a transaction over tenants"
            for command, table in touched(statement)
            if command not in SWEEPER.get(name := getattr(table, "element", table).name, set())
        ]
    with warnings.catch_warnings(action="ignore"):  # about what no statement of ours should be
        return [
            f"{table} is not bound to the tenant in: {statement}" for table in unbound(statement, parameters, tenant)
        ]


def complaints_once(statement: object, parameters: Rows, tenant: UUID | None) -> list[str]:
    """The same; of statements that do not differ in what counts, only the first is looked at, unless it is wrong."""
    shape = shape_of(statement, parameters, tenant)
    if shape in _innocent:
        return []
    wrong = complaints(statement, parameters, tenant)
    if not wrong and shape is not None:
        _innocent.add(shape)
    return wrong


def shape_of(statement: object, parameters: Rows, tenant: UUID | None) -> Hashable:
    """How a statement is built, and which of its values are the tenant; None where that is not known in short."""
    built = statement._generate_cache_key() if isinstance(statement, ClauseElement) else None
    if built is None or len(parameters) > FEW:
        return None
    own = [_is_own(bind.effective_value, tenant) for bind in built.bindparams]
    rows = [tuple((name, _is_own(value, tenant)) for name, value in row.items()) for row in parameters]
    return (built.key, tuple(own), tuple(rows), tenant is None)


def _is_own(value: object, tenant: UUID | None) -> Hashable:
    return tuple(_is_own(one, tenant) for one in value) if isinstance(value, list | tuple | set) else value == tenant


def touched(statement: Any) -> Iterator[tuple[str, Table]]:
    """Which tables a statement reads and writes, and how."""
    for command, kind in (("INSERT", Insert), ("UPDATE", Update), ("DELETE", Delete)):
        if isinstance(statement, kind):
            yield command, statement.table
    if replaces(statement):
        yield "UPDATE", statement.table
    for select in selects(statement):
        tables = list(tables_of(sources_of(select)))
        yield from (("SELECT", table) for table in tables)
        if (locks := select._for_update_arg) is not None:
            yield from (("UPDATE", table) for table in locks.of or tables)


def replaces(statement: Any) -> bool:
    """Whether it is an INSERT that changes a row that is there already."""
    return bool(getattr(getattr(statement, "_post_values_clause", None), "update_values_to_set", None))


def sources_of(select: Select[Any]) -> Sequence[FromClause]:
    """What stands behind FROM: get_final_froms(), but for that this compiles the whole statement before it looks."""
    found: Sequence[FromClause] = select._compile_state_factory(select, _COMPILER)._get_display_froms()
    return found


def tables_of(sources: Sequence[FromClause]) -> Iterator[Any]:
    """The tables, and aliases of tables, behind FROM; subqueries are looked at by themselves."""
    for source in sources:
        if isinstance(source, Join):
            yield from tables_of([source.left, source.right])
        elif isinstance(source, Table) or (
            isinstance(source, AliasedReturnsRows)
            and not isinstance(source, Subquery)
            and isinstance(source.element, Table)
        ):
            yield source


def unbound(statement: Any, parameters: Rows, tenant: UUID) -> list[str]:
    """The tables of a statement that are not bound to the tenant."""
    if isinstance(statement, Select):
        return unbound_in(statement, parameters, tenant, set())
    if isinstance(statement, Insert):
        wrong = [] if inserts_own(statement, parameters, tenant) else [statement.table.name]
    else:
        wrong = left([statement.table], statement._where_criteria, parameters, tenant)
    return wrong + nested(statement, parameters, tenant, {statement.table}, [])


def unbound_in(select: Select[Any], parameters: Rows, tenant: UUID, outer: set[Any]) -> list[str]:
    """The same of one SELECT; what stands in FROM outside, too, is the row out there."""
    sources = sources_of(select)
    criteria = [*select._where_criteria, *(on for source in sources for on in conditions(source))]
    own = [table for table in tables_of(sources) if table not in outer]
    wrong = left(own, criteria, parameters, tenant, known=outer)
    derived = [inner for source in sources for inner in selects(source)]
    for inner in derived:  # which sees nothing of the tables beside it
        wrong += unbound_in(inner, parameters, tenant, set())
    return wrong + nested(select, parameters, tenant, outer | {*own}, [select, *derived])


def nested(statement: Any, parameters: Rows, tenant: UUID, outer: set[Any], done: list[Any]) -> list[str]:
    """What is wrong with the SELECTs inside a statement's criteria."""
    wrong = []
    for inner in selects(statement):
        if not any(inner is each for each in done):
            wrong += unbound_in(inner, parameters, tenant, outer)
            done += selects(inner)
    return wrong


def selects(element: Any) -> Iterator[Select[Any]]:
    """Every SELECT in an element, the outermost first."""
    for each in iterate(element):
        if isinstance(each, Select):
            yield each


def conditions(source: FromClause) -> Iterator[Any]:
    if isinstance(source, Join):
        yield from conditions(source.left)
        yield from conditions(source.right)
        if not source.isouter and not source.full:
            yield source.onclause


def left(
    tables: Sequence[Any],
    criteria: Sequence[Any],
    parameters: Rows,
    tenant: UUID,
    known: Sequence[Any] | set[Any] = (),
) -> list[str]:
    """Which of these tables no criterion binds, be it through another one."""
    bound = {*known}
    parts = [part for criterion in criteria for part in conjuncts(criterion)]
    missing = [table for table in tables if NAMED in table.c]
    while True:
        now = [table for table in missing if any(binds(part, table, bound, parameters, tenant) for part in parts)]
        if not now:
            return [table.name for table in missing]
        bound |= {*now}
        missing = [table for table in missing if table not in bound]


def conjuncts(criterion: Any) -> Iterator[Any]:
    """Parts that all have to hold."""
    if isinstance(criterion, Grouping):
        yield from conjuncts(criterion.element)
    elif isinstance(criterion, BooleanClauseList) and criterion.operator is operators.and_:
        for part in criterion.clauses:
            yield from conjuncts(part)
    else:
        yield criterion


def binds(part: Any, table: Any, bound: set[Any], parameters: Rows, tenant: UUID) -> bool:
    if not isinstance(part, BinaryExpression):
        return False
    column = table.c[NAMED]
    if part.operator is operators.eq:
        for one, other in ((part.left, part.right), (part.right, part.left)):
            if one is column:
                if isinstance(other, BindParameter):
                    return all(value == tenant for value in values(other, parameters))
                return any(other is known.c.get(NAMED) for known in bound)
    if part.operator is operators.in_op and isinstance(part.right, BindParameter):
        compared = list(
            part.left.element.clauses if isinstance(part.left, Grouping) else getattr(part.left, "clauses", [part.left])
        )
        if column in compared and isinstance(part.left, Tuple | Grouping):
            index = [one is column for one in compared].index(True)
            return all(row[index] == tenant for group in values(part.right, parameters) for row in group)
        return part.left is column and all(
            value == tenant for group in values(part.right, parameters) for value in group
        )
    return False


def values(bind: BindParameter[Any], parameters: Rows) -> list[Any]:
    """What a parameter stands for in each execution; one that nobody gave is nothing good."""
    given = [row[bind.key] for row in parameters if bind.key in row]
    return given or [bind.effective_value]


def inserts_own(statement: Insert, parameters: Rows, tenant: UUID) -> bool:
    """Whether all rows are the tenant's, and a row that is replaced on conflict is, too."""
    if NAMED not in statement.table.c:
        return True
    if replaces(statement):
        identity = statement._post_values_clause.inferred_target_elements or ()
        if not any(column is statement.table.c[NAMED] for column in identity):
            return False
    rows: list[Any] = [row for group in statement._multi_values or () for row in group]
    rows += [statement._values] if statement._values else []
    rows = rows or list(parameters)
    return bool(rows) and all(shown(named(row), parameters) == tenant for row in rows)


def named(row: Mapping[Any, Any]) -> Any:
    return next((value for key, value in row.items() if getattr(key, "key", key) == NAMED), None)


def shown(value: object, parameters: Rows) -> object:
    if isinstance(value, BindParameter):
        [shown] = {*values(value, parameters)}
        return shown
    return None if isinstance(value, ColumnElement) else value


def look(
    connection: Connection,
    statement: object,
    multiparams: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
    _options: Mapping[str, Any],
) -> None:
    """Note what is wrong; whoever makes the statement goes on."""
    options = connection.get_execution_options()
    if "kms_tenant" in options:
        found.extend(complaints_once(statement, [*multiparams, *([params] if params else [])], options["kms_tenant"]))


@pytest.fixture(autouse=True)
def every_query_names_its_tenant() -> Iterator[None]:
    """Fail the test that let the storage make a statement without its tenant."""
    yield
    wrong, found[:] = found[:], []
    assert not wrong, "\n".join(wrong)


def pytest_configure() -> None:
    """Look from the first test on."""
    event.listen(Engine, "before_execute", look)
