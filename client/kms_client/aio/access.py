"""AccessService."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from ..requests import access
from ..requests.crypto import Context
from ..values import (
    AccessExplanation,
    AccessPrincipal,
    Conditions,
    Effect,
    Grant,
    PrincipalKind,
    Role,
)
from .calls import Calls

_NO_CONDITIONS = Conditions()


class AccessCalls(Calls):
    """Methods for principals, their grants, and why something is allowed."""

    async def create_principal(
        self,
        parent: str,
        principal_id: str,
        *,
        kind: PrincipalKind = PrincipalKind.SERVICE,
        display_name: str = "",
        deadline: float | None = None,
    ) -> AccessPrincipal:
        """Create a principal in the tenant *parent*, without any grant."""
        return await self._run(access.create_principal(parent, principal_id, kind, display_name), deadline)

    async def get_principal(self, name: str, *, deadline: float | None = None) -> AccessPrincipal:
        """Return one principal."""
        return await self._run(access.get_principal(name), deadline)

    def list_principals(
        self, parent: str, *, page_size: int = 0, deadline: float | None = None
    ) -> AsyncIterator[AccessPrincipal]:
        """Iterate over a tenant's principals by name; pages are fetched as they are needed."""
        return self._pages(access.list_principals(parent, page_size), deadline)

    async def update_principal(
        self, name: str, *, display_name: str, etag: str = "", deadline: float | None = None
    ) -> AccessPrincipal:
        """Change the text for people; with *etag* only if the principal still has it."""
        return await self._run(access.update_principal(name, display_name, etag), deadline)

    async def block_principal(
        self, name: str, *, reason: str, until: datetime | None = None, deadline: float | None = None
    ) -> AccessPrincipal:
        """Refuse everything to a principal, on every node within the revocation deadline."""
        return await self._run(access.block_principal(name, reason, until), deadline)

    async def unblock_principal(self, name: str, *, deadline: float | None = None) -> AccessPrincipal:
        """End a block."""
        return await self._run(access.unblock_principal(name), deadline)

    async def create_grant(
        self,
        parent: str,
        *,
        role: str = "",
        permissions: Sequence[str] = (),
        resource: str = "",
        effect: Effect = Effect.ALLOW,
        conditions: Conditions = _NO_CONDITIONS,
        expire_time: datetime | None = None,
        reason: str = "",
        deadline: float | None = None,
    ) -> Grant:
        """Grant a role or permissions to the principal *parent*, or deny them; without *resource* on all of the tenant."""
        return await self._run(
            access.create_grant(
                parent,
                effect=effect,
                role=role,
                permissions=permissions,
                resource=resource,
                conditions=conditions,
                expire_time=expire_time,
                reason=reason,
            ),
            deadline,
        )

    def list_grants(self, parent: str, *, page_size: int = 0, deadline: float | None = None) -> AsyncIterator[Grant]:
        """Iterate over a principal's grants; those that have expired, too."""
        return self._pages(access.list_grants(parent, page_size), deadline)

    async def delete_grant(self, name: str, *, deadline: float | None = None) -> None:
        """Delete a grant; what it allowed stops on every node within the revocation deadline."""
        return await self._run(access.delete_grant(name), deadline)

    async def list_roles(self, *, deadline: float | None = None) -> list[Role]:
        """Return the built-in roles."""
        return await self._run(access.list_roles(), deadline)

    async def explain_access(
        self,
        principal: str,
        permission: str,
        resource: str,
        *,
        context: Context | None = None,
        address: str = "",
        deadline: float | None = None,
    ) -> AccessExplanation:
        """Say whether a call would be allowed, and which rule decides; what is not given is not known."""
        return await self._run(access.explain_access(principal, permission, resource, context, address), deadline)
