"""The audit trail as it is read, on both databases: every field, every filter, pages, sums, and columns that lie."""

from __future__ import annotations

import json
import uuid
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text, update

from kms.core.audit import FIELDS, AuditEvent, Category, Outcome, Phase, Retention, Sensitivity, body_of, canonical
from kms.core.audit_filters import AMOUNTS, GROUPS, KINDS, AuditFilter, Kind, Pair, Span
from kms.core.audit_queries import QUERIES, Arguments
from kms.core.errors import CorruptRecord
from kms.core.names import INSTALLATION_UID
from kms.services.audit_reader import position
from storage.audit_log import COLUMNS
from storage.audit_tables import audit_log
from tests.keyrings import NOW
from tests.node import with_tenants
from tests.sealing import open_postgresql
from tests.trails import SECOND, Trail, act, as_owner

ALL = AuditFilter()
NEWEST = Span()


@pytest.fixture
async def tenants(storage):
    return [tenant.uid for tenant in await with_tenants(storage, "acme", "globex")]


@pytest.fixture
def trail(storage):
    return Trail(storage)


def full(tenant, **fields):
    """An event with something in every field."""
    given = {
        "action": "/kms.v1.KeyService/RevokeKey",
        "category": Category.ADMIN,
        "phase": Phase.OUTCOME,
        "outcome": Outcome.PARTIAL,
        "code": "INTERNAL",
        "error": "NONE",
        "error_message": "Ein 'Fehler' \U0001f512",
        "severity": "high",
        "risk": 41,
        "principal": "tenants/acme/principals/olga",
        "roles": "auditor,security-officer",
        "credential_kind": "token",
        "credential_id": "abcdefghijkl",
        "address": "192.0.2.7",
        "user_agent": "kms-client/1",
        "request_id": "r-1",
        "correlation_id": "c-1",
        "approval": "tenants/acme/approvals/1",
        "reason": "left the company",
        "intent_stream": uuid.UUID(int=5),
        "intent_sequence": 4,
        "node": "vault-2:00000000",
        "release": "1.2",
        "region": "eu",
        "resource_type": "key",
        "resource": "tenants/acme/keys/payroll",
        "key": uuid.UUID(int=9),
        "key_version": 3,
        "context": '{"customer":"42"}',
        "context_digest": bytes(range(32)),
        "classification": "confidential",
        "sensitivity": Sensitivity.SENSITIVE,
        "items": 100,
        "failures": 2,
        "items_digest": bytes(32),
        "bytes_in": 1_000,
        "bytes_out": 2_000,
        "duration_us": 345,
        "details": '{"a":1}',
        "changes": b"\x01\x02",
        "retention": Retention.EXTENDED,
        "kept_until": NOW + timedelta(days=2_557),
        "at": NOW + SECOND,
    }
    return AuditEvent(**{**given, "tenant": tenant, **fields})


async def listed(storage, tenant, wanted=ALL, span=NEWEST, limit=1_000):
    async with storage.transaction(tenant) as work:
        return await work.audit.list_events(tenant, wanted, span, limit)


async def summed(storage, tenant, *groups, wanted=ALL):
    async with storage.transaction(tenant) as work:
        return await work.audit.sum_up(tenant, wanted, Span(newest_first=False), groups, 1_000)


async def test_an_event_is_read_again_exactly(storage, trail, tenants):
    acme, _ = tenants
    stored = await trail.add(full(acme), act(acme))
    async with storage.transaction(acme) as work:
        for event in stored:
            assert await work.audit.get(acme, event.stream, event.sequence) == event
        assert await work.audit.get(acme, trail.stream, 3) is None
    assert await listed(storage, acme) == stored
    assert all(getattr(stored[0], field.name) for field in fields(AuditEvent))


async def test_tenants_see_their_own_events_and_work_over_tenants_sees_all(storage, trail, tenants):
    acme, globex = tenants
    events = await trail.add(act(acme), act(globex), act(INSTALLATION_UID), full(acme))
    for tenant, own in ((acme, [3, 0]), (globex, [1]), (INSTALLATION_UID, [2]), (None, [3, 2, 1, 0])):
        assert await listed(storage, tenant) == [events[index] for index in own]
        async with storage.transaction(tenant) as work:
            found = [await work.audit.get(tenant, trail.stream, number) for number in (1, 2, 3, 4)]
            sums = await work.audit.sum_up(tenant, ALL, NEWEST, ("tenant",), 10)
        assert [event for event in found if event] == [events[index] for index in sorted(own)]
        assert sum(one.events for one in sums) == len(own)


@pytest.mark.postgresql
async def test_row_level_security_hides_what_a_query_forgets(postgresql_url):
    storage = await open_postgresql(postgresql_url, 4)
    try:
        acme, globex = [tenant.uid for tenant in await with_tenants(storage, "acme", "globex")]
        await Trail(storage).add(act(acme), act(globex), act(INSTALLATION_UID))
        async with storage._session(acme, write=False) as session:
            rows = await session.raw("SELECT tenant_id FROM audit.audit_log")
        assert [row[0] for row in rows] == [acme]
    finally:
        await storage.close()


# Of each field a value that one event alone has, and one that no event has.
OTHER = {
    "category": ("admin", "system"),
    "phase": ("outcome", "intent"),
    "outcome": ("partial", "error"),
    "sensitivity": ("sensitive", "highly_sensitive"),
    "retention": ("extended", "permanent"),
    "severity": ("high", "low"),
}
NOBODYS = {
    Kind.TEXT: "nobody's",
    Kind.NUMBER: 7_777,
    Kind.UID: uuid.UUID(int=404),
    Kind.BYTES: b"\xff",
    Kind.TIME: NOW - SECOND,
}
FILTERED = [name for name in KINDS if name not in {"tenant", "stream"}]


def test_every_field_is_filtered():
    assert {*FILTERED, "tenant", "stream"} == {*FIELDS, "stream", "sequence", "at"} == set(KINDS) == set(COLUMNS)
    assert len(KINDS) == 46


async def test_an_event_is_found_by_each_of_its_fields_and_no_other_is(storage, trail, tenants):
    acme, _ = tenants
    plain, event, _ = await trail.add(act(acme, at=NOW), full(acme), act(acme, at=NOW + SECOND * 2))
    checked = 0
    for name in FILTERED:
        value = getattr(event, name)
        assert await listed(storage, acme, AuditFilter(equal={name: (value,)})) == [event], name
        both = {value, getattr(plain, name)}
        found = await listed(storage, acme, AuditFilter(equal={name: tuple(one for one in both if one is not None)}))
        assert event in found, name
        missing = OTHER[name][1] if name in OTHER else NOBODYS[KINDS[name]]
        assert await listed(storage, acme, AuditFilter(equal={name: (missing,)})) == [], name
        checked += 1
    for name, values in {"tenant": (acme, INSTALLATION_UID), "stream": (trail.stream, uuid.uuid4())}.items():
        found = [len(await listed(storage, acme, AuditFilter(equal={name: (value,)}))) for value in values]
        assert found == [3, 0]
        checked += 1
    assert checked == len(KINDS)


FILTERS = [
    (AuditFilter(since=NOW + SECOND), [3, 2, 1]),
    (AuditFilter(until=NOW + SECOND), [0]),
    (AuditFilter(since=NOW, until=NOW + SECOND * 2), [1, 0]),
    (AuditFilter(begins={"action": ("/kms.v1.KeyService/",)}), [2, 1]),
    (AuditFilter(begins={"action": ("/KMS.v1.",)}), []),
    (AuditFilter(begins={"action": ("/kms.v1.CryptoService/D", "rotation.")}), [3, 0]),
    (AuditFilter(begins={"action": ("/kms.v_.",)}), []),
    (AuditFilter(begins={"resource": ("tenants/acme/keys/pay%",)}), []),
    (AuditFilter(begins={"resource": ("tenants/acme/keys/pay",)}), [2, 1]),
    (AuditFilter(least={"items": 10}), [2]),
    (AuditFilter(least={"bytes_in": 1, "duration_us": 5}), [1]),
    (AuditFilter(present=("approval",)), [1]),
    (AuditFilter(within=()), []),
    (AuditFilter(within=((NOW, NOW + SECOND), (NOW + SECOND * 3, NOW + SECOND * 4))), [3, 0]),
    (AuditFilter(either=(AuditFilter(least={"items": 10}), AuditFilter(present=("approval",)))), [2, 1]),
    (AuditFilter(equal={"outcome": ("failure", "error"), "code": ("NOT_FOUND",)}), [2]),
]


async def test_a_filter_finds_what_it_says(storage, trail, tenants):
    acme, _ = tenants
    key = "tenants/acme/keys/payroll"
    events = await trail.add(
        act(acme, at=NOW),
        act(
            acme,
            at=NOW + SECOND,
            action="/kms.v1.KeyService/GetKey",
            resource=key,
            approval="a",
            bytes_in=1,
            duration_us=5,
            items=9,
        ),
        act(
            acme,
            at=NOW + SECOND * 2,
            action="/kms.v1.KeyService/RevokeKey",
            resource=f"{key}/versions/1",
            items=10,
            outcome=Outcome.FAILURE,
            code="NOT_FOUND",
        ),
        act(acme, at=NOW + SECOND * 3, action="rotation.scheduled"),
    )
    for wanted, indexes in FILTERS:
        assert await listed(storage, acme, wanted) == [events[index] for index in indexes], wanted


def test_every_amount_is_a_number():
    assert {KINDS[name] for name in AMOUNTS} == {Kind.NUMBER}


async def test_amounts_are_compared_from_their_least_on(storage, trail, tenants):
    acme, _ = tenants
    for name in AMOUNTS:
        [_, event] = await trail.add(act(acme, **{name: 49}), act(acme, **{name: 50}))
        assert await listed(storage, acme, AuditFilter(least={name: 50})) == [event], name


def in_ascii(pairs):
    return json.dumps(pairs, sort_keys=True, separators=(",", ":"))


HARD = {
    "plain": "42",
    "a quote": 'x"y',
    "a pair inside": '","customer":"42',
    "a backslash at the end": "x\\",
    "the whole of another": '42","a":"b',
    "percent": "4%",
    "letters": "Ä\U0001f512 b",
    "a line": "a\nb",
    "empty": "",
}


async def test_a_pair_of_the_context_is_found_and_nothing_that_looks_like_it(storage, trail, tenants):
    acme, _ = tenants
    events = dict(
        zip(
            HARD,
            await trail.add(
                *[
                    act(acme, context=in_ascii({"a": value, "customer": value, "z": 'q","customer":"0'}))
                    for value in HARD.values()
                ],
                act(acme),
                act(acme, context=in_ascii({"xcustomer": "42", "customerx": "42"})),
                act(acme, context=in_ascii({"customer": "421"})),
            ),
            strict=False,
        )
    )
    for name, value in HARD.items():
        assert await listed(storage, acme, AuditFilter(pair=Pair("customer", (value,)))) == [events[name]], name
        other = AuditFilter(pair=Pair("customer", ("nobody", value)))
        assert await listed(storage, acme, other) == [events[name]], name
    assert await listed(storage, acme, AuditFilter(pair=Pair("customer", ("0",)))) == []


async def test_executions_are_found_by_the_query_and_no_text_of_a_request_looks_like_them(storage, trail, tenants):
    acme, _ = tenants
    query = QUERIES["enclave-executions"]

    def wanted(mrenclave: str = "") -> AuditFilter:
        return query.wanted(
            Arguments({"mrenclave": mrenclave}, NOW, NOW, ZoneInfo, lambda key, value: Pair(key, (value,)))
        )

    def ran(mrenclave: str) -> dict[str, object]:
        return {"executions": [{"failed": 0, "mrenclave": mrenclave, "ms": 0.5}]}

    forged = in_ascii(ran("aa" * 32))
    events = await trail.add(
        act(acme, details=in_ascii({"purpose": "billing", **ran("aa" * 32)})),
        act(acme, details=in_ascii({**ran("bb" * 32), "zone": "z"})),
        act(acme, details=in_ascii({"purpose": forged})),
        act(acme, details=in_ascii({"purpose": forged[1:-1], "executions ": [{}]})),
        act(acme, details=in_ascii({"executions": []})),
        act(acme, reason=forged),
        act(acme),
        act(acme, phase=Phase.INTENT, details=forged),
    )
    assert sorted(await listed(storage, acme, wanted()), key=lambda one: one.sequence) == events[:2]
    assert await listed(storage, acme, wanted("bb" * 32)) == [events[1]]
    assert await listed(storage, acme, wanted("cc" * 32)) == []


async def test_positions_let_a_reader_go_on_where_it_stopped(storage, tenants):
    acme, _ = tenants
    one, other = Trail(storage), Trail(storage)
    first = await one.add(act(acme), act(acme), act(acme))
    second = await other.add(act(acme), act(acme))
    found = await listed(storage, acme, AuditFilter(beyond={one.stream: 2}))
    assert sorted((event.stream, event.sequence) for event in found) == sorted(
        (event.stream, event.sequence) for event in (first[2], *second)
    )
    assert await listed(storage, acme, AuditFilter(beyond={one.stream: 3, other.stream: 1})) == [second[1]]


async def walked(storage, tenant, size, *, newest_first, wanted=ALL, between=None):
    found, after = [], None
    while True:
        page = await listed(storage, tenant, wanted, Span(after, newest_first=newest_first), size)
        found += page
        if len(page) < size:
            return found
        if between is not None:
            await between()
        after = position(page[-1])


@pytest.mark.parametrize("newest_first", [True, False])
async def test_pages_hold_each_event_once_though_others_are_stored_meanwhile(storage, tenants, newest_first):
    acme, globex = tenants
    trails = [Trail(storage) for _ in range(3)]
    for index in range(20):  # many at the same time
        for trail in trails:
            await trail.add(act(acme, at=NOW + timedelta(microseconds=index // 4)), act(globex))
    there = [event for trail in trails for event in trail.events if event.tenant == acme]
    added = []

    async def between():
        if len(added) < 12:
            added.extend(await trails[len(added) % 3].add(act(acme, at=NOW + SECOND * (len(added) + 1))))

    found = await walked(storage, acme, 7, newest_first=newest_first, between=between)
    wanted = there if newest_first else there + added
    assert sorted(found, key=place) == sorted(wanted, key=place)
    assert found == sorted(found, key=place, reverse=newest_first)
    assert len(added) > 5


def place(event):
    return event.at, event.stream, event.sequence


async def test_slices_hold_all_events_once_whatever_their_size(storage, trail, tenants):
    acme, _ = tenants
    events = await trail.add(*[act(acme, at=NOW + timedelta(microseconds=index // 5)) for index in range(23)])
    for newest_first in (True, False):
        for rows in (1, 3, 50):
            await slices_hold_all(storage, acme, events, rows, newest_first=newest_first)


async def slices_hold_all(storage, acme, events, rows, *, newest_first):
    found, span, slices = [], Span(newest_first=newest_first), 0
    while True:
        async with storage.transaction(acme) as work:
            end = await work.audit.slice_end(acme, ALL, span, rows)
        found += await listed(storage, acme, ALL, replace(span, end=end))
        slices += 1
        if end is None:
            break
        span = span.beyond(end)
    assert found == sorted(events, key=place, reverse=newest_first)
    assert (slices == 1) == (rows == 50)
    assert slices <= 23 // rows + 1


DAY = timedelta(days=1)


async def test_events_are_summed_up_by_any_group(storage, trail, tenants):
    acme, globex = tenants
    key = uuid.uuid4()
    alice, bob = "tenants/acme/principals/alice", "tenants/acme/principals/bob"
    late = datetime(2024, 3, 1, tzinfo=UTC)
    await trail.add(
        act(acme, principal=alice, items=2, bytes_in=10, bytes_out=5, key=key),
        act(acme, principal=alice, items=3, bytes_in=1, failures=1),
        act(acme, principal=bob, at=late, items=2**40, bytes_in=2**62),
        act(globex, principal=alice, items=1_000),
    )

    async def rows(*groups):
        sums = await summed(storage, acme, *groups)
        return sorted(((*one.group, one.events, one.items, one.bytes_in, one.failures) for one in sums), key=str)

    assert await rows("principal") == [(alice, 2, 5, 11, 1), (bob, 1, 2**40, 2**62, 0)]
    assert await rows("day") == [("2024-02-29", 2, 5, 11, 1), ("2024-03-01", 1, 2**40, 2**62, 0)]
    assert await rows("month", "principal") == [
        ("2024-02", alice, 2, 5, 11, 1),
        ("2024-03", bob, 1, 2**40, 2**62, 0),
    ]
    by_key = await summed(storage, acme, "key")
    assert {one.group: one.events for one in by_key} == {(key,): 1, (None,): 2}
    [whole] = await summed(storage, acme)
    assert (whole.group, whole.events, whole.bytes_out, whole.first_at, whole.last_at) == ((), 3, 5, NOW, late)
    assert whole.size == sum(len(canonical_of(event)) for event in trail.events if event.tenant == acme)


def canonical_of(event):
    return canonical(event.stream, event.sequence, event.at, body_of(event))


async def test_every_group_sums_up_all_events(storage, trail, tenants):
    acme, _ = tenants
    await trail.add(full(acme), act(acme))
    for group in GROUPS:
        assert sum(one.events for one in await summed(storage, acme, group)) == 2, group


async def test_heads_tell_how_far_streams_are_and_that_of_all_tenants(storage, tenants):
    acme, globex = tenants
    one, other = Trail(storage), Trail(storage)
    await one.add(act(), act(acme), act(globex, at=NOW + SECOND))
    await other.add(act(at=NOW + SECOND * 5, node="vault-2:11111111"))
    async with storage.transaction() as work:
        heads = await work.audit.heads(10)
        [newest] = await work.audit.heads(1)
    assert heads[0] == newest
    assert [(head.stream, head.node, head.began_at, head.sequence, head.last_at, head.hash) for head in heads] == [
        (other.stream, "vault-2:11111111", NOW + SECOND * 5, 1, NOW + SECOND * 5, other.hash),
        (one.stream, "vault-1:0a1b2c3d", NOW, 3, NOW + SECOND, one.hash),
    ]


def lie_of(name, value):
    kind = KINDS[name]
    if kind is Kind.NUMBER:
        return value + 1
    if kind is Kind.TIME:
        return value + timedelta(microseconds=1)
    if kind is Kind.UID:
        return uuid.uuid4()
    return (value or b"") + b"\x01" if kind is Kind.BYTES else value + "x"


NO_TRIGGERS = {
    "sqlite": ("DROP TRIGGER IF EXISTS audit_log_refuse_update",),
    "postgresql": ("SET session_replication_role = replica", "ALTER TABLE audit.audit_log DISABLE TRIGGER USER"),
}


async def lie(storage, event, **values):
    """Change a row as somebody who owns the database does."""
    engine = storage._line.engine.dialect.name
    statements = [text(one) for one in NO_TRIGGERS[engine]]
    changed = (
        update(audit_log)
        .where(audit_log.c.stream_id == event.stream, audit_log.c.sequence == event.sequence)
        .values(values)
    )
    if engine == "postgresql":
        statements.append(
            text(
                "DO $$ DECLARE one regclass; BEGIN FOR one IN SELECT inhrelid::regclass FROM pg_inherits "
                "WHERE inhparent = 'audit.audit_log'::regclass LOOP EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', one); "
                "END LOOP; END $$"
            )
        )
    await as_owner(storage, *statements, changed)


async def test_a_column_that_tells_something_else_than_the_bytes_is_found(storage, tenants):
    acme, _ = tenants
    names = [name for name in KINDS if name != "tenant"]
    events = {name: (await Trail(storage).add(full(acme)))[0] for name in names}
    assert len(await listed(storage, acme)) == len(names) == len(KINDS) - 1
    for name, event in events.items():
        value = lie_of(name, getattr(event, name))
        await lie(storage, event, **{COLUMNS[name]: value})
        said = replace(event, **{name: value}) if name in {"stream", "sequence"} else event
        with pytest.raises(CorruptRecord, match=f"audit event {said.stream}-{said.sequence} .*column {COLUMNS[name]} "):
            await listed(storage, acme, AuditFilter(equal={"stream": (said.stream,)}))


async def test_an_event_that_is_given_to_another_tenant_is_found(storage, trail, tenants):
    acme, globex = tenants
    [event] = await trail.add(full(acme))
    await lie(storage, event, tenant_id=globex)
    with pytest.raises(CorruptRecord, match=r"column tenant_id "):
        await listed(storage, globex)
    with pytest.raises(CorruptRecord, match=r"column tenant_id "):
        await listed(storage, None)


async def test_bytes_that_are_no_event_are_found(storage, trail, tenants):
    acme, _ = tenants
    [event] = await trail.add(full(acme))
    await lie(storage, event, canonical=b"nothing")
    with pytest.raises(CorruptRecord, match=f"audit event {event.stream}-1 .*no event"):
        await listed(storage, acme)
