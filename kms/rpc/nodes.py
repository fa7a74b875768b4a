"""NodeService: parse, call, format."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kms.core.names import Principal
from kms.services.health import PartReport
from kms.services.membership import Membership
from kms.v1 import nodes_pb2 as pb


class NodeServicer:
    """Serves kms.v1.NodeService."""

    def __init__(self, membership: Membership, health: Callable[[], Sequence[PartReport]]) -> None:
        self._membership = membership
        self._health = health

    async def ListNodes(self, request: pb.ListNodesRequest, caller: Principal) -> pb.ListNodesResponse:
        """List the nodes."""
        del request, caller  # operators alone come here, and see all
        epoch, nodes = await self._membership.members()
        response = pb.ListNodesResponse(revocation_epoch=epoch)
        for node in nodes:
            told = response.nodes.add(
                uid=str(node.uid),
                name=node.name,
                acknowledged_epoch=node.acknowledged,
                self=node.uid == self._membership.uid,
            )
            told.start_time.FromDatetime(node.started_at)
            told.seen_time.FromDatetime(node.seen_at)
        return response

    async def GetHealth(self, request: pb.GetHealthRequest, caller: Principal) -> pb.Health:
        """Tell how each part is; reasons name hosts and files, and so operators alone come here."""
        del request, caller
        return pb.Health(parts=[_told(report) for report in self._health()])


def _told(report: PartReport) -> pb.PartHealth:
    told = pb.PartHealth(
        name=report.name,
        status=report.health.status.name,
        reason=report.health.reason,
        looks=report.looks,
        availability=report.availability,
        error_rate=report.error_rate,
    )
    told.response_time.FromNanoseconds(round(report.health.response_time * 1e9))
    if report.since is not None:
        told.since_time.FromDatetime(report.since)
    return told
