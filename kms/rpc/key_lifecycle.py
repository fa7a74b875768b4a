"""The lifecycle part of KeyService: parse, call, format."""

from __future__ import annotations

from typing import Any

from kms.core.errors import NotSupported
from kms.core.names import Principal


class KeyLifecycleServicer:
    """Serves kms.v1.KeyService."""

    async def RotateKeys(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")

    async def ActivateKey(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")

    async def SuspendKey(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")

    async def ResumeKey(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")

    async def ArchiveKey(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")

    async def RevokeKey(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")

    async def RevokeKeyVersion(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")

    async def ScheduleKeyDestruction(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")

    async def CancelKeyDestruction(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")

    async def RetireKeyVersion(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")

    async def CancelKeyVersionRetirement(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")

    async def ListDestructionReceipts(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")

    async def GetSigningKey(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")
