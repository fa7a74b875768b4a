"""The standard health service, with the List method that grpcio's own asyncio servicer lacks."""

from __future__ import annotations

from typing import Any

from grpc_health.v1 import health, health_pb2

from kms.core.ports import HealthStatus, PartHealth

_STATUS = {
    HealthStatus.HEALTHY: health_pb2.HealthCheckResponse.SERVING,
    HealthStatus.DEGRADED: health_pb2.HealthCheckResponse.SERVING,
    HealthStatus.UNHEALTHY: health_pb2.HealthCheckResponse.NOT_SERVING,
    HealthStatus.UNKNOWN: health_pb2.HealthCheckResponse.UNKNOWN,
}


class HealthServicer(health.aio.HealthServicer):  # type: ignore[misc]  # grpcio has no types for it
    """Serves grpc.health.v1.Health: "" is the daemon, the services have their full names, the parts theirs."""

    def __init__(self) -> None:
        super().__init__()
        self._listed: dict[str, Any] = {}

    async def set(self, service: str, status: Any) -> None:
        """Change the status of a service."""
        self._listed[service] = status
        await super().set(service, status)

    async def tell(self, part: str, state: PartHealth) -> None:
        """Change the status of a part."""
        await self.set(part, _STATUS[state.status])

    async def enter_graceful_shutdown(self) -> None:
        """Answer NOT_SERVING for everything from now on."""
        self._listed = dict.fromkeys(self._listed, health_pb2.HealthCheckResponse.NOT_SERVING)
        await super().enter_graceful_shutdown()

    async def List(self, request: health_pb2.HealthListRequest, context: Any) -> health_pb2.HealthListResponse:
        """Return the status of everything that has one."""
        del request, context
        return health_pb2.HealthListResponse(
            statuses={
                service: health_pb2.HealthCheckResponse(status=status) for service, status in self._listed.items()
            }
        )
