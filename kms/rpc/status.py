"""The one table from error to gRPC status, and the details that go with it (AIP-193)."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from kms.core import errors

DOMAIN: Final = "kms"

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
    """Return the whole status: code, message, ErrorInfo, and BadRequest for broken rules."""
    status = status_pb2.Status(code=code_of(error).value[0], message=str(error))
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata={"request_id": request_id})
    status.details.append(_packed(info))
    if isinstance(error, errors.InvalidRequest):
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.rule) for v in error.violations
        ]
        status.details.append(_packed(error_details_pb2.BadRequest(field_violations=violations)))
    return status


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
