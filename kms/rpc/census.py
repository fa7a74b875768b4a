"""CensusService: parse, call, format."""

from __future__ import annotations

from typing import Any

from kms.core.errors import NotSupported
from kms.core.names import Principal


class CensusServicer:
    """Serves kms.v1.CensusService."""

    async def CreatePlace(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")

    async def ListPlaces(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")

    async def DeletePlace(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")

    async def DeclarePlaces(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")

    async def ReportCensus(self, request: Any, caller: Principal) -> Any:
        """Not yet."""
        del request, caller
        raise NotSupported("not in this release")
