"""Calls of BlobService over a real channel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from kms.v1 import blobs_pb2 as pb
from kms.v1 import blobs_pb2_grpc
from kms.v1.crypto_pb2 import ContextPair
from tests.daemon import Installation, channel

PARENT = "tenants/acme"
CONTEXT = [ContextPair(key="case", value=b"17")]
PIECE = 1 << 20


def first(blob_id: str, **said: Any) -> pb.SealBlobRequest:
    return pb.SealBlobRequest(parent=PARENT, blob_id=blob_id, context=CONTEXT, **said)


def messages(data: bytes, said: pb.SealBlobRequest) -> Iterator[pb.SealBlobRequest]:
    yield said
    for start in range(0, len(data), PIECE):
        yield pb.SealBlobRequest(chunk=data[start : start + PIECE])


class Caller:
    """A principal of tenant acme, by its certificate."""

    def __init__(self, installation: Installation) -> None:
        with installation.operator() as operator:
            operator.create_tenant("acme")
        self.profile = installation.issue(f"{PARENT}/principals/app")
        self.connect()

    def connect(self) -> None:
        self.channel = channel(self.profile)
        self.stub: Any = blobs_pb2_grpc.BlobServiceStub(self.channel)

    def close(self) -> None:
        self.channel.close()

    def seal(self, blob_id: str, data: bytes, **said: Any) -> pb.Blob:
        made: pb.Blob = self.stub.SealBlob(messages(data, first(blob_id, **said)), timeout=60, wait_for_ready=True)
        return made

    def read(self, blob_id: str, **asked: Any) -> bytes:
        request = pb.UnsealBlobRequest(name=f"{PARENT}/blobs/{blob_id}", context=CONTEXT, **asked)
        return b"".join(part.chunk for part in self.stub.UnsealBlob(request, timeout=60, wait_for_ready=True))

    def names(self) -> list[str]:
        found = self.stub.ListBlobs(pb.ListBlobsRequest(parent=PARENT), timeout=30, wait_for_ready=True).blobs
        return [blob.name.rpartition("/")[2] for blob in found]


def refusal(call: Any, code: grpc.StatusCode) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    assert error.code() is code, error
    return str(error.details())
