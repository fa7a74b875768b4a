"""The enclave's side of its socket, without a process."""

from __future__ import annotations

import math
import os
import socket
import threading
from pathlib import Path

import msgpack
import pytest

from enclave.host import ANSWER, FAREWELL, MAX_MESSAGE, REFUSAL, Host, serve
from enclave.sigstruct import Release, sign
from enclave.simulated_start import SimulatedStart
from kms import framing
from tests.enclaves import signing_key

ALWAYS = math.inf


@pytest.fixture
def host():
    return Host(bytes(32), SimulatedStart(Path("/nowhere")), [])


def test_a_call_whose_time_is_over_is_not_carried_out(host):
    assert host.answer(0.0, "open", [])[1][0] == "expired"


def test_nothing_is_answered_before_the_enclave_is_open(host):
    assert host.answer(ALWAYS, "describe", []) == (FAREWELL, ["INVALID_PARAMETER", "open: comes first"])


@pytest.fixture(scope="module")
def structure():
    release = Release(mrenclave=bytes(32), isv_prod_id=1, isv_svn=1, date=20260101, flags=4, flags_mask=(1 << 64) - 1)
    return sign(release, signing_key())


@pytest.mark.parametrize(
    ("wrong", "refusal"),
    [
        ({"fuse": bytes(32)}, ["INVALID_PARAMETER", "fuse: has 32 bytes that are not all zero"]),
        ({"owner_epoch": b""}, ["INVALID_PARAMETER", "owner epoch: has 16 bytes"]),
        ({"structure": b""}, ["INVALID_SIGNATURE", "signature structure: has 1,808 bytes, the last 780 zero"]),
        ({"cpu_svn": b"4"}, ["INVALID_PARAMETER", "cpu_svn: must be 16 bytes"]),
        ({"flags": 0}, ["INVALID_SIGNATURE", "ATTRIBUTES: not what the signer allows"]),
    ],
)
def test_an_enclave_that_may_not_start_is_refused_for_good(tmp_path, structure, wrong, refusal):
    backend = SimulatedStart(tmp_path / "counters")
    backend.ready()
    given = {"fuse": os.urandom(32), "owner_epoch": bytes(16), "structure": structure, "cpu_svn": bytes(16), "flags": 4}

    def opened(changes):
        fuse, owner_epoch, signed, cpu_svn, flags = {**given, **changes}.values()
        arguments = [fuse, owner_epoch, signed, [cpu_svn, flags, 0, 0, bytes(64), 0]]
        return Host(bytes(32), backend, []).answer(ALWAYS, "open", arguments)

    try:
        assert opened({})[0] == ANSWER
        assert opened(wrong) == (FAREWELL, refusal)
    finally:
        os.close(backend._counters)


def test_a_mistake_is_told_without_what_the_call_held(host):
    status, (code, text) = host.answer(ALWAYS, "open", ["a secret"])
    assert (status, code) == (FAREWELL, "mistake")
    assert "TypeError" in text
    assert "secret" not in text


def exchange(host, *sent):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        thread = threading.Thread(target=lambda: (serve(theirs, host), theirs.shutdown(socket.SHUT_WR)))
        thread.start()
        ours.settimeout(20)
        for data in sent:
            ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: ours.recv(1 << 16), b""))
        thread.join(20)
        assert not thread.is_alive()
    return framing.Unpacker().feed(received)


def test_the_two_writings_of_the_framing_agree(host):
    assert MAX_MESSAGE == framing.MAX_MESSAGE
    host._kinds["echo"] = lambda value: value
    host._enclave = object()
    values = [b"", os.urandom(framing.MAX_MESSAGE - 100), None, [1, "two", b"three"]]
    calls = b"".join(framing.pack([number, ALWAYS, "echo", [value]]) for number, value in enumerate(values))
    # In pieces, so that lengths and bodies are cut anywhere.
    pieces = [calls[at : at + 65_537] for at in range(0, len(calls), 65_537)]
    assert exchange(host, *pieces) == [[number, framing.ANSWER, value] for number, value in enumerate(values)]


def test_an_answer_beyond_the_bound_is_a_refusal(host):
    host._kinds["grow"] = lambda: bytes(MAX_MESSAGE)
    host._enclave = object()
    [[_, status, (code, _)]] = exchange(host, framing.pack([1, ALWAYS, "grow", []]))
    assert (status, code) == (REFUSAL, "INVALID_PARAMETER")


@pytest.mark.parametrize(
    "nonsense",
    [
        (MAX_MESSAGE + 1).to_bytes(4, "big"),
        b"\0\0\0\1\xc1",
        b"\0\0\0\5",
        framing.pack([1, ALWAYS, "describe"]),
        framing.pack(["1", ALWAYS, "describe", []]),
        framing.pack({}),
        b"\0\0",
    ],
)
def test_what_is_no_call_ends_the_conversation(host, nonsense):
    assert exchange(host, nonsense + msgpack.packb(0)) == []
