"""ApprovalService."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ..requests import approvals
from ..values import Approval, QuorumRule
from .calls import Calls


class ApprovalCalls(Calls):
    """Methods for requests that others have to approve."""

    async def get_approval(self, name: str, *, deadline: float | None = None) -> Approval:
        """Return one request, with what stands in it and its votes."""
        return await self._run(approvals.get_approval(name), deadline)

    def list_approvals(
        self, parent: str, *, waiting_only: bool = False, page_size: int = 0, deadline: float | None = None
    ) -> AsyncIterator[Approval]:
        """Iterate over a tenant's requests, the newest first, or over those of them that wait."""
        return self._pages(approvals.list_approvals(parent, waiting_only, page_size), deadline)

    async def approve(self, name: str, *, digest: str, comment: str = "", deadline: float | None = None) -> Approval:
        """Approve what has this digest, after looking at it with get_approval().

        Raises:
            SelfApproval: the caller has asked for it.
            AlreadyExists: the caller has voted on it.
            WrongApprovalState: it has ended.
        """
        return await self._run(approvals.approve(name, digest, comment), deadline)

    async def reject(self, name: str, *, comment: str = "", deadline: float | None = None) -> Approval:
        """Reject a request, which ends it. Errors as of approve()."""
        return await self._run(approvals.reject(name, comment), deadline)

    async def withdraw(self, name: str, *, deadline: float | None = None) -> Approval:
        """Take back what the caller has asked for."""
        return await self._run(approvals.withdraw(name), deadline)

    async def list_quorum_rules(self, parent: str, *, deadline: float | None = None) -> tuple[QuorumRule, ...]:
        """Return how many approvals each permission needs that can need any."""
        return await self._run(approvals.list_quorum_rules(parent), deadline)

    async def update_quorum_rule(
        self, name: str, *, approvals_needed: int, present: int, deadline: float | None = None
    ) -> QuorumRule:
        """Set how many approvals a permission needs; *present* is the number that holds now.

        Raises:
            ApprovalRequired: others have to approve it; repeat it under() the approval that the error names.
            Conflict: another number than *present* holds.
        """
        return await self._run(approvals.update_quorum_rule(name, approvals_needed, present), deadline)
