"""From a gRPC status back to the error that the daemon raised, in one place for the calls of both clients and batch items.

The daemon's own errors are recognised by google.rpc.ErrorInfo (domain `kms`); what gRPC itself refuses, before or
instead of the daemon, is mapped by its code and keeps gRPC's text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Final, Protocol

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from .formats import errors
from .formats.errors import InvalidRequest, KmsError, LimitExceeded, Violation

DOMAIN: Final = "kms"
DETAILS_KEY: Final = "grpc-status-details-bin"
REQUEST_ID_KEY: Final = "x-request-id"
# The id is echoed on terminals and in logs, whoever sent it.
_LONGEST_ID: Final = 128
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class RpcFailure(Protocol):
    """What the exceptions of grpc and grpc.aio have in common."""

    def code(self) -> grpc.StatusCode | None: ...  # noqa: D102

    def details(self) -> str | None: ...  # noqa: D102

    def trailing_metadata(self) -> object: ...  # noqa: D102


def _tree(root: type[KmsError]) -> Iterator[type[KmsError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


BY_REASON: Final = MappingProxyType({kind.reason: kind for kind in _tree(KmsError)})

BY_CODE: Final = MappingProxyType(
    {
        grpc.StatusCode.CANCELLED: errors.Unavailable,  # the channel was closed under the call
        grpc.StatusCode.UNKNOWN: KmsError,
        grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
        grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
        grpc.StatusCode.NOT_FOUND: errors.NotFound,
        grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
        grpc.StatusCode.PERMISSION_DENIED: errors.Denied,
        grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
        grpc.StatusCode.RESOURCE_EXHAUSTED: errors.LimitExceeded,
        grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPrecondition,
        grpc.StatusCode.ABORTED: errors.Conflict,
        grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
        grpc.StatusCode.UNIMPLEMENTED: errors.NotSupported,
        grpc.StatusCode.INTERNAL: KmsError,
        grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
        grpc.StatusCode.DATA_LOSS: errors.CorruptRecord,
    }
)
_CODES: Final = MappingProxyType({code.value[0]: code for code in grpc.StatusCode})


def _make(
    kind: type[KmsError],
    message: str,
    violations: tuple[Violation, ...],
    request_id: str,
    metadata: Mapping[str, str] = _NONE,
    retry_after: timedelta | None = None,
) -> KmsError:
    if issubclass(kind, InvalidRequest):
        error: KmsError = kind(*violations) if violations else kind(Violation("request", message))
    elif issubclass(kind, LimitExceeded):
        error = kind(message, retry_after)
    else:
        error = kind(message)
    error.request_id = request_id[:_LONGEST_ID]
    error.metadata = metadata
    return error


def from_status(status: status_pb2.Status, request_id: str = "") -> KmsError:
    """Turn a google.rpc.Status, of a call or of one item of a batch, into its error.

    A reason that this release does not know (a newer daemon's) is mapped by the status code.
    """
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    kind: type[KmsError] = BY_CODE.get(code, KmsError)
    violations: tuple[Violation, ...] = ()
    metadata = _NONE
    retry_after: timedelta | None = None
    for detail in status.details:
        info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        try:
            if detail.Unpack(info) and info.domain == DOMAIN:
                kind = BY_REASON.get(info.reason, kind)
                metadata = MappingProxyType(dict(info.metadata))
                request_id = metadata.get("request_id", request_id)
            elif detail.Unpack(bad):
                violations = tuple(Violation(v.field, v.description) for v in bad.field_violations)
            elif detail.Unpack(retry):
                retry_after = _delay(retry)
        except DecodeError:
            continue
    message = status.message or f"the daemon answers {code.name}"
    return _make(kind, message, violations, request_id, metadata, retry_after)


def _delay(retry: error_details_pb2.RetryInfo) -> timedelta | None:
    """Return the delay; None where it is none that one could wait for."""
    try:
        delay = retry.retry_delay.ToTimedelta()
    except (ValueError, OverflowError):
        return None
    return delay if delay >= timedelta(0) else None


def _trailer(failure: RpcFailure) -> dict[str, str | bytes]:
    pairs = failure.trailing_metadata() or ()
    return {key: value for key, value in pairs}  # type: ignore[attr-defined]  # noqa: C416 - aio's Metadata is no dict


def from_rpc(failure: RpcFailure) -> KmsError:
    """Turn the exception of a call into its error."""
    trailer = _trailer(failure)
    request_id = str(trailer.get(REQUEST_ID_KEY, ""))
    details = trailer.get(DETAILS_KEY)
    if isinstance(details, bytes):
        try:
            return from_status(status_pb2.Status.FromString(details), request_id)
        except DecodeError:
            pass  # nothing of the daemon's: the code and gRPC's text are what is left
    code = failure.code() or grpc.StatusCode.UNKNOWN
    message = failure.details() or f"the call ended with {code.name}"
    return _make(BY_CODE.get(code, KmsError), message, (), request_id)


def is_from_daemon(failure: RpcFailure) -> bool:
    """Whether the daemon itself refused the call, rather than gRPC on the way to it."""
    trailer = _trailer(failure)
    return DETAILS_KEY in trailer or REQUEST_ID_KEY in trailer


def another(error: BaseException) -> BaseException:
    """Return an object of its own for an error that several raise: each raising writes into the object."""
    own = type(error).__new__(type(error), *error.args)
    own.args = error.args
    vars(own).update(vars(error))
    return own
