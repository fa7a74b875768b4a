"""The readers of test vectors refuse what they do not understand: a case read wrongly would prove nothing."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.vectors import nist, wycheproof

FORM = wycheproof.Form(
    algorithm="X",
    schema="x_v1.json",
    group_type="XTest",
    sources=frozenset({("origin", "1")}),
    group_numbers=frozenset({"keySize"}),
    case_bytes=frozenset({"msg"}),
    flags=frozenset({"Known"}),
    group_texts=frozenset({"alphabet"}),
    case_texts=frozenset({"text"}),
)
DOCUMENT: dict[str, Any] = {
    "algorithm": "X",
    "schema": "x_v1.json",
    "numberOfTests": 2,
    "header": [],
    "notes": {"Known": {}},
    "testGroups": [
        {
            "type": "XTest",
            "source": {"name": "origin", "version": "1"},
            "keySize": 256,
            "alphabet": "01",
            "tests": [
                {"tcId": 1, "comment": "", "flags": ["Known"], "msg": "00ff", "text": "g", "result": "valid"},
                {"tcId": 2, "comment": "c", "flags": [], "msg": "", "text": "", "result": "invalid"},
            ],
        }
    ],
}


def test_a_document_of_the_form_is_read():
    first, second = wycheproof.parse(DOCUMENT, FORM)
    texts = {"alphabet": "01", "text": "g"}
    assert first == wycheproof.Case(1, "", "valid", frozenset({"Known"}), {"keySize": 256}, {"msg": b"\0\xff"}, texts)
    assert (second.number, second.result, second.data) == (2, "invalid", {"msg": b""})


CHANGES: list[tuple[tuple[str | int, ...], Any]] = [
    (("algorithm",), "Y"),
    (("schema",), "x_v2.json"),
    (("generatorVersion",), "1"),
    (("numberOfTests",), 3),
    (("notes", "Unknown"), {}),
    (("testGroups", 0, "type"), "YTest"),
    (("testGroups", 0, "source", "version"), "2"),
    (("testGroups", 0, "source", "more"), "2"),
    (("testGroups", 0, "tagSize"), 128),
    (("testGroups", 0, "keySize"), "256"),
    (("testGroups", 0, "alphabet"), ["0", "1"]),
    (("testGroups", 0, "tests", 0, "iv"), "00"),
    (("testGroups", 0, "tests", 0, "flags"), ["Unknown"]),
    (("testGroups", 0, "tests", 0, "result"), "acceptable"),
    (("testGroups", 0, "tests", 0, "msg"), "00 ff"),
    (("testGroups", 0, "tests", 0, "text"), [1]),
    (("testGroups", 0, "tests", 0, "tcId"), 7),
]


@pytest.mark.parametrize(("path", "value"), CHANGES, ids=[".".join(map(str, path)) for path, _ in CHANGES])
def test_a_document_of_another_form_is_refused(path: tuple[str | int, ...], value: Any):
    document: Any = copy.deepcopy(DOCUMENT)
    *parents, last = path
    target = document
    for step in parents:
        target = target[step]
    target[last] = value
    with pytest.raises(wycheproof.NotUnderstood):
        wycheproof.parse(document, FORM)


@pytest.mark.parametrize("field", ["flags", "msg", "text", "result", "comment"])
def test_a_case_without_a_field_is_refused(field: str):
    document = copy.deepcopy(DOCUMENT)
    del document["testGroups"][0]["tests"][0][field]
    with pytest.raises(wycheproof.NotUnderstood):
        wycheproof.parse(document, FORM)


TEXT = """# comment
[Keylen = 256]
[Taglen = 128]

Count = 0
Key = 00ff
PT =

Count = 1
Key = 01
FAIL

[Keylen = 128]
[Taglen = 64]
Count = 0
Key =
PT = ab
"""
SECTIONS = frozenset({"Keylen", "Taglen"})
SHAPES = (frozenset({"Count", "Key", "PT"}), frozenset({"Count", "Key", "FAIL"}))


def test_a_text_of_the_form_is_read():
    first, second, third = nist.parse(TEXT, SECTIONS, *SHAPES)
    assert (first.sections, first.data("Key"), first.failed) == ({"Keylen": 256, "Taglen": 128}, b"\0\xff", False)
    assert (second.fields["Count"], second.failed) == ("1", True)
    assert (third.sections, third.data("PT")) == ({"Keylen": 128, "Taglen": 64}, b"\xab")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[Taglen = 128]", "[Taglen = long]"),
        ("[Taglen = 128]", "[IVlen = 96]"),
        ("[Taglen = 128]\n", ""),
        ("Key = 01", "Key = 01 02"),
        ("Key = 01", "Kay = 01"),
        ("Key = 01", "Key = 01\nKey = 01"),
        ("FAIL", "PASS"),
        ("FAIL", "FAIL\nFAIL"),
        ("FAIL", "FAIL\nPT = 00"),
        ("PT = ab\n", ""),
        ("Count = 1\nKey = 01\n", ""),
    ],
)
def test_a_text_of_another_form_is_refused(old: str, new: str):
    assert TEXT.count(old) == 1
    with pytest.raises(nist.NotUnderstood):
        nist.parse(TEXT.replace(old, new), SECTIONS, *SHAPES)
