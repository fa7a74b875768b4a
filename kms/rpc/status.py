"""The one table from error to gRPC status, and the details that go with it (AIP-193)."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from kms.core import errors

DOMAIN: Final = "kms"

# A peer drops an answer whose trailers are longer than 8 KiB (grpc.max_metadata_size), the longer the more often. The
# message is in them twice, once percent-encoded, and the details may travel in base64. Bytes:
LONGEST_MESSAGE: Final = 512
LONGEST_VIOLATIONS: Final = 3_072

STATUS: Final = MappingProxyType(
    {
        errors.KmsError: StatusCode.INTERNAL,  # a leaf that lands here has been forgotten
        errors.InvalidRequest: StatusCode.INVALID_ARGUMENT,
        errors.CannotDecrypt: StatusCode.INVALID_ARGUMENT,
        errors.Unauthenticated: StatusCode.UNAUTHENTICATED,
        errors.Denied: StatusCode.PERMISSION_DENIED,
        errors.NotFound: StatusCode.NOT_FOUND,
        errors.AlreadyExists: StatusCode.ALREADY_EXISTS,
        errors.Conflict: StatusCode.ABORTED,
        errors.FailedPrecondition: StatusCode.FAILED_PRECONDITION,
        errors.NotSupported: StatusCode.UNIMPLEMENTED,
        errors.LimitExceeded: StatusCode.RESOURCE_EXHAUSTED,
        errors.DeadlineExceeded: StatusCode.DEADLINE_EXCEEDED,
        errors.Unavailable: StatusCode.UNAVAILABLE,
        errors.CorruptRecord: StatusCode.DATA_LOSS,
    }
)


def code_of(error: errors.KmsError) -> StatusCode:
    """Return the code of the nearest class in the table."""
    return next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)


def status_of(error: errors.KmsError, request_id: str) -> status_pb2.Status:
    """Return the whole status: code, message, ErrorInfo, RetryInfo, and BadRequest for broken rules, the first that there is room for."""
    status = status_pb2.Status(code=code_of(error).value[0], message=_cut(str(error)))
    info = error_details_pb2.ErrorInfo(
        reason=error.reason, domain=DOMAIN, metadata={**error.metadata, "request_id": request_id}
    )
    status.details.append(_packed(info))
    if isinstance(error, errors.InvalidRequest):
        status.details.append(_packed(_bad_request(error)))
    if isinstance(error, errors.LimitExceeded) and error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(error.retry_after)
        status.details.append(_packed(retry))
    return status


def _bad_request(error: errors.InvalidRequest) -> error_details_pb2.BadRequest:
    details = error_details_pb2.BadRequest()
    for violation in error.violations:
        details.field_violations.add(field=_cut(violation.field), description=_cut(violation.rule))
        if details.ByteSize() > LONGEST_VIOLATIONS:
            del details.field_violations[-1]
            break
    return details


def _cut(text: str) -> str:
    raw = text.encode()
    return text if len(raw) <= LONGEST_MESSAGE else raw[: LONGEST_MESSAGE - 3].decode(errors="ignore") + "..."


def _packed(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
