"""What a report gathers from the records, stage by stage, page by page; each page may be read again after a crash.

A stage reads its next page, adds it to the facts, moves the cursor, and says whether it has ended.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from kms.core.access import MOST_GRANTS, Effect, Grant
from kms.core.approvals import ApprovalUid, Decision
from kms.core.audit_filters import AuditFilter, Span
from kms.core.canonical import EPOCH, microseconds
from kms.core.events import EventUid, SecurityEvent, Severity
from kms.core.keyring import Key, KeyVersion, Tenant
from kms.core.lifecycle import ENCRYPTING, KeyState
from kms.core.policy import NEVER, Policy
from kms.core.ports import Counter, Storage
from kms.core.receipts import moment
from kms.core.report_facts import Facts
from kms.core.report_rules import (
    days,
    judge_event,
    judge_exposed,
    judge_grant,
    judge_key,
    judge_quorum,
    judge_rotation,
    judge_token,
    late_by,
    spoken,
    used_percent,
)
from kms.core.reports import Report
from kms.core.repositories import EventFilter, UnitOfWork
from kms.services.lineages import policies_of
from kms.services.statuses import version_statuses

KEYS_AT_ONCE: Final = 50
VERSIONS_AT_ONCE: Final = 500
VERSIONS_IN_BATCH: Final = 2_000
PRINCIPALS_AT_ONCE: Final = 20
ROWS_AT_ONCE: Final = 200  # of what is small
HALF_USED: Final = 50  # percent of a limit, from which a version is listed

_HOUR: Final = timedelta(hours=1)
_MICROSECOND: Final = timedelta(microseconds=1)
_NONE: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Installation:
    """What a report has to know of the daemon that makes it."""

    release: str
    open_tenants: bool
    approvals_needed: int  # where a tenant has no rule
    dangerous_permissions: tuple[str, ...]  # that may need a quorum
    dangerous_acts: frozenset[str]  # `/package.Service/Method` of those that always do


@dataclass(frozen=True, slots=True)
class Source:
    """Where a stage reads, and for which report."""

    storage: Storage
    tenant: Tenant
    report: Report
    installation: Installation
    now: datetime

    def covers(self, time: datetime) -> bool:
        """Whether that time is in the report's period."""
        return self.report.since <= time < self.report.until


async def keys(source: Source, facts: Facts) -> bool:
    """Gather keys, and the rotations that made their versions; the cursor is a slug, and how far its successor is."""
    after = facts.cursor[0] if facts.cursor else ""
    begun = int(facts.cursor[1]) if len(facts.cursor) > 1 else 0  # up to this version the next key is done
    fresh: list[tuple[Key, Policy]] = []
    exposed: list[tuple[Key, list[KeyVersion]]] = []
    cursor = [after]
    left = VERSIONS_IN_BATCH
    async with source.storage.transaction(source.tenant.uid) as work:
        found = await work.keys.list_by_slug(source.tenant.uid, after, KEYS_AT_ONCE)
        for key, (policy, _) in zip(found, await policies_of(work, found), strict=True):
            if not begun:
                fresh.append((key, policy))
            revoked: list[KeyVersion] = []
            seen, last = await _rotations(work, source, facts, key, policy, begun, left, revoked)
            exposed += [(key, revoked)] if revoked else []
            left -= seen
            begun = 0
            if last:
                cursor = [cursor[0], str(last)]
                break
            cursor = [key.slug]
    reserved = await source.storage.reserved(
        [Counter(key.tenant, key.uid, key.primary_version) for key, _ in fresh],
    )
    for (key, policy), used in zip(fresh, reserved, strict=True):
        _key(source, facts, key, policy, used)
    for key, revoked in exposed:
        for status in await version_statuses(source.storage, key, revoked, source.now):
            facts.find(judge_exposed(status.version, status.census), key.slug)
    facts.cursor = cursor
    return not found


async def _rotations(
    work: UnitOfWork,
    source: Source,
    facts: Facts,
    key: Key,
    policy: Policy,
    begun: int,
    left: int,
    exposed: list[KeyVersion],
) -> tuple[int, int]:
    """Judge a key's rotations after version *begun*; returns how many versions were read, and where to go on, 0: nowhere.

    Versions after it that are revoked, and whose DEKs have left the daemon, are added to *exposed*.
    """
    previous, after, seen = None, max(begun - 1, 0), 0
    while True:
        versions = await work.key_versions.list_by_version(key.tenant, key.uid, after, VERSIONS_AT_ONCE)
        for version in versions:
            if previous is not None and source.covers(version.created_at):
                facts.count("rotations.total")
                facts.count("rotations.scheduled", int(version.due_at is not None))
                if (late := late_by(previous.created_at, version.created_at, policy)) is not None:
                    facts.count("rotations.late")
                    made = moment(version.created_at)
                    facts.listing("rotations").add(key.slug, previous.version, made, spoken(late))
                facts.find(judge_rotation(previous, version, policy), key.slug)
            previous = version
            if version.version > begun and version.state is KeyState.REVOKED and version.exposed_at is not None:
                exposed.append(version)
        seen += len(versions)
        if len(versions) < VERSIONS_AT_ONCE:
            return seen, 0
        after = versions[-1].version
        if seen >= left:
            return seen, after


def _key(source: Source, facts: Facts, key: Key, policy: Policy, reserved: int) -> None:
    now = source.now
    facts.count("keys.total")
    facts.count(f"keys.state.{key.state}")
    facts.count(f"keys.class.{policy.classification.slug}")
    facts.count(f"keys.suite.{key.suite.name}")
    facts.listing("keys").add(
        key.slug,
        key.state.value,
        policy.classification.slug,
        key.purpose.name.lower(),
        key.suite.name,
        key.level.name.lower(),
        key.primary_version,
        days(now - key.rotated_at),
        "by hand" if policy.rotation == NEVER else f"every {spoken(policy.rotation)}",
    )
    percent = used_percent(policy, key, reserved)
    if key.state in ENCRYPTING and percent is not None:
        facts.count("limits.counted")
        if percent >= HALF_USED:
            facts.listing("limits").add(key.slug, key.primary_version, percent, reserved)
    facts.find(judge_key(key, policy, reserved, now), key.slug)


async def keks(source: Source, facts: Facts) -> bool:
    """Gather the KEK versions; the cursor is a version."""
    after = int(facts.cursor[0]) if facts.cursor else 0
    async with source.storage.transaction(source.tenant.uid) as work:
        found = await work.keks.list_by_version(source.tenant.uid, after, ROWS_AT_ONCE)
    for kek in found:
        facts.count("keks.total")
        age = days(source.now - kek.created_at)
        facts.listing("keks").add(kek.version, kek.state.value, age, kek.version == source.tenant.primary_kek)
    facts.cursor = [str(found[-1].version)] if found else []
    return len(found) < ROWS_AT_ONCE


async def access(source: Source, facts: Facts) -> bool:
    """Gather principals and their grants; the cursor is a slug."""
    after = facts.cursor[0] if facts.cursor else ""
    tenant = source.tenant
    async with source.storage.transaction(tenant.uid) as work:
        found = await work.principals.list_by_slug(tenant.uid, after, PRINCIPALS_AT_ONCE)
        for principal in found:
            facts.count("principals.total")
            facts.count("principals.blocked", int(principal.blocked_at(source.now)))
            grants = await work.grants.list_of_principal(tenant.uid, principal.slug, None, MOST_GRANTS)
            seen = bool(grants) and await _seen(work, source, f"{tenant.name}/principals/{principal.slug}")
            for grant in grants:
                _grant(source, facts, grant, seen=seen)
    facts.cursor = [found[-1].slug] if found else []
    return len(found) < PRINCIPALS_AT_ONCE


async def _seen(work: UnitOfWork, source: Source, principal: str) -> bool:
    report = source.report
    wanted = AuditFilter(since=report.since, until=report.until, equal={"principal": (principal,)})
    return bool(await work.audit.list_events(report.tenant, wanted, Span(), 1))


def _grant(source: Source, facts: Facts, grant: Grant, *, seen: bool) -> None:
    if grant.role is not None and grant.effect is Effect.ALLOW and not grant.expired(source.now):
        facts.count(f"roles.{grant.role}")
    facts.listing("grants").add(
        grant.principal,
        grant.effect.value,
        grant.role.value if grant.role else ", ".join(sorted(grant.permissions)),
        str(grant.resource),
        bool(grant.conditions),
        moment(grant.expires_at) if grant.expires_at else "",
        seen,
    )
    facts.find(judge_grant(grant, source.now, seen=seen), grant.principal)


async def tokens(source: Source, facts: Facts) -> bool:
    """Gather API tokens; the cursor is a prefix."""
    after = facts.cursor[0] if facts.cursor else ""
    tenant = source.tenant.uid
    async with source.storage.transaction(tenant) as work:
        found = await work.tokens.list_by_prefix(tenant, after, ROWS_AT_ONCE)
        uses = await work.tokens.uses(tenant, [token.uid for token in found])
    for token in found:
        use = uses.get(token.uid)
        if token.ended(source.now) is not None:
            facts.count("tokens.ended")
        else:
            facts.count("tokens.usable")
            last = moment(use.last_used_at) if use and use.last_used_at else "never"
            scopes = ", ".join(sorted(token.scopes))
            ends = moment(token.expires_at)
            facts.listing("tokens").add(token.prefix, str(token.principal), scopes, ends, last)
        facts.find(judge_token(token, use, source.now), token.prefix, str(token.principal))
    facts.cursor = [found[-1].prefix] if found else []
    return len(found) < ROWS_AT_ONCE


async def approvals(source: Source, facts: Facts) -> bool:
    """Gather requests for approval, the newest first; the cursor is a time and a uid."""
    tenant = source.tenant.uid
    time, uid = _position(facts.cursor, source.report.until)
    async with source.storage.transaction(tenant) as work:
        page = await work.approvals.list_newest(tenant, (time, ApprovalUid(uid)), ROWS_AT_ONCE)
        found = [request for request in page if source.covers(request.created_at)]
        votes = await work.approvals.votes(tenant, [request.uid for request in found]) if found else []
    for request in found:
        state = request.standing(source.now).value
        facts.count(f"approvals.{state}")
        by = ", ".join(
            vote.principal for vote in votes if vote.approval == request.uid and vote.decision is Decision.APPROVE
        )
        resources = ", ".join(request.resources)
        asked = moment(request.created_at)
        facts.listing("approvals").add(asked, request.permission, request.requester, resources, state, by)
    if found:
        facts.cursor = [str(microseconds(found[-1].created_at)), str(found[-1].uid)]
    return len(found) < ROWS_AT_ONCE


async def quorum(source: Source, facts: Facts) -> bool:
    """Gather how many approvals each dangerous permission needs."""
    async with source.storage.transaction(source.tenant.uid) as work:
        rules = {rule.permission: rule for rule in await work.quorum_rules.list_all(source.tenant.uid)}
    for permission in sorted(source.installation.dangerous_permissions):
        rule = rules.get(permission)
        needed = source.installation.approvals_needed if rule is None else rule.approvals
        by = "the installation's default" if rule is None else f"{rule.updated_by} at {moment(rule.updated_at)}"
        facts.listing("quorum").add(permission, needed, by)
        facts.find(judge_quorum(needed), permission)
    return True


async def events(source: Source, facts: Facts) -> bool:
    """Gather the security events of the period; the cursor is a time and a uid."""
    return await _events(source, facts, EventFilter(since=source.report.since), source.report.until)


async def older_events(source: Source, facts: Facts) -> bool:
    """Gather security events from before the period that nobody has resolved; the cursor is a time and a uid."""
    return await _events(source, facts, EventFilter(unresolved=True), source.report.since)


async def _events(source: Source, facts: Facts, wanted: EventFilter, before: datetime) -> bool:
    tenant = source.tenant.uid
    time, uid = _position(facts.cursor, before)
    async with source.storage.transaction(tenant) as work:
        found = await work.security_events.list_newest(tenant, wanted, (time, EventUid(uid)), ROWS_AT_ONCE)
    for event in found:
        _event(source, facts, event)
    if found:
        facts.cursor = [str(microseconds(found[-1].created_at)), str(found[-1].uid)]
    return len(found) < ROWS_AT_ONCE


def _event(source: Source, facts: Facts, event: SecurityEvent) -> None:
    resolved = event.resolved_at
    hours = ((resolved or source.now) - event.created_at) // _HOUR
    of = f"security.{event.severity}"
    facts.count("security.before" if event.created_at < source.report.since else f"{of}.stored")
    facts.most(f"{of}.longest", hours)
    if resolved is None:
        facts.count(f"{of}.open")
    else:
        facts.count(f"{of}.resolved")
        facts.count(f"{of}.hours", hours)
    if resolved is None or event.severity in Severity.HIGH.and_above:
        state = "open" if resolved is None else f"resolved by {event.resolved_by}"
        facts.listing("security").add(
            moment(event.created_at),
            event.severity.value,
            event.type.value,
            event.principal,
            event.resource,
            state,
            hours,
        )
    facts.find(judge_event(event, source.now), str(event.name(source.tenant.slug)), event.type.value)


async def receipts(source: Source, facts: Facts) -> bool:
    """Gather receipts of destruction; the cursor is a subject."""
    after = facts.cursor[0] if facts.cursor else ""
    tenant = source.tenant
    async with source.storage.transaction(tenant.uid) as work:
        found = await work.receipts.list_of_subject(tenant.uid, str(tenant.name), after, ROWS_AT_ONCE)
    for receipt in found:
        if source.covers(receipt.created_at):
            forced = json.loads(receipt.body).get("forced_by", "")
            facts.listing("receipts").add(receipt.subject, moment(receipt.created_at), str(forced))
    facts.cursor = [found[-1].subject] if found else []
    return len(found) < ROWS_AT_ONCE


async def holds(source: Source, facts: Facts) -> bool:
    """Gather legal holds; the cursor is an id."""
    after = facts.cursor[0] if facts.cursor else ""
    tenant = source.tenant.uid
    async with source.storage.transaction(tenant) as work:
        found = await work.legal_holds.list_after(tenant, after, ROWS_AT_ONCE)
    for hold in found:
        if hold.released_at is None:
            about = ", ".join(one for one in (hold.resource, hold.principal) if one)
            facts.listing("holds").add(hold.hold_id, moment(hold.created_at), hold.created_by, about, hold.reason)
    facts.cursor = [found[-1].hold_id] if found else []
    return len(found) < ROWS_AT_ONCE


def _position(cursor: list[str], start: datetime) -> tuple[datetime, UUID]:
    """Return the time and uid of a cursor; at first those that lie before everything stored at *start*."""
    return (EPOCH + int(cursor[0]) * _MICROSECOND, UUID(cursor[1])) if cursor else (start, _NONE)
