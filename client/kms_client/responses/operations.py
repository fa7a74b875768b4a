"""From messages to values: operations."""

from __future__ import annotations

from ..v1 import operations_pb2
from ..values import Operation, OperationState
from .reading import known, time, time_if


def operation(message: operations_pb2.Operation) -> Operation:
    """Read an Operation."""
    return Operation(
        name=message.name,
        kind=message.kind,
        target=message.target,
        state=known(OperationState, message.state),
        done=message.done,
        total=message.total,
        error=message.error,
        requester=message.requester,
        create_time=time(message.create_time),
        update_time=time(message.update_time),
        end_time=time_if(message, "end_time"),
        etag=message.etag,
    )
