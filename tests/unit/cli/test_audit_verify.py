import json

import pytest

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
