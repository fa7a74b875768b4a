"""Values of the core for tests, and hypothesis strategies for all that they may hold."""

from __future__ import annotations

import itertools
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from kms.core.access import Conditions, Effect, Grant, GrantUid, PrincipalKind, PrincipalRecord, parse_network
from kms.core.audit_archives import ArchiveBody, ArchiveState, AuditArchive
from kms.core.census import Place, PlaceCount, PlaceKind
from kms.core.classification import Classification
from kms.core.events import KINDS, Answer, EventType, EventUid, Outcome, SecurityEvent
from kms.core.keyring import ERASED, Kek, KekState, Key, KeyVersion, Tenant
from kms.core.lifecycle import KEY_TRANSITIONS, VERSION_TRANSITIONS, KeyEvent, KeyState
from kms.core.names import KekUid, KeyUid, TenantUid
from kms.core.operations import Operation, OperationKind, OperationState, OperationUid
from kms.core.outbox import OutboxItem, OutboxUid, Topic
from kms.core.patterns import Pattern
from kms.core.policy import (
    LONGEST_CACHE,
    LONGEST_GRACE,
    LONGEST_QUARANTINE,
    LONGEST_ROTATION,
    MOST_APPROVALS,
    MOST_REQUIRED,
    NEVER,
    SHORTEST_CACHE,
    SHORTEST_GRACE,
    SHORTEST_QUARANTINE,
    SHORTEST_ROTATION,
    SMALLEST_LIMIT,
    AuditContext,
    NamedPolicy,
    Overrides,
    Policy,
)
from kms.core.receipts import Receipt, ReceiptUid
from kms.core.retention import LegalHold, Month
from kms.core.roles import ALL_PERMISSIONS, GRANTABLE, Role
from kms.core.seals import SealedBy
from kms.core.suites import ProtectionLevel, Purpose, Suite
from kms.core.wrapping import WrapMechanism

FIRST_MONTH = Month(2024, 1)
NOW = datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC)
U32 = 2**32 - 1
I64 = 2**63 - 1

_numbers = itertools.count(1)


def new_tenant(slug: str | None = None, *, primary_kek: int = 1) -> Tenant:
    return Tenant(
        uid=TenantUid(uuid.uuid4()),
        slug=slug or f"tenant-{next(_numbers)}",
        display_name="Acme",
        kek=KekUid(uuid.uuid4()),
        primary_kek=primary_kek,
        created_at=NOW,
    )


def new_kek(tenant: Tenant, version: int = 1) -> Kek:
    return Kek(tenant.uid, tenant.kek, version, KekState.PENDING, NOW, "operators/root")


def activated(kek: Kek) -> Kek:
    return replace(
        kek,
        state=KekState.ACTIVE,
        mechanism=WrapMechanism.AES_GCM,
        canary=b"\0canary",
        hsm_key_id="pkcs11:object=kek;type=secret-key",
    )


def new_key(tenant: Tenant, slug: str | None = None) -> Key:
    return Key(
        uid=KeyUid(uuid.uuid4()),
        tenant=tenant.uid,
        slug=slug or f"key-{next(_numbers)}",
        display_name="",
        purpose=Purpose.ENCRYPT,
        suite=Suite.AES_256_GCM,
        level=ProtectionLevel.SOFTWARE,
        state=KeyState.ACTIVE,
        primary_version=1,
        created_at=NOW,
        rotated_at=NOW,
        scheduled_from=NOW,
        state_at=NOW,
        created_by="operators/root",
    )


def new_version(key: Key, version: int = 1, kek_version: int = 1) -> KeyVersion:
    primary = version == key.primary_version
    return KeyVersion(
        tenant=key.tenant,
        key=key.uid,
        version=version,
        wrapped=b"\x01wrapped",
        kek_version=kek_version,
        created_at=NOW,
        created_by="operators/root",
        state=KeyState.ACTIVE if primary else KeyState.ARCHIVED,
        state_at=NOW,
        stopped_at=None if primary else NOW,
    )


def active_version(key: Key, version: int = 1, kek_version: int = 1) -> KeyVersion:
    """A version that is, or was when it was made, the primary one."""
    return replace(new_version(key, version, kek_version), state=KeyState.ACTIVE, stopped_at=None)


def new_policy(tenant: Tenant, slug: str | None = None, version: int = 1) -> NamedPolicy:
    return NamedPolicy(tenant.uid, slug or f"policy-{next(_numbers)}", version, Policy(), NOW, "operators/root")


def new_place(key: Key, slug: str | None = None) -> Place:
    return Place(
        key.tenant,
        key.uid,
        slug or f"place-{next(_numbers)}",
        PlaceKind.COLUMN,
        "customers.iban",
        NOW,
        "operators/root",
    )


def new_count(place: Place, version: int = 1, count: int = 0) -> PlaceCount:
    return PlaceCount(place.tenant, place.key, place.slug, version, count, NOW)


def new_operation(tenant: Tenant, kind: OperationKind = OperationKind.REWRAP) -> Operation:
    return Operation(
        uid=OperationUid(uuid.uuid4()),
        tenant=tenant.uid,
        kind=kind,
        target=str(tenant.name),
        state=OperationState.RUNNING,
        requested_by="operators/root",
        created_at=NOW,
        updated_at=NOW,
        leased_until=NOW,
    )


def new_receipt(tenant: Tenant, subject: str | None = None, key: Key | None = None) -> Receipt:
    return Receipt(
        uid=ReceiptUid(uuid.uuid4()),
        tenant=tenant.uid,
        subject=subject or tenant.name.kek(next(_numbers)),
        key=None if key is None else key.uid,
        body='{"version":1}',
        signature=b"signature",
        created_at=NOW,
    )


def new_principal(tenant: Tenant, slug: str | None = None) -> PrincipalRecord:
    name = slug or f"principal-{next(_numbers)}"
    return PrincipalRecord(tenant.uid, name, PrincipalKind.SERVICE, "", NOW, "operators/root")


def new_grant(principal: PrincipalRecord, role: Role = Role.APPLICATION) -> Grant:
    return Grant(
        uid=GrantUid(uuid.uuid4()),
        tenant=principal.tenant,
        principal=principal.slug,
        effect=Effect.ALLOW,
        resource=Pattern("tenants/acme/**"),
        created_at=NOW,
        created_by="operators/root",
        role=role,
    )


# Everything that is Unicode text: no NUL, no half of a surrogate pair.
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200)
slugs = st.from_regex(r"[a-z][a-z0-9-]{0,61}[a-z0-9]", fullmatch=True)
numbers = st.integers(1, U32)
times = st.datetimes(
    datetime(1900, 1, 1),  # noqa: DTZ001  the zone is drawn beside it
    datetime(9000, 1, 1),  # noqa: DTZ001
    timezones=st.builds(timezone, st.timedeltas(timedelta(hours=-14), timedelta(hours=14))),
)
tenants = st.builds(
    Tenant,
    uid=st.uuids(version=4),
    slug=slugs,
    display_name=texts,
    kek=st.uuids(version=4),
    primary_kek=st.integers(0, U32),
    created_at=times,
    due_at=st.none() | times,
)


def lasting(unit: timedelta, shortest: timedelta, longest: timedelta) -> st.SearchStrategy[timedelta]:
    """Draw whole *units* between the two."""
    return st.integers(shortest // unit, longest // unit).map(unit.__mul__)


# What a policy may say, field by field; a key alone cannot be kept from rotating.
_RULES = {
    "rotation": st.just(NEVER) | lasting(timedelta(hours=1), SHORTEST_ROTATION, LONGEST_ROTATION),
    "encryption_limit": st.just(0) | st.integers(SMALLEST_LIMIT, I64),
    "cache_lifetime": lasting(timedelta(seconds=1), SHORTEST_CACHE, LONGEST_CACHE),
    "quarantine": lasting(timedelta(hours=1), SHORTEST_QUARANTINE, LONGEST_QUARANTINE),
    "grace": lasting(timedelta(seconds=1), SHORTEST_GRACE, LONGEST_GRACE),
    "automatic_retirement": st.booleans(),
}
context_keys = st.from_regex(r"[a-z][a-z0-9_.-]{0,63}", fullmatch=True).filter(lambda key: not key.startswith("kms."))
policy_rules = st.builds(
    Policy,
    **_RULES,
    classification=st.sampled_from(Classification),
    required_context=st.sets(context_keys, max_size=MOST_REQUIRED).map(lambda keys: tuple(sorted(keys))),
    log_data_access=st.booleans(),
    approvals=st.integers(0, MOST_APPROVALS),
    audit_context=st.sampled_from(AuditContext),
)
_OWN = {**_RULES, "rotation": lasting(timedelta(hours=1), SHORTEST_ROTATION, LONGEST_ROTATION)}
overrides = st.builds(Overrides, **{name: st.none() | rule for name, rule in _OWN.items()})

# The states from which destruction may be scheduled, and to which cancelling goes back.
KEY_BEFORE = sorted(s for s, e in KEY_TRANSITIONS if e is KeyEvent.SCHEDULE_DESTRUCTION)
VERSION_BEFORE = sorted(s for s, e in VERSION_TRANSITIONS if e is KeyEvent.SCHEDULE_DESTRUCTION)


def keks(tenant: Tenant) -> st.SearchStrategy[Kek]:
    pending = st.builds(
        Kek,
        tenant=st.just(tenant.uid),
        uid=st.just(tenant.kek),
        version=numbers,
        state=st.just(KekState.PENDING),
        created_at=times,
        created_by=texts,
    )
    made = st.builds(
        replace,
        pending,
        state=st.sampled_from([KekState.ACTIVE, KekState.DESTROYED]),
        mechanism=st.sampled_from(WrapMechanism),
        canary=st.binary(min_size=1, max_size=100),
        hsm_key_id=texts.filter(bool),
    )
    leaving = st.builds(
        replace,
        made,
        state=st.sampled_from([KekState.DESTRUCTION_SCHEDULED, KekState.DESTROYING, KekState.DESTROYED]),
        destroy_at=times,
    )
    return pending | made | leaving


def keys(tenant: Tenant) -> st.SearchStrategy[Key]:
    key = st.builds(
        Key,
        uid=st.uuids(version=4),
        tenant=st.just(tenant.uid),
        slug=slugs,
        display_name=texts,
        purpose=st.sampled_from(Purpose),
        suite=st.sampled_from(Suite),
        level=st.sampled_from(ProtectionLevel),
        state=st.sampled_from([state for state in KeyState if state is not KeyState.DESTRUCTION_SCHEDULED]),
        primary_version=numbers,
        created_at=times,
        rotated_at=times,
        scheduled_from=times,
        state_at=times,
        created_by=texts,
        policy=st.just("") | slugs,
        overrides=overrides,
        labels=st.dictionaries(texts, texts, max_size=32),
        state_reason=texts,
        stopped_at=st.none() | times,
        due_at=st.none() | times,
        places_complete_at=st.none() | times,
        places_complete_by=texts,
        leasable=st.booleans(),
    )
    scheduled = st.builds(
        replace,
        key,
        state=st.just(KeyState.DESTRUCTION_SCHEDULED),
        state_before=st.sampled_from(KEY_BEFORE),
        destroy_at=times,
    )
    return key | scheduled


sealers = st.builds(
    SealedBy,
    mrenclave=st.binary(min_size=32, max_size=32),
    mrsigner=st.binary(min_size=32, max_size=32),
    isv_svn=st.integers(0, 65_535),
    simulated=st.booleans(),
)


def key_versions(key: Key, kek: Kek) -> st.SearchStrategy[KeyVersion]:
    version = st.builds(
        KeyVersion,
        tenant=st.just(key.tenant),
        key=st.just(key.uid),
        version=numbers,
        wrapped=st.binary(min_size=1, max_size=200),
        kek_version=st.just(kek.version),
        created_at=times,
        created_by=texts,
        state=st.sampled_from([KeyState.PENDING, KeyState.ACTIVE, KeyState.ARCHIVED, KeyState.REVOKED]),
        state_at=times,
        state_reason=texts,
        stopped_at=st.none() | times,
        due_at=st.none() | times,
        exposed_at=st.none() | times,
        sealed_by=st.none() | sealers,
    )
    rotating = st.builds(replace, version, state=st.just(KeyState.ROTATING), stopped_at=times, until=times)
    scheduled = st.builds(
        replace,
        version,
        state=st.just(KeyState.DESTRUCTION_SCHEDULED),
        state_before=st.sampled_from(VERSION_BEFORE),
        stopped_at=times,
        until=times,
    )
    destroyed = st.builds(replace, version, state=st.just(KeyState.DESTROYED), wrapped=st.just(ERASED))
    return version | rotating | scheduled | destroyed


def policies(tenant: Tenant) -> st.SearchStrategy[NamedPolicy]:
    return st.builds(
        NamedPolicy,
        tenant=st.just(tenant.uid),
        slug=slugs,
        version=numbers,
        policy=policy_rules,
        created_at=times,
        created_by=texts,
    )


def places(key: Key) -> st.SearchStrategy[Place]:
    return st.builds(
        Place,
        tenant=st.just(key.tenant),
        key=st.just(key.uid),
        slug=slugs,
        kind=st.sampled_from(PlaceKind),
        description=texts,
        created_at=times,
        created_by=texts,
        counted_at=st.none() | times,
        reported_by=texts,
    )


def counts(place: Place) -> st.SearchStrategy[PlaceCount]:
    first = st.builds(
        PlaceCount,
        tenant=st.just(place.tenant),
        key=st.just(place.key),
        place=st.just(place.slug),
        version=numbers,
        count=st.integers(0, I64),
        counted_at=times,
    )
    return first | st.builds(replace, first, previous_count=st.integers(0, I64), previous_at=times)


def operations(tenant: Tenant) -> st.SearchStrategy[Operation]:
    running = st.builds(
        Operation,
        uid=st.uuids(version=4),
        tenant=st.just(tenant.uid),
        kind=st.sampled_from(OperationKind),
        target=texts,
        state=st.just(OperationState.RUNNING),
        requested_by=texts,
        created_at=times,
        updated_at=times,
        cursor=texts,
        done=st.integers(0, I64),
        total=st.integers(0, I64),
        node=st.none() | st.uuids(version=4),
        leased_until=times,
    )
    ended = st.builds(
        replace,
        running,
        state=st.sampled_from([state for state in OperationState if state is not OperationState.RUNNING]),
        error=texts,
        ended_at=times,
        node=st.none(),
        leased_until=st.none(),
    )
    return running | ended


def receipts(tenant: Tenant) -> st.SearchStrategy[Receipt]:
    return st.builds(
        Receipt,
        uid=st.uuids(version=4),
        tenant=st.just(tenant.uid),
        subject=texts.filter(bool),
        key=st.none() | st.uuids(version=4),
        body=texts.filter(bool),
        signature=st.binary(min_size=1, max_size=80),
        created_at=times,
    )


def principals(tenant: Tenant) -> st.SearchStrategy[PrincipalRecord]:
    free = st.builds(
        PrincipalRecord,
        tenant=st.just(tenant.uid),
        slug=slugs,
        kind=st.sampled_from(PrincipalKind),
        display_name=texts,
        created_at=times,
        created_by=texts,
    )
    blocked = st.builds(replace, free, blocked=st.just(True), blocked_until=st.none() | times, blocked_reason=texts)
    return free | blocked


patterns = (
    st.from_regex(r"tenants/acme(/([a-z0-9-]{1,9}|\*)){0,4}(/\*\*)?", fullmatch=True)
    .filter(lambda text: all(segment in {"*", "**"} or segment[0] != "-" for segment in text.split("/")))
    .map(Pattern.parse)
)
networks = st.sampled_from(["192.0.2.0/24", "198.51.100.7", "2001:db8::/32", "0.0.0.0/0", "::/0"]).map(parse_network)
conditions = st.builds(
    Conditions,
    context=st.dictionaries(st.sampled_from(["table", "column", "row"]), st.frozensets(texts, min_size=1, max_size=3)),
    classes=st.frozensets(slugs, max_size=2),
    networks=st.lists(networks, max_size=3).map(tuple),
)


def grants(principal: PrincipalRecord) -> st.SearchStrategy[Grant]:
    return st.builds(
        Grant,
        uid=st.uuids(version=4),
        tenant=st.just(principal.tenant),
        principal=st.just(principal.slug),
        effect=st.sampled_from(Effect),
        resource=patterns,
        created_at=times,
        created_by=texts,
        role=st.none(),
        permissions=st.frozensets(st.sampled_from(sorted(ALL_PERMISSIONS)), min_size=1, max_size=5),
        conditions=conditions,
        expires_at=st.none() | times,
        reason=texts,
    ).flatmap(
        lambda grant: (
            st.just(grant)
            | st.sampled_from(GRANTABLE).map(lambda role: replace(grant, role=role, permissions=frozenset()))
        )
    )


def new_event(tenant: TenantUid, kind: EventType = EventType.REPEATED_DENIALS, **fields: Any) -> SecurityEvent:
    rule = KINDS[kind]
    event = SecurityEvent(
        uid=EventUid(uuid.uuid4()),
        tenant=tenant,
        type=kind,
        severity=rule.severity,
        category=rule.category,
        risk=rule.risk,
        first_at=NOW,
        last_at=NOW,
        count=10,
        threshold=10,
        created_at=NOW,
        description=rule.description,
        blocked=rule.blocked,
    )
    return replace(event, **fields)


def events(tenant: TenantUid) -> st.SearchStrategy[SecurityEvent]:
    return st.sampled_from(EventType).flatmap(
        lambda kind: st.builds(
            SecurityEvent,
            uid=st.uuids(version=4),
            tenant=st.just(tenant),
            type=st.just(kind),
            severity=st.just(KINDS[kind].severity),
            category=st.just(KINDS[kind].category),
            risk=st.integers(0, 100),
            first_at=times,
            last_at=times,
            count=st.integers(1, I64),
            threshold=st.integers(1, I64),
            created_at=times,
            description=texts,
            blocked=st.booleans(),
            address=texts,
            principal=texts,
            credential_kind=texts,
            credential_id=texts,
            method=texts,
            resource=texts,
            request_id=texts,
            indicators=st.lists(texts, max_size=3).map(tuple),
            answer=st.sampled_from(Answer),
            outcome=st.sampled_from(Outcome),
            notes=texts,
            false_alarm=st.none() | st.booleans(),
            incident=texts,
            resolved_at=st.none() | times,
            resolved_by=texts,
        )
    )


def new_item(tenant: TenantUid, body: str = "{}", topic: Topic = Topic.SECURITY_EVENTS) -> OutboxItem:
    return OutboxItem(OutboxUid(uuid.uuid4()), tenant, topic, body, NOW)


def new_hold(tenant: TenantUid, hold_id: str | None = None, **fields: Any) -> LegalHold:
    """A legal hold on all of a tenant's events."""
    named = {"reason": "a matter", "created_at": NOW, "created_by": "tenants/acme/principals/counsel", **fields}
    return LegalHold(tenant=tenant, hold_id=hold_id or f"h-{uuid.uuid4().hex[:12]}", **named)


def new_archive(tenant: TenantUid, serial: int = 1, month: Month = FIRST_MONTH, **fields: Any) -> AuditArchive:
    """The record of an archive of a month without an event."""
    body = ArchiveBody(
        serial=serial,
        previous=bytes(32),
        installation=uuid.UUID(int=7),
        month=month,
        events=0,
        first_at="",
        last_at="",
        streams=(),
        tenants=(),
        checkpoint_serial=0,
        permanent=False,
        kept_until="",
        content_sha256=bytes(32),
        content_size=0,
    )
    named = {
        "state": ArchiveState.EXPORTED,
        "file_name": "f",
        "file_sha256": bytes(32),
        "file_size": 0,
        "created_at": NOW,
        **fields,
    }
    return AuditArchive(tenant=tenant, month=month, body=body.text, signature=b"s", **named)
