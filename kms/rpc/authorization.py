"""May this caller do this: resources of other tenants do not exist, the rest is decided by grants."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Any, Final

from kms.core.access import Access, Facts, decide, decide_plainly
from kms.core.callers import Caller
from kms.core.errors import Denied, NotFound
from kms.core.names import KeyName
from kms.rpc.methods import AuditKind, Method
from kms.rpc.resources import Resource, resources_of
from kms.services.access import Accesses
from kms.v1.crypto_pb2 import ContextPair

Classify = Callable[[KeyName], Awaitable[str | None]]

_KEY_SEGMENTS: Final = 4  # tenants/{tenant}/keys/{key}


async def unclassified(_: KeyName) -> str | None:
    """Know no key's class."""
    return None


class GrantAuthorizer:
    """Lets pass what the caller's credential and grants allow, on all resources of the call."""

    def __init__(self, accesses: Accesses, now: Callable[[], datetime], classify: Classify = unclassified) -> None:
        """*classify* returns the slug of a key's class, or None where there is no such key."""
        self._accesses = accesses
        self._now = now
        self._classify = classify

    async def check(self, method: Method, caller: Caller, request: Any) -> tuple[Resource, ...]:
        """Let a call pass; returns what it is about.

        Raises:
            InvalidRequest: a resource's name breaks its rule.
            NotFound: the resource is another tenant's.
            Denied: no grant allows it, or one forbids it.
        """
        principal = caller.principal
        resources = resources_of(method.resources, request, principal)
        tenant, permission = principal.tenant, method.permission
        if tenant is not None:
            for resource in resources:
                # All of them first: what the caller may do to its own tells nothing of another's.
                if resource.tenant != tenant:
                    raise NotFound(resource.given)
        if method.scope not in caller.credential.scopes:
            raise Denied(f"{permission} on {resources[0].name} is not allowed to this credential")
        access = self._accesses.peek(principal)
        if access is None:
            access = await self._accesses.of(principal)
        for resource in resources:
            decision = decide_plainly(access, permission, resource.name)
            if decision is None:
                facts = await self._facts(method, caller, request, resource, access)
                decision = decide(access, permission, resource.name, facts)
            if not decision.allowed:
                raise Denied(f"{permission} on {resource.name} is not allowed")
        return resources

    async def _facts(self, method: Method, caller: Caller, request: Any, resource: Resource, access: Access) -> Facts:
        classification = None
        if access.ruling(method.permission).classes:
            classification = await class_of(resource.name, self._classify)
        context = _context(request) if method.audit is AuditKind.DATA else {}
        return Facts(self._now(), caller.address, context, classification)


async def class_of(resource: str, classify: Classify) -> str | None:
    """Return the class of the key that a resource is, or belongs to; None where it is, or has, none."""
    segments = resource.split("/")
    if len(segments) < _KEY_SEGMENTS or segments[2] != "keys":
        return None
    return await classify(KeyName(segments[1], segments[3]))


def _context(request: Any) -> dict[str, str]:
    fields = request.DESCRIPTOR.fields_by_name
    if "context" not in fields:
        return {}
    context = known_context(request.context)
    if "varying" in fields and request.HasField("varying"):
        context.pop(request.varying.key, None)  # it has as many values as the batch
    return context


def known_context(pairs: Iterable[ContextPair]) -> dict[str, str]:
    """Return the pairs whose value is known: it is text, and given once."""
    context: dict[str, str] = {}
    twice = set()
    for pair in pairs:
        if pair.key in context:
            twice.add(pair.key)
        try:
            context[pair.key] = pair.value.decode()
        except UnicodeDecodeError:
            twice.add(pair.key)
            context[pair.key] = ""
    for key in twice:
        del context[key]
    return context
