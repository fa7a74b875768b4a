"""Blobs over a real daemon and its enclave, by gRPC: streams both ways, refusals, and bytes that outlive a kill."""

from __future__ import annotations

import hashlib
import random
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from kms.v1 import blobs_pb2 as pb
from kms.v1.crypto_pb2 import ContextPair
from tests.blob_calls import CONTEXT, PARENT, PIECE, Caller, first, refusal
from tests.daemon import Installation, wait_until

pytestmark = pytest.mark.softhsm


@pytest.fixture(scope="module")
def enclave_installation() -> Iterator[Installation]:
    parent = Path(tempfile.mkdtemp(prefix="kms"))
    made = Installation(parent / "i", enclave=True)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(parent)


@pytest.fixture(scope="module")
def caller(enclave_installation: Installation) -> Iterator[Caller]:
    daemon = enclave_installation.start()
    daemon.wait_for("enclave.attested")
    made = Caller(enclave_installation)
    yield made
    made.close()


def test_a_blob_goes_in_and_comes_out(caller: Caller, enclave_installation: Installation):
    data = random.Random(1).randbytes(5 * PIECE + 4321)
    before = _files(enclave_installation)
    sealed = caller.seal("ledger.tar", data, content_type="application/x-tar", labels={"year": "2026"})
    assert (sealed.size, sealed.sha256, sealed.simulated) == (len(data), hashlib.sha256(data).hexdigest(), True)
    assert len(sealed.mrenclave) == 64
    assert caller.read("ledger.tar", purpose="billing") == data
    assert caller.read("ledger.tar", start=PIECE + 5, length=70_000) == data[PIECE + 5 : PIECE + 70_005]
    assert caller.read("ledger.tar", start=len(data)) == b""
    files = _files(enclave_installation) - before
    assert len(files) == 1
    assert data[:64] not in files.pop().read_bytes()

    got = caller.stub.GetBlob(pb.GetBlobRequest(name=sealed.name))
    assert got.etag == sealed.etag
    changed = pb.Blob(name=sealed.name, etag=sealed.etag, description="the ledger", legal_hold=True)
    assert caller.stub.UpdateBlob(pb.UpdateBlobRequest(blob=changed)).description == "the ledger"
    delete = pb.DeleteBlobRequest(name=sealed.name)
    assert "legal hold" in refusal(lambda: caller.stub.DeleteBlob(delete), grpc.StatusCode.FAILED_PRECONDITION)
    caller.stub.UpdateBlob(pb.UpdateBlobRequest(blob=pb.Blob(name=sealed.name)))
    resealed = caller.stub.ResealBlob(pb.ResealBlobRequest(name=sealed.name, context=CONTEXT))
    assert (resealed.generation, caller.read("ledger.tar") == data) == (2, True)
    caller.stub.DeleteBlob(delete)
    assert _files(enclave_installation) == before
    assert "ledger.tar" not in caller.names()

    # Each of these acts is in the trail before it is answered, by its name.
    with enclave_installation.operator() as operator:
        events = list(operator.list_audit_events("tenants/acme"))
    acts = {event.action.rpartition("/")[2] for event in events}
    assert {"SealBlob", "UnsealBlob", "UpdateBlob", "ResealBlob", "DeleteBlob"} <= acts
    assert any("billing" in str(event) for event in events if event.action.endswith("/UnsealBlob"))


def _files(installation: Installation) -> set[Path]:
    return {path for path in (installation.directory / "data" / "blobs").rglob("*") if path.is_file()}


def test_what_breaks_the_rules_of_a_stream_is_refused_and_leaves_nothing(caller: Caller):
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    chunk = pb.SealBlobRequest(chunk=b"x")

    def send(*requests: pb.SealBlobRequest) -> Any:
        return lambda: caller.stub.SealBlob(iter(requests), timeout=30)

    assert "request" in refusal(send(), invalid)
    assert "parent" in refusal(send(chunk), invalid)
    with_chunk = first("file")
    with_chunk.chunk = b"x"
    assert "chunk" in refusal(send(with_chunk), invalid)
    assert "chunk" in refusal(send(first("file"), pb.SealBlobRequest()), invalid)
    assert "chunk" in refusal(send(first("file"), pb.SealBlobRequest(chunk=bytes(PIECE + 1))), invalid)
    assert "request" in refusal(send(first("file"), chunk, pb.SealBlobRequest(chunk=b"x", content_type="a")), invalid)
    assert "blob_id" in refusal(send(first("../file")), invalid)
    assert "store" in refusal(send(first("file", store="nowhere")), invalid)
    assert "upload_id" in refusal(send(first("file", upload_id="1")), invalid)
    assert "kms." in refusal(
        send(pb.SealBlobRequest(parent=PARENT, blob_id="file", context=[ContextPair(key="kms.a")])), invalid
    )
    caller.seal("file", b"data")
    refusal(lambda: caller.seal("file", b"data"), grpc.StatusCode.ALREADY_EXISTS)
    wrong = pb.UnsealBlobRequest(name=f"{PARENT}/blobs/file")
    refusal(lambda: list(caller.stub.UnsealBlob(wrong, timeout=30)), invalid)
    assert caller.names() == ["file"]

    # A caller who goes away in the middle leaves nothing.
    stop = iter([first("gone"), *[pb.SealBlobRequest(chunk=bytes(PIECE))] * 3])
    call = caller.stub.SealBlob.future(_then_wait(stop), timeout=30)
    wait_until(call.running, "the call to run")
    call.cancel()
    assert caller.names() == ["file"]
    caller.seal("gone", b"data")


def _then_wait(requests: Iterator[Any]) -> Iterator[Any]:

    yield from requests
    threading.Event().wait(5)
