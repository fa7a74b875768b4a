"""Requests to PolicyService."""

from __future__ import annotations

from google.protobuf.field_mask_pb2 import FieldMask

from ..formats.errors import invalid
from ..methods import POLICIES
from ..responses import policies
from ..responses.reading import page
from ..v1 import policies_pb2
from ..values import ClassRules, Policy
from .messages import Listing, Request, build
from .rules import Protections, Rules


def create_policy(parent: str, policy_id: str, rules: Rules, protections: Protections) -> Request[Policy]:
    """PolicyService.CreatePolicy."""
    message = build(
        policies_pb2.CreatePolicyRequest,
        parent=parent,
        policy_id=policy_id,
        policy=build(policies_pb2.Policy, **rules.given(), **protections.given()),
    )
    return Request(f"{POLICIES}/CreatePolicy", message, policies.policy)


def get_policy(name: str) -> Request[Policy]:
    """PolicyService.GetPolicy."""
    return Request(f"{POLICIES}/GetPolicy", build(policies_pb2.GetPolicyRequest, name=name), policies.policy)


def list_policies(parent: str, page_size: int) -> Listing:
    """PolicyService.ListPolicies."""
    read = page("policies", policies.policy)
    return lambda token: Request(
        f"{POLICIES}/ListPolicies",
        build(policies_pb2.ListPoliciesRequest, parent=parent, page_size=page_size, page_token=token),
        read,
    )


def list_policy_versions(parent: str, page_size: int) -> Listing:
    """PolicyService.ListPolicyVersions."""
    read = page("policies", policies.policy)
    return lambda token: Request(
        f"{POLICIES}/ListPolicyVersions",
        build(policies_pb2.ListPolicyVersionsRequest, parent=parent, page_size=page_size, page_token=token),
        read,
    )


def update_policy(name: str, rules: Rules, protections: Protections, version: int) -> Request[Policy]:
    """PolicyService.UpdatePolicy; what is None stays as it is.

    Raises:
        InvalidRequest: there is nothing to change.
    """
    fields = rules.given() | protections.given()
    if not fields:
        raise invalid("update_mask", "there must be something to change")
    message = build(
        policies_pb2.UpdatePolicyRequest,
        policy=build(policies_pb2.Policy, name=name, version=version, **fields),
        update_mask=FieldMask(paths=list(fields)),
    )
    return Request(f"{POLICIES}/UpdatePolicy", message, policies.policy)


def list_classes() -> Request[list[ClassRules]]:
    """PolicyService.ListClasses."""
    return Request(f"{POLICIES}/ListClasses", policies_pb2.ListClassesRequest(), policies.classes)
