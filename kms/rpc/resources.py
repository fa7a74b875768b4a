"""Which resources a request is about: read from the fields that its row in the method table names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, Protocol

from kms.core.names import INSTALLATION_PARENT, Principal, TenantName, parse_slug

INSTALLATION: Final = INSTALLATION_PARENT  # what belongs to no tenant


class ResourceName(Protocol):
    """A parsed resource name."""

    @property
    def tenant(self) -> str | None:
        """The slug of the tenant that owns it; None for the installation's."""
        ...


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of a call: its whole name, and the slug of its tenant (None: the installation's).

    *given* is what does not exist where it does not: of a new one that is what is to hold it.
    """

    name: str
    tenant: str | None
    given: str


@dataclass(frozen=True, slots=True)
class Named:
    """A resource that a request names in *field*; with *collection*, the one below it that *id_field* names.

    *given* tells from its name what is looked up first, and so is said not to exist.
    """

    parse: Callable[[str, str], ResourceName]
    field: str
    collection: str = ""
    id_field: str = ""
    optional: bool = False
    given: Callable[[Any], str] = str
    parse_id: Callable[[str, str], str] = parse_slug

    def read(self, request: Any) -> Resource | None:
        """Return the resource; None for an optional one that is not given.

        Raises:
            InvalidRequest: the name, or the new one's id, breaks its rule.
        """
        text = attrgetter(self.field)(request)
        if self.optional and not text:
            return None
        name = self.parse(text, self.field)
        whole = str(name)
        if self.collection:
            whole = f"{whole}/{self.collection}/{self.parse_id(getattr(request, self.id_field), self.id_field)}"
        return Resource(whole, name.tenant, self.given(name))


@dataclass(frozen=True, slots=True)
class NewTenant:
    """The tenant that a request is to make: it is nobody's yet but the installation's."""

    id_field: str

    def read(self, request: Any) -> Resource:
        """Return the resource.

        Raises:
            InvalidRequest: the id breaks its rule.
        """
        name = str(TenantName(parse_slug(getattr(request, self.id_field), self.id_field)))
        return Resource(name, None, name)


ResourceField = Named | NewTenant


def resources_of(fields: tuple[ResourceField, ...], request: Any, caller: Principal) -> tuple[Resource, ...]:
    """Return what a request is about; where its fields name nothing, the caller's tenant, or the installation.

    Raises:
        InvalidRequest: a name breaks its rule.
    """
    if not fields:
        name = INSTALLATION if caller.tenant is None else str(TenantName(caller.tenant))
        return (Resource(name, caller.tenant, name),)
    return tuple(found for field in fields if (found := field.read(request)) is not None)
