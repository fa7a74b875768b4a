import os
import pty

import pytest
from kms_client.v1 import nodes_pb2, operations_pb2

from kms.cli.main import run
from tests.cli_fixtures import TIME, command, printed, stamped

UID = "7b0f3c1e-52a0-4b39-8d35-0a3a53a9c1de"
NAME = f"tenants/acme/operations/{UID}"
RUNNING, SUCCEEDED, FAILED, CANCELLED = 1, 2, 3, 4


def operation(state=RUNNING, done=5, error=""):
    message = operations_pb2.Operation(
        name=NAME, kind="rewrap", target="tenants/acme", state=state, done=done, total=10, error=error, etag=f"e{done}"
    )
    return stamped(message, "create_time", "update_time")


def test_an_operation_as_json_has_these_fields(peer, kms_acme, capsys):
    peer.answer("GetOperation", lambda *_: operation())
    assert run(["operations", "show", UID, "--output", "json"]) == 0
    assert printed(capsys) == {
        "name": NAME,
        "kind": "rewrap",
        "target": "tenants/acme",
        "state": "running",
        "done": 5,
        "total": 10,
        "error": "",
        "requester": "",
        "create_time": TIME,
        "update_time": TIME,
        "end_time": None,
        "etag": "e5",
    }
    assert peer.calls[0].request.name == NAME


def test_operations_are_listed(peer, kms_acme, capsys):
    peer.answer("ListOperations", lambda *_: operations_pb2.ListOperationsResponse(operations=[operation()]))
    assert run(["operations", "list", "--output", "json"]) == 0
    assert [entry["name"] for entry in printed(capsys)] == [NAME]
    assert run(["operations", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:4] == [NAME, "rewrap", "tenants/acme", "running"]


@pytest.mark.parametrize(("verb", "rpc"), [("cancel", "CancelOperation"), ("resume", "ResumeOperation")])
def test_an_operation_is_stopped_and_let_go_on(peer, kms_acme, verb, rpc):
    peer.answer(rpc, lambda *_: operation(CANCELLED))
    assert run(["operations", verb, NAME]) == 0
    assert [call.request.name for call in peer.tries(rpc)] == [NAME]


def watched(peer, *states):
    """Let an operation go through *states*, the first of which is the present one."""
    first, *later = states
    peer.answer("GetOperation", lambda *_: first)
    if later:
        peer.answer("WaitOperation", *(lambda *_, state=state: state for state in later))


def test_watching_prints_a_line_for_each_progress_and_waits_from_where_it_is(peer, kms_acme, capsys):
    watched(peer, operation(done=5), operation(done=5), operation(done=8), operation(SUCCEEDED, 11))
    assert run(["operations", "watch", UID]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "running: 5 of 10",
        "running: 8 of 10",
        "succeeded: 11 of 11",
        "succeeded",
    ]
    assert [call.request.etag for call in peer.tries("WaitOperation")] == ["e5", "e5", "e8"]


@pytest.mark.parametrize(
    ("end", "code", "line"),
    [
        (operation(SUCCEEDED, 10), 0, "succeeded"),
        (operation(FAILED, error="the token does not answer"), 8, "failed: the token does not answer"),
        (operation(CANCELLED), 8, "cancelled"),
        (operation(77), 8, "77"),
    ],
)
@pytest.mark.parametrize("before", [[], [operation(done=1)]])
def test_watching_ends_with_a_code_for_the_outcome(peer, kms_acme, capsys, before, end, code, line):
    watched(peer, *before, end)
    assert run(["operations", "watch", UID]) == code
    assert capsys.readouterr().out.splitlines()[-1] == line


def test_watching_for_a_program_prints_the_end_alone(peer, kms_acme, capsys):
    watched(peer, operation(), operation(CANCELLED, 8))
    assert run(["operations", "watch", UID, "--output", "json"]) == 8
    answer = printed(capsys)
    assert (answer["state"], answer["done"]) == ("cancelled", 8)


def test_on_a_terminal_watching_shows_a_bar(peer, kms_acme):
    watched(peer, operation(done=5), operation(SUCCEEDED, 10))
    master, terminal = pty.openpty()
    with command(kms_acme, "operations", "watch", UID, stdout=terminal, columns=120) as process:
        os.close(terminal)
        _, err = process.communicate(timeout=30)
    shown = os.read(master, 1 << 16).decode()
    os.close(master)
    assert (process.returncode, err) == (0, b"")
    assert "rewrap" in shown
    assert "10/10" in shown
    assert shown.rstrip().endswith("succeeded")


def test_nodes_are_listed_with_the_newest_revocation(peer, kms_profile, capsys):
    node = stamped(nodes_pb2.Node(uid="u1", name="node-a", acknowledged_epoch=7, self=True), "start_time", "seen_time")
    peer.answer("ListNodes", lambda *_: nodes_pb2.ListNodesResponse(nodes=[node], revocation_epoch=8))
    assert run(["nodes", "list", "--output", "json"]) == 0
    assert printed(capsys) == {
        "revocation_epoch": 8,
        "nodes": [
            {
                "uid": "u1",
                "name": "node-a",
                "start_time": TIME,
                "seen_time": TIME,
                "acknowledged_epoch": 7,
                "self": True,
            }
        ],
    }
    assert run(["nodes", "list"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["revocation_epoch", "8"]
    assert lines[-1] == ["node-a", "u1", TIME, TIME, "7", "yes"]
