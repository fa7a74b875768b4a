"""SecurityEventService over both databases: who sees what, pages, filters, investigations, and fields that are refused."""

from __future__ import annotations

from datetime import timedelta

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from kms.core.errors import Conflict, InvalidRequest, NotFound
from kms.core.events import EventType, Severity
from kms.core.names import INSTALLATION_UID, Principal
from kms.rpc.events import SecurityEventServicer
from kms.services.events import SecurityEvents
from kms.v1 import events_pb2 as pb
from tests.both_databases import add_tenants
from tests.keyrings import NOW, new_event
from tests.node import OPERATOR

ACME, GLOBEX = Principal("acme", "app"), Principal("globex", "app")
PARENT = "tenants/acme"


@pytest.fixture
def servicer(storage, wall):
    return SecurityEventServicer(SecurityEvents(storage, wall), wall)


@pytest.fixture
async def acme(storage):
    _, tenant = await add_tenants(storage, "globex", "acme")
    return tenant.uid


@pytest.fixture
def keep(storage):
    async def keep(*events):
        async with storage.transaction(events[0].tenant, write=True) as work:
            await work.security_events.add_all(events)
        return [str(event.name(None if event.tenant == INSTALLATION_UID else "acme")) for event in events]

    return keep


def listing(**fields):
    return pb.ListSecurityEventsRequest(**{"parent": PARENT, **fields})


def update(name, *paths, **fields):
    return pb.UpdateSecurityEventRequest(
        security_event=pb.SecurityEvent(name=name, **fields), update_mask=FieldMask(paths=paths)
    )


async def test_an_event_is_shown_whole(servicer, acme, keep):
    event = new_event(
        acme,
        EventType.CANARY_TOUCHED,
        address="192.0.2.7",
        principal=str(ACME),
        credential_kind="token",
        credential_id="k3f9a1",
        resource="tenants/acme/keys/bait",
        indicators=("1 within 0.0 s",),
        count=3,
    )
    [name] = await keep(event)
    shown = await servicer.GetSecurityEvent(pb.GetSecurityEventRequest(name=name), ACME)
    assert (shown.name, shown.type, shown.severity, shown.category, shown.risk, shown.count) == (
        name,
        "canary_touched",
        pb.SecurityEvent.CRITICAL,
        "incident",
        90,
        3,
    )
    assert (shown.address, shown.credential_kind, shown.credential_id) == ("192.0.2.7", "token", "k3f9a1")
    assert list(shown.indicators) == ["1 within 0.0 s"]
    assert not shown.HasField("false_alarm")
    assert not shown.HasField("resolve_time")
    assert not shown.resolved


async def test_pages_hold_every_event_once_and_keep_the_filter(servicer, acme, keep):
    names = await keep(
        *[new_event(acme, created_at=NOW + timedelta(microseconds=index // 2)) for index in range(7)],
        new_event(acme, EventType.RATE_EXCEEDED, created_at=NOW),
    )
    found, token = [], ""
    while True:
        page = await servicer.ListSecurityEvents(
            listing(page_size=2, page_token=token, severity=pb.SecurityEvent.MEDIUM), ACME
        )
        found += [event.name for event in page.security_events]
        token = page.next_page_token
        if not token:
            break
    assert sorted(found) == sorted(names[:-1])
    [only] = (await servicer.ListSecurityEvents(listing(type="rate_exceeded"), ACME)).security_events
    assert only.name == names[-1]


async def test_a_tenant_sees_its_own_events_and_an_operator_the_installations_alone(servicer, acme, keep):
    [name] = await keep(new_event(acme))
    [other] = await keep(new_event(INSTALLATION_UID, EventType.TOKEN_BRUTE_FORCE))
    assert other.startswith("installation/securityEvents/")
    shown = await servicer.ListSecurityEvents(listing(parent="installation"), OPERATOR)
    assert [event.name for event in shown.security_events] == [other]
    assert (await servicer.GetSecurityEvent(pb.GetSecurityEventRequest(name=other), OPERATOR)).name == other
    for caller, parent, hidden in (
        (GLOBEX, PARENT, name),
        (OPERATOR, PARENT, name),
        (ACME, "installation", other),
        (ACME, PARENT, other.replace("installation", PARENT)),
        (Principal("absent", "app"), "tenants/absent", name.replace("acme", "absent")),
    ):
        with pytest.raises(NotFound, match=hidden):
            await servicer.GetSecurityEvent(pb.GetSecurityEventRequest(name=hidden), caller)
        with pytest.raises(NotFound, match=hidden):
            await servicer.UpdateSecurityEvent(update(hidden, "notes", notes="x"), caller)
        if caller != ACME or parent != PARENT:
            with pytest.raises(NotFound, match=parent):
                await servicer.ListSecurityEvents(listing(parent=parent), caller)
            with pytest.raises(NotFound, match=parent):
                await servicer.SummarizeSecurityEvents(pb.SummarizeSecurityEventsRequest(parent=parent), caller)


async def test_an_investigation_changes_what_its_mask_names_and_nothing_else(servicer, acme, keep, wall):
    [name] = await keep(new_event(acme))
    wall.advance(timedelta(hours=1))
    first = await servicer.UpdateSecurityEvent(
        update(name, "notes", "false_alarm", "incident", notes="two\nlines", incident="INC-7", resolved=True), ACME
    )
    assert (first.notes, first.false_alarm, first.incident, first.resolved) == ("two\nlines", False, "INC-7", False)
    second = await servicer.UpdateSecurityEvent(update(name, "resolved", resolved=True, etag=first.etag), ACME)
    assert (second.notes, second.resolved, second.resolver) == ("two\nlines", True, str(ACME))
    assert second.resolve_time.ToDatetime(NOW.tzinfo) == wall.now
    wall.advance(timedelta(hours=1))
    again = await servicer.UpdateSecurityEvent(update(name, "resolved", resolved=True), Principal("acme", "other"))
    assert (again.resolve_time, again.resolver) == (second.resolve_time, second.resolver)
    with pytest.raises(Conflict):
        await servicer.UpdateSecurityEvent(update(name, "notes", notes="late", etag=first.etag), ACME)
    reopened = await servicer.UpdateSecurityEvent(update(name, "*"), ACME)
    assert (reopened.resolved, reopened.resolver, reopened.notes, reopened.HasField("false_alarm")) == (
        False,
        "",
        "",
        False,
    )


async def test_sums_are_of_the_days_that_were_asked_for(servicer, acme, keep):
    day = timedelta(days=1)
    await keep(
        new_event(acme, first_at=NOW, count=4, resolved_at=NOW),
        new_event(acme, first_at=NOW - day, count=5),
        new_event(acme, first_at=NOW - day * 29),
        new_event(acme, first_at=NOW - day * 30),
    )

    async def sums(days):
        request = pb.SummarizeSecurityEventsRequest(parent=PARENT, days=days)
        return [
            (one.day, one.events, one.occurrences, one.resolved)
            for one in (await servicer.SummarizeSecurityEvents(request, ACME)).sums
        ]

    assert await sums(1) == [("2024-02-29", 1, 4, 1)]
    assert await sums(2) == [("2024-02-28", 1, 5, 0), ("2024-02-29", 1, 4, 1)]
    assert len(await sums(0)) == 3
    assert len(await sums(31)) == 4


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"parent": "tenants/A"}, "parent"),
        ({"parent": "operators"}, "parent"),
        ({"severity": 9}, "severity"),
        ({"type": "nothing"}, "type"),
        ({"page_size": -1}, "page_size"),
        ({"page_token": "MS94"}, "page_token"),
        ({"since": Timestamp(seconds=10**14)}, "since"),
    ],
)
async def test_a_list_of_another_form_is_refused(servicer, acme, fields, field):
    with pytest.raises(InvalidRequest, match=field):
        await servicer.ListSecurityEvents(listing(**fields), ACME)


@pytest.mark.parametrize(
    ("paths", "fields", "field"),
    [
        ((), {}, "update_mask"),
        (("severity",), {"severity": 1}, "update_mask"),
        (("notes",), {"notes": "x" * 4_097}, "notes"),
        (("notes",), {"notes": "a\x07"}, "notes"),
        (("incident",), {"incident": "x" * 129}, "incident"),
        (("incident",), {"incident": "a\nb"}, "incident"),
        (("notes",), {"notes": "a", "etag": "x" * 65}, "etag"),
    ],
)
async def test_an_update_of_another_form_is_refused(servicer, acme, keep, paths, fields, field):
    [name] = await keep(new_event(acme))
    with pytest.raises(InvalidRequest, match=field):
        await servicer.UpdateSecurityEvent(update(name, *paths, **fields), ACME)


@pytest.mark.parametrize("name", ["", "tenants/acme/securityEvents/1", "securityEvents/x", "operators/root"])
async def test_a_name_of_another_form_is_refused(servicer, name):
    with pytest.raises(InvalidRequest, match="name: must have the form tenants/"):
        await servicer.GetSecurityEvent(pb.GetSecurityEventRequest(name=name), ACME)


@pytest.mark.parametrize("days", [-1, 367])
async def test_days_out_of_bounds_are_refused(servicer, acme, days):
    with pytest.raises(InvalidRequest, match="days: must be 0 to 366"):
        await servicer.SummarizeSecurityEvents(pb.SummarizeSecurityEventsRequest(parent=PARENT, days=days), ACME)


@pytest.mark.parametrize("severity", Severity)
def test_every_severity_has_its_word(severity):
    assert pb.SecurityEvent.Severity.Name(list(Severity).index(severity) + 1) == severity.name
