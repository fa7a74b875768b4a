"""OperationService: parse, call, format."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from google.protobuf.duration_pb2 import Duration

from kms.core.errors import invalid
from kms.core.keyring import Tenant
from kms.core.names import OperationName, Principal, TenantName
from kms.core.operations import Operation, OperationState, OperationUid
from kms.rpc.fields import parse_etag
from kms.rpc.paging import Page, cut, parse_page
from kms.services.operations import LONGEST_WAIT, Operations
from kms.v1 import operations_pb2 as pb

DEFAULT_WAIT: Final = 10.0  # seconds

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

_STATES: Final = {
    OperationState.RUNNING: pb.Operation.RUNNING,
    OperationState.SUCCEEDED: pb.Operation.SUCCEEDED,
    OperationState.FAILED: pb.Operation.FAILED,
    OperationState.CANCELLED: pb.Operation.CANCELLED,
}


class OperationServicer:
    """Serves kms.v1.OperationService."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def ListOperations(self, request: pb.ListOperationsRequest, caller: Principal) -> pb.ListOperationsResponse:
        """List a tenant's operations."""
        parent, page = TenantName.parse(request.parent, "parent"), parse_page(request)
        tenant, found = await self._operations.list_newest(caller, parent, _before(page), page.size + 1)
        operations, token = cut(found, page, _entry)
        return pb.ListOperationsResponse(
            operations=[operation_message(tenant, operation) for operation in operations], next_page_token=token
        )

    async def GetOperation(self, request: pb.GetOperationRequest, caller: Principal) -> pb.Operation:
        """Return an operation."""
        return operation_message(*await self._operations.get(caller, OperationName.parse(request.name)))

    async def WaitOperation(self, request: pb.WaitOperationRequest, caller: Principal) -> pb.Operation:
        """Answer when an operation has ended or made progress."""
        name, etag = OperationName.parse(request.name), parse_etag(request.etag)
        seconds = _parse_timeout(request.timeout) if request.HasField("timeout") else DEFAULT_WAIT
        return operation_message(*await self._operations.wait(caller, name, seconds, etag))

    async def CancelOperation(self, request: pb.CancelOperationRequest, caller: Principal) -> pb.Operation:
        """Stop an operation."""
        return operation_message(*await self._operations.cancel(caller, OperationName.parse(request.name)))

    async def ResumeOperation(self, request: pb.ResumeOperationRequest, caller: Principal) -> pb.Operation:
        """Let an operation go on."""
        return operation_message(*await self._operations.resume(caller, OperationName.parse(request.name)))


def _entry(operation: Operation) -> str:
    return f"{(operation.created_at - _EPOCH) // _MICROSECOND}/{operation.uid}"


def _before(page: Page) -> tuple[datetime, OperationUid] | None:
    if not page.after:
        return None
    began, _, uid = page.after.partition("/")
    try:
        return _EPOCH + int(began) * _MICROSECOND, OperationUid(UUID(uid))
    except (ValueError, OverflowError) as error:
        raise invalid("page_token", "must be the next_page_token of the same list") from error


def _parse_timeout(timeout: Duration) -> float:
    seconds = timeout.seconds + timeout.nanos / 1e9
    if not 0 <= seconds <= LONGEST_WAIT.total_seconds():
        raise invalid("timeout", f"must be 0 to {LONGEST_WAIT.total_seconds():g} seconds")
    return float(seconds)


def operation_message(tenant: Tenant, operation: Operation) -> pb.Operation:
    """Format an operation."""
    message = pb.Operation(
        name=operation.name(tenant.name),
        kind=operation.kind.value,
        target=operation.target,
        state=_STATES[operation.state],
        done=operation.done,
        total=operation.total,
        error=operation.error,
        requester=operation.requested_by,
        etag=operation.etag,
    )
    message.create_time.FromDatetime(operation.created_at)
    message.update_time.FromDatetime(operation.updated_at)
    if operation.ended_at is not None:
        message.end_time.FromDatetime(operation.ended_at)
    return message
