"""The fuse from a token host: what is asked of it, and every answer that is none; the hosts here are processes, too."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from enclave.errors import FuseRefused, FuseUnavailable, InvalidParameter
from enclave.fuse import TokenHost, chosen_fuse, start_token_host

WHERE = ["/the/module.so", "a label", bytes(range(16))]

# Answers each call with the next of the given answers (Python), and leaves when there is none left.
HOST = """
import os, socket, sys, msgpack
sock = socket.socket(fileno=int(sys.argv[-1]))
def read(length):
    data = b""
    while len(data) < length:
        data += sock.recv(length - len(data)) or sys.exit(0)
    return data
calls = []
for answer in eval(sys.argv[1]):
    calls.append(msgpack.unpackb(read(int.from_bytes(read(4), "big"))))
    data = answer(calls) if callable(answer) else answer
    body = data if isinstance(data, bytes) else msgpack.packb(data)
    sock.sendall(len(body).to_bytes(4, "big") + body)
"""
OPENED = "[1, 0, {}]"


def started(tmp_path: Path, answers: str, pin: str = "1234\n", **environment: str) -> TokenHost:
    (tmp_path / "pin").write_text(pin)
    variables = [f"{name}={value}" for name, value in environment.items()]
    return start_token_host([str(tmp_path / "pin"), *variables, sys.executable, "-I", "-c", HOST, answers])


def test_the_fuse_is_what_the_token_answers_for_the_platform(tmp_path: Path) -> None:
    fuse = "bytes(31) + b'f'"
    told = f"lambda calls: [2, 0, {fuse} if [c[2:] for c in calls] == {CALLS!r} else None]"
    assert chosen_fuse(WHERE, started(tmp_path, f"[{OPENED}, {told}]")) == bytes(31) + b"f"


CALLS = [["open", ["/the/module.so", "a label", "1234", "probe", 30.0]], ["fuse", [bytes(range(16))]]]


def test_the_host_gets_its_variables_and_no_others(tmp_path: Path) -> None:
    wanted = "bytes(32) if dict(os.environ) == {'A': 'b=c', 'LC_CTYPE': 'C.UTF-8'} or dict(os.environ) == {'A': 'b=c'} else None"
    assert chosen_fuse(WHERE, started(tmp_path, f"[{OPENED}, [2, 0, {wanted}]]", A="b=c")) == bytes(32)


@pytest.mark.parametrize(
    ("answers", "error", "said"),
    [
        ("[[1, 2, ['pin', 'the token refuses the PIN']]]", FuseRefused, "the token refuses the PIN"),
        ("[[1, 2, ['token', 'no token with this label is present']]]", FuseUnavailable, "no token with this label"),
        (
            f"[{OPENED}, [2, 1, ['missing', 'does not show its fuse key']]]",
            FuseUnavailable,
            "does not show its fuse key",
        ),
        (f"[{OPENED}, [2, 0, bytes(31)]]", FuseUnavailable, "another length"),
        (f"[{OPENED}, [2, 0, None]]", FuseUnavailable, "another length"),
        (f"[{OPENED}, [3, 0, bytes(32)]]", FuseUnavailable, "does not answer"),
        (f"[{OPENED}, b'no msgpack of ours']", FuseUnavailable, "does not answer"),
        (f"[{OPENED}, bytes(1 << 17)]", FuseUnavailable, "does not answer"),
        (f"[{OPENED}]", FuseUnavailable, "has left without an answer|does not answer"),
        ("[]", FuseUnavailable, "has left without an answer|does not answer"),
    ],
)
def test_whatever_else_is_answered_is_no_fuse(tmp_path: Path, answers: str, error: type[Exception], said: str) -> None:
    host = started(tmp_path, answers)
    with pytest.raises(error, match=said) as caught:
        chosen_fuse(WHERE, host)
    assert "1234" not in str(caught.value)
    assert host.sock.fileno() == -1  # so that the host leaves


def test_an_empty_pin_is_not_tried(tmp_path: Path) -> None:
    with pytest.raises(FuseUnavailable, match="is empty"):
        chosen_fuse(WHERE, started(tmp_path, "[]", pin="\n"))


@pytest.mark.parametrize("missing", ["pin", "program"])
def test_a_host_that_cannot_be_started_is_told_of(tmp_path: Path, missing: str) -> None:
    (tmp_path / "pin").write_text("1234")
    places = {"pin": [str(tmp_path / "no pin"), "/bin/true"], "program": [str(tmp_path / "pin"), "/no/program"]}
    with pytest.raises(FuseUnavailable, match="cannot be started"):
        start_token_host(places[missing])


@pytest.mark.parametrize("given", [None, 7, "text", [], WHERE, ["module", "label", "id"], [*WHERE, 1]])
def test_without_a_host_only_the_fuse_itself_is_taken(given: object) -> None:
    with pytest.raises(InvalidParameter, match="fuse"):
        chosen_fuse(given, None)
    assert chosen_fuse(bytes(32), None) == bytes(32)
