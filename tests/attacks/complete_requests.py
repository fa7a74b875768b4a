"""Requests that the daemon would carry out, for the methods where a request of names alone would not do."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from kms.rpc.methods import Method
from tests.attacks.method_requests import Twist, as_it_is, request_for

# What fields hold, wherever a request has them; `{}` is the tenant. A method that needs an approval, and whose request
# lacks something without one of these, fails the suite.
VALUES: dict[str, Any] = {
    "reason": "contract ended",
    "force": True,
    "grant.role": "custodian",
    "token.principal": "tenants/{}/principals/app",
    "update_mask.paths": ["automatic_retirement"],
    "policy.automatic_retirement": True,
    "quorum_rule.approvals": 2,
    "present_approvals": 2,
    "key.purpose": 1,
    "permission": "keys.encrypt",
    "resource": "tenants/{}/keys/payroll",
    "fingerprint": "ab" * 32,
    "plaintext": b"x",
    "framework": "soc2",
    "mrenclave": b"m" * 32,
    "isv_svn": 65_535,
}


def complete_request_for(method: Method, tenant: str, twist: Twist = as_it_is) -> Any:
    """Return a request about resources of a tenant with everything in it that VALUES knows."""
    request = request_for(method, tenant, twist)
    for path, value in VALUES.items():
        _fill(request, path.split("."), value.format(tenant) if isinstance(value, str) else value)
    return request


def _fill(message: Any, path: list[str], value: Any) -> None:
    found = message.DESCRIPTOR.fields_by_name.get(path[0])
    if found is None:
        return
    if len(path) > 1:
        if found.type == FieldDescriptor.TYPE_MESSAGE and not found.is_repeated:
            _fill(getattr(message, path[0]), path[1:], value)
    elif found.is_repeated:
        getattr(message, path[0]).extend(value)
    elif not getattr(message, path[0]):
        setattr(message, path[0], value)
