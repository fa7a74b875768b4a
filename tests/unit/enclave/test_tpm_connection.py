"""The way to a TPM, without one: what it sends, takes, and refuses."""

from __future__ import annotations

import os
import socket
import threading
import tty
from collections.abc import Iterator

import pytest

from enclave import tpm_connection
from enclave.errors import PlatformFault
from enclave.tpm_connection import MAX_ANSWER, Connection, check_place, connect

COMMAND = bytes.fromhex("8001000000 0c0000017b0008".replace(" ", ""))


def answer(body: bytes, length: int | None = None) -> bytes:
    return b"\x80\x01" + (10 + len(body) if length is None else length).to_bytes(4, "big") + bytes(4) + body


@pytest.fixture
def ends() -> Iterator[tuple[Connection, socket.socket]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    connection = Connection(near.detach())
    with far:
        yield connection, far
    connection.close()


def test_an_answer_comes_whole_however_it_is_cut(ends):
    connection, far = ends
    whole = answer(os.urandom(MAX_ANSWER - 10))
    for cut in (1, 5, 10, 11, len(whole)):
        connection.send(COMMAND)
        assert far.recv(100) == COMMAND

        def say(cut: int = cut) -> None:
            for at in range(0, len(whole), cut if cut > 4 else 1000 + cut):
                far.sendall(whole[at : at + (cut if cut > 4 else 1000 + cut)])

        thread = threading.Thread(target=say)
        thread.start()
        assert connection.receive() == whole
        thread.join(10)


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (answer(b"", length=MAX_ANSWER + 1), "of another length"),
        (answer(b"", length=0) + b"x", "of another length"),
        (answer(b"1234", length=12), "of another length"),
        (answer(b"1234")[:9], "has gone"),
        (b"", "has gone"),
    ],
    ids=["too long", "shorter than a header", "more than it says", "cut", "nothing"],
)
def test_what_is_no_answer_is_a_fault(ends, sent, why):
    connection, far = ends
    far.sendall(sent)
    far.shutdown(socket.SHUT_WR)
    with pytest.raises(PlatformFault, match=why):
        connection.receive()


def test_a_tpm_that_is_silent_or_gone_is_a_fault_in_time(ends, monkeypatch):
    connection, far = ends
    monkeypatch.setattr(tpm_connection, "SECONDS", 0.05)
    with pytest.raises(PlatformFault, match=r"does not answer within 0\.05 s"):
        connection.receive()
    with pytest.raises(PlatformFault, match=r"does not answer within 0\.05 s"):  # nobody reads
        connection.send(bytes(1 << 24))
    far.close()
    with pytest.raises(PlatformFault, match="does not take a command"):
        connection.send(COMMAND)


def test_a_device_is_spoken_to_as_a_socket_is():
    # A terminal without any treatment of its own: a character device, as a TPM's is.
    chip, device = os.openpty()
    tty.setraw(device)
    connection = connect(f"device:{os.ttyname(device)}")
    try:
        for body in (b"", os.urandom(300)):
            connection.send(COMMAND)
            assert os.read(chip, 100) == COMMAND
            os.write(chip, answer(body))
            assert connection.receive() == answer(body)
    finally:
        connection.close()
        os.close(device)
        os.close(chip)


@pytest.mark.parametrize("place", ["", "/dev/tpmrm0", "device:tpmrm0", "swtpm:host=localhost,port=1", "swtpm:path=s"])
def test_what_names_no_tpm_is_refused(place):
    with pytest.raises(PlatformFault, match="must be device:PATH or swtpm:path=PATH"):
        check_place(place)


@pytest.mark.parametrize("place", ["device:/nowhere/tpm", "swtpm:path=/nowhere/s", f"swtpm:path=/{'x' * 200}"])
def test_a_place_where_nothing_is_is_a_fault(place):
    with pytest.raises(PlatformFault, match="cannot be opened"):
        connect(place)
