"""NodeService and the standard health service."""

from __future__ import annotations

from ..requests import nodes
from ..values import HealthStatus, Nodes, PartHealth
from .calls import Calls


class NodeCalls(Calls):
    """Methods for the daemons themselves."""

    async def list_nodes(self, *, deadline: float | None = None) -> Nodes:
        """Return the daemons that have joined and not left, by name."""
        return await self._run(nodes.list_nodes(), deadline)

    async def get_health(self, *, deadline: float | None = None) -> tuple[PartHealth, ...]:
        """Return how each part of the daemon that answers is and was, by name; for operators."""
        return await self._run(nodes.get_health(), deadline)

    async def healths(self, *, deadline: float | None = None) -> dict[str, HealthStatus]:
        """Say of the daemon (""), of each of its parts and of each service whether it serves (grpc.health.v1)."""
        return await self._run(nodes.healths(), deadline)

    async def health(self, service: str = "", *, deadline: float | None = None) -> HealthStatus:
        """Say whether the daemon, or one of its parts or services, serves (grpc.health.v1)."""
        return await self._run(nodes.health(service), deadline)
