"""Reads Wycheproof's files, and refuses whatever in them it was not told about."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.vector_data import VECTORS, WHY_NOT

_FILE_FIELDS = {"algorithm", "schema", "numberOfTests", "header", "notes", "testGroups"}
_GROUP_FIELDS = {"type", "source", "tests"}
_CASE_FIELDS = {"tcId", "comment", "result"}


class NotUnderstood(Exception):
    """The file holds something that its reader does not know, and so might read wrongly."""


@dataclass(frozen=True)
class Form:
    """What a file may hold, beyond the fields that all have."""

    algorithm: str
    schema: str
    group_type: str
    sources: frozenset[tuple[str, str]]
    group_numbers: frozenset[str]
    case_bytes: frozenset[str]
    flags: frozenset[str]
    results: frozenset[str] = frozenset({"valid", "invalid"})
    flags_may_be_absent: bool = False
    group_texts: frozenset[str] = frozenset()
    case_texts: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Case:
    """One case; *numbers* are those of its group, *data* its fields decoded from hex, *texts* those of both as they are."""

    number: int
    comment: str
    result: str
    flags: frozenset[str]
    numbers: dict[str, int]
    data: dict[str, bytes]
    texts: dict[str, str] = field(default_factory=dict)


def load(name: str, form: Form) -> list[Case]:
    """Read a whole file; a missing folder skips the test, a missing file in it does not.

    Raises:
        NotUnderstood: a field, flag, version, type or result that *form* does not list.
    """
    if not VECTORS.is_dir():
        pytest.skip(WHY_NOT)
    return parse(json.loads((VECTORS / "wycheproof" / name).read_text(encoding="utf-8")), form)


def parse(document: dict[str, Any], form: Form) -> list[Case]:
    """Read a decoded file; see load()."""
    _expect(set(document) == _FILE_FIELDS, f"fields {sorted(document)}")
    _expect(document["algorithm"] == form.algorithm, f"algorithm {document['algorithm']}")
    _expect(document["schema"] == form.schema, f"schema {document['schema']}")
    _expect(set(document["notes"]) == form.flags, f"flags {sorted(document['notes'])}")
    cases = [case for group in document["testGroups"] for case in _group(group, form)]
    _expect(len(cases) == document["numberOfTests"], f"number of tests {document['numberOfTests']}")
    _expect([case.number for case in cases] == list(range(1, len(cases) + 1)), "numbering")
    return cases


def _group(group: dict[str, Any], form: Form) -> Iterator[Case]:
    _expect(set(group) == _GROUP_FIELDS | form.group_numbers | form.group_texts, f"fields of a group {sorted(group)}")
    _expect(group["type"] == form.group_type, f"type {group['type']}")
    source = (group["source"]["name"], group["source"]["version"])
    _expect(set(group["source"]) == {"name", "version"} and source in form.sources, f"source {group['source']}")
    numbers = {}
    for name in form.group_numbers:
        _expect(type(group[name]) is int, f"{name} {group[name]!r}")
        numbers[name] = group[name]
    texts = _texts(group, form.group_texts)
    for case in group["tests"]:
        yield _case(case, numbers, texts, form)


def _case(case: dict[str, Any], numbers: dict[str, int], texts: dict[str, str], form: Form) -> Case:
    fields = set(case)
    if form.flags_may_be_absent:
        fields.add("flags")
    _expect(fields == _CASE_FIELDS | {"flags"} | form.case_bytes | form.case_texts, f"fields of a case {sorted(case)}")
    flags = frozenset(case.get("flags", ()))
    _expect(flags <= form.flags, f"flags {sorted(flags)}")
    _expect(case["result"] in form.results, f"result {case['result']}")
    data = {}
    for name in form.case_bytes:
        data[name] = bytes.fromhex(case[name])
        _expect(data[name].hex() == case[name], f"{name} {case[name]!r}")
    texts = texts | _texts(case, form.case_texts)
    return Case(case["tcId"], case["comment"], case["result"], flags, numbers, data, texts)


def _texts(fields: dict[str, Any], names: frozenset[str]) -> dict[str, str]:
    for name in names:
        _expect(type(fields[name]) is str, f"{name} {fields[name]!r}")
    return {name: fields[name] for name in names}


def _expect(condition: bool, what: str) -> None:
    if not condition:
        raise NotUnderstood(what)
