"""PolicyService: parse, call, format."""

from __future__ import annotations

from typing import Any

from kms.core.errors import NotSupported
from kms.core.names import Principal


class PolicyServicer:
    """Serves kms.v1.PolicyService."""

    async def CreatePolicy(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")

    async def GetPolicy(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")

    async def ListPolicies(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")

    async def ListPolicyVersions(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")

    async def UpdatePolicy(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")
