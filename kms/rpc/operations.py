"""OperationService: parse, call, format."""

from __future__ import annotations

from typing import Any

from kms.core.errors import NotSupported
from kms.core.names import Principal


class OperationServicer:
    """Serves kms.v1.OperationService."""

    async def ListOperations(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")

    async def GetOperation(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")

    async def WaitOperation(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")

    async def CancelOperation(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")

    async def ResumeOperation(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")
