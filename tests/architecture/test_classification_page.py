"""docs/classification.md shows the table of the code, no class and no rule more or less."""

from __future__ import annotations

import re
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

from kms.core.classification import CLASSES, WITHOUT_ENCLAVE, Classification, ClassRules, available

PAGE = (Path(__file__).parents[2] / "docs/classification.md").read_text()


def test_the_table_of_classes_is_that_of_the_code():
    table = re.search(r"^\| \| (.*) \|\n\|[ |-]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert table
    assert table[1].split(" | ") == [classification.slug for classification in Classification]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2].splitlines()]
    assert {row[0]: row[1:] for row in rows} == {
        "usable without an enclave": [answer(available(each, WITHOUT_ENCLAVE)) for each in Classification],
        "encryption required": column(lambda rules: answer(rules.encryption_required)),
        "protection levels": column(lambda rules: listed(level.name for level in rules.levels)),
        "purposes": column(lambda rules: listed(purpose.name for purpose in rules.purposes)),
        "suites": column(lambda rules: listed(suite.name for suite in rules.suites)),
        "context must have": column(lambda rules: listed(rules.required_context)),
        "longest rotation period": column(
            lambda rules: "-" if rules.longest_rotation is None else f"{rules.longest_rotation.days} days"
        ),
        "longest cache lifetime": column(lambda rules: f"{rules.longest_cache // timedelta(seconds=1)} seconds"),
        "each access logged": column(lambda rules: answer(rules.log_data_access)),
        "approvals at least": column(lambda rules: str(rules.least_approvals)),
    }
    assert len(rows) == len(fields(ClassRules)) + 1


def column(shown):
    return [shown(CLASSES[classification]) for classification in Classification]


def answer(value):
    return "yes" if value else "no"


def listed(names):
    return ", ".join(names) or "-"
