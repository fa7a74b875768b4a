"""What tests of both kinds of coalescing have in common: contexts, answers of a peer, and a gate that holds calls back."""

from __future__ import annotations

import threading
from uuid import UUID

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from kms_client import LimitExceeded
from kms_client.formats.ciphertext import Header
from kms_client.formats.suites import Suite
from kms_client.v1 import crypto_pb2

from tests.client_methods import UUID_TEXT
from tests.client_peer import packed, status_of

ROW = {"table": "users", "column": "email"}


def row(number):
    return {**ROW, "row": str(number)}


def failing(errors):
    """Answer an EncryptBatch in which the items with these indexes fail."""

    def answer(request, context):
        made = [b"" if index in errors else b"<%b>" % value for index, value in enumerate(request.plaintexts)]
        failures = [crypto_pb2.ItemFailure(index=index, status=status_of(error)) for index, error in errors.items()]
        return crypto_pb2.EncryptBatchResponse(ciphertexts=made, failures=failures, version=3)

    return answer


class Gate:
    """Holds calls back until it is opened, and counts those inside."""

    def __init__(self, answer):
        self.answer = answer
        self.opened = threading.Event()
        self.inside = self.most = 0
        self.ended = []
        self._lock = threading.Lock()

    def __call__(self, request, context):
        context.add_callback(lambda: self.ended.append(request))
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.opened.wait(20)
        with self._lock:
            self.inside -= 1
        return self.answer(request, context)


def refused_for_a_while(request, context):
    status = status_of(LimitExceeded("too many"))
    status.details.append(packed(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=2))))
    context.set_trailing_metadata(
        (("x-request-id", "request-7"), ("grpc-status-details-bin", status.SerializeToString()))
    )
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, status.message)


def ciphertext_of(version, body=b"sealed"):
    return Header(Suite.AES_256_GCM, UUID(UUID_TEXT), version).encode() + bytes(12) + body + bytes(16)


def decrypted(request, context):
    return crypto_pb2.DecryptBatchResponse(plaintexts=[c[34:-16] for c in request.ciphertexts], primary_version=3)
