"""NodeService: parse, call, format."""

from __future__ import annotations

from kms.core.names import Principal
from kms.services.membership import Membership
from kms.v1 import nodes_pb2 as pb


class NodeServicer:
    """Serves kms.v1.NodeService."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership

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
