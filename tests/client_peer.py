"""A small real gRPC server that answers as a test tells it: for what a daemon in good health never does."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from kms_client import KmsError
from kms_client.formats import errors
from kms_client.formats.errors import InvalidRequest
from kms_client.v1 import (
    access_pb2,
    approvals_pb2,
    audit_pb2,
    blobs_pb2,
    census_pb2,
    crypto_pb2,
    enclaves_pb2,
    events_pb2,
    keys_pb2,
    nodes_pb2,
    operations_pb2,
    policies_pb2,
    reports_pb2,
    retention_pb2,
    tenants_pb2,
    tokens_pb2,
)

SERVICES = {
    service.full_name: service
    for module in (
        tenants_pb2,
        keys_pb2,
        crypto_pb2,
        policies_pb2,
        census_pb2,
        operations_pb2,
        nodes_pb2,
        enclaves_pb2,
        access_pb2,
        approvals_pb2,
        events_pb2,
        audit_pb2,
        blobs_pb2,
        reports_pb2,
        retention_pb2,
        tokens_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
}

# How the daemon turns errors into codes; subclasses go with their base.
CODES = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.CannotDecrypt: grpc.StatusCode.INVALID_ARGUMENT,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.Denied: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotSupported: grpc.StatusCode.UNIMPLEMENTED,
    errors.LimitExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.CorruptRecord: grpc.StatusCode.DATA_LOSS,
    errors.KmsError: grpc.StatusCode.INTERNAL,
}


def packed(message: Message) -> AnyMessage:
    box = AnyMessage()
    box.Pack(message)
    return box


def status_of(error: KmsError, request_id: str = "") -> status_pb2.Status:
    """Encode an error as the daemon does."""
    code = next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)
    metadata = {**error.metadata, **({"request_id": request_id} if request_id else {})}
    details = [packed(error_details_pb2.ErrorInfo(reason=error.reason, domain="kms", metadata=metadata))]
    if isinstance(error, InvalidRequest):
        bad = error_details_pb2.BadRequest()
        for violation in error.violations:
            bad.field_violations.add(field=violation.field, description=violation.rule)
        details.append(packed(bad))
    return status_pb2.Status(code=code.value[0], message=str(error), details=details)


def refuse(context: grpc.ServicerContext, error: KmsError, request_id: str = "request-1") -> None:
    """End a call as the daemon does."""
    status = status_of(error, request_id)
    context.set_trailing_metadata(
        (("x-request-id", request_id), ("grpc-status-details-bin", status.SerializeToString()))
    )
    context.abort({code.value[0]: code for code in grpc.StatusCode}[status.code], status.message)


@dataclass(frozen=True)
class Call:
    """One call, or one try of it, as the peer saw it."""

    method: str
    request: Message
    at: float
    peer: str
    remaining: float
    metadata: dict[str, Any] = field(default_factory=dict)


Answer = Callable[[Any, grpc.ServicerContext], Message]


@dataclass
class Peer:
    """A server on a Unix socket, or without one on TCP, with TLS where there are *credentials*; `answers` are looked up at each call."""

    socket: Path | None
    credentials: grpc.ServerCredentials | None = None
    answers: dict[str, Answer] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    target: str = ""
    server: Any = None
    servicers: list[Callable[[Any], None]] = field(default_factory=list)

    def start(self) -> Peer:
        options = (
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", 4 << 20),
        )
        self.server = grpc.server(ThreadPoolExecutor(8), options=options)
        self.server.add_generic_rpc_handlers((_Handlers(self),))
        for add in self.servicers:
            add(self.server)
        if self.credentials is not None:
            port = self.server.add_secure_port(self.target or "127.0.0.1:0", self.credentials)
            self.target = self.target or f"127.0.0.1:{port}"
        elif self.socket is None:
            self.target = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        else:
            self.target = f"unix://{self.socket}"
            self.server.add_insecure_port(self.target)
        self.server.start()
        return self

    def stop(self) -> None:
        self.server.stop(None).wait()

    def answer(self, method: str, *answers: Answer) -> None:
        """Answer the calls of one method in turn; the last answer stays."""
        lock, turns = threading.Lock(), itertools.chain(answers[:-1], itertools.repeat(answers[-1]))

        def one(request: Any, context: grpc.ServicerContext) -> Message:
            with lock:
                chosen = next(turns)
            return chosen(request, context)

        self.answers[method] = one

    def tries(self, method: str) -> list[Call]:
        return [call for call in self.calls if call.method == method]


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    def service(self, details: Any) -> Any:
        service, _, method = details.method.lstrip("/").partition("/")
        if service not in SERVICES or method not in self.peer.answers:
            return None
        described = SERVICES[service].methods_by_name[method]

        def handle(request: Message, context: grpc.ServicerContext) -> Any:
            metadata = dict(context.invocation_metadata())
            call = Call(method, request, time.monotonic(), context.peer(), context.time_remaining(), metadata)
            self.peer.calls.append(call)
            return self.peer.answers[method](request, context)

        def handle_all(requests: Iterator[Message], context: grpc.ServicerContext) -> Any:
            first, *_ = requests  # all are taken, and the first is what a test looks at
            return handle(first, context)

        kinds = {
            (False, False): (grpc.unary_unary_rpc_method_handler, handle),
            (True, False): (grpc.stream_unary_rpc_method_handler, handle_all),
            (False, True): (grpc.unary_stream_rpc_method_handler, handle),
        }
        make, behaviour = kinds[described.client_streaming, described.server_streaming]
        return make(
            behaviour,
            request_deserializer=message_factory.GetMessageClass(described.input_type).FromString,
            response_serializer=message_factory.GetMessageClass(described.output_type).SerializeToString,
        )
