import json
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from kms_client import Severity
from kms_client.v1 import events_pb2

from kms.cli.choices import SeverityChoice
from kms.cli.main import run
from tests.cli_fixtures import TIME, complaint, printed, stamped

UID = "7b0f3c1e-52a0-4b39-8d35-0a3a53a9c1de"
EVENT = f"tenants/acme/securityEvents/{UID}"


def event(name=EVENT, **fields):
    given = {"type": "repeated_denials", "severity": 3, "count": 12, "principal": "tenants/acme/principals/app"}
    message = events_pb2.SecurityEvent(name=name, **{**given, **fields})
    return stamped(message, "first_time", "last_time", "create_time")


def listed(*events):
    return events_pb2.ListSecurityEventsResponse(security_events=events)


def test_the_choice_of_severities_is_the_sdks():
    assert [choice.name for choice in SeverityChoice] == [severity.name for severity in Severity]


def test_events_are_listed_with_filters(peer, kms_acme, capsys):
    peer.answer("ListSecurityEvents", lambda *_: listed(event()))
    before = datetime.now(UTC)
    assert (
        run(["events", "list", "--severity", "high", "--type", "canary_touched", "--since", "24h", "--unresolved"]) == 0
    )
    head, line = capsys.readouterr().out.splitlines()
    assert head.split()[:5] == ["NAME", "CREATE_TIME", "SEVERITY", "TYPE", "COUNT"]
    assert line.split()[:5] == [EVENT, TIME, "medium", "repeated_denials", "12"]
    request = peer.calls[0].request
    assert (request.parent, request.severity, request.type, request.unresolved) == (
        "tenants/acme",
        4,
        "canary_touched",
        True,
    )
    since = request.since.ToDatetime(UTC)
    assert before - timedelta(hours=24) <= since <= datetime.now(UTC) - timedelta(hours=24)


def test_an_event_as_json_has_these_fields(peer, kms_acme, capsys):
    peer.answer("GetSecurityEvent", lambda r, _: event(r.name, risk=55, indicators=["x"], false_alarm=True, etag="2"))
    assert run(["events", "show", UID, "--output", "json"]) == 0
    shown = printed(capsys)
    assert (shown["name"], shown["severity"], shown["risk"], shown["indicators"]) == (EVENT, "medium", 0.55, ["x"])
    assert (shown["false_alarm"], shown["resolved"], shown["resolve_time"], shown["etag"]) == (True, False, None, "2")
    assert set(shown) == set(events_pb2.SecurityEvent.DESCRIPTOR.fields_by_name)


def test_an_operator_names_the_installation(peer, kms_profile, capsys):
    peer.answer("ListSecurityEvents", lambda *_: listed())
    peer.answer("GetSecurityEvent", lambda r, _: event(r.name))
    assert run(["events", "list", "--installation"]) == 0
    assert run(["events", "show", UID, "--installation"]) == 0
    assert [call.request.parent for call in peer.calls[:1]] == ["installation"]
    assert peer.calls[1].request.name == f"installation/securityEvents/{UID}"
    capsys.readouterr()
    assert run(["events", "list"]) != 0
    assert "no tenant" in complaint(capsys)


def test_a_note_and_a_resolution_name_what_they_change(peer, kms_acme):
    peer.answer("UpdateSecurityEvent", lambda r, _: event(r.security_event.name))
    assert run(["events", "note", UID, "seen before", "--incident", "INC-7", "--etag", "3"]) == 0
    assert run(["events", "resolve", EVENT, "--false-alarm"]) == 0
    assert run(["events", "resolve", EVENT, "--reopen"]) == 0
    assert [call.request for call in peer.calls] == [
        events_pb2.UpdateSecurityEventRequest(
            security_event=events_pb2.SecurityEvent(name=EVENT, notes="seen before", incident="INC-7", etag="3"),
            update_mask=FieldMask(paths=["notes", "incident"]),
        ),
        events_pb2.UpdateSecurityEventRequest(
            security_event=events_pb2.SecurityEvent(name=EVENT, false_alarm=True, resolved=True),
            update_mask=FieldMask(paths=["false_alarm", "resolved"]),
        ),
        events_pb2.UpdateSecurityEventRequest(
            security_event=events_pb2.SecurityEvent(name=EVENT, resolved=False),
            update_mask=FieldMask(paths=["resolved"]),
        ),
    ]


@pytest.fixture
def looks(peer, monkeypatch):
    """Answers one list after the other; pauses take no time."""
    monkeypatch.setattr("kms.cli.events.time.sleep", lambda _: None)
    answers = []
    peer.answer("ListSecurityEvents", lambda *_: answers.pop(0))
    return answers


def test_tail_shows_each_event_once_the_oldest_first(peer, kms_acme, looks, capsys):
    older, newer, last = (event(f"tenants/acme/securityEvents/{n}{UID[1:]}") for n in "123")
    last.resource = "tenants/acme/keys/payroll"
    looks += [listed(newer, older), listed(newer, older), listed(last, newer)]
    assert run(["events", "tail", "--looks", "3", "--severity", "medium"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"{TIME} medium repeated_denials x12 by tenants/acme/principals/app ({older.name})",
        f"{TIME} medium repeated_denials x12 by tenants/acme/principals/app ({newer.name})",
        f"{TIME} medium repeated_denials x12 by tenants/acme/principals/app on {last.resource} ({last.name})",
    ]
    assert {call.request.severity for call in peer.calls} == {3}


def test_tail_as_json_is_an_object_on_a_line_each(peer, kms_acme, looks, capsys):
    looks += [listed(event()), listed(event())]
    assert run(["events", "tail", "--looks", "2", "--output", "json"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line)["name"] == EVENT


def test_sums_are_shown_by_day(peer, kms_acme, capsys):
    one = events_pb2.SummarizeSecurityEventsResponse.Sum(
        day="2026-03-01", type="rate_exceeded", severity=2, events=3, occurrences=40, resolved=1
    )
    peer.answer("SummarizeSecurityEvents", lambda *_: events_pb2.SummarizeSecurityEventsResponse(sums=[one]))
    assert run(["events", "summary", "--days", "7"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["2026-03-01", "rate_exceeded", "low", "3", "40", "1"]
    assert peer.calls[0].request == events_pb2.SummarizeSecurityEventsRequest(parent="tenants/acme", days=7)
