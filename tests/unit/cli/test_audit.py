import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from kms_client.formats import errors
from kms_client.v1 import audit_pb2

from kms.cli.csv_output import cell
from kms.cli.main import run
from tests.cli_fixtures import MOMENT, TIME, complaint, printed, stamped
from tests.client_peer import refuse

STREAM = "7b0f3c1e-52a0-4b39-8d35-0a3a53a9c1de"
OTHER = "8b0f3c1e-52a0-4b39-8d35-0a3a53a9c1de"
EVENT = f"tenants/acme/auditEvents/{STREAM}-7"
APP = "tenants/acme/principals/app"


def event(sequence=7, stream=STREAM, at=MOMENT, **fields):
    given = {"action": "/kms.v1.KeyService/GetKey", "outcome": "success", "principal": APP, "code": "OK", "items": 3}
    message = audit_pb2.AuditEvent(
        name=f"tenants/acme/auditEvents/{stream}-{sequence}", stream=stream, sequence=sequence, **{**given, **fields}
    )
    message.time.FromDatetime(at)
    return message


def listed(*events, token=""):
    return audit_pb2.ListAuditEventsResponse(audit_events=events, next_page_token=token)


def test_events_are_listed_with_filters(peer, kms_acme, capsys):
    peer.answer("ListAuditEvents", lambda *_: listed(event()))
    before = datetime.now(UTC)
    options = [
        "--since",
        "24h",
        "--until",
        "2026-03-01T12:00:00Z",
        "--where",
        "outcome=failure",
        "--where",
        "outcome=error",
    ]
    options += ["--where", "principal=x=y", "--begins", "action=/kms.v1.", "--least", "items=10", "--oldest-first"]
    assert run(["audit", "list", *options, "--context", "customer=a=b"]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["TIME", "OUTCOME", "ACTION", "PRINCIPAL", "ADDRESS", "RESOURCE", "ITEMS", "CODE", "NAME"]
    assert line.split() == [TIME, "success", "/kms.v1.KeyService/GetKey", APP, "-", "-", "3", "OK", EVENT]
    request = peer.calls[0].request
    since = request.filter.since.ToDatetime(UTC)
    assert before - timedelta(hours=24) <= since <= datetime.now(UTC) - timedelta(hours=24)
    request.filter.ClearField("since")
    kinds = audit_pb2.AuditEventFilter
    assert request == audit_pb2.ListAuditEventsRequest(
        parent="tenants/acme",
        page_size=100,
        oldest_first=True,
        filter=kinds(
            until=request.filter.until,
            equal=[
                kinds.Values(field="outcome", values=["failure", "error"]),
                kinds.Values(field="principal", values=["x=y"]),
            ],
            begins=[kinds.Values(field="action", values=["/kms.v1."])],
            least=[kinds.Least(field="items", value=10)],
            context=kinds.Pair(key="customer", value="a=b"),
        ),
    )
    assert request.filter.until.ToDatetime(UTC) == datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_a_list_ends_at_its_limit_and_asks_for_no_more_than_that(peer, kms_acme, capsys):
    peer.answer("ListAuditEvents", lambda *_: listed(event(1), event(2), event(3), token="x"))
    assert run(["audit", "list", "--limit", "2", "--output", "json"]) == 0
    assert [one["sequence"] for one in printed(capsys)] == [1, 2]
    assert [call.request.page_size for call in peer.calls] == [2]


def test_an_operator_names_the_installation_or_everybody(peer, kms_profile, capsys):
    peer.answer("ListAuditEvents", lambda *_: listed())
    peer.answer("GetAuditEvent", lambda *_: event())
    assert run(["audit", "list", "--installation"]) == 0
    assert run(["audit", "list", "--all-tenants"]) == 0
    assert run(["audit", "show", f"{STREAM}-7", "--installation"]) == 0
    assert [(call.request.parent, call.request.all_tenants) for call in peer.calls[:2]] == [
        ("installation", False),
        ("installation", True),
    ]
    assert peer.calls[2].request.name == f"installation/auditEvents/{STREAM}-7"
    capsys.readouterr()
    assert run(["audit", "list"]) != 0
    assert "no tenant" in complaint(capsys)


def test_an_event_as_json_has_these_fields(peer, kms_acme, capsys):
    peer.answer("GetAuditEvent", lambda *_: event(items_digest=b"\x0f" * 32, changes="{}", has_changes=True))
    assert run(["audit", "show", f"{STREAM}-7", "--output", "json"]) == 0
    shown = printed(capsys)
    assert (shown["name"], shown["time"], shown["items_digest"], shown["keep_time"]) == (EVENT, TIME, "0f" * 32, None)
    assert set(shown) == set(audit_pb2.AuditEvent.DESCRIPTOR.fields_by_name)


def test_csv_has_every_field_and_no_formula(peer, kms_acme, capsys):
    evil = ['=HYPERLINK("http://x")', "+1", "-1", "@sum", "\tx"]
    peer.answer("ListAuditEvents", lambda *_: listed(*(event(reason=one, user_agent='a,"b"\nc') for one in evil)))
    assert run(["audit", "list", "--output", "csv"]) == 0
    out = capsys.readouterr().out
    rows = list(csv.DictReader(io.StringIO(out, newline="")))
    assert set(rows[0]) == set(audit_pb2.AuditEvent.DESCRIPTOR.fields_by_name)
    assert [row["reason"] for row in rows] == [f"'{one}" for one in evil]
    assert {row["user_agent"] for row in rows} == {'a,"b"\nc'}
    assert {(row["sequence"], row["items"], row["has_changes"], row["keep_time"]) for row in rows} == {
        ("7", "3", "False", "")
    }


@pytest.mark.parametrize(
    ("value", "shown"), [(None, ""), (-1, "-1"), ("a=b", "a=b"), ("=1", "'=1"), ("-", "'-"), ("", ""), ("\r1", "'\r1")]
)
def test_a_cell_that_a_spreadsheet_would_compute_gets_a_quote(value, shown):
    assert cell(value) == shown


@pytest.fixture
def looks(peer, monkeypatch):
    """Answers one list after the other; pauses take no time."""
    monkeypatch.setattr("kms.cli.audit.time.sleep", lambda _: None)
    answers = []
    peer.answer("ListAuditEvents", lambda *_: answers.pop(0))
    return answers


SECOND = timedelta(seconds=1)


def test_tail_goes_on_after_what_it_has_shown_of_each_stream(peer, kms_acme, looks, capsys):
    now = datetime.now(UTC).replace(microsecond=0)
    one, two = event(1, at=now, resource="tenants/acme/keys/payroll"), event(2, at=now + SECOND)
    late = event(5, OTHER, at=now - SECOND)  # of another node, whose clock is behind
    far = event(3, at=now + timedelta(minutes=5))
    looks += [listed(one, two), listed(two, late), listed(far), listed()]
    assert run(["audit", "tail", "--follow", "--looks", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition("-")[2] for line in lines] == ["1)", "2)", "5)", "3)"]
    shown = (
        f"{now.isoformat(timespec='microseconds').replace('+00:00', 'Z')} success /kms.v1.KeyService/GetKey by {APP}"
    )
    assert lines[0] == f"{shown} on tenants/acme/keys/payroll ({one.name})"
    asked = [call.request for call in peer.calls]
    assert all(request.oldest_first for request in asked)
    marks = [{one.stream: one.sequence for one in request.filter.beyond} for request in asked]
    # What is a minute before the newest needs no mark any more: it is not asked for.
    assert marks == [{}, {STREAM: 2}, {STREAM: 2, OTHER: 5}, {STREAM: 3}]
    since = [request.filter.since.ToDatetime(UTC) for request in asked]
    assert since[1] == max(since[0], now + SECOND - timedelta(minutes=1))
    assert since[3] == now + timedelta(minutes=4)


def test_tail_without_follow_looks_once(peer, kms_acme, looks, capsys):
    looks += [listed(event())]
    assert run(["audit", "tail", "--since", "2026-03-01T00:00:00Z", "--output", "json"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line)["name"] == EVENT
    assert peer.calls[0].request.filter.since.ToDatetime(UTC) == datetime(2026, 3, 1, tzinfo=UTC)


def test_tail_as_csv_begins_with_the_names_of_the_fields(peer, kms_acme, looks, capsys):
    looks += [listed(event())]
    assert run(["audit", "tail", "--since", "2026-03-01T00:00:00Z", "--output", "csv"]) == 0
    [row] = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["name"], row["sequence"]) == (EVENT, "7")


def answer(*rows, token=""):
    columns = [
        audit_pb2.QueryAuditResponse.Column(name="day"),
        audit_pb2.QueryAuditResponse.Column(name="events", number=True),
    ]
    cells = [audit_pb2.QueryAuditResponse.Row(cells=row) for row in rows]
    message = audit_pb2.QueryAuditResponse(columns=columns, rows=cells, next_page_token=token)
    return stamped(message, "since", "until")


def test_a_query_is_asked_page_by_page_within_one_period(peer, kms_acme, capsys):
    answers = [answer(["2026-03-01", "7"], token="x"), answer(["=1+1", "8"])]
    peer.answer("QueryAudit", lambda *_: answers.pop(0))
    assert (
        run(
            [
                "audit",
                "query",
                "data-volume",
                "--param",
                f"principal={APP}",
                "--since",
                "2026-03-01T00:00:00Z",
                "--output",
                "csv",
            ]
        )
        == 0
    )
    assert capsys.readouterr().out.splitlines() == ["day,events", "2026-03-01,7", "'=1+1,8"]
    first, second = (call.request for call in peer.calls)
    assert (first.query, dict(first.parameters), first.page_token) == ("data-volume", {"principal": APP}, "")
    assert (second.page_token, second.until) == ("x", first.until)
    assert first.HasField("until")


def test_rows_as_json_have_numbers(peer, kms_acme, capsys):
    peer.answer("QueryAudit", lambda *_: answer(["2026-03-01", "7"]))
    assert run(["audit", "query", "data-volume", "--output", "json"]) == 0
    assert printed(capsys) == [{"day": "2026-03-01", "events": 7}]


def test_queries_are_listed_with_their_parameters(peer, kms_profile, capsys):
    parameters = [
        audit_pb2.AuditQuery.Parameter(name="key", required=True),
        audit_pb2.AuditQuery.Parameter(name="zone", default="UTC"),
    ]
    query = audit_pb2.AuditQuery(name="by-key", description="Who", parameters=parameters)
    peer.answer("ListAuditQueries", lambda *_: audit_pb2.ListAuditQueriesResponse(queries=[query]))
    assert run(["audit", "queries", "--output", "csv"]) == 0
    assert capsys.readouterr().out.splitlines() == ["name,description,parameters", "by-key,Who,key=... [zone=UTC]"]
    assert run(["audit", "queries", "--output", "json"]) == 0
    assert printed(capsys)[0]["parameters"][1] == {
        "name": "zone",
        "description": "",
        "required": False,
        "default": "UTC",
    }


def test_a_subject_is_reported_on(peer, kms_acme, capsys):
    access = audit_pb2.ReportDataAccessResponse.Access(principal=APP, action="a", events=3, items=4)
    message = audit_pb2.ReportDataAccessResponse(accesses=[stamped(access, "first_time", "last_time")])
    peer.answer("ReportDataAccess", lambda *_: stamped(message, "since", "until"))
    assert run(["audit", "subject", "--context", "customer=42", "--output", "json"]) == 0
    [shown] = printed(capsys)
    assert set(shown) == set(audit_pb2.ReportDataAccessResponse.Access.DESCRIPTOR.fields_by_name)
    assert (shown["principal"], shown["events"], shown["first_time"]) == (APP, 3, TIME)
    request = peer.calls[0].request
    assert (request.parent, request.context.key, request.context.value) == ("tenants/acme", "customer", "42")


def test_the_status_is_shown(peer, kms_profile, capsys):
    stream = audit_pb2.AuditStatus.Stream(stream=STREAM, node="n", sequence=9, hash=bytes(32))
    stream = stamped(stream, "begin_time", "last_time")
    peer.answer("GetAuditStatus", lambda *_: audit_pb2.AuditStatus(streams=[stream]))
    assert run(["audit", "status"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == [STREAM, "n", TIME, "9", TIME]


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "--since", "yesterday"],
        ["list", "--where", "x"],
        ["list", "--least", "items=many"],
        ["list", "--context", "x"],
        ["list", "--limit", "-1"],
        ["subject"],
        ["subject", "--context", "x"],
        ["query"],
        ["query", "x", "--param", "x"],
        ["tail", "--interval", "0"],
        ["list", "--output", "xml"],
    ],
)
def test_wrong_options_are_wrong_usage_and_nothing_is_sent(peer, kms_acme, arguments):
    assert run(["audit", *arguments]) == 2
    assert peer.calls == []


def test_a_refusal_has_its_exit_code(peer, kms_acme, capsys):
    error = errors.Denied("audit.read on tenants/acme is not allowed")
    peer.answer("ListAuditEvents", lambda _, context: refuse(context, error, "request-5"))
    assert run(["audit", "list"]) == 5
    assert "audit.read on tenants/acme is not allowed" in complaint(capsys)


def test_an_export_is_a_new_file_that_only_its_owner_reads(peer, kms_profile, tmp_path, capsys):
    answers = [
        audit_pb2.ExportAuditResponse(data=b"one", next_page_token="t"),
        audit_pb2.ExportAuditResponse(data=b"two"),
    ]
    peer.answer("ExportAudit", lambda *_: answers.pop(0))
    file = tmp_path / "trail"
    assert run(["audit", "export", str(file)]) == 0
    assert file.read_bytes() == b"onetwo"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "6 bytes" in capsys.readouterr().out
    assert [call.request.page_token for call in peer.calls] == ["", "t"]
    assert run(["audit", "export", str(file)]) == 2
    assert "File exists" in complaint(capsys)
    assert len(peer.calls) == 2


def test_an_export_that_fails_leaves_no_file(peer, kms_profile, tmp_path):
    def answer(request, context):
        if request.page_token:
            refuse(context, errors.FailedPrecondition("the export is over"))
        return audit_pb2.ExportAuditResponse(data=b"one", next_page_token="t")

    peer.answer("ExportAudit", answer)
    assert run(["audit", "export", str(tmp_path / "trail")]) == 6
    assert not (tmp_path / "trail").exists()
