"""The watch: turns how calls ended into what the detectors count, and what they raise into security events.

It is called between a call's work and its answer, so it neither waits nor fails: what goes wrong here is logged, and the
call goes on. A successful call costs it a few microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_network
from types import MappingProxyType
from typing import Any, Final

import structlog
from grpc import StatusCode

from kms.core.callers import Address
from kms.core.detection import Detections, Raised
from kms.core.errors import (
    CannotDecrypt,
    CorruptRecord,
    Denied,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    Unauthenticated,
)
from kms.core.events import KINDS, EventType, EventUid, SecurityEvent, risk_of
from kms.core.lifecycle import KeyState
from kms.core.names import INSTALLATION_UID, KeyName
from kms.rpc.call_events import call_resources
from kms.rpc.gates import Ended
from kms.rpc.methods import AuditKind
from kms.services.event_recorder import Noticed
from kms.services.sightings import KeySightings, Refusals

_log = structlog.get_logger(__name__)

IPV6_PREFIX: Final = 64  # bits: who has one address of such a network usually has them all
# Failures of a batch that are looked at: more of them raise nothing that these do not.
MOST_FAILURES: Final = 1_000
LOUD_EVERY: Final = 60.0  # seconds between two log lines about failures of the watch itself

_KEY_FIELDS: Final = ("name", "destination", "source")  # what requests for the use of keys name them in
_CANNOT_DECRYPT: Final = str(CannotDecrypt())
_CORRUPT: Final = StatusCode.DATA_LOSS.value[0]
_REFUSED_STATES: Final = MappingProxyType(
    {
        KeyState.DESTRUCTION_SCHEDULED: EventType.QUARANTINED_KEY_USED,
        KeyState.REVOKED: EventType.REVOKED_KEY_USED,
    }
)


@dataclass(frozen=True, slots=True)
class _Reading:
    """How a method that decrypts tells what came of it: in *plaintexts* of the answer, or (empty) one value or none."""

    plaintexts: str
    shows: bool  # whether the caller gets to see plaintext
    key: str = "name"  # the field of the request that names the key of the ciphertexts


_READING: Final = MappingProxyType(
    {
        "Decrypt": _Reading("", shows=True),
        "DecryptBatch": _Reading("plaintexts", shows=True),
        "DecryptMaskedBatch": _Reading("values", shows=True),
        "DecryptFormatBatch": _Reading("values", shows=True),
        "DecryptDataKey": _Reading("", shows=True),
        "ReEncrypt": _Reading("", shows=False),
        "ReEncryptBatch": _Reading("ciphertexts", shows=False),
        "ReIndexBatch": _Reading("indexes", shows=False, key="source"),
    }
)


class SecurityWatch:
    """Watch for security events."""

    def __init__(
        self,
        detections: Detections,
        sightings: KeySightings,
        offer: Callable[[Noticed], None],
        now: Callable[[], datetime],
        clock: Callable[[], float],
    ) -> None:
        self._detections = detections
        self._sightings = sightings
        self._offer = offer
        self._now = now
        self._clock = clock
        self._loud_after = 0.0

    def ended(self, call: Ended) -> None:
        """One call has ended."""
        try:
            self._look(call)
        except Exception:  # noqa: BLE001  the call is answered whatever goes wrong here
            if (now := self._clock()) >= self._loud_after:
                self._loud_after = now + LOUD_EVERY
                _log.exception("security.watch_failed", method=call.method.full_name, request_id=call.request_id)

    def _look(self, call: Ended) -> None:
        refused = self._sightings.taken()
        if call.error is not None:
            self._failed(call)
        elif call.method.audit is AuditKind.DATA:
            self._used(call)
        # Where another node has put a newer version in the place of a refused one, the call has succeeded after all.
        if refused is not None and (call.error is not None or bool(getattr(call.response, "failures", False))):
            self._refused(call, refused)

    def _used(self, call: Ended) -> None:
        if self._sightings.canaries:
            self._look_for_canaries(call)
        reading = _READING.get(call.method.name)
        if reading is None or call.caller is None:
            return
        principal, name = call.caller.principal, getattr(call.request, reading.key)
        values, failures = 1, 0
        if reading.plaintexts:
            failures = len(call.response.failures)
            values = len(getattr(call.response, reading.plaintexts)) - failures
        shown = values if reading.shows else 0
        now = self._clock()
        if failures:
            raised = self._detections.partly_decrypted(principal, shown, now) if shown else None
            self._items_failed(call, name, call.response.failures[:MOST_FAILURES])
        else:
            raised = self._detections.decrypted(principal, name, shown, now)
        if raised is not None:
            self._raise(EventType.DECRYPT_VOLUME, raised, call)

    def _items_failed(self, call: Ended, name: str, failures: Iterable[Any]) -> None:
        undecryptable = corrupt = 0
        for failure in failures:
            status = failure.status
            if status.code == _CORRUPT:
                corrupt += 1
            elif status.message == _CANNOT_DECRYPT:
                undecryptable += 1
        if undecryptable:
            self._count(EventType.DECRYPT_FAILURES, (_who(call), name), call, name, undecryptable)
        if corrupt:
            self._count(EventType.TAMPERED_RECORD, name, call, name, corrupt)

    def _failed(self, call: Ended) -> None:
        error, data = call.error, call.method.audit is AuditKind.DATA
        if data and self._sightings.canaries:
            self._look_for_canaries(call)
        match error:
            case Unauthenticated():
                self._count(EventType.TOKEN_BRUTE_FORCE, ("address", _network(call.address)), call)
                if error.credential:
                    subject = ("credential", error.credential)
                    self._count(EventType.TOKEN_BRUTE_FORCE, subject, call, credential=error.credential)
            case Denied():
                self._count(EventType.REPEATED_DENIALS, _who(call), call, _first(call))
            case LimitExceeded():
                self._count(EventType.RATE_EXCEEDED, _who(call), call)
            case NotFound():
                if (foreign := _foreign(call)) is not None:
                    self._count(EventType.UNAUTHORIZED_ACCESS, _who(call), call, foreign)
            case CannotDecrypt() if data:
                name = call.request.name
                self._count(EventType.DECRYPT_FAILURES, (_who(call), name), call, name)
            case CorruptRecord():
                resource = _first(call)
                kind = EventType.ROLLED_BACK_RECORD if error.rolled_back else EventType.TAMPERED_RECORD
                self._count(kind, resource or call.method.full_name, call, resource)
            case _:
                pass

    def _refused(self, call: Ended, refused: Refusals) -> None:
        for (name, state), count in refused.items():
            if (kind := _REFUSED_STATES.get(state)) is not None:
                self._count(kind, (_who(call), name), call, name, count)

    def _look_for_canaries(self, call: Ended) -> None:
        if call.caller is None or call.request is None:
            return
        for name in {getattr(call.request, field, "") for field in _KEY_FIELDS}:
            # What a caller of another tenant asks for in vain is that tenant's to hear of in another way.
            if name in self._sightings.canaries and KeyName.parse(name).tenant == call.caller.principal.tenant:
                self._count(EventType.CANARY_TOUCHED, (call.caller.principal, name), call, name)

    def _count(
        self,
        kind: EventType,
        subject: Hashable,
        call: Ended,
        resource: str = "",
        weight: int = 1,
        credential: str = "",
    ) -> None:
        raised = self._detections.seen(kind, subject, self._clock(), weight)
        if raised is not None:
            self._raise(kind, raised, call, resource, credential)

    def _raise(self, type_: EventType, raised: Raised, call: Ended, resource: str = "", credential: str = "") -> None:
        kind, now = KINDS[type_], self._now()
        caller = call.caller
        shown = None if caller is None else caller.credential
        address = call.address if caller is None or caller.address is None else caller.address
        resource = resource or _first(call)
        seconds = raised.at - raised.began
        indicators = [f"{raised.count} within {seconds:.1f} s; the threshold is {raised.threshold}"]
        if raised.detail:
            indicators.append(raised.detail)
        if call.error is not None:
            indicators.append(f"last answer: {call.error.reason}")
        event = SecurityEvent(
            uid=EventUid(raised.uid),
            tenant=INSTALLATION_UID,  # the recorder looks its owner up
            type=type_,
            severity=kind.severity,
            category=kind.category,
            risk=risk_of(type_, raised.count, raised.threshold),
            first_at=now - timedelta(seconds=seconds),
            last_at=now,
            count=raised.count,
            threshold=raised.threshold,
            created_at=now,
            description=kind.description,
            blocked=kind.blocked or call.error is not None,
            address="" if address is None else str(address),
            principal="" if caller is None else str(caller.principal),
            credential_kind="" if shown is None else shown.kind.value,
            credential_id=credential if shown is None else shown.id,
            method=call.method.full_name,
            resource=resource,
            request_id=call.request_id,
            indicators=tuple(indicators),
        )
        principal = None if caller is None else caller.principal
        tenant = None if principal is None else principal.tenant
        self._offer(Noticed(event, tenant, principal, _key(resource, tenant)))


def _who(call: Ended) -> Hashable:
    return ("address", _network(call.address)) if call.caller is None else call.caller.principal


def _network(address: Address | None) -> str:
    if isinstance(address, IPv6Address):
        return str(ip_network((address, IPV6_PREFIX), strict=False))
    return "local" if address is None else str(address)


def _first(call: Ended) -> str:
    found = call_resources(call)
    return found[0].name if found else ""


def _foreign(call: Ended) -> str | None:
    """Return the first resource of a call that is another tenant's than the caller's."""
    if call.caller is None or call.caller.principal.tenant is None:
        return None
    own = call.caller.principal.tenant
    return next((resource.name for resource in call_resources(call) if resource.tenant != own), None)


def _key(resource: str, tenant: str | None) -> KeyName | None:
    """Return the key that a resource is or lies below, if it is the caller's tenant's."""
    try:
        name = KeyName.parse("/".join(resource.split("/")[:4]))
    except InvalidRequest:
        return None
    return name if name.tenant == tenant else None


class NoWatch:
    """Looks at nothing."""

    def ended(self, call: Ended) -> None:
        """One call has ended."""
