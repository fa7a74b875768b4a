"""PolicyService."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from datetime import timedelta

from ..requests import policies
from ..requests.rules import Protections, Rules
from ..values import AuditContext, Classification, ClassRules, Policy
from .calls import Calls


class PolicyCalls(Calls):
    """Methods for policies."""

    async def create_policy(
        self,
        parent: str,
        policy_id: str,
        *,
        rotation_period: timedelta | None = None,
        encryption_limit: int | None = None,
        cache_lifetime: timedelta | None = None,
        quarantine_period: timedelta | None = None,
        grace_period: timedelta | None = None,
        automatic_retirement: bool | None = None,
        classification: Classification | None = None,
        required_context: Collection[str] | None = None,
        log_data_access: bool | None = None,
        approvals: int | None = None,
        audit_context: AuditContext | None = None,
        deadline: float | None = None,
    ) -> Policy:
        """Create a policy in the tenant *parent*; None leaves a rule to the daemon, a rotation period of zero is none."""
        return await self._run(
            policies.create_policy(
                parent,
                policy_id,
                Rules(
                    rotation_period,
                    encryption_limit,
                    cache_lifetime,
                    quarantine_period,
                    grace_period,
                    automatic_retirement,
                ),
                Protections(classification, required_context, log_data_access, approvals, audit_context),
            ),
            deadline,
        )

    async def get_policy(self, name: str, *, deadline: float | None = None) -> Policy:
        """Return the newest version of one policy."""
        return await self._run(policies.get_policy(name), deadline)

    def list_policies(self, parent: str, *, page_size: int = 0, deadline: float | None = None) -> AsyncIterator[Policy]:
        """Iterate over the newest versions of a tenant's policies by name; pages are fetched as they are needed."""
        return self._pages(policies.list_policies(parent, page_size), deadline)

    def list_policy_versions(
        self, parent: str, *, page_size: int = 0, deadline: float | None = None
    ) -> AsyncIterator[Policy]:
        """Iterate over all versions of one policy by number."""
        return self._pages(policies.list_policy_versions(parent, page_size), deadline)

    async def update_policy(
        self,
        name: str,
        *,
        rotation_period: timedelta | None = None,
        encryption_limit: int | None = None,
        cache_lifetime: timedelta | None = None,
        quarantine_period: timedelta | None = None,
        grace_period: timedelta | None = None,
        automatic_retirement: bool | None = None,
        classification: Classification | None = None,
        required_context: Collection[str] | None = None,
        log_data_access: bool | None = None,
        approvals: int | None = None,
        audit_context: AuditContext | None = None,
        version: int = 0,
        deadline: float | None = None,
    ) -> Policy:
        """Make the next version: change what is given and leave the rest; with *version* only if that is the newest.

        Raises:
            InvalidRequest: there is nothing to change; nothing has been sent.
            ApprovalRequired: others have to approve it; repeat it under() the approval that the error names.
        """
        return await self._run(
            policies.update_policy(
                name,
                Rules(
                    rotation_period,
                    encryption_limit,
                    cache_lifetime,
                    quarantine_period,
                    grace_period,
                    automatic_retirement,
                ),
                Protections(classification, required_context, log_data_access, approvals, audit_context),
                version,
            ),
            deadline,
        )

    async def list_classes(self, *, deadline: float | None = None) -> list[ClassRules]:
        """Return what each class of data demands, the lowest first."""
        return await self._run(policies.list_classes(), deadline)
