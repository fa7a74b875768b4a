from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from kms_client import VersionCensus
from kms_client.responses import keys
from kms_client.v1 import keys_pb2

from kms.cli.words import encryptions, protects, span, stop_line, stop_rows, version_row

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("period", "words"),
    [
        (timedelta(0), "0.0 s"),
        (timedelta(milliseconds=1849), "1.8 s"),
        (timedelta(seconds=59.9), "59.9 s"),
        (timedelta(seconds=60), "1 min"),
        (timedelta(minutes=119), "1 h"),
        (timedelta(days=89, hours=23), "89 d"),
        (timedelta(seconds=-3), "0.0 s"),  # a clock that is behind the daemon's
    ],
)
def test_a_span_has_its_largest_unit(period, words):
    assert span(period) == words


@pytest.mark.parametrize(
    ("census", "words"),
    [
        (VersionCensus(), "unknown: nobody has said"),
        (VersionCensus(unknown_reasons=("place old has not been counted",)), "unknown: place old has not been counted"),
        (
            VersionCensus(count=1207, places={"crm": 1200, "web": 7}, unknown_reasons=("no end", "no start")),
            "unknown: no end; no start; counted so far: 1,200 in crm, 7 in web",
        ),
        (VersionCensus(known=True), "nothing"),
        (VersionCensus(known=True, count=7, places={"crm": 5, "web": 2}), "5 in crm, 2 in web"),
        (VersionCensus(known=True, count=7), "7"),
    ],
)
def test_what_is_protected_is_said_with_its_places_and_unknown_is_never_zero(census, words):
    assert protects(census) == words


def version(**fields):
    message = keys_pb2.KeyVersion(name="tenants/acme/keys/k1/versions/3", **fields)
    message.create_time.FromDatetime(NOW - timedelta(days=3))
    return keys.key_version(message)


def test_encryptions_are_said_with_their_limit():
    assert (
        encryptions(version(encryptions_reserved=12_345, encryptions_limit=2**32 - 2**24)) == "12,345 of 4,278,190,080"
    )
    assert encryptions(version(encryptions_reserved=5)) == "5, no limit"


def test_a_row_tells_all_about_a_version():
    census = keys_pb2.VersionCensus(known=True, count=7, next_step="re-encrypt 7 values")
    census.places.add(place="crm", count=7)
    census.estimated_end_time.FromDatetime(NOW)
    archived = version(state=5, encryptions_limit=10, census=census)
    assert version_row(archived, NOW)["exposed"] is None
    assert version_row(replace(archived, expose_time=NOW), NOW) == {
        "version": 3,
        "state": "archived",
        "age": "3 d",
        "encryptions": "0 of 10",
        "exposed": "2026-03-01T00:00:00.000000Z",
        "protects": "7 in crm",
        "next step": "re-encrypt 7 values",
        "estimated end": "2026-03-01T00:00:00.000000Z",
    }


def stop(*, complete=True, last_stop=None, nodes=()):
    message = keys_pb2.Propagation(complete=complete, nodes=[keys_pb2.NodeStop(node=n, state=s) for n, s, _ in nodes])
    for node, (_, _, after) in zip(message.nodes, nodes, strict=True):
        if after is not None:
            node.after.FromTimedelta(after)
    if last_stop is not None:
        message.last_stop.FromTimedelta(last_stop)
    return keys.propagation(message)


def test_the_last_line_says_when_the_last_node_stopped():
    assert stop_line(stop(last_stop=timedelta(seconds=1.8))) == "last node stopped after 1.8 s"
    assert stop_line(stop()) == "no node uses it any more"
    partly = stop(complete=False, nodes=[("a", 2, timedelta(0)), ("b", 1, None), ("c", 1, None)])
    assert stop_line(partly) == "not all nodes have stopped yet: 1 of 3"


def test_each_node_is_said_with_how_it_stopped_and_after_how_long():
    nodes = [("a", 2, timedelta(seconds=0.21)), ("b", 3, timedelta(seconds=5)), ("c", 1, None), ("d", 77, None)]
    assert [tuple(row.values()) for row in stop_rows(stop(nodes=nodes))] == [
        ("a", "acknowledged", "0.2 s"),
        ("b", "expired by lease", "5.0 s"),
        ("c", "not heard of yet", None),
        ("d", "77", None),
    ]
