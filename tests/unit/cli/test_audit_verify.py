import json

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from kms_client.v1 import audit_pb2

from kms.cli.main import run
from tests.cli_fixtures import complaint
from tests.exported import Event, two_nodes
from tests.streams import TestKey

TRAIL = two_nodes()


@pytest.fixture
def files(tmp_path):
    (tmp_path / "trail").write_bytes(TRAIL.data())
    (tmp_path / "key.pem").write_text(TRAIL.key.pem)
    return tmp_path


def verify(files, *options, name="trail", key="key.pem"):
    return run(["audit", "verify", str(files / name), "--public-key", str(files / key), *options])


def test_a_whole_trail_is_told_and_no_daemon_is_asked(files, capsys):
    assert verify(files) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["whole", "yes"]
    last = TRAIL.checkpoints[-1]
    assert verify(files, "--expect-serial", "4", "--expect-hash", last.hash.hex(), "--output", "json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["whole"], said["events"], said["last_hash"], said["findings"]) == (True, 37, last.hash.hex(), [])


def test_a_trail_with_a_fault_is_told_with_its_place(files, capsys):
    parts = [part for part in TRAIL.parts if not (isinstance(part, Event) and part.sequence == 3)]
    (files / "trail").write_bytes(TRAIL.data(parts))
    assert verify(files, "--output", "json") == 8
    said = json.loads(capsys.readouterr().out)
    stream = TRAIL.streams[0]
    wanted = {"fault": "missing", "stream": str(stream.uid), "first": 3, "last": 3}
    assert any(wanted.items() <= finding.items() for finding in said["findings"])
    assert verify(files) == 8
    out = capsys.readouterr().out
    assert "FAULT" in out
    assert str(stream.uid) in out


def test_another_key_or_another_end_than_is_known_is_not_so(files, capsys):
    (files / "other.pem").write_text(TestKey().pem)
    assert verify(files, key="other.pem") == 8
    assert verify(files, "--expect-serial", "5", "--expect-hash", "00" * 32) == 8
    assert verify(files, "--strict") == 0
    capsys.readouterr()


def test_what_cannot_be_verified_at_all_is_wrong_usage(files, capsys):
    (files / "no").write_bytes(b"no trail")
    (files / "no.pem").write_text("no key")
    for options in ({"name": "no"}, {"name": "absent"}, {"key": "no.pem"}, {"key": "absent"}):
        assert verify(files, **options) == 2
        assert complaint(capsys)
    assert verify(files, "--expect-serial", "4") == 2
    assert "together" in complaint(capsys)


def test_events_after_the_last_checkpoint_pass_where_it_is_asked_for(files, capsys):
    trail = two_nodes()
    stream = trail.streams[2].extend(1)
    trail.parts.append(Event(stream, len(stream.bytes)))
    (files / "trail").write_bytes(trail.data())
    (files / "key.pem").write_text(trail.key.pem)
    assert verify(files) == 8
    assert verify(files, "--tail") == 0
    capsys.readouterr()


STREAM = "7b0f3c1e-52a0-4b39-8d35-0a3a53a9c1de"


def at(seconds):
    return Timestamp(seconds=1_800_000_000 + seconds)


def result(began, **fields):
    made = {"begin_time": at(began), "end_time": at(9), "cover_time": at(1), "requester": "operators/root"}
    return audit_pb2.AuditVerification.Result(**{**made, "events": 9, "columns": 9, **fields})


def answers(peer, *states):
    """The daemon begins a verification at second 1, and is then as these states say, one after the other."""
    peer.answer("VerifyAudit", lambda *_: audit_pb2.AuditVerification(begin_time=at(1), last=result(0)))
    following = iter(states)
    peer.answer("GetAuditStatus", lambda *_: audit_pb2.AuditStatus(verification=next(following)))


RUNNING = audit_pb2.AuditVerification(begin_time=at(1), events=3, known_events=9, last=result(0))
FOUND = audit_pb2.AuditFinding(fault="missing", stream=STREAM, first=3, last=4, text="t")


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr("kms.cli.audit_verify_online.time.sleep", lambda _: None)


def test_the_stored_trail_is_verified_while_one_waits(peer, kms_profile, capsys):
    answers(peer, RUNNING, audit_pb2.AuditVerification(last=result(1)))
    assert run(["audit", "verify", "--output", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["whole"], shown["events"], shown["findings"]) == (True, 9, [])
    assert [call.request for call in peer.calls[1:]] == [audit_pb2.GetAuditStatusRequest(without_streams=True)] * 2


def test_what_is_found_in_the_stored_trail_is_named(peer, kms_profile, capsys):
    answers(peer, *[audit_pb2.AuditVerification(last=result(1, problems=1, findings=[FOUND]))] * 2)
    assert run(["audit", "verify", "--output", "json"]) == 8
    [finding] = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["fault"], finding["stream"], finding["first"], finding["last"]) == ("missing", STREAM, 3, 4)
    assert run(["audit", "verify"]) == 8
    shown = capsys.readouterr().out
    assert "missing" in shown
    assert STREAM in shown


@pytest.mark.parametrize(
    ("failure", "said"), [("the database is away", "the database is away"), ("", "started anew meanwhile")]
)
def test_a_verification_without_a_result_is_no_verification(peer, kms_profile, capsys, failure, said):
    answers(peer, RUNNING, audit_pb2.AuditVerification(last=result(0), failure=failure))
    assert run(["audit", "verify"]) == 7
    assert said in complaint(capsys)


@pytest.mark.parametrize(
    "options", [["--public-key", "x"], ["--strict"], ["--tail"], ["--expect-serial", "1", "--expect-hash", "00"]]
)
def test_what_is_said_of_a_file_needs_one(peer, kms_profile, options):
    assert run(["audit", "verify", *options]) == 2
    assert peer.calls == []
