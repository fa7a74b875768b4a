"""Attacks on tables, made from their declarations: a new table or column is attacked without anybody writing it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any

from sqlalchemy import Column, Table

from tests.tampering.surface import Identity, Snapshot, Surface, identity
from tests.tampering.values import altered, beyond, borrowed, default_of, invented

TRIED = 60  # rows for which one is sought that they can be swapped with

Rows = dict[Identity, dict[str, Any]]


class Kind(StrEnum):
    """What is done to a table."""

    EDIT = "edit"  # one column of one row: to a little more, to another row's value, to NULL, to the default
    SWAP = "swap"  # one column of two rows, or all of them but the identity
    DELETE = "delete"  # the first, one in the middle, the last row; all of a tenant; all
    INSERT = "insert"  # a row made up, a copy under another identity or for another tenant
    STRAY = "stray"  # a copy for a tenant that does not exist
    ROLLBACK = "rollback"  # one row, or the whole table, to the earlier state


@dataclass(frozen=True)
class Attack:
    """One change of a table; *column* is empty where it is about whole rows."""

    table: str
    column: str
    kind: Kind
    what: str
    do: Callable[[Surface], None]

    def __str__(self) -> str:
        return f"{self.table}{'.' if self.column else ''}{self.column}: {self.kind} {self.what}"


class Attacks:
    """All attacks on one table that holds what *pristine* has, and once held what *earlier* has."""

    def __init__(self, table: Table, engine: str, pristine: Snapshot, earlier: Snapshot, seed: int = 0) -> None:
        self._table, self._engine = table, engine
        self._rows: Rows = pristine[table.name]
        self._earlier: Rows = earlier.get(table.name, {})
        self._random = Random(f"{seed}/{table.name}")
        self._order = sorted(self._rows, key=lambda which: [str(part) for part in which])

    def __iter__(self) -> Iterator[Attack]:
        for column in self._table.columns:
            yield from self._edits(column)
            yield from self._swaps(column)
        yield from self._whole_swap()
        yield from self._deletions()
        yield from self._insertions()
        yield from self._rollbacks()

    def _attack(self, kind: Kind, what: str, do: Callable[[Surface], None], column: str = "") -> Attack:
        return Attack(self._table.name, column, kind, what, do)

    def _pick(self, suits: Callable[[dict[str, Any]], object] = lambda _: True) -> Identity | None:
        found = [which for which in self._order if suits(self._rows[which])]
        return self._random.choice(found) if found else None

    def _edits(self, column: Column[Any]) -> Iterator[Attack]:
        for what, which, wanted in [*self._plausible(column), *self._empty(column)]:
            value = wanted
            if self._taken(which, {column.name: value}) and what.endswith("more"):
                value = beyond(column, self._engine, self._random)
            if not self._taken(which, {column.name: value}):
                do = _update(self._table.name, which, {column.name: value})
                yield self._attack(Kind.EDIT, what, do, column.name)

    def _plausible(self, column: Column[Any]) -> Iterator[tuple[str, Identity, Any]]:
        name = column.name
        which = self._pick(lambda row: row[name] is not None) or self._pick()
        if which is None:
            return
        present = self._rows[which][name]
        yield "to a little more", which, altered(column, self._engine, present, self._random)
        if (other := borrowed(name, present, self._rows.values())) is not None:
            yield "to another row's value", which, other

    def _empty(self, column: Column[Any]) -> Iterator[tuple[str, Identity, Any]]:
        """NULL and the declared default, which a MAC leaves out."""
        name, default = column.name, default_of(column, self._engine)
        full, null = self._pick(lambda row: row[name] is not None), self._pick(lambda row: row[name] is None)
        if column.nullable and full is not None:
            yield "to NULL", full, None
        if null is not None:
            yield "from NULL", null, invented(column, self._engine, self._random)
        if default is not None and (other := self._pick(_is_other(name, default))) is not None:
            yield "from a value to the default", other, default
        if default is not None and null is not None:
            yield "from NULL to the default", null, default

    def _swaps(self, column: Column[Any]) -> Iterator[Attack]:
        name = column.name
        tenant = "tenant_id" in self._table.columns
        for what, same in (("with a row of the tenant", True), ("with a row of another tenant", False)):
            if not tenant and not same:
                continue
            if (pair := self._pair(name, same=same)) is None:
                continue
            one, two = pair
            first, second = self._rows[one][name], self._rows[two][name]
            between = beyond(column, self._engine, self._random)
            yield self._attack(Kind.SWAP, what, _exchange(self._table, one, two, name, (first, second, between)), name)

    def _whole_swap(self) -> Iterator[Attack]:
        """Give each of two rows the identity of the other."""
        keys = {column.name for column in self._table.primary_key.columns}
        for what, same in (("whole rows of a tenant", True), ("whole rows of two tenants", False)):
            if (pair := self._pair(None, same=same)) is None or keys == set(self._table.columns.keys()):
                continue
            one, two = (self._rows[which] for which in pair)
            swapped = [{**new, **{name: old[name] for name in keys}} for old, new in ((one, two), (two, one))]

            def do(surface: Surface, pair: tuple[Identity, Identity] = pair, rows: Sequence[Any] = swapped) -> None:
                for which in pair:
                    surface.delete(self._table.name, which)
                for row in rows:
                    surface.insert(self._table.name, row)

            yield self._attack(Kind.SWAP, what, do)

    def _pair(self, name: str | None, *, same: bool) -> tuple[Identity, Identity] | None:
        """Two rows, of the same tenant or not, that differ in a column, or in any that is no part of the identity."""

        def tenant(which: Identity) -> Any:
            return self._rows[which].get("tenant_id")

        if name is not None and len({repr(row[name]) for row in self._rows.values()}) < 2:
            return None
        for one in self._random.sample(self._order, min(TRIED, len(self._order))):
            others = [two for two in self._order if two != one and (tenant(one) == tenant(two)) is same]
            found = [two for two in others if self._differs(one, two, name)]
            if found:
                return one, self._random.choice(found)
        return None

    def _differs(self, one: Identity, two: Identity, name: str | None) -> bool:
        """Whether two rows can be swapped, and are not the same two then."""
        first, second = self._rows[one], self._rows[two]
        if name is None:
            keys = {column.name for column in self._table.primary_key.columns}
            return any(first[other] != second[other] for other in first if other not in keys)
        if first[name] == second[name]:
            return False
        after = [{**first, name: second[name]}, {**second, name: first[name]}]
        identities = {identity(self._table, row) for row in after}
        free = len(identities) == 2 and not (identities - {one, two}) & self._rows.keys()
        return free and not (first in after and second in after)

    def _deletions(self) -> Iterator[Attack]:
        if not self._order:
            return
        places = {"the first row": self._order[0], "the last row": self._order[-1]}
        places["a row in between"] = self._order[len(self._order) // 2]
        for what, which in places.items():
            yield self._attack(Kind.DELETE, what, _delete(self._table.name, [which]))
        first = self._table.primary_key.columns[0].name
        value = self._rows[self._order[0]][first]
        group = [which for which in self._order if self._rows[which][first] == value]
        if len(group) < len(self._order):
            yield self._attack(Kind.DELETE, f"all of a {first}", _delete(self._table.name, group))
        yield self._attack(Kind.DELETE, "all", lambda surface: surface.empty(self._table.name))

    def _insertions(self) -> Iterator[Attack]:
        columns = list(self._table.columns)
        made = {column.name: invented(column, self._engine, self._random) for column in columns}
        if self._order and "tenant_id" in made:
            made["tenant_id"] = self._rows[self._order[0]]["tenant_id"]
        if identity(self._table, made) in self._rows:
            last = list(self._table.primary_key.columns)[-1]
            made[last.name] = beyond(last, self._engine, self._random)
        if identity(self._table, made) not in self._rows:
            yield self._attack(Kind.INSERT, "a made-up row", _insert(self._table.name, made))
        if not self._order:
            return
        base = self._rows[self._random.choice(self._order)]
        for column in self._table.primary_key.columns:
            others = {"for another": borrowed(column.name, base[column.name], self._rows.values())}
            others["for a new"] = beyond(column, self._engine, self._random)
            for what, value in others.items():
                if value is None or self._taken(None, copy := {**base, column.name: value}):
                    continue
                stray = column.name == "tenant_id" and what == "for a new"
                kind = Kind.STRAY if stray else Kind.INSERT
                yield self._attack(kind, f"a copy {what} {column.name}", _insert(self._table.name, copy))

    def _rollbacks(self) -> Iterator[Attack]:
        """What the same rows were; rows that had been removed; and what was not there yet."""
        changed = [which for which in self._order if self._earlier.get(which, self._rows[which]) != self._rows[which]]
        gone = [which for which in self._earlier if which not in self._rows]
        new = [which for which in self._order if which not in self._earlier]
        for which in self._random.sample(changed, min(3, len(changed))):
            before = self._earlier[which]
            what = "a row that has changed"
            yield self._attack(Kind.ROLLBACK, what, _update(self._table.name, which, before))
        for which in self._random.sample(gone, min(3, len(gone))):
            yield self._attack(Kind.ROLLBACK, "a row that was removed", _insert(self._table.name, self._earlier[which]))
        for which in self._random.sample(new, min(3, len(new))):
            yield self._attack(Kind.ROLLBACK, "a row that is new", _delete(self._table.name, [which]))
        if changed or gone or new:
            before = list(self._earlier.values())

            def do(surface: Surface) -> None:
                surface.empty(self._table.name)
                for row in before:
                    surface.insert(self._table.name, row)

            yield self._attack(Kind.ROLLBACK, "the table", do)

    def _taken(self, which: Identity | None, changes: dict[str, Any]) -> bool:
        """Whether a row with these values would have the identity of another."""
        new = identity(self._table, {**(self._rows[which] if which is not None else {}), **changes})
        return new != which and new in self._rows


def _is_other(name: str, default: Any) -> Callable[[dict[str, Any]], bool]:
    return lambda row: row[name] is not None and row[name] != default


def _update(table: str, which: Identity, changes: dict[str, Any]) -> Callable[[Surface], None]:
    return lambda surface: surface.update(table, which, changes)


def _delete(table: str, which: Sequence[Identity]) -> Callable[[Surface], None]:
    def do(surface: Surface) -> None:
        for one in which:
            surface.delete(table, one)

    return do


def _insert(table: str, row: dict[str, Any]) -> Callable[[Surface], None]:
    return lambda surface: surface.insert(table, row)


def _exchange(
    table: Table, one: Identity, two: Identity, name: str, values: tuple[Any, Any, Any]
) -> Callable[[Surface], None]:
    """Through a value between, since no two rows may have the same even for a moment."""
    first, second, between = values
    names = [column.name for column in table.primary_key.columns]

    def moved(which: Identity, value: Any) -> Identity:
        return tuple(value if part == name else old for part, old in zip(names, which, strict=True))

    def do(surface: Surface) -> None:
        surface.update(table.name, one, {name: between})
        surface.update(table.name, two, {name: first})
        surface.update(table.name, moved(one, between), {name: second})

    return do
