"""A blob of any size goes in and out of a directory store in memory that does not grow with it: a real daemon, its peak looked at."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from kms_client import Client

from tests.daemon import Installation

pytestmark = pytest.mark.softhsm

ACME = "tenants/acme"
MIB = 1 << 20
PIECE = MIB
ADDED = 100 * MIB
FRESH = 256  # pages of 4 KiB, for each MiB that goes in and out: one copy of it
PATIENCE = 1800.0  # seconds for the largest, on a machine that has other things to do


def peak(pid: int) -> int:
    """The most memory that a process has had in use so far, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def fresh_pages(pid: int) -> int:
    """How many pages a process and its children have been given so far, without those that came from a file."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])  # minflt of proc(5)
    return own + sum(fresh_pages(int(child)) for child in children)


def content(size: int, digest: hashlib._Hash) -> Iterator[bytes]:
    """Bytes of which no MiB is another one's."""
    block = bytearray(os.urandom(PIECE))
    for number in range(size // PIECE):
        block[:8] = number.to_bytes(8, "big")
        digest.update(block)
        yield bytes(block)


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(256 * MIB, id="256 MiB", marks=pytest.mark.timeout(600)),
        pytest.param(4096 * MIB, id="4 GiB", marks=[pytest.mark.soak, pytest.mark.timeout(2 * PATIENCE)]),
    ],
)
def test_a_large_blob_goes_in_and_out_with_bounded_memory(size: int, enclave_installation: Installation):
    daemon = enclave_installation.start()
    daemon.wait_for("enclave.attested")
    with enclave_installation.tenant("acme") as client:
        through(client, "small", 4 * MIB)  # what is loaded and kept once
        before = peak(daemon.process.pid)
        through(client, "large", size)
        assert peak(daemon.process.pid) - before < ADDED


def through(client: Client, blob_id: str, size: int) -> None:
    sealed, read, length = hashlib.sha256(), hashlib.sha256(), 0
    blob = client.seal_blob(ACME, blob_id, content(size, sealed), deadline=PATIENCE)
    assert (blob.size, blob.sha256, blob.store) == (size, sealed.hexdigest(), "local")
    for piece in client.unseal_blob(blob.name, deadline=PATIENCE):
        read.update(piece)
        length += len(piece)
    assert (length, read.digest()) == (size, sealed.digest())


def test_bytes_on_their_way_are_not_given_fresh_memory_each_time(enclave_installation: Installation):
    """Filling fresh pages with zeros takes longer than all that is done with the bytes (kms/allocation.py)."""
    daemon = enclave_installation.start()
    daemon.wait_for("enclave.attested")
    with enclave_installation.tenant("acme") as client:
        through(client, "first", 16 * MIB)
        before = fresh_pages(daemon.process.pid)
        through(client, "second", 64 * MIB)
        assert (fresh_pages(daemon.process.pid) - before) / 64 < FRESH
