"""An engine whose protected columns follow their state: read at the beginning of each transaction, used in each statement."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeGuard, TypeVar, cast

from sqlalchemy import Engine, event
from sqlalchemy.engine import Connection, CursorResult, Dialect
from sqlalchemy.engine.cursor import BufferedRowCursorFetchStrategy, CursorFetchStrategy
from sqlalchemy.util import await_only

from ..fields import AsyncEncrypting, AsyncFieldCipher, Encrypting, FieldCipher
from ..formats.errors import Conflict, NotSupported
from ..protected_columns import EXISTS, STATES, Phase, ProtectedColumn, read_states, unpack
from ..tls import ConfigurationError
from .compiler import ProtectingCompiler, compiler_for
from .types import Place, ProtectedType, Wanted

T = TypeVar("T")

_QUOTED: Final = (
    "array_to_string(ARRAY(SELECT t::regclass::text FROM unnest(ARRAY[{}]) t WHERE to_regclass(t) IS NOT NULL), ',')"
)


def is_async(kms: Encrypting | AsyncEncrypting) -> TypeGuard[AsyncEncrypting]:
    """Whether its methods are coroutines."""
    return inspect.iscoroutinefunction(kms.encrypt_batch)


class Protection:
    """The states of an engine's protected columns, and the daemon that opens and closes them."""

    def __init__(
        self, engine: Engine, kms: Encrypting | AsyncEncrypting, columns: Mapping[Place, Mapping[str, str]]
    ) -> None:
        """Prepare *engine*.

        Args:
            engine: of the psycopg dialect.
            kms: a Client or a Local; of asyncio where the engine belongs to an AsyncEngine.
            columns: the columns that are, or will be, protected; for each those that are added, by their role.

        Raises:
            ConfigurationError: another dialect, or errors would show parameters.
        """
        if (engine.dialect.name, engine.dialect.driver.removesuffix("_async")) != ("postgresql", "psycopg"):
            raise ConfigurationError("protected columns need an engine of postgresql+psycopg")
        if not engine.hide_parameters:
            raise ConfigurationError("create_engine() needs hide_parameters=True: errors would show plaintext")
        self._engine, self._kms, self._columns = engine, kms, columns
        self._states: dict[Place, ProtectedColumn] = {}
        self._lock = threading.RLock()
        self._forget: list[Callable[[], None]] = [engine.clear_compiled_cache]
        self._hidden: dict[str, dict[str, str]] = {}
        self._plain: dict[str, tuple[str, ...]] = {}
        for (table, column), added in columns.items():
            self._hidden.setdefault(table, {}).update(dict.fromkeys(added.values(), column))
            self._plain[table] = (*self._plain.get(table, ()), column)
        engine.dialect.statement_compiler = compiler_for(engine.dialect.statement_compiler, self)
        event.listen(engine, "begin", self._begin)
        event.listen(engine, "before_execute", self._before_execute)
        event.listen(engine, "before_cursor_execute", self._before_cursor_execute, retval=True)
        event.listen(engine, "after_cursor_execute", self._after_cursor_execute)

    # ---- States, as the compiler asks for them ----

    @property
    def dialect(self) -> Dialect:
        """The dialect of the engine, and of no other one."""
        return self._engine.dialect

    def current(self) -> object:
        """Return what is another object as soon as any state is another."""
        return self._states

    def column(self, place: Place) -> ProtectedColumn | None:
        """Return a column's state; None where its protection has not begun."""
        return self._states.get(place)

    def hidden(self, table: str) -> dict[str, str]:
        """Return the columns that are added to a table, and of which plaintext column each is."""
        return self._hidden.get(table, {})

    def plaintexts(self, table: str) -> tuple[str, ...]:
        """Return the plaintext columns of a table that are, or will be, protected."""
        return self._plain.get(table, ())

    def on_change(self, forget: Callable[[], None]) -> None:
        """Have *forget* called when states change, for statements that were compiled before."""
        self._forget.append(forget)

    def _begin(self, connection: Connection) -> None:
        """Read the states; lock the tables of columns that have none, so that none begins before the transaction ends."""
        if self._states.keys() == self._columns.keys() and all(s.phase is Phase.GONE for s in self._states.values()):
            return  # dropped is for ever
        cursor = connection.connection.cursor()
        try:
            states = self._read(cursor)
            unknown = sorted({table for table, column in self._columns if (table, column) not in states})
            if unknown:
                cursor.execute("SELECT " + _QUOTED.format(", ".join(map(_literal, unknown))))
                [[tables]] = cursor.fetchall()
                if tables:
                    cursor.execute(f"LOCK TABLE {tables} IN ACCESS SHARE MODE")
                    states = self._read(cursor)
        finally:
            cursor.close()
        with self._lock:
            if states != self._states:
                self._states = states
                self._forget_statements()

    def _forget_statements(self) -> None:
        # One that another thread keeps nevertheless is never sent: it was compiled for other states.
        with self._lock:
            for forget in self._forget:
                forget()

    def _read(self, cursor: Any) -> dict[Place, ProtectedColumn]:
        if not self._states:
            cursor.execute(EXISTS)
            [[exists]] = cursor.fetchall()
            if not exists:
                return {}
        cursor.execute(STATES)
        states = read_states(cursor.fetchall(), self._columns)
        for place, state in states.items():
            expected = self._columns[place]
            for role, name in (("ciphertext", state.ciphertext), ("version", state.version), ("index", state.index)):
                if name not in (expected[role], None):
                    raise ConfigurationError(f"{'.'.join(place)}: its {role} column is {name}, not {expected[role]}")
        return states

    def _before_execute(self, connection: Connection, *_: Any) -> None:
        if not connection.in_transaction():
            connection.begin()  # statements are compiled after this, for the states that it has read

    # ---- The daemon ----

    def cipher(self, state: ProtectedColumn) -> FieldCipher | AsyncFieldCipher:
        """Return the cipher of a column."""
        if is_async(self._kms):
            return AsyncFieldCipher(self._kms, state.field)
        return FieldCipher(cast("Encrypting", self._kms), state.field)

    def _before_cursor_execute(
        self, _connection: Connection, _cursor: Any, statement: str, parameters: Any, context: Any, _many: bool
    ) -> tuple[str, Any]:
        """Exchange values that are searched for what finds them.

        Raises:
            Conflict: another thread has seen a column's state change while this statement was compiled; nothing was sent.
        """
        compiled = context.compiled
        if isinstance(compiled, ProtectingCompiler) and compiled.seen is not self._states:
            self._forget_statements()
            raise Conflict("a protected column has changed its state: repeat the transaction")
        if isinstance(parameters, Mapping):
            if any(isinstance(value, Wanted) for value in parameters.values()):
                parameters = {name: self._terms(value) for name, value in parameters.items()}
        elif any(isinstance(row, Mapping) and any(isinstance(v, Wanted) for v in row.values()) for row in parameters):
            raise NotSupported("a statement that searches an encrypted column is executed once, not for many rows")
        return statement, parameters

    def _terms(self, value: Any) -> Any:
        if not isinstance(value, Wanted):
            return value
        state = self._states[value.place]
        return waited(self.cipher(state).search_terms([one.encode() for one in value.values]))

    def _after_cursor_execute(self, _connection: Connection, cursor: Any, *others: Any) -> None:
        """Have the rows of a result opened in batches, as they are fetched."""
        context = others[2]
        compiled = context.compiled
        if not isinstance(compiled, ProtectingCompiler) or not compiled.packed or cursor.description is None:
            return
        places = [
            (at, state, entry.type)
            for at, entry in enumerate(compiled._result_columns)  # noqa: SLF001  the types of a result in their order
            if isinstance(entry.type, ProtectedType)
            and entry.type.place is not None
            and (state := compiled.packed.get(entry.type.place)) is not None
        ]
        options = context.execution_options
        inner: CursorFetchStrategy = context.cursor_fetch_strategy
        if context._is_server_side or options.get("stream_results", False):  # noqa: SLF001
            inner = BufferedRowCursorFetchStrategy(cursor, options)
        context.cursor_fetch_strategy = _Opening(inner, lambda rows: self._opened(rows, places))

    def _opened(
        self, rows: Sequence[Any], places: Sequence[tuple[int, ProtectedColumn, ProtectedType]]
    ) -> list[tuple[Any, ...]]:
        made = [list(row) for row in rows]
        for at, state, kind in places:
            sealed, plain, owners = unpack([row[at] for row in made])
            rows_of = None if state.field.deterministic else owners
            opened = waited(self.cipher(state).decrypt_batch(sealed, rows_of)) if any(sealed) else sealed
            for row, plaintext, clear in zip(made, opened, plain, strict=True):
                value = clear if plaintext is None else plaintext
                row[at] = None if value is None else kind.from_plaintext(value)
        return [tuple(row) for row in made]


class _Opening(CursorFetchStrategy):
    """Rows of another strategy, opened."""

    __slots__ = ("_inner", "_open")

    def __init__(self, inner: CursorFetchStrategy, opened: Callable[[Sequence[Any]], list[tuple[Any, ...]]]) -> None:
        self._inner, self._open = inner, opened

    def yield_per(self, result: CursorResult[Any], dbapi_cursor: Any, num: int) -> None:
        self._inner.yield_per(result, dbapi_cursor, num)
        chosen = result.cursor_strategy
        if chosen is not self and isinstance(chosen, CursorFetchStrategy):  # a new one, or the same with other bounds
            self._inner, result.cursor_strategy = chosen, self

    def fetchone(self, result: CursorResult[Any], dbapi_cursor: Any, hard_close: bool = False) -> Any:
        row = self._inner.fetchone(result, dbapi_cursor, hard_close)
        return row if row is None else self._open([row])[0]

    def fetchmany(self, result: CursorResult[Any], dbapi_cursor: Any, size: int | None = None) -> Any:
        return self._open(self._inner.fetchmany(result, dbapi_cursor, size))

    def fetchall(self, result: CursorResult[Any], dbapi_cursor: Any) -> Any:
        return self._open(self._inner.fetchall(result, dbapi_cursor))


def waited(value: T | Awaitable[T]) -> T:
    """Return an answer of either client; an AsyncClient's is waited for in the greenlet of the AsyncEngine's call."""
    if inspect.isawaitable(value):
        return cast("T", await_only(value))
    return value


def _literal(text: str) -> str:
    """Return a name as an SQL string that to_regclass reads."""
    schema, _, table = text.partition(".")
    quoted = ".".join('"{}"'.format(part.replace('"', '""')) for part in (schema, table))
    return "'{}'".format(quoted.replace("'", "''"))
