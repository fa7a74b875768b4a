"""A pseudonymized copy of a plan's tables, for development: SQL that psql loads into an empty database of the same schema.

All tables are read in one snapshot. Every value of a protected column gives way to a pseudonym, the same wherever the same
value stands, under one key and one scope: so tables are joined as before. What the plan does not name is copied as it is.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from kms_client import Client
from kms_client.files import whole_file
from psycopg import sql

from .batches import BATCH, Identity, Progress
from .cells import ALIAS, AS_JSON, MAX_STORED, MAX_VALUE, Cell, cells_of, cut, decrypt, document_with, row_condition
from .database import Connection, named
from .errors import ColumnsError, PlanError, WrongState
from .expand import intended
from .plan import Mode, Plan, Table
from .rows import Row, read
from .state import Known, State, known
from .tables import Attribute, attributes, identity_of, look_up

SCOPE: Final = "kms.columns.export"  # of all pseudonyms of exports
LENGTH: Final = 43  # characters of a pseudonym, all of them
TEXT_LENGTH: Final = 16  # characters of those that stand in texts, at least: 96 bits
DEADLINE: Final = 30.0  # seconds of a call, less than the database lets a transaction wait
NULL: Final = rb"\N"

_GONE: Final = (State.BLANKED, State.DROPPED)
DOMAIN: Final = "@kms.invalid"  # of pseudonyms that stand for addresses of mail; RFC 2606 has nobody there
_ADDRESS: Final = re.compile(rb"[^@\s]+@[^@\s]+")
_NETWORK: Final = 0x20010DB8 << 96  # 2001:db8::/32, RFC 3849: of documentation, and nobody's
_ESCAPES: Final = {
    ord(one): f"\\{letter}" for one, letter in zip("\\\b\f\n\r\t\v", "\\bfnrtv", strict=True)
}  # of COPY's text format
_INSERTABLE: Final = """
SELECT a.attname FROM pg_attribute a
WHERE a.attrelid = format('%%I.%%I', %s::text, %s::text)::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
ORDER BY a.attnum
"""


Form = Callable[[str, bytes], str | None]  # from a pseudonym, and the value for which it stands, to what is written


@dataclass(frozen=True, slots=True)
class Exported:
    """One table of an export."""

    table: str
    file: Path
    rows: int


@dataclass(frozen=True, slots=True)
class _Replaced:
    """A protected column, and how a pseudonym looks in it."""

    known: Known
    form: Form

    @property
    def readable(self) -> bool:
        """Whether the plaintext column counts."""
        return self.known.state not in _GONE


def export(
    connection: Connection,
    client: Client,
    plan: Plan,
    key: str,
    directory: Path,
    tables: Sequence[str],
    *,
    tell: Callable[[str, Progress], None],
) -> list[Exported]:
    """Write a file for each table, `schema.table.sql`, into a directory; each appears when it is whole.

    Args:
        connection: in autocommit mode.
        client: decrypts, where there is no plaintext any more, and makes the pseudonyms.
        plan: says which columns are replaced.
        key: resource name of a key of purpose PSEUDONYM.
        directory: is made if it is not there; no file in it is written over.
        tables: which of the plan's; none for all.
        tell: is told how many rows of a table are done.

    Raises:
        ColumnsError: a value cannot be decrypted or replaced.
        PlanError, WrongState: a table cannot be exported; says which and why.
        FileExistsError: a file is there already.
    """
    chosen = [plan.table(name) for name in tables] if tables else list(plan.tables)
    directory.mkdir(parents=True, exist_ok=True)
    made = []
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        begun, pseudonyms = known(connection), _Pseudonyms(client, key)
        copies = [
            _Copy(connection, client, plan, table, begun, pseudonyms) for table in chosen
        ]  # all are looked at first
        for copy in copies:
            file = directory / f"{copy.table}.sql"
            with whole_file(file) as writer:
                writer.write(copy.head())
                rows = 0
                for line in copy.lines():
                    writer.write(line)
                    rows += 1
                    if rows % BATCH == 0:
                        tell(copy.table, Progress(seen=rows))
                writer.write(b"\\.\n")
            made.append(Exported(copy.table, file, rows))
    return made


class _Pseudonyms:
    """The pseudonyms of one export: all of the version of the key that made the first, so that a rotation divides no values."""

    def __init__(self, client: Client, key: str) -> None:
        self._client, self._key = client, key
        self._version = 0

    def of(self, values: list[bytes]) -> list[str]:
        """Return one for each value."""
        batch = self._client.pseudonymize_batch(
            self._key, values, scope=SCOPE, length=LENGTH, version=self._version, deadline=DEADLINE
        )
        self._version = batch.version
        return batch.complete()


class _Copy:
    """One table."""

    def __init__(
        self,
        connection: Connection,
        client: Client,
        plan: Plan,
        table: Table,
        begun: Sequence[Known],
        pseudonyms: _Pseudonyms,
    ) -> None:
        self._connection, self._client, self._pseudonyms = connection, client, pseudonyms
        self.table = table.table
        catalogued = look_up(connection, table)
        self._identity = identity_of(table, catalogued)
        there = attributes(connection, self.table)
        columns = [one for one in begun if one.table == self.table]
        added = {
            name for one in columns for name in (one.column.ciphertext, one.column.version, one.column.blind_index)
        }
        fresh = [one for one in table.columns if one.column not in {begun.column.column for begun in columns}]
        if fresh:
            columns += intended(plan, table.model_copy(update={"columns": tuple(fresh)}), self._identity, catalogued)
        self._replaced = {one.column.column: _Replaced(one, _form_of(one, there)) for one in columns}
        insertable = [name for (name,) in connection.execute(_INSERTABLE, table.parts).fetchall()]
        self._plain = [name for name in insertable if name not in added and name not in self._replaced]
        # A number that stands in no document: what marks the place of a pseudonym within one.
        self._mark = uuid4().hex

    def head(self) -> bytes:
        """Return what stands before the rows."""
        names = sql.SQL(", ").join(map(sql.Identifier, [*self._plain, *self._replaced]))
        copy = sql.SQL("COPY {} ({}) FROM stdin;\n").format(named(self.table), names).as_string()
        return (
            "-- Pseudonymized by kms columns export. Load it into an empty table, as a superuser: psql -f FILE\n"
            "SET client_encoding = 'UTF8';\nSET session_replication_role = replica;\n" + copy
        ).encode()

    def lines(self) -> Iterator[bytes]:
        """Yield the rows, as COPY reads them."""
        after: Identity | None = None
        while True:
            page = read(self._connection, self.table, self._identity, self._outputs(), sql.SQL("true"), after, BATCH)
            if page.rows:
                after = page.rows[-1][0]
                yield from self._replace(page.rows)
            if page.last:
                return

    def _outputs(self) -> list[sql.Composable]:
        """Return what is read of a row: columns as they are; of each protected one whether, the rest, and its cells."""
        outputs: list[sql.Composable] = [_text(sql.Identifier(ALIAS, name)) for name in self._plain]
        for replaced in self._replaced.values():
            one = replaced.known
            there = sql.Identifier(ALIAS, one.column.column)
            holder: sql.Composable = there if replaced.readable else sql.Identifier(ALIAS, one.column.ciphertext)
            protected = row_condition(one)
            if one.column.paths:
                marks = [sql.Literal(self._marked(at).encode()) for at in range(len(one.column.paths))]
                column = one.column.column if replaced.readable else one.column.ciphertext
                holder = document_with(one, column, AS_JSON, marks)
            kept = sql.SQL("CASE WHEN {} THEN {} END")
            whole = _text(holder) if one.column.paths else sql.SQL("NULL::bytea")
            if one.column.rows is not None and one.state is not State.DROPPED:
                whole = sql.SQL("CASE WHEN {} THEN {} ELSE {} END").format(protected, whole, _text(there))
            outputs += [protected, whole]
            for cell in cells_of(one):
                value = cut(cell.plaintext, MAX_VALUE) if replaced.readable else cut(cell.stored, MAX_STORED)
                outputs.append(kept.format(protected, value))
        return outputs

    def _marked(self, at: int) -> str:
        return f'"{self._mark}-{at}"'

    def _replace(self, rows: Sequence[tuple[Identity, Row]]) -> Iterator[bytes]:
        """Return the lines of some rows: one call for each cell that is to be decrypted, and one for all pseudonyms."""
        identities = [identity for identity, _ in rows]
        columns: list[tuple[_Replaced, int, list[tuple[Cell, list[bytes | None]]]]] = []
        wanted: dict[bytes, str] = {}
        place = 2 + len(self._plain)  # behind ctid and xmin
        for replaced in self._replaced.values():
            cells = []
            for offset, cell in enumerate(cells_of(replaced.known)):
                values = [row[place + 2 + offset] for _, row in rows]
                opened = values if replaced.readable else self._opened(cell, identities, values)
                wanted |= dict.fromkeys((one for one in opened if one is not None), "")
                cells.append((cell, opened))
            columns.append((replaced, place, cells))
            place += 2 + len(cells)
        self._pseudonymize(wanted)
        for at, (_, row) in enumerate(rows):
            fields = [_field(row[2 + index]) for index in range(len(self._plain))]
            fields += [
                _field(self._value(row, replaced, place, cells, wanted, at)) for replaced, place, cells in columns
            ]
            yield b"\t".join(fields) + b"\n"

    def _opened(self, cell: Cell, rows: Sequence[Identity], stored: Sequence[bytes | None]) -> list[bytes | None]:
        there = [at for at, value in enumerate(stored) if value is not None]
        found = decrypt(
            self._client, cell, [rows[at] for at in there], [stored[at] or b"" for at in there], deadline=DEADLINE
        )
        opened: list[bytes | None] = [None] * len(stored)
        for at, value in zip(there, found, strict=True):
            if value is None:
                raise ColumnsError(f"{cell}, row {'/'.join(rows[at])}: does not decrypt; run kms columns verify")
            opened[at] = value
        return opened

    def _pseudonymize(self, wanted: dict[bytes, str]) -> None:
        if any(len(value) > MAX_VALUE for value in wanted):
            raise ColumnsError(f"{self.table}: a value is longer than {MAX_VALUE} bytes")
        if wanted:
            wanted |= dict(zip(wanted, self._pseudonyms.of(list(wanted)), strict=True))

    def _value(
        self,
        row: Row,
        replaced: _Replaced,
        place: int,
        cells: Sequence[tuple[Cell, list[bytes | None]]],
        wanted: Mapping[bytes, str],
        at: int,
    ) -> bytes | None:
        protected, whole = row[place], row[place + 1]
        if not protected:
            return bytes(whole) if whole is not None else None
        if replaced.known.column.paths:
            document: bytes | None = whole
            for number, (_, values) in enumerate(cells):
                value = values[at]
                if document is not None and value is not None:
                    pseudonym = f'"{wanted[value][:TEXT_LENGTH]}"'
                    document = document.replace(self._marked(number).encode(), pseudonym.encode())
            return document
        [(_, values)] = cells
        value = values[at]
        if value is None:
            return None
        shown = replaced.form(wanted[value], value)
        return None if shown is None else shown.encode()


def _text(value: sql.Composable) -> sql.Composable:
    return sql.SQL("convert_to({}::text, 'UTF8')").format(value)


def _field(value: bytes | None) -> bytes:
    return NULL if value is None else value.decode().translate(_ESCAPES).encode()


def _form_of(known: Known, there: Mapping[str, Attribute]) -> Form:
    """Return what makes the text of a column's value from a pseudonym.

    Raises:
        PlanError: no pseudonym fits into the column.
        WrongState: some of its rows have plaintext and others ciphertexts.
    """
    name, kind = f"{known.table}.{known.column.column}", known.sql_type
    if known.state is State.UNDOING:
        raise WrongState(f"{name}: is being undone; run kms columns undo to its end first")
    if known.column.mode is Mode.HASH_ONLY and known.state in _GONE:
        raise PlanError(f"{name}: its values are gone for good, so that nothing can stand for them")
    if kind in _FORMS:
        return _FORMS[kind]
    length = re.fullmatch(r"(?:character varying|character)\((\d+)\)", kind)
    if length is not None and int(length[1]) >= TEXT_LENGTH:
        return _as_text if int(length[1]) >= TEXT_LENGTH + len(DOMAIN) else _as_word
    attribute = there.get(known.column.column)
    if known.not_null or (attribute is not None and attribute.not_null):
        raise PlanError(f"{name}: no pseudonym fits into its type {kind}, and the column takes no NULL")
    return lambda *_: None


def _as_word(pseudonym: str, value: bytes) -> str:
    """As long as the value, so that constraints on lengths hold, but for the least and the most that there is."""
    return pseudonym[: max(TEXT_LENGTH, len(value.decode()))]


def _as_text(pseudonym: str, value: bytes) -> str:
    """What looks like an address of mail stays one, for programs and constraints that want one."""
    if _ADDRESS.fullmatch(value):
        return pseudonym[: max(TEXT_LENGTH, len(value.decode()) - len(DOMAIN))] + DOMAIN
    return _as_word(pseudonym, value)


def _raw(pseudonym: str) -> bytes:
    return urlsafe_b64decode(pseudonym + "=")


def _as_network(pseudonym: str, _: bytes) -> str:
    return str(IPv6Address(_NETWORK | int.from_bytes(_raw(pseudonym)[:12])))


_FORMS: Final[Mapping[str, Form]] = {
    "text": _as_text,
    "character varying": _as_text,
    "bytea": lambda pseudonym, _: f"\\x{pseudonym.encode().hex()}",
    "json": lambda pseudonym, _: f'"{pseudonym[:TEXT_LENGTH]}"',
    "jsonb": lambda pseudonym, _: f'"{pseudonym[:TEXT_LENGTH]}"',
    "text[]": lambda pseudonym, _: f"{{{pseudonym[:TEXT_LENGTH]}}}",
    "character varying[]": lambda pseudonym, _: f"{{{pseudonym[:TEXT_LENGTH]}}}",
    "uuid": lambda pseudonym, _: str(UUID(bytes=_raw(pseudonym)[:16], version=4)),
    "inet": _as_network,
}
