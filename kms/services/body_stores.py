"""The stores of bodies that the settings name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from kms.core.body_ports import BodyStore
from kms.core.errors import FailedPrecondition, invalid
from kms.core.ports import PartHealth


@dataclass(frozen=True, slots=True)
class BodyStores:
    """All stores by their names, and where new bodies go; without any, *default* is empty."""

    stores: Mapping[str, BodyStore]
    default: str

    @property
    def health(self) -> Mapping[str, Callable[[], Awaitable[PartHealth]]]:
        """How each store is asked for its health, by the name of its part."""
        return {f"blobs/{name}": store.health for name, store in self.stores.items()}

    def choose(self, name: str) -> str:
        """Return the store for a new body, the default one for no name.

        Raises:
            InvalidRequest: there is none of this name.
            FailedPrecondition: there is none at all.
        """
        if not self.stores:
            raise FailedPrecondition("this daemon has no store for blobs: its settings have no section blobs")
        chosen = name or self.default
        if chosen not in self.stores:
            raise invalid("store", f"must be one of {', '.join(sorted(self.stores))}")
        return chosen

    def of(self, name: str) -> BodyStore:
        """Return the store that a record names.

        Raises:
            FailedPrecondition: the settings have none of this name any more.
        """
        try:
            return self.stores[name]
        except KeyError:
            raise FailedPrecondition(f"the settings of this daemon have no store {name}") from None


NO_STORES = BodyStores({}, "")
