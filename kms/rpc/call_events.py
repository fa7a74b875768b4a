"""Which event a call is: what happened, who did it, on what, how much (docs/audit.md).

Nothing of a request or an answer is in it but names, numbers, digests of ciphertexts and what the key's policy lets stand
of the context.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from kms.acting import Noted, UsedKey, acting_under
from kms.core.access import Access
from kms.core.audit import AuditEvent, Category, Outcome, Phase, Retention, Sensitivity
from kms.core.audit_contexts import canonical_json, items_digest, shown_context
from kms.core.audit_filters import EXECUTIONS
from kms.core.errors import CannotDecrypt, Denied, InvalidRequest, KmsError, Unauthenticated
from kms.core.events import Severity
from kms.core.names import INSTALLATION_UID, KeyUid, Principal, TenantUid
from kms.core.policy import AuditContext
from kms.rpc.gates import Ended
from kms.rpc.methods import METHODS, AuditKind, Method, Quorum
from kms.rpc.resources import Resource, resources_of
from kms.services.audit import RISKS, clean, set_outcome, shown_details

MOST_TOLD: Final = 16  # versions, resources and such in the details of one event

_NOBODY: Final = Principal(None, "")
_CHANGES: Final = frozenset({"kms.v1.KeyService", "kms.v1.CensusService"})  # of what keys are, and where values lie
_TYPES: Final = {
    "tenants": "tenant",
    "keys": "key",
    "versions": "key_version",
    "keks": "kek",
    "places": "place",
    "policies": "policy",
    "operations": "operation",
    "principals": "principal",
    "operators": "operator",
    "grants": "grant",
    "tokens": "token",
    "approvals": "approval",
    "quorumRules": "quorum_rule",
    "securityEvents": "security_event",
    "auditEvents": "audit_event",
    "reports": "report",
    "legalHolds": "legal_hold",
    "auditArchives": "audit_archive",
    "blobs": "blob",
    "enclaveUpgrades": "enclave_upgrade",
}


@dataclass(frozen=True, slots=True)
class _Kind:
    """What all events of one method have in common."""

    action: str
    category: Category
    severity: str  # of Severity
    risk: int
    refused: Severity
    retention: Retention
    reasons: bool  # whether its request has a reason
    purposes: bool  # whether it has a purpose


@dataclass(frozen=True, slots=True)
class Known:
    """How events name a principal, worked out from what it may do."""

    access: Access
    name: str
    roles: str
    until: datetime | None  # when the first of its grants expires
    tenant: TenantUid


class CallEvents:
    """Makes events of calls."""

    def __init__(self, context_key: bytes) -> None:
        """*context_key* hashes values of contexts; 32 bytes."""
        self._context_key = context_key
        self._keyed = hmac.new(context_key, digestmod="sha256")
        self._kinds = {method.full_name: _kind(method) for method in METHODS}

    def made(
        self, call: Ended, phase: Phase, who: Known | None, tenant: TenantUid, resources: tuple[Resource, ...]
    ) -> AuditEvent:
        """Return the event of a call, as far as it has come."""
        kind, error = self._kinds[call.method.full_name], call.error
        event = AuditEvent(
            action=kind.action,
            category=kind.category,
            phase=phase,
            tenant=tenant,
            request_id=call.request_id,
            correlation_id=call.correlation_id,
            user_agent=call.user_agent and clean(call.user_agent),
            severity=kind.severity,
            risk=kind.risk,
            retention=kind.retention,
            bytes_in=call.size,
        )
        if approval := acting_under() or call.approval:
            event.approval = clean(approval)
        if resources:
            event.resource = resources[0].name
            event.resource_type = _type_of(event.resource)
            if event.resource_type == "key_version":
                event.key_version = int(event.resource.rpartition("/")[2])
        if kind.reasons and call.request is not None:
            event.reason = clean(call.request.reason)
        _put_caller(event, call, who)
        if phase is Phase.INTENT:
            return event
        event.code, event.bytes_out = call.code, call.answer_size
        event.duration_us = int(call.seconds * 1_000_000)
        if call.intent is not None:
            event.intent_stream, event.intent_sequence = call.intent.stream, call.intent.sequence
        set_outcome(event, error)
        if error is not None:
            self._refused(event, kind, call, error)
        self._put_use(event, kind, call, resources)
        return event

    def _refused(self, event: AuditEvent, kind: _Kind, call: Ended, error: KmsError) -> None:
        if call.code == "CANCELLED":
            event.error = "CANCELLED"
        if isinstance(error, Unauthenticated):
            event.category = Category.AUTHENTICATION
        elif isinstance(error, Denied):
            event.category = Category.AUTHORIZATION
        severity = kind.refused
        if isinstance(error, Unauthenticated | Denied | CannotDecrypt) and severity is Severity.LOW:
            severity = Severity.MEDIUM
        if RISKS[severity] > event.risk:
            event.severity, event.risk = severity, RISKS[severity]

    def _put_use(self, event: AuditEvent, kind: _Kind, call: Ended, resources: tuple[Resource, ...]) -> None:
        """Say which key was used, by which version, in which context, on how many items."""
        noted = call.noted
        details = _details(kind, call)
        if len(resources) > 1:
            details["resources"] = [resource.name for resource in resources[1:MOST_TOLD]]
        if noted.keys:
            key = noted.keys[0]
            event.key, event.classification = key.uid, key.classification
            versions = noted.versions
            if len(versions) == 1:
                event.key_version = versions[0][1]
            elif versions:
                _put_versions(event, key, versions, details)
            if len(noted.keys) > 1:
                details["other_keys"] = [
                    {"key": str(other.uid), "name": other.name, "classification": other.classification}
                    for other in noted.keys[1:MOST_TOLD]
                ]
            self._put_context(event, key, noted, details)
            if call.method.audit is AuditKind.DATA:
                event.items = len(noted.items) or 1
                if call.error is not None:
                    event.failures = event.items
                elif noted.failures:
                    event.failures = len(noted.failures)
                    event.outcome = Outcome.PARTIAL if event.failures < event.items else Outcome.FAILURE
                event.items_digest = items_digest(noted.items)
        # Nothing that a request brings along makes executions disappear.
        event.details = shown_details(details, _executions(noted))

    def _put_context(self, event: AuditEvent, key: UsedKey, noted: Noted, details: dict[str, Any]) -> None:
        if noted.context is None or key.context is AuditContext.NONE:
            return
        event.context = shown_context(self._context_key, key.tenant, noted.context.pairs, key.context)
        digest = noted.context.digest()
        # By itself a digest would let whoever can guess a whole context make sure of it.
        if key.context is AuditContext.PLAIN:
            event.context_digest, event.sensitivity = digest, Sensitivity.SENSITIVE
        else:
            keyed = self._keyed.copy()  # in two thirds of the time that hmac.digest() takes
            keyed.update(digest)
            event.context_digest = keyed.digest()
        if noted.varying:
            details["varying"] = noted.varying

    def item(self, batch: AuditEvent, noted: Noted, index: int) -> AuditEvent:
        """Return the event of one item of a batch; how much it was is counted in the batch's."""
        item, error = noted.items[index], noted.failures.get(index)
        event = AuditEvent(
            action=batch.action,
            category=batch.category,
            outcome=Outcome.SUCCESS,
            code=batch.code,
            tenant=batch.tenant,
            principal=batch.principal,
            roles=batch.roles,
            credential_kind=batch.credential_kind,
            credential_id=batch.credential_id,
            address=batch.address,
            request_id=batch.request_id,
            correlation_id=batch.correlation_id,
            resource_type=batch.resource_type,
            resource=batch.resource,
            key=batch.key,
            key_version=batch.key_version,
            classification=batch.classification,
            sensitivity=batch.sensitivity,
            items_digest=items_digest((item,)),
            details=canonical_json({"index": index}),
        )
        key = noted.keys[0]
        if noted.context is not None and key.context is not AuditContext.NONE:
            pairs = noted.context.pairs
            if noted.varying and index < len(noted.values):
                pairs = (*pairs, (noted.varying, noted.values[index]))
            event.context = shown_context(self._context_key, key.tenant, pairs, key.context)
        if error is not None:
            set_outcome(event, error)
        return event


def _kind(method: Method) -> _Kind:
    change = method.audit is AuditKind.ADMIN
    dangerous = method.anchored or method.quorum is not Quorum.NEVER
    category = Category.DATA_ACCESS
    if change:
        category = Category.DATA_MODIFICATION if method.service.full_name in _CHANGES else Category.ADMIN
    purpose = method.request.fields_by_name.get("purpose")
    severity = Severity.MEDIUM if dangerous else Severity.LOW if change else Severity.INFO
    return _Kind(
        method.full_name,
        category,
        severity=severity.value,
        risk=RISKS[severity],
        refused=Severity.HIGH if dangerous else Severity.LOW,
        retention=Retention.EXTENDED if change else Retention.STANDARD,
        reasons="reason" in method.request.fields_by_name,
        purposes=purpose is not None and purpose.cpp_type == purpose.CPPTYPE_STRING,
    )


def known(principal: Principal, access: Access, now: datetime) -> Known:
    """Work out how events name a principal, by what it may do now."""
    standing = [grant for grant in access.grants if not grant.expired(now)]
    roles = sorted({grant.role.value for grant in standing if grant.role is not None})
    if principal.tenant is None:
        roles.insert(0, "operator")
    until = min((grant.expires_at for grant in standing if grant.expires_at is not None), default=None)
    return Known(access, str(principal), ",".join(roles), until, access.tenant or INSTALLATION_UID)


def call_resources(call: Ended) -> tuple[Resource, ...]:
    """Return what a call is about, as far as its request says so."""
    if call.resources is not None:
        return call.resources
    if call.request is None:
        return ()
    try:
        return resources_of(
            call.method.resources, call.request, _NOBODY if call.caller is None else call.caller.principal
        )
    except InvalidRequest:
        return ()


def _type_of(name: str) -> str:
    """Return the type of a resource by its name's last collection, such as `key` of `tenants/t/keys/k`."""
    segments = name.split("/")
    return _TYPES.get(segments[-2], "") if len(segments) > 1 else segments[0]


def _executions(noted: Noted) -> dict[str, Any]:
    """Return what was run in which enclave, if anything was."""
    if not noted.executions:
        return {}
    return {
        EXECUTIONS: [
            {
                "mrenclave": mrenclave.hex(),
                "isv_svn": isv_svn,
                "simulated": simulated,
                "functions": ran.functions,
                "ms": round(ran.seconds * 1_000, 3),
                "outcome": "failed" if ran.failed else "completed",
                "failed": ran.failed,
            }
            for (mrenclave, isv_svn, simulated), ran in noted.executions.items()
        ]
    }


def _put_caller(event: AuditEvent, call: Ended, who: Known | None) -> None:
    """Say who calls, by what that was shown, and from where."""
    caller, error, address = call.caller, call.error, call.address
    if caller is not None:
        credential = caller.credential
        event.principal = str(caller.principal) if who is None else who.name
        event.roles = "" if who is None else who.roles
        event.credential_kind, event.credential_id = credential.kind.value, credential.id
        address = caller.address or address
    elif isinstance(error, Unauthenticated):
        event.credential_id = error.credential
    if address is not None:
        event.address = str(address)


def _details(kind: _Kind, call: Ended) -> dict[str, Any]:
    """Return what the error tells, what a blob is read for, and the hashes of bodies of blobs, those read first."""
    details: dict[str, Any] = dict(call.error.metadata) if call.error is not None else {}
    if kind.purposes and call.request is not None and call.request.purpose:
        details["purpose"] = clean(call.request.purpose)
    if call.noted.bodies:
        details["sealed_sha256"] = [digest.hex() for digest in call.noted.bodies]
    return details


def _put_versions(event: AuditEvent, key: UsedKey, versions: list[tuple[KeyUid, int]], details: dict[str, Any]) -> None:
    own = sorted({version for uid, version in versions if uid == key.uid})
    others = sorted({(str(uid), version) for uid, version in versions if uid != key.uid})
    if len(own) == 1:
        event.key_version = own[0]
    elif own:
        details["versions"] = own[:MOST_TOLD]
    if others:
        details["other_versions"] = [{"key": uid, "version": version} for uid, version in others[:MOST_TOLD]]
