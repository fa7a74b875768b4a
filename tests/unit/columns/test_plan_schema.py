"""The published JSON Schema is that of the plans that are accepted."""

from pathlib import Path

import pytest

from kms.cli.main import run
from kms.columns.plan import CatalogRule, Column, Index, Plan, Rows, Table, load
from kms.columns.plan_schema import document

ROOT = Path(__file__).parents[3]
PLANS = sorted(ROOT.glob("examples/*/plan.yaml"))


def test_the_committed_schema_is_current():
    assert (ROOT / "docs/columns-plan.schema.json").read_text() == document()


def test_the_command_prints_the_schema(capsys):
    assert run(["columns", "schema"]) == 0
    assert capsys.readouterr().out == document()


def test_every_field_of_a_plan_is_documented():
    page = (ROOT / "docs/columns.md").read_text()
    fields = {name for model in (Plan, Table, Column, Index, Rows, CatalogRule) for name in model.model_fields}
    assert {name for name in fields if f"`{name}`" not in page} == set()


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.parent.name)
def test_the_examples_plans_are_accepted(path):
    assert load(path).tables


def test_there_are_examples():
    assert len(PLANS) == 5
