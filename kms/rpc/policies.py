"""PolicyService: parse, call, format."""

from __future__ import annotations

from kms.core.classification import CLASSES
from kms.core.names import PolicyName, Principal, TenantName, parse_slug
from kms.core.policy import BUILT_IN, Policy
from kms.rpc.fields import POLICY_FIELDS, parse_classification, parse_mask, parse_rules
from kms.rpc.messages import class_message, policy_message
from kms.rpc.paging import cut, parse_page
from kms.services.policies import Policies
from kms.v1 import policies_pb2 as pb


class PolicyServicer:
    """Serves kms.v1.PolicyService."""

    def __init__(self, policies: Policies) -> None:
        self._policies = policies

    async def CreatePolicy(self, request: pb.CreatePolicyRequest, caller: Principal) -> pb.Policy:
        """Create a policy."""
        parent, slug = TenantName.parse(request.parent, "parent"), parse_slug(request.policy_id, "policy_id")
        default = BUILT_IN[parse_classification(request.policy.classification).slug]
        rules = Policy(**parse_rules(request.policy, POLICY_FIELDS, default))
        return policy_message(*await self._policies.create(caller, parent, slug, rules))

    async def GetPolicy(self, request: pb.GetPolicyRequest, caller: Principal) -> pb.Policy:
        """Return the newest version of a policy."""
        return policy_message(*await self._policies.get(caller, PolicyName.parse(request.name)))

    async def ListPolicies(self, request: pb.ListPoliciesRequest, caller: Principal) -> pb.ListPoliciesResponse:
        """List a tenant's policies."""
        parent, page = TenantName.parse(request.parent, "parent"), parse_page(request)
        tenant, found = await self._policies.list_by_slug(caller, parent, page.after_slug, page.size + 1)
        policies, token = cut(found, page, lambda policy: policy.slug)
        return pb.ListPoliciesResponse(
            policies=[policy_message(tenant, policy) for policy in policies], next_page_token=token
        )

    async def ListPolicyVersions(
        self, request: pb.ListPolicyVersionsRequest, caller: Principal
    ) -> pb.ListPolicyVersionsResponse:
        """List the versions of a policy."""
        parent, page = PolicyName.parse(request.parent, "parent"), parse_page(request)
        tenant, found = await self._policies.list_versions(caller, parent, page.after_number, page.size + 1)
        policies, token = cut(found, page, lambda policy: str(policy.version))
        return pb.ListPolicyVersionsResponse(
            policies=[policy_message(tenant, policy) for policy in policies], next_page_token=token
        )

    async def UpdatePolicy(self, request: pb.UpdatePolicyRequest, caller: Principal) -> pb.Policy:
        """Make the next version of a policy."""
        name = PolicyName.parse(request.policy.name, "policy.name")
        changes = parse_rules(request.policy, parse_mask(request.update_mask.paths, POLICY_FIELDS))
        return policy_message(*await self._policies.update(caller, name, request.policy.version, changes))

    async def ListClasses(self, request: pb.ListClassesRequest, caller: Principal) -> pb.ListClassesResponse:
        """List what each class demands."""
        del request, caller  # it is the same for everybody who asks this node
        levels = self._policies.levels
        return pb.ListClassesResponse(classes=[class_message(one, levels) for one in sorted(CLASSES)])
