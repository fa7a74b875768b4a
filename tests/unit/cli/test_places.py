import json

import pytest
from google.protobuf.empty_pb2 import Empty
from kms_client.v1 import census_pb2

from kms.cli.main import run
from tests.cli_fixtures import TIME, complaint, printed, stamped
from tests.client_methods import stamp

KEY = "tenants/acme/keys/payroll"
PLACE = f"{KEY}/places/crm-iban"
NOON = "2026-03-01T13:30:15.25+01:00"


def place(**fields):
    return stamped(census_pb2.Place(name=PLACE, kind=1, **fields), "create_time")


def test_a_place_is_declared_as_given(peer, kms_acme):
    peer.answer("CreatePlace", lambda *_: place())
    line = ["places", "declare", "payroll", "crm-iban", "--kind", "data-keys", "--description", "crm, customers.iban"]
    assert run(line) == 0
    assert peer.calls[0].request == census_pb2.CreatePlaceRequest(
        parent=KEY, place_id="crm-iban", place=census_pb2.Place(kind=3, description="crm, customers.iban")
    )


def test_a_place_is_removed(peer, kms_acme, capsys):
    peer.answer("DeletePlace", lambda *_: Empty())
    assert run(["places", "remove", "payroll", "crm-iban"]) == 0
    assert peer.calls[0].request == census_pb2.DeletePlaceRequest(name=PLACE)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("command", "complete"), [("complete", True), ("incomplete", False)])
def test_places_are_declared_to_be_all_there_are_or_not(peer, kms_acme, command, complete):
    peer.answer("DeclarePlaces", lambda *_: census_pb2.ListPlacesResponse())
    assert run(["places", command, "payroll"]) == 0
    assert peer.calls[0].request == census_pb2.DeclarePlacesRequest(name=KEY, complete=complete)


def listed(peer):
    never, none, some = place(), place(count_time=stamp()), place(count_time=stamp(), reporter="app")
    some.counts.add(version=2, count=7)
    peer.answer(
        "ListPlaces",
        lambda *_: census_pb2.ListPlacesResponse(
            places=[never, none, some], complete_time=stamp(), declarer="operators/root"
        ),
    )


def test_a_list_says_of_what_was_not_counted_that_it_was_not(peer, kms_acme, capsys):
    listed(peer)
    assert run(["places", "list", "payroll"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["complete_time", TIME] in lines
    assert [line[-1] for line in lines[-3:]] == ["yet", "none", "2=7"]


def test_a_list_as_json_tells_never_counted_from_counted_none(peer, kms_acme, capsys):
    listed(peer)
    assert run(["places", "list", "payroll", "--output", "json"]) == 0
    answer = printed(capsys)
    assert (answer["complete_time"], answer["declarer"]) == (TIME, "operators/root")
    assert [entry["counts"] for entry in answer["places"]] == [None, {}, {"2": 7}]
    assert answer["places"][2] == {
        "name": PLACE,
        "kind": "column",
        "description": "",
        "create_time": TIME,
        "creator": "",
        "count_time": TIME,
        "reporter": "app",
        "counts": {"2": 7},
    }


REPORTS = [
    (["--count", "1=0", "--count", "300=1099511627776"], {1: 0, 300: 2**40}),
    (["--none"], {}),
]


@pytest.mark.parametrize(("options", "counts"), REPORTS)
def test_a_report_has_the_counts_and_when_they_began(peer, kms_acme, options, counts):
    peer.answer("ReportCensus", lambda *_: place())
    assert run(["places", "report", "payroll", "crm-iban", "--counted-at", NOON, *options]) == 0
    assert peer.calls[0].request == census_pb2.ReportCensusRequest(
        name=PLACE,
        count_time=stamp(),
        counts=[census_pb2.VersionCount(version=version, count=count) for version, count in counts.items()],
    )


def report_file(tmp_path, text):
    path = tmp_path / "counts.json"
    path.write_text(text)
    return ["places", "report", "payroll", "crm-iban", "--counted-at", NOON, "--from", str(path)]


@pytest.mark.parametrize("counts", [{}, {1: 0, 300: 2**40}])
def test_a_report_may_come_from_a_file(peer, kms_acme, tmp_path, counts):
    peer.answer("ReportCensus", lambda *_: place())
    assert run(report_file(tmp_path, json.dumps(counts))) == 0
    assert {count.version: count.count for count in peer.calls[0].request.counts} == counts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[1]",
        '[["1", 2]]',
        "7",
        '"x"',
        '{"1": -1}',
        '{"1": "x"}',
        '{"1": true}',
        '{"0": 1}',
        '{"1": 1, "1": 2}',
        '{"1": 1.5}',
    ],
)
def test_another_file_is_refused_and_nothing_is_reported(peer, kms_acme, tmp_path, capsys, text):
    assert run(report_file(tmp_path, text)) == 2
    assert "--from" in complaint(capsys)
    assert peer.calls == []
