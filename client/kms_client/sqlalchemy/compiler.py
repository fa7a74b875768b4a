"""Statements are compiled for the states of the columns in them; what cannot work on ciphertexts is refused here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

from sqlalchemy import Table
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.compiler import SQLCompiler, StrSQLCompiler
from sqlalchemy.sql.elements import ColumnClause
from sqlalchemy.sql.selectable import Alias

from ..formats.errors import NotSupported
from ..protected_columns import Phase, ProtectedColumn
from ..tls import ConfigurationError
from .types import IsNull, Matches, Packed, Place, ProtectedType, cannot


class States(Protocol):
    """What the compiler asks of an engine's protection."""

    def current(self) -> object:
        """Return what is another object as soon as any state is another."""

    def column(self, place: Place) -> ProtectedColumn | None:
        """Return a column's state; None where its protection has not begun."""

    def hidden(self, table: str) -> dict[str, str]:
        """Return the columns that are added to a table, and of which plaintext column each is."""

    def plaintexts(self, table: str) -> tuple[str, ...]:
        """Return the plaintext columns of a table that are, or will be, protected."""


class ProtectingCompiler(SQLCompiler):
    """Mixed into the compiler of an engine's dialect; `states` is set on the class that is made for it."""

    states: States
    seen: object  # the states for which the statement was compiled
    packed: dict[Place, ProtectedColumn]  # what the rows of the statement have packed, as it was when it was compiled

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.packed, self.seen = {}, self.states.current()
        super().__init__(*args, **kwargs)

    def _label_select_column(self, select: Any, column: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(column.type, ProtectedType):
            kwargs["need_column_expressions"] = True  # within inner SELECTs, too
        return super()._label_select_column(select, column, *args, **kwargs)  # type: ignore[no-untyped-call]

    def visit_kms_packed(self, element: Packed, add_to_result_map: Any = None, **kwargs: Any) -> str:
        """Select all that is needed to read a protected column."""
        column = element.column
        if not isinstance(column, ColumnClause):
            raise cannot(column, "expressions")
        place = place_of(column)
        state = None if place is None else self.states.column(place)
        if state is None or place is None:  # plaintext, or packed by an inner SELECT
            return self._column(column, add_to_result_map=add_to_result_map, **kwargs)
        self.packed[place] = state
        if add_to_result_map is not None:
            add_to_result_map(column.name, column.name, (column, column.name, column.key), column.type)
        return state.packed(self.named(column, kwargs))

    def visit_column(self, column: Any, *args: Any, **kwargs: Any) -> str:  # noqa: D102
        if isinstance(column.type, ProtectedType):
            raise cannot(column, "ORDER BY, GROUP BY, functions or comparisons with columns")
        place = place_of(column)
        if place is not None:
            plain = self.states.hidden(place[0]).get(place[1])
            if plain is not None and self._is_absent(place, plain):
                add = kwargs.get("add_to_result_map")
                if add is not None:
                    add(column.name, column.name, (column, column.name, column.key), column.type)
                return "NULL"  # the column is not there yet
        return self._column(column, *args, **kwargs)

    def visit_label(self, label: Any, *args: Any, **kwargs: Any) -> str:  # noqa: D102
        if isinstance(label.type, ProtectedType) and kwargs.get("render_label_as_label") is label:
            raise cannot(cast("Any", label), "ORDER BY")
        return cast("str", super().visit_label(label, *args, **kwargs))  # type: ignore[no-untyped-call]

    def visit_select(self, select_stmt: Any, *args: Any, **kwargs: Any) -> str:  # noqa: D102
        if select_stmt._distinct:  # noqa: SLF001  it has no other name
            self._refuse_protected(select_stmt, "DISTINCT")
        return cast("str", super().visit_select(select_stmt, *args, **kwargs))  # type: ignore[no-untyped-call]

    def visit_compound_select(self, cs: Any, *args: Any, **kwargs: Any) -> str:  # noqa: D102
        if "ALL" not in cs.keyword.name:
            self._refuse_protected(cs.selects[0], "UNION, EXCEPT and INTERSECT without ALL")
        return cast("str", super().visit_compound_select(cs, *args, **kwargs))  # type: ignore[no-untyped-call]

    def visit_insert(self, insert_stmt: Any, *args: Any, **kwargs: Any) -> str:  # noqa: D102
        self._prepare_write(insert_stmt)
        return cast("str", super().visit_insert(insert_stmt, *args, **kwargs))  # type: ignore[no-untyped-call]

    def visit_update(self, update_stmt: Any, *args: Any, **kwargs: Any) -> str:  # noqa: D102
        self._prepare_write(update_stmt)
        return super().visit_update(update_stmt, *args, **kwargs)

    def named(self, column: ColumnElement[Any], kwargs: dict[str, Any]) -> Callable[[str], str]:
        """Return how columns are named beside this one, in its table or alias."""
        passed = {
            name: value
            for name, value in kwargs.items()
            if name in ("include_table", "ambiguous_table_name_map") and value is not None
        }

        def named(name: str) -> str:
            sibling: ColumnClause[Any] = ColumnClause(name)
            sibling.table = cast("Any", column).table
            return self._column(sibling, **passed)

        return named

    def _column(self, column: ColumnElement[Any], *args: Any, **kwargs: Any) -> str:
        return SQLCompiler.visit_column(self, cast("ColumnClause[Any]", column), *args, **kwargs)

    def _is_absent(self, place: Place, plain: str) -> bool:
        state = self.states.column((place[0], plain))
        return state is None or place[1] not in (state.ciphertext, state.version, state.index)

    def _refuse_protected(self, select: Any, what: str) -> None:
        # Of whole entities, which have their identity, no two rows are equal but those of one row.
        for column in getattr(select, "_raw_columns", ()):
            if isinstance(getattr(column, "type", None), ProtectedType):
                raise cannot(column, what)

    def _prepare_write(self, statement: Any) -> None:
        """Leave out columns that are not there, or not written in their state; refuse what would be written unencrypted."""
        if not isinstance(statement.table, Table):
            return
        table = full_name(statement.table)
        keys = self.column_keys or []
        named = {getattr(key, "key", key) for key in _values(statement)}
        left_out = set()
        for plain in self.states.plaintexts(table):
            state = self.states.column((table, plain))
            if state is None:
                continue
            if plain in named or (plain in keys and state.ciphertext not in keys):
                raise NotSupported(
                    f"{table}.{plain} is encrypted in its row: write it as an attribute of an object in a Session,"
                    " not by INSERT or UPDATE of many rows"
                )
            if any(isinstance(getattr(one, "type", None), ProtectedType) for one in statement._returning):  # noqa: SLF001
                raise NotSupported(f"{table}.{plain} is encrypted: it cannot be in RETURNING")
            if state.phase in (Phase.SEALED, Phase.GONE):
                left_out.add(plain)
        left_out |= {name for name, plain in self.states.hidden(table).items() if self._is_absent((table, name), plain)}
        if self.column_keys is not None and left_out:
            self.column_keys = [key for key in self.column_keys if key not in left_out]


def _values(statement: Any) -> set[Any]:
    """Return the columns to which the statement itself has values, as columns or names."""
    found: set[Any] = set(statement._values or ())  # noqa: SLF001  they have no other name
    for rows in getattr(statement, "_multi_values", None) or ():
        for row in rows:
            found |= set(row if isinstance(row, dict) else ())
    found |= set(getattr(statement, "_select_names", None) or ())
    return found


def full_name(table: Table) -> str:
    """Return `schema.table`; a table without a schema is in public."""
    return f"{table.schema or 'public'}.{table.name}"


def place_of(column: Any) -> Place | None:
    """Return table and column of a column of a table or its alias; None for one of an inner SELECT."""
    table = getattr(column, "table", None)
    while isinstance(table, Alias):
        table = table.element
    return (full_name(table), column.name) if isinstance(table, Table) else None


def _other(column: Any, compiler: SQLCompiler) -> tuple[str, Callable[[str], str]]:
    """Return the SQL of the table that a column is of, under the alias `other`, and how its columns are named."""
    table = column.table
    while isinstance(table, Alias):
        table = table.element
    return f"{compiler.preparer.format_table(table)} AS other", lambda name: f"other.{compiler.preparer.quote(name)}"


C = TypeVar("C", bound=type[SQLCompiler])


def compiler_for(base: C, states: States) -> C:
    """Return a dialect's compiler that knows the states."""
    return cast("C", type(f"Protecting{base.__name__}", (ProtectingCompiler, base), {"states": states}))


@compiles(Packed)
def _compile_packed(element: Packed, compiler: Any, **kwargs: Any) -> str:
    if isinstance(compiler, ProtectingCompiler):
        return compiler.visit_kms_packed(element, **kwargs)
    _require_printing(compiler)
    return cast("str", compiler.process(element.column, **kwargs))


@compiles(Matches)
def _compile_matches(element: Matches, compiler: Any, **kwargs: Any) -> str:
    column, plain, terms = element.clauses
    state = _state_of(column, compiler)
    named = _named(column, compiler, kwargs)
    if state is None:
        return f"({named(cast('Any', column).name)} = ANY ({compiler.process(plain, **kwargs)}))"
    clear = compiler.process(plain, **kwargs) if state.clear else ""
    return state.matches(named, _other(column, compiler), compiler.process(terms, **kwargs), clear)


@compiles(IsNull)
def _compile_is_null(element: IsNull, compiler: Any, **kwargs: Any) -> str:
    (column,) = element.clauses
    state = _state_of(column, compiler)
    named = _named(column, compiler, kwargs)
    return f"({named(cast('Any', column).name)} IS NULL)" if state is None else state.is_null(named)


def _state_of(column: Any, compiler: Any) -> ProtectedColumn | None:
    if not isinstance(compiler, ProtectingCompiler):
        _require_printing(compiler)
        return None
    place = place_of(column)
    if place is None:
        raise cannot(column, "comparisons outside of the SELECT that reads the table")
    return compiler.states.column(place)


def _named(column: Any, compiler: Any, kwargs: dict[str, Any]) -> Callable[[str], str]:
    if isinstance(compiler, ProtectingCompiler):
        return compiler.named(column, kwargs)
    return lambda _: compiler.process(column, **kwargs)


def _require_printing(compiler: Any) -> None:
    """Let statements be printed, and taken apart by SQLAlchemy itself; none of that is sent."""
    if not isinstance(compiler, StrSQLCompiler):
        raise ConfigurationError("the engine is not protected: call protect() with it")
