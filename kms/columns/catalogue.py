"""What a database's catalogue says of its tables: the facts that plans are proposed from and checked against.

Definitions only, never a row of an application's table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from .database import Connection
from .errors import ColumnsError
from .state import SCHEMA

OLDEST_SERVER: Final = 150_000  # PostgreSQL 15
MOST_TABLES: Final = 5_000
MOST_COLUMNS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Attribute:
    """A column of a table."""

    name: str
    sql_type: str  # with its modifiers, as format_type() prints it
    base: str  # the type's bare name: of the elements for an array, of what is beneath for a domain
    array: bool
    category: str  # pg_type.typcategory of *base*
    not_null: bool
    generated: bool
    default: bool


@dataclass(frozen=True, slots=True)
class Index:
    """An index, also one that stands behind a constraint."""

    name: str
    columns: tuple[str, ...]  # all that it is made of; in order, those within expressions last
    unique: bool  # of plain columns, of all rows, at once: no two rows are equal in them
    primary: bool
    plain: bool  # no expression, no WHERE
    method: str  # such as btree


@dataclass(frozen=True, slots=True)
class Dependent:
    """Something in the database that is made of a column."""

    kind: str  # view, check, exclusion, foreign key, referenced, generated column, policy, trigger, ...
    name: str
    column: str


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger that is not PostgreSQL's own."""

    name: str
    function: str
    enabled: str  # pg_trigger.tgenabled: O, D, R, A
    before_row: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, or what else a plan may have named as one."""

    name: str  # schema.table
    kind: str  # pg_class.relkind
    rows: int  # as the server guesses; -1: it does not know
    partition: bool
    children: bool  # others inherit from it, and it is not partitioned
    unlogged: bool
    owned: bool  # the role has its owner's rights
    schema_create: bool  # the role may make indexes in its schema
    row_security: bool  # is active for the role
    attributes: tuple[Attribute, ...] = ()
    indexes: tuple[Index, ...] = ()
    dependents: tuple[Dependent, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    policies: tuple[str, ...] = ()
    publications: tuple[str, ...] = ()

    @property
    def is_table(self) -> bool:
        """Whether it holds rows of its own, or in partitions."""
        return self.kind in ("r", "p")

    @property
    def primary_key(self) -> tuple[str, ...]:
        """Its columns, in order; empty without one."""
        return next((index.columns for index in self.indexes if index.primary), ())

    def attribute(self, name: str) -> Attribute | None:
        """Return a column, or None."""
        return next((one for one in self.attributes if one.name == name), None)

    def identifies(self, columns: Sequence[str]) -> bool:
        """Whether no two rows can have these columns equal, and none of them NULL."""
        attributes = [self.attribute(name) for name in columns]
        if any(one is None or not one.not_null for one in attributes):
            return False
        return any(index.unique and set(index.columns) == set(columns) for index in self.indexes)

    def of(self, column: str, *kinds: str) -> list[str]:
        """Return the names of what is made of a column, of these kinds."""
        return sorted({one.name for one in self.dependents if one.column == column and one.kind in kinds})

    def searched_by(self, column: str) -> list[Index]:
        """Return the indexes by which rows are found by equality of this column, alone or with others."""
        return [index for index in self.indexes if column in index.columns and index.method in ("btree", "hash")]

    def unique_alone(self, column: str) -> bool:
        """Whether no two rows may have this column equal."""
        return any(index.unique and index.columns == (column,) for index in self.indexes)


@dataclass(frozen=True, slots=True)
class Role:
    """What the role that is logged in may do, and where."""

    name: str
    database: str
    recovering: bool  # a replica
    may_create_schema: bool  # or the schema of our own is there, and open to it
    may_hold_triggers: bool  # session_replication_role can be set


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The tables of a database, by name."""

    role: Role
    relations: dict[str, Relation] = field(default_factory=dict)

    def tables(self) -> list[Relation]:
        """Return the tables that a plan can name: no partitions, no names with a point in them."""
        return [
            one
            for _, one in sorted(self.relations.items())
            if one.is_table and not one.partition and one.name.count(".") == 1
        ]


_MINE: Final = f"""
    n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> '{SCHEMA}'
"""

_ROLE: Final = f"""
    SELECT current_user, current_database(), pg_is_in_recovery(),
        CASE WHEN to_regnamespace('{SCHEMA}') IS NULL THEN has_database_privilege(current_database(), 'CREATE')
            ELSE has_schema_privilege('{SCHEMA}', 'CREATE') END,
        has_parameter_privilege('session_replication_role', 'SET')
"""

_RELATIONS: Final = f"""
    SELECT c.oid, n.nspname || '.' || c.relname, c.relkind::text, c.reltuples::bigint, c.relispartition,
        c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid),
        c.relpersistence <> 'p', pg_has_role(c.relowner, 'USAGE'), has_schema_privilege(n.oid, 'CREATE'),
        c.relkind IN ('r', 'p') AND row_security_active(c.oid)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {_MINE} AND has_schema_privilege(n.oid, 'USAGE')
    ORDER BY 2 LIMIT {MOST_TABLES + 1}
"""  # noqa: S608

_ATTRIBUTES: Final = f"""
    SELECT a.attrelid, a.attname, format_type(a.atttypid, a.atttypmod), base.typname, t.typcategory = 'A',
        base.typcategory::text, a.attnotnull, a.attgenerated <> '', a.atthasdef OR a.attidentity <> ''
    FROM pg_attribute a
    JOIN pg_type t ON t.oid = a.atttypid
    JOIN pg_type element ON element.oid = CASE WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN t.typelem ELSE t.oid END
    JOIN pg_type base ON base.oid = CASE WHEN element.typtype = 'd' THEN element.typbasetype ELSE element.oid END
    WHERE a.attrelid = ANY(%s) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attrelid, a.attnum LIMIT {MOST_COLUMNS + 1}
"""  # noqa: S608

_INDEXES: Final = """
    SELECT i.indrelid, c.relname,
        ARRAY(SELECT a.attname FROM unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY k (attnum, n)
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum ORDER BY k.n)
        || ARRAY(SELECT DISTINCT a.attname FROM pg_depend d
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = d.refobjsubid
            WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refclassid = 'pg_class'::regclass
            AND d.refobjid = i.indrelid AND d.refobjsubid <> ALL (i.indkey[0:i.indnkeyatts - 1]) ORDER BY 1),
        i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL,
        i.indisprimary, i.indpred IS NULL AND i.indexprs IS NULL, am.amname
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am am ON am.oid = c.relam
    WHERE i.indrelid = ANY(%s) ORDER BY i.indrelid, c.relname
"""

# Whatever is made of a column is in pg_depend; indexes have a query of their own.
_DEPENDENTS: Final = """
    SELECT DISTINCT d.refobjid,
        CASE
            WHEN d.classid = 'pg_rewrite'::regclass THEN CASE v.relkind WHEN 'm' THEN 'materialized view' ELSE 'view' END
            WHEN d.classid = 'pg_constraint'::regclass THEN CASE
                WHEN con.contype = 'c' THEN 'check' WHEN con.contype = 'x' THEN 'exclusion'
                WHEN con.contype = 'f' AND con.conrelid = d.refobjid AND a.attnum = ANY (con.conkey) THEN 'foreign key'
                WHEN con.contype = 'f' THEN 'referenced' END
            WHEN d.classid = 'pg_attrdef'::regclass THEN 'generated column'
            WHEN d.classid = 'pg_policy'::regclass THEN 'policy'
            WHEN d.classid = 'pg_trigger'::regclass THEN 'trigger'
            WHEN d.classid = 'pg_proc'::regclass THEN 'function'
            WHEN d.classid = 'pg_statistic_ext'::regclass THEN 'statistics'
            WHEN d.classid = 'pg_publication_rel'::regclass THEN 'publication'
        END AS kind,
        CASE
            WHEN d.classid = 'pg_rewrite'::regclass THEN format('%%I.%%I', vn.nspname, v.relname)
            WHEN d.classid = 'pg_constraint'::regclass THEN con.conname::text
            WHEN d.classid = 'pg_attrdef'::regclass THEN ga.attname::text
            ELSE pg_describe_object(d.classid, d.objid, 0) END,
        a.attname
    FROM pg_depend d
    JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    LEFT JOIN pg_class v ON v.oid = r.ev_class
    LEFT JOIN pg_namespace vn ON vn.oid = v.relnamespace
    LEFT JOIN pg_constraint con ON d.classid = 'pg_constraint'::regclass AND con.oid = d.objid
    LEFT JOIN pg_attrdef def ON d.classid = 'pg_attrdef'::regclass AND def.oid = d.objid
    LEFT JOIN pg_attribute ga ON ga.attrelid = def.adrelid AND ga.attnum = def.adnum
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY(%s) AND d.refobjsubid > 0
        AND NOT (d.classid = 'pg_attrdef'::regclass AND ga.attnum = d.refobjsubid)
    UNION SELECT p.partrelid, 'partition key', 'partition key', a.attname
    FROM pg_partitioned_table p
    JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = ANY (p.partattrs) AND a.attnum > 0
    WHERE p.partrelid = ANY(%s)
    ORDER BY 1, 2, 3, 4
"""

_TRIGGERS: Final = """
    SELECT t.tgrelid, t.tgname, format('%%I.%%I', n.nspname, p.proname), t.tgenabled::text, t.tgtype & 3 = 3
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE t.tgrelid = ANY(%s) AND NOT t.tgisinternal ORDER BY t.tgrelid, t.tgname
"""

_POLICIES: Final = "SELECT polrelid, polname FROM pg_policy WHERE polrelid = ANY(%s) ORDER BY 1, 2"

_PUBLICATIONS: Final = """
    SELECT c.oid, p.pubname FROM pg_publication_tables p JOIN pg_namespace n ON n.nspname = p.schemaname
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename WHERE c.oid = ANY(%s) ORDER BY 1, 2
"""


def read(connection: Connection) -> Catalogue:
    """Read the catalogue of a database: its tables, views and foreign tables outside the system's schemas.

    Raises:
        ColumnsError: the server is too old, or there are more than MOST_TABLES, or MOST_COLUMNS.
    """
    if connection.info.server_version < OLDEST_SERVER:
        raise ColumnsError("the server is older than PostgreSQL 15")
    [role] = connection.execute(_ROLE).fetchall()
    relations = connection.execute(_RELATIONS.replace("%%", "%")).fetchall()
    if len(relations) > MOST_TABLES:
        raise ColumnsError(f"the database has more than {MOST_TABLES} tables")
    oids = [row[0] for row in relations]
    attributes = _by_table(connection, _ATTRIBUTES, oids)
    if sum(map(len, attributes.values())) > MOST_COLUMNS:
        raise ColumnsError(f"the database's tables have more than {MOST_COLUMNS} columns")
    indexes = _by_table(connection, _INDEXES, oids)
    dependents = _by_table(connection, _DEPENDENTS, oids)
    triggers = _by_table(connection, _TRIGGERS, oids)
    policies = _by_table(connection, _POLICIES, oids)
    publications = _by_table(connection, _PUBLICATIONS, oids)
    return Catalogue(
        Role(*role),
        {
            name: replace(
                Relation(name, *facts),
                attributes=tuple(Attribute(*row) for row in attributes.get(oid, ())),
                indexes=tuple(Index(index, tuple(columns), *rest) for index, columns, *rest in indexes.get(oid, ())),
                dependents=tuple(Dependent(*row) for row in dependents.get(oid, ()) if row[0] is not None),
                triggers=tuple(Trigger(*row) for row in triggers.get(oid, ())),
                policies=tuple(row[0] for row in policies.get(oid, ())),
                publications=tuple(row[0] for row in publications.get(oid, ())),
            )
            for oid, name, *facts in relations
        },
    )


def _by_table(connection: Connection, query: str, oids: list[int]) -> dict[int, list[tuple[Any, ...]]]:
    found: dict[int, list[tuple[Any, ...]]] = {}
    for oid, *rest in connection.execute(query, [oids] * query.count("%s")):
        found.setdefault(oid, []).append(tuple(rest))
    return found
