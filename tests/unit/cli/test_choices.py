from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
import typer
from kms_client import AuditContext, Classification, PlaceKind, PrincipalKind, ProtectionLevel, Purpose, Rule, Suite

from kms.cli.choices import (
    AuditContextChoice,
    ClassChoice,
    LevelChoice,
    PlaceKindChoice,
    PrincipalKindChoice,
    PurposeChoice,
    RuleChoice,
    SuiteChoice,
    parse_counts,
    parse_labels,
    parse_period,
    parse_schedule,
    parse_time,
)


@pytest.mark.parametrize(
    ("choice", "kind"),
    [
        (PurposeChoice, Purpose),
        (SuiteChoice, Suite),
        (LevelChoice, ProtectionLevel),
        (PlaceKindChoice, PlaceKind),
        (ClassChoice, Classification),
        (AuditContextChoice, AuditContext),
        (PrincipalKindChoice, PrincipalKind),
    ],
)
def test_a_choice_has_the_names_of_the_api(choice, kind):
    assert [member.name for member in choice] == [member.name for member in kind]
    assert [member.value for member in choice] == [member.name.lower().replace("_", "-") for member in kind]


def test_periods_are_numbers_with_a_unit():
    assert parse_period("90s") == timedelta(seconds=90)
    assert parse_period("10m") == timedelta(minutes=10)
    assert parse_period("24h") == timedelta(hours=24)
    assert parse_period("90d") == timedelta(days=90)
    assert parse_schedule("90d") == timedelta(days=90)
    assert parse_schedule("never") == timedelta(0)


@pytest.mark.parametrize("text", ["", "0h", "24", "1w", "-1d", "1.5h", "24h ", "٣d", "9999999d", "never"])
def test_other_periods_are_refused(text):
    with pytest.raises(typer.BadParameter, match="24h or 90d"):
        parse_period(text)


def test_labels_are_pairs():
    assert parse_labels(["team=pay", "cost=", "eq=a=b"]) == {"team": "pay", "cost": "", "eq": "a=b"}


@pytest.mark.parametrize("pairs", [["team"], ["team=a", "team=b"]])
def test_other_labels_are_refused(pairs):
    with pytest.raises(typer.BadParameter, match="KEY=VALUE"):
        parse_labels(pairs)


def test_the_rules_are_those_of_the_api():
    assert tuple(rule.name.lower() for rule in RuleChoice) == get_args(Rule)


def test_times_have_a_zone():
    moment = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    assert parse_time("2026-03-01T12:30:00Z") == parse_time("2026-03-01T13:30+01:00") == moment


@pytest.mark.parametrize("text", ["", "2026-03-01T12:30:00", "2026-03-01", "yesterday", "1772368200"])
def test_other_times_are_refused(text):
    with pytest.raises(typer.BadParameter, match="with its zone"):
        parse_time(text)


def test_counts_are_numbers_by_version():
    assert parse_counts(["1=0", "300=1099511627776"], "--count") == {1: 0, 300: 2**40}
    assert parse_counts([], "--count") == {}


@pytest.mark.parametrize("pairs", [["1"], ["0=1"], ["1=-1"], ["1=1", "1=1"], ["1=x"], ["\u0663=1"], ["1=1.5"]])
def test_other_counts_are_refused(pairs):
    with pytest.raises(typer.BadParameter, match="VERSION=N"):
        parse_counts(pairs, "--count")
