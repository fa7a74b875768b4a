"""The standard health service, told by the health monitor."""

from __future__ import annotations

from grpc_health.v1 import health, health_pb2

from kms.core.ports import HealthStatus, PartHealth

_STATUS = {
    HealthStatus.HEALTHY: health_pb2.HealthCheckResponse.SERVING,
    HealthStatus.DEGRADED: health_pb2.HealthCheckResponse.SERVING,
    HealthStatus.UNHEALTHY: health_pb2.HealthCheckResponse.NOT_SERVING,
    HealthStatus.UNKNOWN: health_pb2.HealthCheckResponse.UNKNOWN,
}


class Health:
    """Serves grpc.health.v1.Health: "" is the daemon, the services have their full names, the parts theirs."""

    def __init__(self) -> None:
        self.servicer = health.aio.HealthServicer()

    async def serving(self, *services: str) -> None:
        """Say that these serve."""
        for service in services:
            await self.servicer.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def tell(self, part: str, state: PartHealth) -> None:
        """Say how a part is."""
        await self.servicer.set(part, _STATUS[state.status])

    async def stop(self) -> None:
        """Answer NOT_SERVING for everything from now on."""
        await self.servicer.enter_graceful_shutdown()
