"""The catalogue of named queries: parameters, kinds of columns, and which hours are outside working hours."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from kms.core.audit import FIELDS, AuditEvent
from kms.core.audit_filters import CHOICES, GROUPS, KINDS, SUMS, TIMES, Kind, Pair
from kms.core.audit_queries import LONGEST_OUT_OF_HOURS, QUERIES, Arguments, as_text, out_of_hours
from kms.core.errors import InvalidRequest
from tests.keyrings import NOW

BERLIN = ZoneInfo("Europe/Berlin")
WORK = time(8), time(18)
WEEK = frozenset(range(5))
GIVEN = {
    "access-by-user": {"principal": "operators/bob"},
    "by-key": {"key": "tenants/acme/keys/payroll"},
    "by-context": {"key": "customer", "value": "42"},
    "changes-of-resource": {"resource": "tenants/acme/policies/gold"},
}


def arguments(query, since=NOW - timedelta(days=7), until=NOW, **values):
    given = query.complete(GIVEN.get(query.name, {}) | values)
    return Arguments(given, since, until, ZoneInfo, lambda key, value: Pair(key, (value,)))


def test_every_field_of_an_event_has_a_kind():
    assert set(KINDS) == {*FIELDS, "stream", "sequence", "at"}
    event = AuditEvent(action="a", category="admin")
    for name, kind in KINDS.items():
        value = getattr(event, name)
        if value is not None:
            types = {Kind.TEXT: str, Kind.NUMBER: int, Kind.BYTES: bytes, Kind.TIME: datetime}
            assert kind is Kind.UID or isinstance(value, types[kind]), name
    assert set(CHOICES) <= {name for name, kind in KINDS.items() if kind is Kind.TEXT}


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_is_whole(name):
    query = QUERIES[name]
    assert re.fullmatch(r"[a-z-]{1,40}", name)
    assert 20 < len(query.line) < 120
    known = {*query.groups, *SUMS, *TIMES} if query.groups else set(KINDS)
    assert set(query.columns) <= known
    assert set(query.groups) <= set(GROUPS)
    assert set(query.groups) <= set(query.columns)
    wanted = query.wanted(arguments(query))
    assert set(wanted.equal) <= set(KINDS)
    for field, values in wanted.equal.items():
        assert field not in CHOICES or set(values) <= set(CHOICES[field])
    assert set(GIVEN.get(name, {})) == {one.name for one in query.parameters if one.default is None}


def test_there_are_thirteen():
    assert len(QUERIES) == 13


@pytest.mark.parametrize("value", ["0" * 63, "A" * 64, '0"' * 32, "0" * 65])
def test_a_measurement_is_hexadecimal(value):
    query = QUERIES["enclave-executions"]
    with pytest.raises(InvalidRequest, match="mrenclave must be 64"):
        query.wanted(arguments(query, mrenclave=value))


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("access-by-user", {}, "access-by-user needs principal"),
        ("access-by-user", {"principal": ""}, "access-by-user needs principal"),
        ("denied", {"x": "1"}, "'x' is none of denied: it has none"),
        ("failures", {"user": "1"}, "'user' is none of failures: principal"),
    ],
)
def test_parameters_that_are_missing_or_unknown_are_refused(name, given, said):
    with pytest.raises(InvalidRequest, match=f"parameters: {said}"):
        QUERIES[name].complete(given)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"from": "8"}, "from must be a time"),
        ({"to": "25:00"}, "to must be a time"),
        ({"to": "18:00+01:00"}, "to must be a time"),
        ({"from": "18:00", "to": "08:00"}, "from must be before to"),
        ({"days": "mon-xyz"}, "days must be such as"),
        ({"days": "tomorrow"}, "days must be such as"),
    ],
)
def test_hours_and_days_of_another_form_are_refused(values, said):
    query = QUERIES["out-of-hours"]
    with pytest.raises(InvalidRequest, match=said):
        query.wanted(arguments(query, **values))


def test_out_of_hours_takes_a_bounded_period():
    query = QUERIES["out-of-hours"]
    spans = query.wanted(arguments(query, NOW - LONGEST_OUT_OF_HOURS)).within
    assert 60 < len(spans) < 100
    with pytest.raises(InvalidRequest, match="since: must be at most 92 days"):
        query.wanted(arguments(query, NOW - LONGEST_OUT_OF_HOURS - timedelta(seconds=1)))


def at(*parts, zone=UTC):
    return datetime(*parts, tzinfo=zone)


def test_a_week_has_five_times_ten_hours():
    monday = at(2024, 3, 4)
    spans = out_of_hours(monday, monday + timedelta(days=7), UTC, WORK, WEEK)
    assert sum((end - begin for begin, end in spans), timedelta()) == timedelta(hours=7 * 24 - 50)
    assert spans[0] == (monday, at(2024, 3, 4, 8))
    assert spans[1] == (at(2024, 3, 4, 18), at(2024, 3, 5, 8))
    assert spans[-1] == (at(2024, 3, 8, 18), monday + timedelta(days=7))


def test_hours_are_those_of_the_zone_also_over_a_change_of_the_clocks():
    saturday = at(2024, 3, 30)
    spans = out_of_hours(saturday, saturday + timedelta(days=3), BERLIN, WORK, frozenset(range(7)))
    working = [end for _, end in spans][:-1]
    assert working == [at(2024, 3, 30, 7), at(2024, 3, 31, 6), at(2024, 4, 1, 6)]


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (at(2024, 3, 4, 9), at(2024, 3, 4, 17), ()),
        (at(2024, 3, 4, 7), at(2024, 3, 4, 7, 30), ((at(2024, 3, 4, 7), at(2024, 3, 4, 7, 30)),)),
        (at(2024, 3, 4, 17), at(2024, 3, 4, 19), ((at(2024, 3, 4, 18), at(2024, 3, 4, 19)),)),
        (at(2024, 3, 2, 9), at(2024, 3, 2, 10), ((at(2024, 3, 2, 9), at(2024, 3, 2, 10)),)),
    ],
)
def test_a_period_is_cut_at_its_ends(since, until, expected):
    assert out_of_hours(since, until, UTC, WORK, WEEK) == expected


@pytest.mark.parametrize(
    ("days", "expected"),
    [("mon-fri", {0, 1, 2, 3, 4}), ("sat,SUN", {5, 6}), ("fri-mon", {4, 5, 6, 0}), ("wed", {2})],
)
def test_days_are_read(days, expected):
    query = QUERIES["out-of-hours"]
    week = arguments(query, at(2024, 3, 4), at(2024, 3, 11), days=days, **{"from": "00:00", "to": "23:59"})
    spans = query.wanted(week).within
    free = {day for day in range(7) if any(begin <= at(2024, 3, 4 + day, 12) < end for begin, end in spans)}
    assert free == set(range(7)) - expected


def test_values_become_text():
    assert [as_text(value) for value in (None, "a", 7, b"\x0f", NOW)] == [
        "",
        "a",
        "7",
        "0f",
        "2024-02-29T23:59:59.999999Z",
    ]
