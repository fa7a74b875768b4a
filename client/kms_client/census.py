"""Counting stored ciphertexts by key version without decrypting, for report_census().

Only the first 22 bytes are looked at (docs/wire-format.md): whatever begins like a ciphertext of the key counts, also
where it is cut short or of a suite of a later release. Counting too much keeps a version alive for longer; counting too
little would let it be destroyed while it is needed.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, Literal
from uuid import UUID

from .formats.ciphertext import FORMAT, HEADER_LENGTH, TEXT_PREFIX
from .formats.errors import invalid

# What one report may name; a column may hold anything.
MOST_VERSIONS: Final = 2_000

Dialect = Literal["postgresql", "sqlite"]

_HEADER: Final = struct.Struct(">BB16sI")  # format, suite, key id, version
_TEXT_HEAD: Final = len(TEXT_PREFIX) + 32  # characters of the text form that hold the 22 bytes and two more
_BYTES_PREFIX: Final = TEXT_PREFIX.encode()


def _uid(key_uid: str | UUID) -> bytes:
    try:
        return (key_uid if isinstance(key_uid, UUID) else UUID(key_uid)).bytes
    except ValueError as error:
        raise invalid("key_uid", "must be the key's uid, a UUID") from error


def _head(value: bytes | bytearray | memoryview | str) -> bytes:
    """Return the bytes that a header would be, for both forms of a ciphertext."""
    if isinstance(value, str):
        form = value[:_TEXT_HEAD].encode("ascii", "replace")
    elif isinstance(value, (bytes, bytearray, memoryview)):
        form = bytes(value[:_TEXT_HEAD])
        if not form.startswith(_BYTES_PREFIX):
            return form
    else:
        raise TypeError(f"a ciphertext must be bytes, or text in its text form, not {type(value).__name__}")
    body = form.removeprefix(_BYTES_PREFIX)
    if len(body) == len(form):
        return b""
    try:
        return base64.b64decode(body + b"=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        return b""


class Tally:
    """Counts ciphertexts of one key by version as they are added, in either form; what else it is given counts apart."""

    def __init__(self, key_uid: str | UUID) -> None:
        """Begin with nothing, for the key with this `Key.uid`.

        Raises:
            InvalidRequest: that is no UUID.
        """
        self._key = _uid(key_uid)
        self._counts: Counter[int] = Counter()
        self.foreign = 0  # ciphertexts of other keys
        self.unreadable = 0  # what is no ciphertext

    def add(self, value: bytes | bytearray | memoryview | str) -> None:
        """Count one stored value.

        Raises:
            InvalidRequest: there are more versions than a report may name: the column holds forged ciphertexts.
            TypeError: neither bytes nor text, such as None: leave NULL out.
        """
        head = _head(value)
        if len(head) < HEADER_LENGTH or head[0] != FORMAT:
            self.unreadable += 1
            return
        _, _, key, version = _HEADER.unpack_from(head)
        if key != self._key:
            self.foreign += 1
        elif version == 0:
            self.unreadable += 1
        elif version not in self._counts and len(self._counts) == MOST_VERSIONS:
            raise invalid("counts", f"must have at most {MOST_VERSIONS} versions")
        else:
            self._counts[version] += 1

    @property
    def counts(self) -> dict[int, int]:
        """How many ciphertexts of the key there are of each version, by number."""
        return dict(sorted(self._counts.items()))


def _quoted(name: str, dialect: Dialect) -> str:
    """Quote one identifier; both dialects double a quote inside.

    Raises:
        InvalidRequest: it is empty, holds NUL, or is longer than PostgreSQL takes without cutting it.
    """
    if not name or "\0" in name:
        raise invalid("identifier", "must not be empty or hold NUL")
    if dialect == "postgresql" and len(name.encode()) > 63:
        raise invalid("identifier", "must have at most 63 bytes")
    return '"' + name.replace('"', '""') + '"'


def count_query(dialect: Dialect, table: str | tuple[str, str], column: str) -> str:
    """Return the SQL that counts the ciphertexts of a binary column by key and version; read_counts() reads its rows.

    *table* is a name or a schema and a name; a dot inside of a name is part of it. The query reads the whole table once
    and has a row for each key, version and suite, `key_uid` (16 bytes), `version` (4 bytes, big-endian) and `ciphertexts`,
    and one for all that is no ciphertext, whose key_uid is NULL. The text form is not counted, but noticed: use Tally.

    Raises:
        InvalidRequest: an identifier is empty, holds NUL, or has more than 63 bytes for PostgreSQL.
        ValueError: another dialect.
    """
    if dialect == "postgresql":
        # A literal with a backslash would mean something else where standard_conforming_strings is off.
        literal, stored = "decode('{}', 'hex')", "{0}"
    elif dialect == "sqlite":
        # SQLite's columns have no fixed type: text is looked at as its bytes, which may be those of UTF-16.
        literal = "X'{}'"
        text_form = f"substr({{0}}, 1, {len(TEXT_PREFIX)}) = '{TEXT_PREFIX}'"
        stored = f"CASE WHEN {text_form} THEN X'{_BYTES_PREFIX.hex()}' ELSE CAST({{0}} AS BLOB) END"
    else:
        raise ValueError(f"the dialect must be postgresql or sqlite, not {dialect!r}")
    names = (table,) if isinstance(table, str) else table
    source = ".".join(_quoted(name, dialect) for name in names)
    # Qualified, for SQLite takes a bare quoted name that no column has for a text, and would count nothing.
    value = stored.format(f"t.{_quoted(column, dialect)}")
    is_header = f"substr(v, 1, 1) = {literal.format(f'{FORMAT:02x}')} AND length(v) >= {HEADER_LENGTH}"
    is_text = f"substr(v, 1, {len(_BYTES_PREFIX)}) = {literal.format(_BYTES_PREFIX.hex())}"
    head = (
        f"CASE WHEN {is_header} THEN substr(v, 1, {HEADER_LENGTH})"
        f" WHEN {is_text} THEN substr(v, 1, {len(_BYTES_PREFIX)}) END"
    )
    # Each row is grouped by one value, and only what comes of that is taken apart: a third faster in SQLite.
    return (
        f"SELECT CASE WHEN length(head) = {HEADER_LENGTH} THEN substr(head, 3, 16) ELSE head END AS key_uid,"  # noqa: S608 - names are quoted
        f" CASE WHEN length(head) = {HEADER_LENGTH} THEN substr(head, 19, 4) END AS version, ciphertexts"
        f" FROM (SELECT {head} AS head, count(*) AS ciphertexts"
        f" FROM (SELECT {value} AS v FROM {source} AS t) AS stored WHERE v IS NOT NULL GROUP BY 1) AS heads"
    )


def read_counts(rows: Iterable[tuple[Any, Any, int]], key_uid: str | UUID) -> dict[int, int]:
    """Return how many ciphertexts of one key there are of each version, from the rows of count_query().

    Raises:
        InvalidRequest: the column holds ciphertexts in text form, which the query cannot count, or *key_uid* is no UUID.
    """
    wanted = _uid(key_uid)
    counts: Counter[int] = Counter()
    for key, version, count in rows:
        found = None if key is None else bytes(key)
        if found == _BYTES_PREFIX:
            raise invalid("rows", f"{count} values are ciphertexts in text form: count them with Tally")
        if found == wanted:
            number = int.from_bytes(bytes(version), "big")
            counts[number] += int(count)
    counts.pop(0, None)  # no version has this number
    return dict(sorted(counts.items()))
