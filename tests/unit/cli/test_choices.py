from datetime import timedelta

import pytest
import typer
from kms_client import ProtectionLevel, Purpose, Suite

from kms.cli.choices import LevelChoice, PurposeChoice, SuiteChoice, parse_labels, parse_period


@pytest.mark.parametrize(
    ("choice", "kind"), [(PurposeChoice, Purpose), (SuiteChoice, Suite), (LevelChoice, ProtectionLevel)]
)
def test_a_choice_has_the_names_of_the_api(choice, kind):
    assert [member.name for member in choice] == [member.name for member in kind]
    assert [member.value for member in choice] == [member.name.lower().replace("_", "-") for member in kind]


def test_periods_are_hours_or_days():
    assert parse_period(None) is None
    assert parse_period("24h") == timedelta(hours=24)
    assert parse_period("90d") == timedelta(days=90)


@pytest.mark.parametrize("text", ["", "0h", "24", "1w", "-1d", "1.5h", "24h ", "٣d", "9999999d"])
def test_other_periods_are_refused(text):
    with pytest.raises(typer.BadParameter, match="24h or 90d"):
        parse_period(text)


def test_labels_are_pairs():
    assert parse_labels(["team=pay", "cost=", "eq=a=b"]) == {"team": "pay", "cost": "", "eq": "a=b"}


@pytest.mark.parametrize("pairs", [["team"], ["team=a", "team=b"]])
def test_other_labels_are_refused(pairs):
    with pytest.raises(typer.BadParameter, match="KEY=VALUE"):
        parse_labels(pairs)
