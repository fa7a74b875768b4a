"""What a report gathers from the audit trail, and from those who check it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final
from uuid import UUID

from kms.core.audit import AuditEvent, Category, Outcome, Phase, StreamUid
from kms.core.audit_filters import AuditFilter, AuditPosition, Span
from kms.core.canonical import EPOCH, microseconds
from kms.core.receipts import moment
from kms.core.report_facts import Facts
from kms.core.report_ports import Evidence, RecordCheck, TrailCheck
from kms.core.report_rules import Rule
from kms.services.report_stages import Source

# Events are parsed and compared on the event loop: a page takes some 10 ms of it, and others have their turns between.
EVENTS_AT_ONCE: Final = 200
PAGES_IN_BATCH: Final = 10

_MICROSECOND: Final = timedelta(microseconds=1)


async def trail(source: Source, facts: Facts) -> bool:
    """Gather the events of the period, the oldest first; the cursor is a position."""
    report = source.report
    wanted = AuditFilter(since=report.since, until=report.until)
    for _ in range(PAGES_IN_BATCH):
        span = Span(after=_position(facts.cursor), newest_first=False)
        async with source.storage.transaction(report.tenant) as work:
            found = await work.audit.list_events(report.tenant, wanted, span, EVENTS_AT_ONCE)
        for event in found:
            if event.phase is not Phase.INTENT:
                _event(source, facts, event)
        if len(found) < EVENTS_AT_ONCE:
            return True
        last = found[-1]
        facts.cursor = [str(microseconds(last.at)), str(last.stream), str(last.sequence)]
        await asyncio.sleep(0)
    return False


def trail_share(source: Source, facts: Facts) -> int:
    """Return how much of the period has been read, in percent."""
    position = _position(facts.cursor)
    if position is None:
        return 0
    report = source.report
    return min(max((position.at - report.since) * 100 // (report.until - report.since), 0), 100)


def _position(cursor: list[str]) -> AuditPosition | None:
    if not cursor:
        return None
    at, stream, sequence = cursor
    return AuditPosition(EPOCH + int(at) * _MICROSECOND, StreamUid(UUID(stream)), int(sequence))


def _event(source: Source, facts: Facts, event: AuditEvent) -> None:
    bad = event.outcome in (Outcome.FAILURE, Outcome.ERROR)
    who = event.principal
    facts.count("trail.events")
    facts.count(f"trail.outcome.{event.outcome}")
    if who:
        facts.tally("calls").add(who, 1, int(bad))
    if bad:
        facts.tally("failures").add(f"{event.error or event.code or 'unknown'} {event.action}", 1)
        facts.tally("failing").add(who, 1)
    if event.category is Category.DATA_ACCESS:
        _volume(facts, event)
    if event.action in source.installation.dangerous_acts or event.approval:
        _dangerous(source, facts, event)


def _volume(facts: Facts, event: AuditEvent) -> None:
    amounts = (event.items, 1, event.bytes_in, event.bytes_out)
    facts.count("volume.calls")
    facts.tally("volume.principal").add(event.principal, *amounts)
    facts.tally("volume.class").add(event.classification, *amounts)
    facts.tally("volume.key").add(event.resource, *amounts)


def _dangerous(source: Source, facts: Facts, event: AuditEvent) -> None:
    done = event.outcome is Outcome.SUCCESS
    facts.count("dangerous.done" if done else "dangerous.refused")
    outcome = event.outcome.value + (f" ({event.error})" if event.error else "")
    at = moment(event.at)
    facts.listing("dangerous").add(at, event.action, event.principal, event.resource, outcome, event.approval)
    if done and not event.approval and event.action in source.installation.dangerous_acts:
        facts.find([(Rule.WITHOUT_APPROVAL, event.action)], at, event.principal, event.resource)


async def checks(source: Source, facts: Facts, evidence: Evidence) -> None:
    """Gather what is known of the verification of the trail and of the records, and how far the trail goes back."""
    tenant = source.report.tenant
    _trail_check(source, facts, await evidence.trail_check(tenant))
    _record_check(facts, await evidence.record_check(tenant))
    oldest = await _oldest(source)
    facts.listing("retention").add("Oldest event of the tenant that is here", oldest)


async def _oldest(source: Source) -> str:
    tenant = source.report.tenant
    async with source.storage.transaction(tenant) as work:
        found = await work.audit.list_events(tenant, AuditFilter(), Span(newest_first=False), 1)
    return moment(found[0].at) if found else "there is none"


def _trail_check(source: Source, facts: Facts, check: TrailCheck | None) -> None:
    rows = facts.listing("verification")
    if check is None:
        rows.add("Result", "not verified")
        facts.find([(Rule.TRAIL_UNVERIFIED, "no verification is known")])
        return
    rows.add("Result", "verified" if check.problems == 0 else "changed")
    rows.add("Verified at", moment(check.at))
    rows.add("Covers events before", moment(check.covers))
    rows.add("Events", check.events)
    rows.add("Problems", check.problems)
    if check.problems:
        facts.find([(Rule.TRAIL_BROKEN, check.detail or f"{check.problems} problems")])
    if check.covers < source.report.until:
        facts.find([(Rule.TRAIL_UNVERIFIED, f"verified up to {moment(check.covers)} only")])


def _record_check(facts: Facts, check: RecordCheck | None) -> None:
    rows = facts.listing("scrub")
    if check is None:
        rows.add("Result", "not verified")
        facts.find([(Rule.SCRUB_MISSING, "no pass is known")])
        return
    rows.add("Result", "verified" if check.corrupt == 0 else "changed")
    rows.add("Verified at", moment(check.at))
    rows.add("Records", check.records)
    rows.add("Changed records", check.corrupt)
    if check.corrupt:
        facts.find([(Rule.SCRUB_BROKEN, f"{check.corrupt} of {check.records} records")])
