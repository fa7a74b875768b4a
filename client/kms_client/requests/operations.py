"""Requests to OperationService."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from ..formats.errors import invalid
from ..methods import OPERATIONS
from ..responses import operations
from ..responses.reading import page
from ..v1 import operations_pb2
from ..values import Operation
from .messages import Listing, Request, build, duration

LONGEST_WAIT: Final = 20  # seconds; operations.proto


def list_operations(parent: str, page_size: int) -> Listing:
    """OperationService.ListOperations."""
    read = page("operations", operations.operation)
    return lambda token: Request(
        f"{OPERATIONS}/ListOperations",
        build(operations_pb2.ListOperationsRequest, parent=parent, page_size=page_size, page_token=token),
        read,
    )


def get_operation(name: str) -> Request[Operation]:
    """OperationService.GetOperation."""
    message = build(operations_pb2.GetOperationRequest, name=name)
    return Request(f"{OPERATIONS}/GetOperation", message, operations.operation)


def wait_operation(name: str, seconds: float, etag: str) -> Request[Operation]:
    """OperationService.WaitOperation.

    Raises:
        InvalidRequest: *seconds* is not 0 to 20.
    """
    if not 0 <= seconds <= LONGEST_WAIT:
        raise invalid("timeout", f"must be 0 to {LONGEST_WAIT} seconds")
    timeout = duration(timedelta(seconds=seconds))
    message = build(operations_pb2.WaitOperationRequest, name=name, timeout=timeout, etag=etag)
    return Request(f"{OPERATIONS}/WaitOperation", message, operations.operation, seconds)


def cancel_operation(name: str) -> Request[Operation]:
    """OperationService.CancelOperation."""
    message = build(operations_pb2.CancelOperationRequest, name=name)
    return Request(f"{OPERATIONS}/CancelOperation", message, operations.operation)


def resume_operation(name: str) -> Request[Operation]:
    """OperationService.ResumeOperation."""
    message = build(operations_pb2.ResumeOperationRequest, name=name)
    return Request(f"{OPERATIONS}/ResumeOperation", message, operations.operation)
