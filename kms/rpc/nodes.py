"""NodeService: parse, call, format."""

from __future__ import annotations

from typing import Any

from kms.core.errors import NotSupported
from kms.core.names import Principal


class NodeServicer:
    """Serves kms.v1.NodeService."""

    async def ListNodes(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")
