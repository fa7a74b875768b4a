"""Verifying: every ciphertext is decrypted, and compared with the plaintext where that is still there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from kms_client import Client, InvalidRequest
from kms_client.formats.columns import row_value
from psycopg import sql

from . import state
from .batches import Done, Identity, Page, Progress, forget, run
from .cells import (
    ALIAS,
    MAX_STORED,
    MAX_VALUE,
    Cell,
    cells_of,
    compute_index,
    cut,
    decrypt,
    index_version,
    row_condition,
    text_array,
    version_of,
)
from .database import Connection
from .errors import NotVerified, WrongState
from .fill import missing
from .rows import Row, read
from .state import Known, State

SAMPLE: Final = 1_000  # rows, about
NAMED: Final = 5  # rows that an error names
WITHOUT_PLAINTEXT: Final = frozenset({State.DROPPED})

Batch = Sequence[tuple[Identity, Row]]


@dataclass(frozen=True, slots=True)
class Finding:
    """A row in which a column is not what it should be."""

    row: Identity
    column: str
    fault: str


@dataclass(slots=True)
class Verify:
    """The task: columns of one table; it writes nothing but its progress."""

    client: Client
    columns: Sequence[Known]
    # Of these columns: a run with others must not go on in the middle of the table.
    name: str = field(init=False)
    table: str = field(init=False)
    identity: tuple[str, ...] = field(init=False)
    findings: list[Finding] = field(default_factory=list)  # of this run; the progress counts those of all

    def __post_init__(self) -> None:
        self.table, self.identity = self.columns[0].table, self.columns[0].identity
        names = " ".join(sorted(one.column.column for one in self.columns))
        self.name = f"verify {hashlib.sha256(names.encode()).hexdigest()[:8]}"

    def outputs(self) -> list[sql.Composable]:
        """Return what is read of a row; _Values names it."""
        found: list[sql.Composable] = []
        for one in self.columns:
            column, there = one.column, one.state not in WITHOUT_PLAINTEXT
            false = sql.SQL("false")
            ciphertext = sql.Identifier(ALIAS, column.ciphertext)
            found += [
                row_condition(one),
                sql.SQL("({} IS NOT NULL)").format(ciphertext),
                sql.SQL("({})").format(missing(one, ALIAS)) if there else false,
                _rest_differs(one) if there and column.paths else false,
                sql.Identifier(ALIAS, column.version),
                sql.SQL("NULL::bytea") if column.blind_index is None else sql.Identifier(ALIAS, column.blind_index),
            ]
            for cell in cells_of(one):
                plain = cell.plaintext if there else sql.SQL("NULL::bytea")
                found += [cut(cell.stored, MAX_STORED), cut(plain, MAX_VALUE)]
        return found

    def read(self, connection: Connection, after: Identity | None, limit: int) -> Page[Row]:
        """Return the next rows."""
        return read(connection, self.table, self.identity, self.outputs(), sql.SQL("true"), after, limit)

    def sample(self, connection: Connection) -> Sequence[tuple[Identity, Row]]:
        """Return the rows of blocks at random."""
        share = percent(connection, self.table)
        everywhere = sql.SQL("true")
        return read(connection, self.table, self.identity, self.outputs(), everywhere, None, SAMPLE, percent=share).rows

    def work(self, rows: Batch) -> list[Finding]:
        """Decrypt and compare; returns what is wrong, once for a row."""
        found: dict[Identity, Finding] = {}
        at = 2
        for one in self.columns:
            cells = cells_of(one)
            width = 6 + 2 * len(cells)
            values = [_values(identity, row[at : at + width]) for identity, row in rows]
            at += width
            for identity, fault in self._faults(one, cells, values):
                found.setdefault(identity, Finding(identity, one.column.column, fault))
        return list(found.values())

    def write(self, _connection: Connection, work: list[Finding]) -> Done:
        """Count what is wrong, as skipped, so that a run that goes on knows of it."""
        self.findings += work[: max(0, NAMED - len(self.findings))]
        return Done(skipped=len(work))

    def _faults(self, known: Known, cells: tuple[Cell, ...], rows: list[_Values]) -> list[tuple[Identity, str]]:
        faults: list[tuple[Identity, str]] = []
        for row in rows:
            if row.stored and not row.protected:
                faults.append((row.identity, "has a ciphertext, and is not one of the rows that are protected"))
            elif row.protected and row.missing:
                faults.append((row.identity, "has a plaintext without a whole ciphertext"))
            elif row.stored and row.rest_differs:
                faults.append((row.identity, "differs outside of the paths"))
        whole = [row for row in rows if row.stored and row.protected]
        lowest: dict[Identity, int] = {}
        for place, cell in enumerate(cells):
            there = [row for row in whole if row.cells[2 * place] is not None]
            faults += self._cell_faults(known, cell, there, place, lowest)
            faults += [
                (row.identity, "has a value where the ciphertext has none")
                for row in whole
                if row.cells[2 * place] is None and row.cells[2 * place + 1] is not None
            ]
        faults += [
            (row.identity, "has another version in its column than in its ciphertext")
            for row in whole
            if lowest.get(row.identity) != row.version
        ]
        return faults

    def _cell_faults(
        self, known: Known, cell: Cell, rows: list[_Values], place: int, lowest: dict[Identity, int]
    ) -> list[tuple[Identity, str]]:
        identities = [row.identity for row in rows]
        stored = [bytes(row.cells[2 * place] or b"") for row in rows]
        for row, one in zip(rows, stored, strict=True):
            version = _version(cell, one)
            lowest[row.identity] = min(version, lowest.get(row.identity, version))
        if not rows:
            return []
        if not cell.encrypted:
            compared = [(row, row.cells[2 * place + 1]) for row in rows if row.cells[2 * place + 1] is not None]
            return self._index_faults(known, [(row, plain or b"", row.cells[2 * place]) for row, plain in compared])
        faults, good = [], []
        for row, plain in zip(rows, decrypt(self.client, cell, identities, stored), strict=True):
            beside = row.cells[2 * place + 1]
            if plain is None:
                faults.append((row.identity, "does not decrypt in its row"))
            elif beside is not None and beside != plain:
                faults.append((row.identity, "decrypts to another value than stands beside it"))
            else:
                good.append((row, plain, row.index))
        if known.column.blind_index is not None:
            faults += self._index_faults(known, good)
        return faults

    def _index_faults(
        self, known: Known, rows: list[tuple[_Values, bytes, bytes | None]]
    ) -> list[tuple[Identity, str]]:
        if not rows:
            return []
        right = compute_index(
            self.client, known, [row.identity for row, _, _ in rows], [plain for _, plain, _ in rows], all_versions=True
        )
        return [
            (row.identity, "has the index of another value, or of a version that is not used any more")
            for (row, _, index), indexes in zip(rows, right, strict=True)
            if index is None or bytes(index) not in indexes
        ]


@dataclass(frozen=True, slots=True)
class _Values:
    """What is read of one column of a row; no repr of it is made, for it holds plaintext."""

    identity: Identity
    protected: bool
    stored: bool
    missing: bool
    rest_differs: bool
    version: int | None
    index: bytes | None
    cells: Sequence[bytes | None] = field(repr=False)  # for each cell: what is stored, and the plaintext beside it


def _values(identity: Identity, row: Row) -> _Values:
    protected, stored, lacking, rest_differs, version, index, *cells = row
    return _Values(identity, protected, stored, lacking, rest_differs, version, index, cells)


def verify(
    connection: Connection,
    client: Client,
    columns: Sequence[Known],
    *,
    tell: Callable[[Progress], None],
    wait: Callable[[Connection], None],
) -> Progress:
    """Verify columns of one table, first a sample of its rows and then all; `protected` ones become `verified`.

    Raises:
        NotVerified: something is not what it should be.
    """
    task = Verify(client, columns)
    _require_none(task, task.work(task.sample(connection)), None)
    progress = run(connection, task, tell=tell, wait=wait)
    forget(connection, task.name, task.table)
    _require_none(task, task.findings, progress.skipped)
    names = [one.column.column for one in columns if one.state is State.PROTECTED]
    if names:
        state.move(connection, task.table, names, State.PROTECTED, State.VERIFIED)
    return progress


def require_verifiable(columns: Sequence[Known]) -> None:
    """Check that ciphertexts of all rows are there.

    Raises:
        WrongState: not yet, or not any more.
    """
    for one in columns:
        if one.state in (State.FILLING, State.UNDOING):
            raise WrongState(f"{one.table}.{one.column.column}: is {one.state.value}; run that to its end first")


def _require_none(task: Verify, findings: Sequence[Finding], count: int | None) -> None:
    count = len(findings) if count is None else count
    if count:
        named = "; ".join(f"{one.column} of row {row_value(one.row)} {one.fault}" for one in findings[:NAMED])
        raise NotVerified(f"{task.table}: {count} rows are not what they should be{': ' if named else ''}{named}")


def percent(connection: Connection, table: str) -> float:
    """Return how much of a table is a sample, as the server guesses its size."""
    schema, _, name = table.partition(".")
    [(rows,)] = connection.execute(
        "WITH named AS (SELECT format('%%I.%%I', %s::text, %s::text)::regclass AS oid)"
        " SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::float8 FROM pg_class c WHERE c.relkind = 'r'"
        " AND c.oid IN (SELECT oid FROM named UNION SELECT relid FROM named, pg_partition_tree(oid))",
        (schema, name),
    ).fetchall()
    return min(100.0, 100.0 * SAMPLE / max(float(rows), 1.0))


def _version(cell: Cell, stored: bytes) -> int:
    """Return the version that stands in what is stored; 0, which none has, if there is none."""
    if not cell.encrypted:
        return index_version(stored)
    try:
        return version_of(cell.ciphertext(stored))
    except InvalidRequest:
        return 0


def _rest_differs(known: Known) -> sql.Composable:
    """Compare, in SQL, what the documents hold elsewhere than at the paths."""
    plain: sql.Composable = sql.Identifier(ALIAS, known.column.column)
    stored: sql.Composable = sql.Identifier(ALIAS, known.column.ciphertext)
    whole = plain, stored
    for path in known.column.paths:
        plain, stored = (
            # Only where there is something: jsonb_set() fails at a scalar, and at a key of an array.
            sql.SQL(
                "jsonb_set_lax({document}, {path}, CASE WHEN {whole} #> {path} IS NOT NULL THEN 'null'::jsonb END,"
                " false, 'return_target')"
            ).format(document=document, path=text_array(path), whole=original)
            for document, original in zip((plain, stored), whole, strict=True)
        )
    return sql.SQL("({plain} IS NOT NULL AND {plain}::text IS DISTINCT FROM {stored}::text)").format(
        plain=plain, stored=stored
    )
