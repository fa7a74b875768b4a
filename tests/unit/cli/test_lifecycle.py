"""`kms keys`: rules, states and versions, against a real server."""

import os
import pty
import subprocess
from pathlib import Path

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from kms_client import WrongKeyState
from kms_client.v1 import keys_pb2, operations_pb2

from kms.cli.main import run
from tests.cli_fixtures import TIME, command, complaint, key, printed, stamped
from tests.client_methods import PROPAGATION, RULES_SENT, period
from tests.client_peer import refuse

KEY = "tenants/acme/keys/payroll"
VERSION = f"{KEY}/versions/3"


def answers(peer):
    """Let the peer do what it is asked."""
    for rpc in ("ActivateKey", "ResumeKey", "ArchiveKey", "ScheduleKeyDestruction", "CancelKeyDestruction"):
        peer.answer(rpc, lambda r, _: key(r.name))
    for rpc in ("RetireKeyVersion", "CancelKeyVersionRetirement"):
        peer.answer(rpc, lambda r, _: keys_pb2.KeyVersion(name=r.name, state=5))
    for rpc, kind in (("SuspendKey", keys_pb2.SuspendKeyResponse), ("RevokeKey", keys_pb2.RevokeKeyResponse)):
        peer.answer(
            rpc,
            lambda r, _, kind=kind: kind(key=key(r.name, state=6, state_reason=r.reason), propagation=PROPAGATION),
        )
    peer.answer(
        "RevokeKeyVersion",
        lambda r, _: keys_pb2.RevokeKeyVersionResponse(
            key_version=keys_pb2.KeyVersion(name=r.name, state=6, state_reason=r.reason),
            key=key(KEY),
            propagation=PROPAGATION,
        ),
    )


SENT = {
    "activate payroll --etag 7": keys_pb2.ActivateKeyRequest(name=KEY, etag="7"),
    "suspend payroll --reason audit --wait --etag 7": keys_pb2.SuspendKeyRequest(
        name=KEY, reason="audit", wait=True, etag="7"
    ),
    "resume payroll --etag 7": keys_pb2.ResumeKeyRequest(name=KEY, etag="7"),
    "archive payroll --yes --etag 7": keys_pb2.ArchiveKeyRequest(name=KEY, etag="7"),
    "revoke payroll --yes --reason leaked": keys_pb2.RevokeKeyRequest(name=KEY, reason="leaked"),
    "revoke payroll --yes --reason leaked --wait --etag 7": keys_pb2.RevokeKeyRequest(
        name=KEY, reason="leaked", wait=True, etag="7"
    ),
    "revoke payroll --yes --reason leaked --version 3 --wait --etag 7": keys_pb2.RevokeKeyVersionRequest(
        name=VERSION, reason="leaked", wait=True, etag="7"
    ),
    "destroy payroll --yes --reason gone": keys_pb2.ScheduleKeyDestructionRequest(name=KEY, reason="gone"),
    "destroy payroll --yes --reason gone --waiting-period 30d --etag 7": keys_pb2.ScheduleKeyDestructionRequest(
        name=KEY, reason="gone", waiting_period=period(days=30), etag="7"
    ),
    "restore payroll --etag 7": keys_pb2.CancelKeyDestructionRequest(name=KEY, etag="7"),
    "restore payroll --version 3": keys_pb2.CancelKeyVersionRetirementRequest(name=VERSION),
    "retire payroll 3": keys_pb2.RetireKeyVersionRequest(name=VERSION),
}


@pytest.mark.parametrize("line", SENT)
def test_a_command_sends_what_it_was_given(peer, kms_acme, line):
    answers(peer)
    assert run(["keys", *line.split()]) == 0
    assert [call.request for call in peer.calls] == [SENT[line]]


def test_a_new_key_gets_its_rules(peer, kms_acme):
    peer.answer("CreateKey", lambda r, _: key(f"{r.parent}/keys/{r.key_id}"))
    rules = "--rotation-period 90d --encryption-limit 1099511627776 --cache-lifetime 120s --quarantine 14d --grace 60m"
    line = f"create payroll --policy gold --pending --automatic-retirement {rules}"
    assert run(["keys", *line.split()]) == 0
    assert peer.calls[0].request == keys_pb2.CreateKeyRequest(
        parent="tenants/acme",
        key_id="payroll",
        key=keys_pb2.Key(purpose=1, policy="tenants/acme/policies/gold", **RULES_SENT),
        pending=True,
    )


@pytest.mark.parametrize(
    ("line", "sent", "paths"),
    [
        ("--policy gold", {"policy": "tenants/acme/policies/gold"}, ["policy"]),
        ("--no-policy", {}, ["policy"]),
        ("--grace 10m", {"grace_period": period(minutes=10)}, ["grace_period"]),
        ("--no-automatic-retirement", {"automatic_retirement": False}, ["automatic_retirement"]),
        (
            "--as-policy grace --as-policy quarantine --encryption-limit 1000",
            {"encryption_limit": 1000},
            ["encryption_limit", "quarantine_period", "grace_period"],
        ),
    ],
)
def test_an_update_sets_rules_and_takes_them_back(peer, kms_acme, line, sent, paths):
    peer.answer("UpdateKey", lambda r, _: key(r.key.name))
    assert run(["keys", "update", "payroll", *line.split()]) == 0
    assert peer.calls[0].request == keys_pb2.UpdateKeyRequest(
        key=keys_pb2.Key(name=KEY, **sent), update_mask=FieldMask(paths=paths)
    )


def test_rotating_all_keys_is_an_operation(peer, kms_acme, capsys):
    peer.answer("RotateKeys", lambda r, _: operations_pb2.Operation(name="tenants/acme/operations/o", target=r.parent))
    assert run(["keys", "rotate", "--all", "--output", "json"]) == 0
    assert printed(capsys)["target"] == "tenants/acme"


@pytest.mark.parametrize(
    "line",
    [
        "revoke payroll --reason leaked",
        "revoke payroll --reason leaked --version 3",
        "destroy payroll --reason gone",
        "archive payroll",
    ],
)
class TestWhatCannotBeTakenBack:
    def test_needs_yes_without_a_terminal_and_sends_nothing(self, peer, kms_acme, capsys, monkeypatch, line):
        answers(peer)
        with Path(os.devnull).open() as nothing:
            monkeypatch.setattr("sys.stdin", nothing)
            assert run(["keys", *line.split()]) == 2
        assert "--yes" in complaint(capsys)
        assert peer.calls == []

    @pytest.mark.parametrize(
        ("answer", "code"), [(b"y\n", 0), (b"Yes\n", 0), (b"n\n", 130), (b"\n", 130), (b"\x04", 130)]
    )
    def test_is_asked_on_a_terminal_and_done_only_on_yes(self, peer, kms_acme, capsys, monkeypatch, line, answer, code):
        answers(peer)
        master, terminal = pty.openpty()
        os.write(master, answer)
        with os.fdopen(terminal) as opened:
            monkeypatch.setattr("sys.stdin", opened)
            assert run(["keys", *line.split(), "--output", "json"]) == code
        os.close(master)
        out, err = capsys.readouterr()
        assert "tenants/acme/keys/payroll" in err
        assert "[y/N] " in err
        assert out.startswith("{") is (code == 0)  # the question is not in the answer's way
        assert len(peer.calls) == (code == 0)


def test_a_process_in_a_pipe_does_not_wait_for_an_answer(peer, kms_acme):
    answers(peer)
    with command(kms_acme, "keys", "archive", "payroll", stdin=subprocess.PIPE) as process:
        out, err = process.communicate(b"y\n", timeout=30)
    assert (process.returncode, out, peer.calls) == (2, b"", [])
    assert b"--yes" in err


def test_a_revocation_prints_each_node_and_when_the_last_one_stopped(peer, kms_acme, capsys):
    answers(peer)
    assert run(["keys", "revoke", "payroll", "--reason", "leaked", "--wait", "--yes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "last node stopped after 1.8 s"
    assert ["node-b", "acknowledged", "1.8", "s"] in [line.split() for line in lines]
    assert ["state", "revoked"] in [line.split() for line in lines]


def test_a_revocation_as_json_has_these_fields(peer, kms_acme, capsys):
    answers(peer)
    line = ["keys", "revoke", "payroll", "--reason", "leaked", "--yes", "--output", "json"]
    assert run(line) == 0
    answer = printed(capsys)
    assert (answer["key"]["name"], answer["key"]["state_reason"]) == (KEY, "leaked")
    assert answer["propagation"] == {
        "commit_time": TIME,
        "complete": True,
        "last_stop_seconds": 1.8,
        "nodes": [{"node": "node-b", "state": "acknowledged", "after_seconds": 1.8}],
    }
    assert run([*line, "--version", "3"]) == 0
    assert printed(capsys)["key_version"]["name"] == VERSION


@pytest.mark.parametrize(("wait", "code"), [([], 0), (["--wait"], 8)])
def test_who_waited_for_all_nodes_in_vain_is_told_by_the_exit_code(peer, kms_acme, capsys, wait, code):
    waiting = keys_pb2.Propagation(nodes=[keys_pb2.NodeStop(node="node-a", state=1)])
    peer.answer("SuspendKey", lambda r, _: keys_pb2.SuspendKeyResponse(key=key(r.name, state=4), propagation=waiting))
    assert run(["keys", "suspend", "payroll", "--reason", "audit", *wait]) == code
    assert capsys.readouterr().out.endswith("not all nodes have stopped yet: 0 of 1\n")


def shown(peer):
    census = keys_pb2.VersionCensus(unknown_reasons=["place old has not been counted"], next_step="count place old")
    known = keys_pb2.VersionCensus(known=True, next_step="kms keys retire payroll 1")
    moment = {"state_time", "create_time"}
    versions = [
        keys_pb2.KeyVersion(name=f"{KEY}/versions/1", state=5, encryptions_limit=1000, census=known),
        keys_pb2.KeyVersion(name=f"{KEY}/versions/2", state=2, primary=True, encryptions_limit=1000, census=census),
    ]
    peer.answer("GetKey", lambda r, _: key(r.name))
    peer.answer(
        "ListKeyVersions",
        lambda *_: keys_pb2.ListKeyVersionsResponse(key_versions=[stamped(v, *moment) for v in versions]),
    )


def test_a_key_is_shown_with_what_its_versions_protect_and_unknown_is_not_zero(peer, kms_acme, capsys):
    shown(peer)
    assert run(["keys", "show", "payroll"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = lines[lines.index("") + 1 :]
    assert table[0].split()[:3] == ["VERSION", "STATE", "AGE"]
    assert "0 of 1,000" in table[1]
    assert "nothing" in table[1]
    assert "kms keys retire payroll 1" in table[1]
    assert "unknown: place old has not been counted" in table[2]
    assert "count place old" in table[2]


def test_a_key_as_json_has_its_versions_and_an_unknown_count_is_null(peer, kms_acme, capsys):
    shown(peer)
    assert run(["keys", "show", "payroll", "--output", "json"]) == 0
    counts = [(version["census"]["known"], version["census"]["count"]) for version in printed(capsys)["versions"]]
    assert counts == [(True, 0), (False, None)]


def test_an_illegal_step_says_which_and_changes_nothing(peer, kms_acme, capsys):
    peer.answer("ResumeKey", lambda r, c: refuse(c, WrongKeyState(f"{r.name} is active: it cannot resume")))
    assert run(["keys", "resume", "payroll"]) == 6
    assert "is active: it cannot resume" in complaint(capsys)
