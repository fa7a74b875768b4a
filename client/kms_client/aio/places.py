"""CensusService."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from ..requests import places
from ..values import Place, PlaceKind, Places
from .calls import Calls


class PlaceCalls(Calls):
    """Methods for the places where ciphertexts live, and for counts of them."""

    async def create_place(
        self, parent: str, place_id: str, kind: PlaceKind, *, description: str = "", deadline: float | None = None
    ) -> Place:
        """Declare a place where ciphertexts of the key *parent* live."""
        return await self._run(places.create_place(parent, place_id, kind, description), deadline)

    async def list_places(self, parent: str, *, deadline: float | None = None) -> Places:
        """Return the places of a key by name, and whether they are declared to be all there are."""
        return await self._run(places.list_places(parent), deadline)

    async def delete_place(self, name: str, *, deadline: float | None = None) -> None:
        """Remove a place and its counts; the places are then no longer declared complete."""
        await self._run(places.delete_place(name), deadline)

    async def declare_places(self, name: str, *, complete: bool, deadline: float | None = None) -> Places:
        """Say whether the declared places of the key *name* are all there are."""
        return await self._run(places.declare_places(name, complete), deadline)

    async def report_census(
        self, name: str, counts: Mapping[int, int], *, count_time: datetime, deadline: float | None = None
    ) -> Place:
        """Report a whole count of one place, by version; a version that is not named has none.

        *count_time* is when the count began: everything that was there then is in it. kms_client.census counts.

        Raises:
            InvalidRequest: *count_time* has no time zone; nothing has been sent.
        """
        return await self._run(places.report_census(name, counts, count_time), deadline)
