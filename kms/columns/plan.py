"""The plan: which columns of a database are protected, how, under which keys (docs/columns.md).

A YAML file, validated here; `kms columns schema` prints its JSON Schema. Nothing secret is in it.
"""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from .errors import PlanError

LARGEST: Final = 1 << 20  # bytes of a plan

_SLUG: Final = re.compile(r"[a-z][a-z0-9-]{0,61}[a-z0-9]")
_KEY: Final = re.compile(r"(tenants/[a-z][a-z0-9-]{0,61}[a-z0-9]/keys/)?[a-z][a-z0-9-]{0,61}[a-z0-9]")


def _identifier(name: str) -> str:
    if not name or len(name.encode()) > 63 or "\0" in name:
        raise ValueError("must be an SQL identifier: 1 to 63 bytes, written as the catalogue has it, without quotes")
    return name


def _table(name: str) -> str:
    parts = name.split(".")
    if len(parts) != 2:
        raise ValueError("must be schema.table, such as public.users")
    for part in parts:
        _identifier(part)
    return name


def _key(name: str) -> str:
    if not _KEY.fullmatch(name):
        raise ValueError("must be a key's id, such as crm, or tenants/{tenant}/keys/{key}")
    return name


def _slug(name: str) -> str:
    if not _SLUG.fullmatch(name):
        raise ValueError("must be a slug: lower-case letters, digits and hyphens, 2 to 63 characters")
    return name


Identifier = Annotated[str, AfterValidator(_identifier)]
TableName = Annotated[str, AfterValidator(_table)]
KeyId = Annotated[str, AfterValidator(_key)]
Slug = Annotated[str, AfterValidator(_slug)]
Text = Annotated[str, StringConstraints(max_length=1_000)]


class Level(StrEnum):
    """How sensitive a column is; `restricted` in other people's catalogues is secret."""

    PUBLIC = "public"
    INTERNAL = "internal"
    CONFIDENTIAL = "confidential"
    SECRET = "secret"  # noqa: S105  a level


class Mode(StrEnum):
    """How a column is protected."""

    RANDOMIZED = "randomized"  # equal values look different; found by nothing
    BLIND_INDEX = "blind_index"  # randomized, and a keyed hash beside it by which equal values are found
    DETERMINISTIC = "deterministic"  # equal values of the column have equal ciphertexts
    HASH_ONLY = "hash_only"  # a keyed hash stands for the value, which cannot be had back
    TOKENIZED = "tokenized"
    FORMAT_PRESERVING = "format_preserving"


UNSUPPORTED: Final = {Mode.TOKENIZED, Mode.FORMAT_PRESERVING}


class Normaliser(StrEnum):
    """What is made equal before values are hashed for search (kms/core/normalisation.py)."""

    NONE = "none"  # nothing: byte for byte
    TEXT = "text"  # NFKC, trimmed
    CASELESS = "caseless"  # NFKC, case folded, trimmed
    EMAIL = "email"
    PHONE = "phone"


class Plaintext(StrEnum):
    """What becomes of the plaintext column once everything is verified, each on a command of its own."""

    DROP = "drop"  # blanked, then dropped
    BLANK = "blank"  # blanked, and kept empty for programs that name it
    KEEP = "keep"  # kept: for what has to be tried out, and protects nothing


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Index(_Model):
    """A blind index: under which key, of which column, what is made equal, and how long."""

    key: KeyId
    normaliser: Normaliser = Normaliser.NONE
    # Bytes of the hash: shorter ones have more false hits, and leak less.
    length: Annotated[int, Field(ge=4, le=32)] = 16
    # No two rows may have equal values (after normalisation), as the plaintext column's own constraint had it.
    unique: bool = False
    # What the hashes are bound to, schema.table.column unless told otherwise; two columns with the same one can be joined.
    scope: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None


class Rows(_Model):
    """Which rows of a table are protected, where a row says so itself: those whose column is one of these, as text."""

    column: Identifier
    values: Annotated[tuple[str, ...], Field(min_length=1, max_length=100)]


class Column(_Model):
    """One column that is protected."""

    column: Identifier
    classification: Level
    mode: Mode
    key: KeyId
    index: Index | None = None
    # For jsonb: only what stands at these places is encrypted, such as [[oauth, token], [pin]]; else the whole value.
    paths: Annotated[
        tuple[Annotated[tuple[str, ...], Field(min_length=1, max_length=16)], ...], Field(max_length=64)
    ] = ()
    rows: Rows | None = None
    plaintext: Plaintext = Plaintext.DROP
    # Names of the columns that are added; made from the column's name unless told otherwise.
    ciphertext_column: Identifier | None = None
    version_column: Identifier | None = None
    index_column: Identifier | None = None
    # Equality of few different values is borne: without it, `check` refuses an index for such a column.
    accept_leakage: bool = False
    comment: Text = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.mode in UNSUPPORTED:
            raise ValueError(f"mode {self.mode.value} is not there yet: no cipher of the daemon does it")
        if (self.mode in (Mode.BLIND_INDEX, Mode.HASH_ONLY)) != (self.index is not None):
            raise ValueError("index must be given for the modes blind_index and hash_only, and for no other")
        if self.paths and self.mode is not Mode.RANDOMIZED:
            raise ValueError("paths are for mode randomized only")
        if any(a[: len(b)] == b for a in self.paths for b in self.paths if a is not b):
            raise ValueError("no path may lie within another, or be there twice")
        if self.rows is not None and self.plaintext is Plaintext.DROP:
            raise ValueError("rows that are not protected need the column: plaintext must be blank or keep")
        return self

    @property
    def ciphertext(self) -> str:
        """The column that holds the ciphertexts, or the hashes of mode hash_only."""
        return self.ciphertext_column or shortened(self.column, "_hash" if self.mode is Mode.HASH_ONLY else "_ct")

    @property
    def version(self) -> str:
        """The column that holds the key versions: of the ciphertext, or of the index key for mode hash_only."""
        return self.version_column or shortened(self.column, "_kv")

    @property
    def blind_index(self) -> str | None:
        """The column that holds the blind index; None for other modes."""
        if self.mode is not Mode.BLIND_INDEX:
            return None
        return self.index_column or shortened(self.column, "_bi")


class Table(_Model):
    """One table with columns that are protected."""

    table: TableName
    # The columns that tell rows apart, and that ciphertexts are bound to; the primary key unless told otherwise.
    identity: Annotated[tuple[Identifier, ...], Field(max_length=8)] = ()
    columns: Annotated[tuple[Column, ...], Field(min_length=1, max_length=200)]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [column.column for column in self.columns]
        names += [
            name for column in self.columns for name in (column.ciphertext, column.version, column.blind_index) if name
        ]
        if len(set(names)) < len(names):
            raise ValueError("two columns have one name")
        if set(self.identity) & set(names):
            raise ValueError("a column of the identity cannot be protected: ciphertexts are bound to it")
        return self

    @property
    def parts(self) -> tuple[str, str]:
        """Schema and table."""
        schema, _, table = self.table.partition(".")
        return schema, table


class Expiry(StrEnum):
    """What becomes of a row, or of a column's value, whose days are over."""

    DELETE = "delete"  # the row
    BLANK = "blank"  # the value
    PSEUDONYMIZE = "pseudonymize"  # a keyed hash takes the value's place


class CatalogRule(_Model):
    """What is known of a column, or of a table's every column ('*'): the documents' data_classification."""

    table: TableName
    column: Identifier | Literal["*"]
    level: Level
    personal: bool = False
    health: bool = False
    encryption_required: bool = False
    keep_days: Annotated[int, Field(ge=1, le=36_500)] | None = None
    # The column that says how old a row is; needed for keep_days to be enforced.
    age: Identifier | None = None
    on_expiry: Expiry | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.on_expiry is not None and (self.keep_days is None or self.age is None):
            raise ValueError("on_expiry needs keep_days and age")
        if self.column == "*" and self.on_expiry in (Expiry.BLANK, Expiry.PSEUDONYMIZE):
            raise ValueError("blank and pseudonymize are for one column; '*' can be deleted only")
        return self


class Plan(_Model):
    """A whole plan."""

    version: Literal[1]
    tenant: Slug
    tables: Annotated[tuple[Table, ...], Field(max_length=1_000)] = ()
    catalog: Annotated[tuple[CatalogRule, ...], Field(max_length=10_000)] = ()

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [table.table for table in self.tables]
        if len(set(names)) < len(names):
            raise ValueError("a table is there twice")
        rules = [(rule.table, rule.column) for rule in self.catalog]
        if len(set(rules)) < len(rules):
            raise ValueError("a catalog rule is there twice")
        return self

    def key_name(self, key: str) -> str:
        """Return a key's resource name."""
        return key if "/" in key else f"tenants/{self.tenant}/keys/{key}"

    def table(self, name: str) -> Table:
        """Return a table of the plan.

        Raises:
            PlanError: it is not in it.
        """
        for table in self.tables:
            if table.table == name:
                return table
        raise PlanError(f"table {name} is not in the plan")


def shortened(name: str, suffix: str) -> str:
    """Return an identifier of at most 63 bytes: *name* and *suffix*, or a beginning, a digest and *suffix*."""
    if len((name + suffix).encode()) <= 63:
        return name + suffix
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    begin = name.encode()[: 63 - len(suffix.encode()) - 9].decode(errors="ignore")
    return f"{begin}_{digest}{suffix}"


def load(path: Path) -> Plan:
    """Read and validate a plan.

    Raises:
        PlanError: the file cannot be read, is no YAML, or breaks a rule; says which field and which rule.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise PlanError(f"{path}: {error.strerror or error}") from error
    if len(data) > LARGEST:
        raise PlanError(f"{path}: larger than {LARGEST} bytes")
    return parse(data, str(path))


def parse(data: bytes, source: str) -> Plan:
    """Validate a plan; *source* is what errors call it.

    Raises:
        PlanError: it is no YAML, or breaks a rule; says which field and which rule.
    """
    try:
        raw: Any = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        raise PlanError(f"{source}: no YAML{where}") from error
    try:
        return Plan.model_validate(raw)
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, one['loc'])) or 'plan'}: {one['msg'].removeprefix('Value error, ')}"
            for one in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise PlanError(f"{source}: " + "; ".join(lines)) from error
