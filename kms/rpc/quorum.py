"""Holds back dangerous requests until enough others have approved exactly them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog

from kms.acting import act_under
from kms.core.approvals import ApprovalState
from kms.core.callers import Caller
from kms.core.errors import ApprovalRequired, NotFound, NotSupported, approval_required, invalid
from kms.core.keyring import Tenant
from kms.core.names import ApprovalName, QuorumRuleName, TenantName
from kms.core.ports import Storage
from kms.rpc.gates import APPROVAL
from kms.rpc.methods import METHODS, Method, Quorum
from kms.rpc.resources import Resource, resources_of
from kms.services.approvals import Approvals, Asked, Standing
from kms.services.quorum_rules import QuorumRules
from kms.services.visibility import visible_tenant

_log = structlog.get_logger(__name__)

_UPDATE_RULE: Final = next(method for method in METHODS if method.name == "UpdateQuorumRule")


class Quorums:
    """QuorumGate: the rule says how many, the approval that they have."""

    def __init__(self, storage: Storage, rules: QuorumRules, approvals: Approvals) -> None:
        self._storage = storage
        self._rules = rules
        self._approvals = approvals

    @asynccontextmanager
    async def passage(self, method: Method, caller: Caller, request: Any, approval: str) -> AsyncIterator[None]:
        """Surround the work of a request that needs a quorum; *approval* is empty where the caller names none.

        Raises:
            ApprovalRequired: it has been stored for approval, under the name that the error tells.
            NotFound, Denied, ApprovalUnusable: the approval is another's, for something else, not given, over or used.
        """
        resources = resources_of(method.resources, request, caller.principal)
        if self._rules.default == 0 and all(resource.tenant is None for resource in resources):
            yield  # what is no tenant's has no rule of its own
            return
        asked = await self._asked(method, caller, request, resources)
        if not approval:
            if await self._rules.needed(asked.tenant.uid, asked.permissions, asked.resources) > 0:
                raise _required(method, await self._approvals.request(asked))
            if method.quorum is Quorum.FORCED or getattr(request, "force", False):
                _log.warning("quorum.forced_alone", method=method.full_name, caller=str(caller))
            yield
            return
        used = await self._approvals.consume(asked, ApprovalName.parse(approval, APPROVAL))
        act_under(approval)
        try:
            yield
        except BaseException as error:
            await self._approvals.settle(used, error)
            raise
        await self._approvals.settle(used, None)

    async def _asked(self, method: Method, caller: Caller, request: Any, resources: tuple[Resource, ...]) -> Asked:
        known = type(request).FromString(request.SerializeToString())
        known.DiscardUnknownFields()
        octets = request.SerializeToString(deterministic=True)
        if known.SerializeToString(deterministic=True) != octets:
            # Nobody would see them, and a daemon of a newer release may know what they mean.
            raise invalid("request", "holds fields that this release does not know, so others cannot approve it")
        return Asked(
            caller=caller,
            tenant=await self._tenant(caller, resources),
            method=method.full_name,
            permissions=_permissions(method, request),
            resources=tuple(resource.name for resource in resources),
            request=octets,
            reason=getattr(request, "reason", ""),
        )

    async def _tenant(self, caller: Caller, resources: tuple[Resource, ...]) -> Tenant:
        """Return the one tenant that a request is about."""
        slug = resources[0].tenant
        if slug is None or any(resource.tenant != slug for resource in resources):
            raise NotSupported("what is not one tenant's has no quorum in this release, so it cannot be approved")
        try:
            return await visible_tenant(self._storage, caller.principal, TenantName(slug))
        except NotFound as error:
            raise NotFound(resources[0].name) from error


def _permissions(method: Method, request: Any) -> tuple[str, ...]:
    """Return the permissions whose quorum a request needs; to lower a rule takes that of what it lowers, too."""
    if method is _UPDATE_RULE and request.quorum_rule.approvals < request.present_approvals:
        return method.permission, QuorumRuleName.parse(request.quorum_rule.name, "quorum_rule.name").permission
    return (method.permission,)


def _required(method: Method, standing: Standing) -> ApprovalRequired:
    name, needed = str(standing.name), standing.needed
    votes = "1 approval" if needed == 1 else f"{needed} approvals"
    given = " (given)" if standing.state is ApprovalState.APPROVED else ""
    return approval_required(
        f"{method.name} needs {votes}{given}: {name}; repeat the very same request under it", name, needed
    )
