"""The audit trail of calls: which event each of them is (docs/audit.md), durable before it is answered.

A change is two events, its intent and its outcome; a reading, a use of a key and a refusal are one. Nothing of a request
or an answer is in them but names, numbers, digests of ciphertexts and what the key's policy lets stand of the context.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from kms.acting import Noted, UsedKey, acting_under
from kms.core.access import Access
from kms.core.audit import AuditEvent, Category, Outcome, Phase, Retention, Sensitivity
from kms.core.audit_contexts import canonical_json, items_digest, shown_context
from kms.core.audit_ports import Position
from kms.core.errors import (
    AuditUnavailable,
    CannotDecrypt,
    DeadlineExceeded,
    Denied,
    InvalidRequest,
    KmsError,
    Unauthenticated,
    Unavailable,
)
from kms.core.events import Severity
from kms.core.names import INSTALLATION_UID, KeyUid, Principal, TenantUid
from kms.core.policy import AuditContext
from kms.failpoints import reach
from kms.rpc.gates import Ended
from kms.rpc.methods import METHODS, AuditKind, Method, Quorum
from kms.rpc.resources import Resource, resources_of
from kms.rpc.strangers import Strangers
from kms.services.access import Accesses
from kms.services.audit import RISKS, AuditTrail, clean, looked_at, set_outcome, shown_details

MOST_KNOWN: Final = 10_000  # principals of whom it is remembered how events name them
MOST_TOLD: Final = 16  # versions, resources and such in the details of one event
ITEMS_TURN: Final = 256  # events of items at once, so that other calls have their turns
SEALING: Final = 10.0  # seconds for a checkpoint
STRANGERS_INTERVAL: Final = 60.0  # seconds between two sums of refusals that have no event of their own

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
}

_ABANDONED: Final = DeadlineExceeded("the caller has gone before anything was done")

Seal = Callable[[], Awaitable[None]]


async def no_seal() -> None:
    """Make no checkpoint."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """What all events of one method have in common."""

    action: str
    category: Category
    change: bool
    severity: Severity
    refused: Severity
    retention: Retention
    reasons: bool  # whether its request has a reason


@dataclass(frozen=True, slots=True)
class _Known:
    """How events name a principal, worked out from what it may do."""

    access: Access
    name: str
    roles: str
    until: datetime | None  # when the first of its grants expires
    tenant: TenantUid


class AuditedCalls:
    """CallTrail: one event, or two, for each call."""

    def __init__(
        self,
        trail: AuditTrail,
        accesses: Accesses,
        context_key: bytes,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        seal: Seal = no_seal,
    ) -> None:
        """Prepare.

        Args:
            trail: writes the events.
            accesses: knows roles.
            context_key: under which values of contexts are hashed, 32 bytes.
            now: the time of the day.
            clock: seconds that never jump.
            seal: makes a checkpoint that covers all that is durable.
        """
        self._trail = trail
        self._accesses = accesses
        self._context_key = context_key
        self._now = now
        self._seal = seal
        self._kinds = {method.full_name: _kind(method) for method in METHODS}
        self._known: dict[Principal, _Known] = {}
        self._strangers = Strangers(clock)

    async def began(self, call: Ended) -> Position:
        """Return when the intent of a change is durable."""
        event = await self._event(call, Phase.INTENT)
        intent = asyncio.ensure_future(self._trail.note(event))
        try:
            position = await asyncio.shield(intent)
        except asyncio.CancelledError:
            intent.add_done_callback(lambda done: self._abandoned(call, done))
            raise
        except AuditUnavailable as error:
            raise AuditUnavailable("the audit trail cannot be written, so nothing has been done; try again") from error
        reach("audit.intent_durable")
        return position

    async def ended(self, call: Ended) -> None:
        """Return when a call's outcome, or refusal, is durable, and anchored where its method asks for that."""
        if call.caller is None and not self._strangers.has_event(call.address):
            return
        if call.intent is not None:
            reach("audit.change_done")
        try:
            event = await self._event(call, Phase.ACT if call.intent is None else Phase.OUTCOME)
            first = self._trail.note(event)
        except asyncio.CancelledError:
            self.left(call)
            raise
        try:
            if _each_item(call):
                await self._note_items(event, call, first)
            else:
                await first
        except AuditUnavailable as error:
            raise AuditUnavailable(_unwritten(call)) from error
        if call.intent is not None:
            reach("audit.outcome_durable")
            if call.method.anchored and call.error is None:
                await self._anchored()

    def left(self, call: Ended) -> None:
        """Write a call's event without waiting; one whose intent could not be written, or awaited, has none here."""
        if call.begun and call.intent is None:
            return
        if call.caller is None and not self._strangers.has_event(call.address):
            return
        who = None if call.caller is None else self._known.get(call.caller.principal)
        tenant = INSTALLATION_UID if who is None else who.tenant
        self._trail.leave(
            self._made(call, Phase.ACT if call.intent is None else Phase.OUTCOME, who, tenant, _resources(call))
        )

    async def run(self) -> None:
        """Write, every now and then, how many refusals had no event of their own, until cancelled, and once more then."""
        try:
            while True:
                await asyncio.sleep(STRANGERS_INTERVAL)
                await self.tell_strangers()
        finally:
            await self.tell_strangers()

    async def tell_strangers(self) -> None:
        """Write sums of refusals that had no event of their own; what cannot be written is told the next time."""
        for sum_ in self._strangers.taken():
            event = AuditEvent(
                action="calls.refused",
                category=Category.AUTHENTICATION,
                outcome=Outcome.FAILURE,
                code="UNAUTHENTICATED",
                severity=Severity.MEDIUM,
                risk=RISKS[Severity.MEDIUM],
                address=sum_.source,
                items=sum_.count,
                failures=sum_.count,
                details=shown_details({"refusals": sum_.count, "seconds": round(sum_.seconds)}),
            )
            try:
                await self._trail.note(event)
            except AuditUnavailable:
                self._strangers.put_back(sum_)

    def _abandoned(self, call: Ended, intent: asyncio.Future[Position]) -> None:
        """Nobody has waited for a call's intent, and so nothing has been done: say so, once the intent has its place."""
        if intent.cancelled() or intent.exception() is not None:
            return
        call.intent, call.code, call.error = intent.result(), "CANCELLED", _ABANDONED
        self.left(call)

    async def _anchored(self) -> None:
        done = "the change has been made and recorded, but is not anchored yet"
        try:
            async with asyncio.timeout(SEALING):
                await self._seal()
        except TimeoutError as error:
            raise AuditUnavailable(f"{done}: no checkpoint in time") from error
        except Unavailable as error:
            raise AuditUnavailable(f"{done}: {error}") from error

    async def _note_items(self, event: AuditEvent, call: Ended, first: Awaitable[Position]) -> None:
        """Write one event for each item of a batch, beside that of the batch; they wait together, in turns."""
        waiting = [asyncio.ensure_future(first)]
        try:
            for start in range(0, len(call.noted.items), ITEMS_TURN):
                indexes = range(start, min(start + ITEMS_TURN, len(call.noted.items)))
                made = [self._item(event, call.noted, index) for index in indexes]
                waiting += [asyncio.ensure_future(self._trail.note(one)) for one in made]
                await asyncio.gather(*waiting)
                waiting = []
        finally:
            for task in waiting:
                task.add_done_callback(looked_at)

    def _item(self, batch: AuditEvent, noted: Noted, index: int) -> AuditEvent:
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

    async def _event(self, call: Ended, phase: Phase) -> AuditEvent:
        who = None if call.caller is None else await self._who(call.caller.principal)
        resources = _resources(call)
        tenant = INSTALLATION_UID if who is None else who.tenant
        if call.caller is not None and call.caller.principal.tenant is None and resources:
            # What operators do to a tenant is for that tenant to see.
            tenant = await self._tenant(resources[0].tenant)
        return self._made(call, phase, who, tenant, resources)

    def _made(
        self, call: Ended, phase: Phase, who: _Known | None, tenant: TenantUid, resources: tuple[Resource, ...]
    ) -> AuditEvent:
        kind, error, caller = self._kinds[call.method.full_name], call.error, call.caller
        event = AuditEvent(
            action=kind.action,
            category=kind.category,
            phase=phase,
            tenant=tenant,
            request_id=call.request_id,
            correlation_id=call.correlation_id,
            approval=clean(acting_under() or call.approval),
            user_agent=clean(call.user_agent),
            severity=kind.severity,
            risk=RISKS[kind.severity],
            retention=kind.retention,
            bytes_in=call.size,
        )
        address = call.address
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
        if resources:
            event.resource = resources[0].name
            event.resource_type = _type_of(event.resource)
            if event.resource_type == "key_version":
                event.key_version = int(event.resource.rpartition("/")[2])
        if kind.reasons and call.request is not None:
            event.reason = clean(call.request.reason)
        if phase is Phase.INTENT:
            return event
        event.code, event.bytes_out = call.code, call.answer_size
        event.duration_us = int(call.seconds * 1_000_000)
        if call.intent is not None:
            event.intent_stream, event.intent_sequence = call.intent.stream, call.intent.sequence
        set_outcome(event, error)
        if error is not None:
            self._refused(event, kind, call, error)
        self._put_use(event, call, resources)
        self._trail.put_changes(event, call.noted, call.request_id)
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

    def _put_use(self, event: AuditEvent, call: Ended, resources: tuple[Resource, ...]) -> None:
        """Say which key was used, by which version, in which context, on how many items."""
        noted = call.noted
        details: dict[str, Any] = dict(call.error.metadata) if call.error is not None else {}
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
        if details:
            event.details = shown_details(details)

    def _put_context(self, event: AuditEvent, key: UsedKey, noted: Noted, details: dict[str, Any]) -> None:
        if noted.context is None or key.context is AuditContext.NONE:
            return
        event.context = shown_context(self._context_key, key.tenant, noted.context.pairs, key.context)
        event.context_digest = noted.context.digest()
        if noted.varying:
            details["varying"] = noted.varying
        if key.context is AuditContext.PLAIN:
            event.sensitivity = Sensitivity.SENSITIVE

    async def _who(self, principal: Principal) -> _Known | None:
        """Return how events name a principal; what is not known because the database is away is what was known last."""
        access, known = self._accesses.peek(principal), self._known.get(principal)
        if access is None:
            try:
                access = await self._accesses.of(principal)
            except KmsError:
                return known
        if known is not None and known.access is access and (known.until is None or known.until > self._now()):
            return known
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        made = self._known[principal] = _known(principal, access, self._now())
        return made

    async def _tenant(self, slug: str | None) -> TenantUid:
        if slug is None:
            return INSTALLATION_UID
        try:
            return await self._accesses.tenant_uid(slug) or INSTALLATION_UID
        except KmsError:
            return INSTALLATION_UID


def _kind(method: Method) -> _Kind:
    change = method.audit is AuditKind.ADMIN
    dangerous = method.anchored or method.quorum is not Quorum.NEVER
    category = Category.DATA_ACCESS
    if change:
        category = Category.DATA_MODIFICATION if method.service.full_name in _CHANGES else Category.ADMIN
    return _Kind(
        method.full_name,
        category,
        change,
        severity=Severity.MEDIUM if dangerous else Severity.LOW if change else Severity.INFO,
        refused=Severity.HIGH if dangerous else Severity.LOW,
        retention=Retention.EXTENDED if change else Retention.STANDARD,
        reasons="reason" in method.request.fields_by_name,
    )


def _known(principal: Principal, access: Access, now: datetime) -> _Known:
    standing = [grant for grant in access.grants if not grant.expired(now)]
    roles = sorted({grant.role.value for grant in standing if grant.role is not None})
    if principal.tenant is None:
        roles.insert(0, "operator")
    until = min((grant.expires_at for grant in standing if grant.expires_at is not None), default=None)
    return _Known(access, str(principal), ",".join(roles), until, access.tenant or INSTALLATION_UID)


def _resources(call: Ended) -> tuple[Resource, ...]:
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


def _put_versions(event: AuditEvent, key: UsedKey, versions: list[tuple[KeyUid, int]], details: dict[str, Any]) -> None:
    own = sorted({version for uid, version in versions if uid == key.uid})
    others = sorted({(str(uid), version) for uid, version in versions if uid != key.uid})
    if len(own) == 1:
        event.key_version = own[0]
    elif own:
        details["versions"] = own[:MOST_TOLD]
    if others:
        details["other_versions"] = [{"key": uid, "version": version} for uid, version in others[:MOST_TOLD]]


def _each_item(call: Ended) -> bool:
    """Whether each item of a batch has an event of its own."""
    return call.error is None and len(call.noted.items) > 1 and any(key.each_item for key in call.noted.keys)


def _unwritten(call: Ended) -> str:
    if call.intent is not None:
        return (
            "the audit trail cannot be written: the change may have been made, and its intent is recorded; look before"
            " you try again"
        )
    return "the audit trail cannot be written, so there is no answer; try again"
