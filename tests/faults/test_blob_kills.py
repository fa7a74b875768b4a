"""A daemon killed at every step of sealing, changing and deleting a blob: afterwards it is whole, as before or after, or gone."""

from __future__ import annotations

import hashlib
import random
import uuid
from collections.abc import Sequence

import grpc
import pytest

from kms.v1 import blobs_pb2 as pb
from tests.blob_calls import CONTEXT, PARENT, PIECE, Caller, first, messages, refusal
from tests.daemon import Installation

pytestmark = pytest.mark.softhsm

# What is there after the kill: whether the new blob exists; the generation of the old one, 0 for none; its store.
SEALING = {"seal_blob.body_written": False, "seal_blob.before_commit": False, "seal_blob.committed": True}
CHANGING = {
    "reseal_blob.body_written": (1, "local"),
    "reseal_blob.before_commit": (1, "local"),
    "reseal_blob.committed": (2, "local"),
    "move_blob.body_written": (1, "local"),
    "move_blob.before_commit": (1, "local"),
    "move_blob.committed": (1, "other"),
    "delete_blob.before_commit": (1, "local"),
    "delete_blob.committed": (0, ""),
}
UPLOADING = "seal_blob.segment_written"
PASSES = frozenset({*SEALING, *CHANGING, UPLOADING})
DATA = random.Random(2).randbytes(2 * PIECE + 77)
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def two_stores(enclave_installation: Installation) -> Installation:
    text = enclave_installation.config.read_text()
    second = '[blobs.stores.other]\nkind = "directory"\npath = "data/other"\n\n[access]'
    assert text.count("\n[access]") == 1
    enclave_installation.config.write_text(text.replace("\n[access]", f"\n{second}"))
    return enclave_installation


def pass_through(installation: Installation, failpoints: Sequence[str]) -> None:
    """Kill a daemon at one failpoint after the other; what the kill left is looked at by the next daemon."""
    caller: Caller | None = None
    expected: dict[str, tuple[int, str]] = {}
    for failpoint in (*failpoints, ""):
        daemon = installation.start(failpoint=failpoint)
        daemon.wait_for("enclave.attested")
        caller = caller or Caller(installation)
        _look(caller, expected)
        if not failpoint:
            break
        _lose(caller, failpoint, expected)
        daemon.process.wait(30)
    assert caller is not None
    for blob_id in [blob_id for blob_id, (generation, _) in expected.items() if not generation]:
        caller.seal(blob_id, DATA)  # the name is free
    caller.close()


def _lose(caller: Caller, failpoint: str, expected: dict[str, tuple[int, str]]) -> None:
    """Let the daemon die in the act that the failpoint belongs to."""
    blob_id = failpoint.replace("_blob.", "-").replace("_", "-")
    if failpoint in SEALING:
        refusal(lambda: caller.seal(blob_id, DATA), UNAVAILABLE)
        expected[blob_id] = (1, "local") if SEALING[failpoint] else (0, "")
        return
    name = caller.seal(blob_id, DATA).name
    act = {
        "reseal": lambda: caller.stub.ResealBlob(pb.ResealBlobRequest(name=name, context=CONTEXT), timeout=60),
        "move": lambda: caller.stub.MoveBlob(pb.MoveBlobRequest(name=name, store="other"), timeout=60),
        "delete": lambda: caller.stub.DeleteBlob(pb.DeleteBlobRequest(name=name), timeout=60),
    }[failpoint.partition("_")[0]]
    refusal(act, UNAVAILABLE)
    expected[blob_id] = CHANGING[failpoint]


def _look(caller: Caller, expected: dict[str, tuple[int, str]]) -> None:
    for blob_id, (generation, store) in expected.items():
        assert (blob_id in caller.names()) == bool(generation), blob_id
        if not generation:
            continue
        name = f"{PARENT}/blobs/{blob_id}"
        got = caller.stub.GetBlob(pb.GetBlobRequest(name=name), timeout=30, wait_for_ready=True)
        assert (got.generation, got.store) == (generation, store), blob_id
        assert caller.read(blob_id) == DATA


def test_a_killed_daemon_leaves_whole_blobs_or_none(two_stores: Installation):
    pass_through(two_stores, ["seal_blob.before_commit", "reseal_blob.committed"])


@pytest.mark.soak
def test_a_daemon_killed_at_every_step_leaves_whole_blobs_or_none(two_stores: Installation):
    pass_through(two_stores, [*SEALING, *CHANGING])


@pytest.mark.soak
def test_an_upload_goes_on_after_the_daemon_was_killed(enclave_installation: Installation):
    daemon = enclave_installation.start(failpoint=f"{UPLOADING}@2")
    daemon.wait_for("enclave.attested")
    caller = Caller(enclave_installation)
    data = random.Random(4).randbytes(PIECE) * 130  # two segments and a bit
    upload = str(uuid.uuid4())
    try:
        refusal(lambda: caller.seal("large", data, upload_id=upload), UNAVAILABLE)
        daemon.process.wait(30)
        enclave_installation.start().wait_for("enclave.attested")
        request = pb.GetUploadRequest(name=f"{PARENT}/blobs/large", upload_id=upload)
        begun = caller.stub.GetUpload(request, timeout=30, wait_for_ready=True).committed_size
        assert begun == 64 << 20
        assert caller.names() == []
        sealed = caller.stub.SealBlob(messages(data[begun:], first("large", upload_id=upload)), timeout=100)
        assert (sealed.size, sealed.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert caller.read("large", start=begun - 10, length=20) == data[begun - 10 : begun + 10]
    finally:
        caller.close()
