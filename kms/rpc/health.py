"""The standard health service; grpcio's own asyncio servicer has no List, and one watcher that does not read stops it."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kms.core.ports import HealthStatus, PartHealth

_STATUS = {
    HealthStatus.HEALTHY: health_pb2.HealthCheckResponse.SERVING,
    HealthStatus.DEGRADED: health_pb2.HealthCheckResponse.SERVING,
    HealthStatus.UNHEALTHY: health_pb2.HealthCheckResponse.NOT_SERVING,
    HealthStatus.UNKNOWN: health_pb2.HealthCheckResponse.UNKNOWN,
}


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # grpcio has no types for it
    """Serves grpc.health.v1.Health: "" is the daemon, the services have their full names, the parts theirs."""

    def __init__(self) -> None:
        self._statuses: dict[str, Any] = {}
        self._changed = asyncio.Event()  # the next change sets it and puts another in its place
        self._stopping = False

    def set(self, service: str, status: Any) -> None:
        """Change the status of a service; nothing changes any more once the daemon stops."""
        if not self._stopping:
            self._publish({service: status})

    async def tell(self, part: str, state: PartHealth) -> None:
        """Change the status of a part."""
        self.set(part, _STATUS[state.status])

    def stop(self) -> None:
        """Answer NOT_SERVING for everything from now on; those who watch are told so and let go."""
        self._stopping = True
        self._publish(dict.fromkeys(self._statuses, health_pb2.HealthCheckResponse.NOT_SERVING))

    def _publish(self, statuses: dict[str, Any]) -> None:
        self._statuses |= statuses
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> health_pb2.HealthCheckResponse:
        """Return the status of a service or a part."""
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        """Tell the status at once and whenever it changes; a watcher that does not read waits for itself alone."""
        told = None
        while True:
            # Before the status: a change while it is told is not missed.
            changed, stopping = self._changed, self._stopping
            status = self._statuses.get(request.service, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
            if status != told:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                told = status
            if stopping:
                return
            await changed.wait()

    async def List(self, request: health_pb2.HealthListRequest, context: Any) -> health_pb2.HealthListResponse:
        """Return the status of everything that has one."""
        del request, context
        return health_pb2.HealthListResponse(
            statuses={
                service: health_pb2.HealthCheckResponse(status=status) for service, status in self._statuses.items()
            }
        )
