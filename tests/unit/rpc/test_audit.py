"""AuditService over both databases: who sees what, filters, pages, every named query, reports, and what is refused."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from kms.core.audit import Category, Outcome, Phase
from kms.core.audit_filters import KINDS, Kind
from kms.core.audit_queries import QUERIES, as_text
from kms.core.errors import InvalidRequest, NotFound
from kms.core.names import INSTALLATION_UID, Principal
from kms.rpc import audit_messages
from kms.rpc.audit import AuditServicer
from kms.rpc.audit_messages import FILTERED, MOST_FIELDS, MOST_POSITIONS, MOST_VALUES
from kms.services import audit_reader
from kms.services.audit_reader import AuditReader
from kms.v1 import audit_pb2 as pb
from tests.contract.test_audit_log import full
from tests.keyrings import NOW
from tests.node import OPERATOR, with_tenants
from tests.trails import SECOND, Trail, act

ACME, GLOBEX = Principal("acme", "app"), Principal("globex", "app")
PARENT = "tenants/acme"
ALICE, BOB = "tenants/acme/principals/alice", "tenants/acme/principals/bob"
KEY = uuid.UUID(int=11)
PAYROLL = "tenants/acme/keys/payroll"
HASHED = "h:" + "0a" * 16
SEEING = {ACME}  # who has audit.values


async def may(principal, permission, resource):
    assert permission == "audit.values"
    return principal in SEEING


def hashed(_tenant, key, value):
    return HASHED if (key, value) == ("customer", "42") else "h:" + "00" * 16


@pytest.fixture
async def tenants(storage):
    return [tenant.uid for tenant in await with_tenants(storage, "acme", "globex")]


@pytest.fixture
def reader(storage, wall):
    return AuditReader(storage, wall, may, hashed=hashed, values=lambda event: json.dumps({"size": len(event.changes)}))


@pytest.fixture
def servicer(reader):
    return AuditServicer(reader)


@pytest.fixture
def trail(storage):
    return Trail(storage)


def stamp(moment):
    made = Timestamp()
    made.FromDatetime(moment)
    return made


def listing(**fields):
    return pb.ListAuditEventsRequest(**{"parent": PARENT, **fields})


def equal(**values):
    return pb.AuditEventFilter(
        equal=[pb.AuditEventFilter.Values(field=name, values=given) for name, given in values.items()]
    )


async def names(servicer, caller=ACME, **fields):
    return [event.name for event in (await servicer.ListAuditEvents(listing(**fields), caller)).audit_events]


async def test_an_event_is_shown_whole(servicer, trail, tenants):
    [event] = await trail.add(full(tenants[0]))
    name = f"{PARENT}/auditEvents/{event.stream}-1"
    shown = await servicer.GetAuditEvent(pb.GetAuditEventRequest(name=name), ACME)
    checked = 0
    for field, own in FILTERED.items():
        value = getattr(event, own)
        given = getattr(shown, field)
        if KINDS[own] is Kind.TIME:
            assert given.ToDatetime(UTC) == value
        else:
            assert given == (str(value) if KINDS[own] is Kind.UID else value), field
        assert given
        checked += 1
    assert (shown.name, shown.has_changes, shown.changes) == (name, True, '{"size": 2}')
    # Besides what is filtered by there are the name and the changes.
    assert checked + 3 == len(pb.AuditEvent.DESCRIPTOR.fields)
    [same] = (await servicer.ListAuditEvents(listing(), ACME)).audit_events
    shown.changes = ""
    assert same == shown


async def test_values_are_shown_to_those_who_may_see_them_only(servicer, storage, wall, trail, tenants):
    await trail.add(full(tenants[0]), act(tenants[0]))
    request = pb.GetAuditEventRequest(name=f"{PARENT}/auditEvents/{trail.stream}-1")
    shown = await servicer.GetAuditEvent(request, Principal("acme", "officer"))
    assert (shown.has_changes, shown.changes) == (True, "")
    without = AuditServicer(AuditReader(storage, wall, may))
    shown = await without.GetAuditEvent(request, ACME)
    assert (shown.has_changes, shown.changes) == (True, "")
    request.name = f"{PARENT}/auditEvents/{trail.stream}-2"
    shown = await servicer.GetAuditEvent(request, ACME)
    assert (shown.has_changes, shown.changes) == (False, "")


async def test_each_sees_what_is_theirs_and_operators_all(servicer, trail, tenants):
    acme, globex = tenants
    await trail.add(act(acme), act(globex), act())
    own = {parent: f"{parent}/auditEvents/{trail.stream}-" for parent in (PARENT, "tenants/globex", "installation")}
    assert await names(servicer) == [own[PARENT] + "1"]
    assert await names(servicer, GLOBEX, parent="tenants/globex") == [own["tenants/globex"] + "2"]
    assert await names(servicer, OPERATOR) == [own[PARENT] + "1"]
    assert await names(servicer, OPERATOR, parent="installation") == [own["installation"] + "3"]
    everybodys = await names(servicer, OPERATOR, parent="installation", all_tenants=True)
    assert everybodys == [own["installation"] + number for number in "321"]
    for number in "123":
        request = pb.GetAuditEventRequest(name=own["installation"] + number)
        assert (await servicer.GetAuditEvent(request, OPERATOR)).sequence == int(number)
    for caller, hidden in (
        (ACME, own[PARENT] + "2"),
        (ACME, own["tenants/globex"] + "2"),
        (ACME, own["installation"] + "1"),
        (OPERATOR, own[PARENT] + "2"),
        (Principal("absent", "app"), own[PARENT].replace("acme", "absent") + "1"),
    ):
        with pytest.raises(NotFound, match=hidden):
            await servicer.GetAuditEvent(pb.GetAuditEventRequest(name=hidden), caller)
    for caller, parent in ((ACME, "tenants/globex"), (ACME, "installation"), (OPERATOR, "tenants/absent")):
        with pytest.raises(NotFound, match=parent):
            await names(servicer, caller, parent=parent)
        with pytest.raises(NotFound, match=parent):
            await servicer.QueryAudit(pb.QueryAuditRequest(parent=parent, query="denied"), caller)
        request = pb.ReportDataAccessRequest(parent=parent, context=pb.AuditEventFilter.Pair(key="a"))
        with pytest.raises(NotFound, match=parent):
            await servicer.ReportDataAccess(request, caller)
    for caller in (ACME, OPERATOR):
        with pytest.raises(InvalidRequest, match="all_tenants"):
            await names(servicer, caller, all_tenants=True)
    with pytest.raises(NotFound, match="installation"):
        await names(servicer, ACME, parent="installation", all_tenants=True)


async def test_an_event_is_found_by_each_of_its_fields(servicer, trail, tenants):
    acme, _ = tenants
    await trail.add(act(acme))
    _, event = await trail.add(act(acme), full(acme))
    name = f"{PARENT}/auditEvents/{trail.stream}-3"
    checked = 0
    for field, own in FILTERED.items():
        value = getattr(event, own)
        found = await names(servicer, filter=equal(**{field: [as_text(value)]}))
        assert name in found, field
        assert len(found) == (3 if own in {"tenant", "stream"} else 1), field
        checked += 1
    assert checked == len(KINDS) - 1


async def test_a_filter_has_all_its_parts(servicer, trail, tenants):
    acme, _ = tenants
    await trail.add(
        act(acme, context='{"customer":"42"}'),
        act(acme, at=NOW + SECOND, context=f'{{"customer":"{HASHED}"}}', items=5),
        act(acme, at=NOW + SECOND * 2, action="rotation.scheduled"),
    )

    async def numbers(**fields):
        return [int(name.rpartition("-")[2]) for name in await names(servicer, filter=pb.AuditEventFilter(**fields))]

    values, kinds = pb.AuditEventFilter.Values, pb.AuditEventFilter
    assert await numbers(since=stamp(NOW + SECOND)) == [3, 2]
    assert await numbers(until=stamp(NOW + SECOND)) == [1]
    assert await numbers(begins=[values(field="action", values=["rotation."])]) == [3]
    assert await numbers(least=[kinds.Least(field="items", value=5)]) == [2]
    assert await numbers(context=kinds.Pair(key="customer", value="42")) == [2, 1]
    assert await numbers(context=kinds.Pair(key="customer", value="43")) == []
    assert await numbers(beyond=[kinds.Position(stream=str(trail.stream), sequence=1)]) == [3, 2]
    assert await numbers() == [3, 2, 1]


@pytest.mark.parametrize("oldest_first", [True, False])
@pytest.mark.parametrize("wanted", [pb.AuditEventFilter(), equal(code=["OK", "NOT_FOUND"])])
async def test_pages_hold_each_event_once_however_small_slices_are(
    storage, wall, tenants, oldest_first, wanted, monkeypatch
):
    acme, globex = tenants
    monkeypatch.setattr(audit_reader, "MOST_SLICES", 2)  # pages end before they are full
    servicer = AuditServicer(AuditReader(storage, wall, may, rows=3))
    trail, other = Trail(storage), Trail(storage)
    await trail.add(
        *[
            act(owner, at=NOW + timedelta(microseconds=n // 4), code="OK" if n % 3 else "INTERNAL")
            for n in range(20)
            for owner in (acme, globex)
        ]
    )
    there = [event for event in trail.events if event.tenant == acme and (event.code == "OK" or not wanted.equal)]
    if not oldest_first:
        there.reverse()
    found, token, pages = [], "", 0
    while True:
        page = await servicer.ListAuditEvents(
            listing(page_size=4, page_token=token, oldest_first=oldest_first, filter=wanted), ACME
        )
        found += [event.sequence for event in page.audit_events]
        token = page.next_page_token
        pages += 1
        await other.add(act(acme, at=NOW + timedelta(hours=1), code="INTERNAL" if wanted.equal else "OK"))
        if not token or pages > 30:
            break
    late = pages - 1 if oldest_first and not wanted.equal else 0
    assert found[: len(there)] == [event.sequence for event in there]
    assert len(found) - len(there) <= late
    assert 3 < pages < 30


async def test_a_page_is_never_too_large_for_its_reader(servicer, trail, tenants, monkeypatch):
    acme, _ = tenants
    monkeypatch.setattr(audit_messages, "LARGEST_PAGE", 20_000)
    monkeypatch.setattr("kms.rpc.audit.LARGEST_PAGE", 20_000)
    await trail.add(*[act(acme, details=json.dumps({"x": "y" * 8_000}), at=NOW + SECOND * n) for n in range(7)])
    found, token = [], ""
    while True:
        page = await servicer.ListAuditEvents(listing(page_token=token), ACME)
        assert page.ByteSize() < 30_000
        found += [event.sequence for event in page.audit_events]
        token = page.next_page_token
        if not token:
            break
    assert found == [7, 6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"parent": "tenants/A"}, "parent"),
        ({"page_size": -1}, "page_size"),
        ({"page_token": "MS94"}, "page_token"),
        ({"filter": equal(name=["x"])}, "filter.equal: must name one of"),
        ({"filter": equal(changes=["00"])}, "filter.equal: must name one of"),
        ({"filter": equal(outcome=["maybe"])}, "outcome must be one of success"),
        ({"filter": equal(items=["-1"])}, "items must be a number"),
        ({"filter": equal(items=["99999999999999999999"])}, "items must be a number"),
        ({"filter": equal(key=["x"])}, "key must be a UUID"),
        ({"filter": equal(items_digest=["xy"])}, "items_digest must be hexadecimal"),
        ({"filter": equal(time=["yesterday"])}, "must be a time"),
        ({"filter": equal(time=["2024-01-01T00:00:00"])}, "must be a time"),
        ({"filter": equal(principal=[])}, "1 to 32 values"),
        ({"filter": equal(principal=["x"] * (MOST_VALUES + 1))}, "1 to 32 values"),
        ({"filter": equal(principal=["x" * 1_025])}, "1024 characters"),
        ({"filter": equal(principal=["a\0"])}, "NUL"),
        ({"filter": pb.AuditEventFilter(begins=[pb.AuditEventFilter.Values(field="key", values=["1"])])}, "begins"),
        ({"filter": pb.AuditEventFilter(least=[pb.AuditEventFilter.Least(field="sequence", value=1)])}, "least"),
        ({"filter": pb.AuditEventFilter(least=[pb.AuditEventFilter.Least(field="items", value=2**63)])}, "least"),
        ({"filter": pb.AuditEventFilter(least=[pb.AuditEventFilter.Least(field="items")] * 2)}, "each once"),
        ({"filter": pb.AuditEventFilter(context=pb.AuditEventFilter.Pair(key="A"))}, "filter.context.key"),
        ({"filter": pb.AuditEventFilter(context=pb.AuditEventFilter.Pair(key="a", value="\0"))}, "context.value"),
        ({"filter": pb.AuditEventFilter(beyond=[pb.AuditEventFilter.Position(stream="x")])}, "beyond"),
        (
            {"filter": pb.AuditEventFilter(beyond=[pb.AuditEventFilter.Position()] * (MOST_POSITIONS + 1))},
            "at most 256 positions",
        ),
        ({"filter": pb.AuditEventFilter(since=Timestamp(seconds=10**14))}, "filter.since"),
    ],
)
async def test_a_list_of_another_form_is_refused(fields, said):
    with pytest.raises(InvalidRequest, match=said):
        await AuditServicer(AuditReader(None, None, may)).ListAuditEvents(listing(**fields), ACME)


def test_fields_are_bounded():
    assert len(FILTERED) <= MOST_FIELDS


@pytest.mark.parametrize(
    "name",
    [
        "",
        "tenants/acme/auditEvents/1",
        f"tenants/acme/auditEvents/{KEY}-0",
        f"tenants/acme/auditEvents/{KEY}-01",
        f"tenants/acme/auditEvents/{KEY}-9999999999999999999",
        f"auditEvents/{KEY}-1",
        f"operators/root/auditEvents/{KEY}-1",
    ],
)
async def test_a_name_of_another_form_is_refused(name):
    with pytest.raises(InvalidRequest, match="name: must have the form tenants/"):
        await AuditServicer(AuditReader(None, None, may)).GetAuditEvent(pb.GetAuditEventRequest(name=name), ACME)


MONDAY = datetime(2024, 3, 4, 9, tzinfo=UTC)
APRIL = datetime(2024, 4, 3, 9, tzinfo=UTC)
UNTIL = datetime(2024, 4, 5, tzinfo=UTC)
MRENCLAVE = "ab" * 32
ENCRYPT, DECRYPT = "/kms.v1.CryptoService/Encrypt", "/kms.v1.CryptoService/DecryptBatch"


@pytest.fixture
async def seeded(trail, tenants):
    """A trail with something for every query, and more than each of them wants."""
    acme, globex = tenants
    used = {"key": KEY, "resource": PAYROLL, "key_version": 2}
    denied = {"outcome": Outcome.FAILURE, "code": "PERMISSION_DENIED", "error": "DENIED"}
    change = {"category": Category.DATA_MODIFICATION, "resource": PAYROLL, "principal": ALICE}
    await trail.add(
        act(INSTALLATION_UID, action="daemon.started", principal="", at=MONDAY),
        act(
            acme,
            **used,
            principal=BOB,
            action=ENCRYPT,
            items=1,
            bytes_in=100,
            context='{"customer":"42"}',
            details=f'{{"executions":[{{"functions":{{"encrypt":1}},"mrenclave":"{MRENCLAVE}"}}]}}',
            at=MONDAY,
        ),
        act(
            acme,
            **used,
            principal=BOB,
            action=DECRYPT,
            items=10,
            failures=2,
            bytes_in=1_000,
            bytes_out=900,
            outcome=Outcome.PARTIAL,
            context=f'{{"customer":"{HASHED}","table":"users"}}',
            at=MONDAY + timedelta(hours=12),
        ),
        act(acme, principal=BOB, action="/kms.v1.KeyService/GetKey", resource=PAYROLL, at=MONDAY),
        act(
            acme,
            **denied,
            principal=BOB,
            action="/kms.v1.KeyService/RevokeKey",
            category=Category.AUTHORIZATION,
            severity="high",
            resource=PAYROLL,
            address="192.0.2.9",
            at=MONDAY + timedelta(days=1),
        ),
        act(
            acme,
            **change,
            action="/kms.v1.KeyService/RotateKey",
            phase=Phase.INTENT,
            outcome=Outcome.UNKNOWN,
            at=MONDAY,
        ),
        act(acme, **change, action="/kms.v1.KeyService/RotateKey", phase=Phase.OUTCOME, at=MONDAY, reason="due"),
        act(
            acme,
            action="/kms.v1.AccessService/CreateGrant",
            category=Category.ADMIN,
            phase=Phase.OUTCOME,
            principal=ALICE,
            resource=BOB,
            approval="tenants/acme/approvals/1",
            at=APRIL,
        ),
        act(
            acme,
            action="/kms.v1.ApprovalService/ApproveApproval",
            category=Category.ADMIN,
            phase=Phase.OUTCOME,
            principal=BOB,
            resource="tenants/acme/approvals/1",
            at=APRIL,
        ),
        act(
            acme,
            action="security.event",
            category=Category.SECURITY,
            principal="",
            severity="critical",
            risk=90,
            at=APRIL,
        ),
        act(globex, **used, principal=ALICE, action=ENCRYPT, items=77, context='{"customer":"42"}', at=MONDAY),
    )
    return trail


async def asked(servicer, query, caller=ACME, **fields):
    given = {"parent": PARENT, "since": stamp(MONDAY - timedelta(days=3)), "until": stamp(UNTIL)}
    answer = await servicer.QueryAudit(pb.QueryAuditRequest(query=query, **{**given, **fields}), caller)
    columns = [column.name for column in answer.columns]
    return [dict(zip(columns, row.cells, strict=True)) for row in answer.rows]


def only(rows, *columns):
    return [tuple(row[column] for column in columns) for row in rows]


EXPECTED = {
    "access-by-user": (
        {"principal": BOB},
        ("action", "outcome"),
        [
            ("/kms.v1.ApprovalService/ApproveApproval", "success"),
            ("/kms.v1.KeyService/RevokeKey", "failure"),
            (DECRYPT, "partial"),
            ("/kms.v1.KeyService/GetKey", "success"),
            (ENCRYPT, "success"),
        ],
    ),
    "failures": (
        {},
        ("principal", "action", "outcome", "code", "events"),
        [
            (BOB, DECRYPT, "partial", "OK", "1"),
            (BOB, "/kms.v1.KeyService/RevokeKey", "failure", "PERMISSION_DENIED", "1"),
        ],
    ),
    "denied": ({}, ("principal", "address", "action"), [(BOB, "192.0.2.9", "/kms.v1.KeyService/RevokeKey")]),
    "privileged-operations": (
        {},
        ("principal", "action", "outcome"),
        [
            ("", "security.event", "success"),
            (BOB, "/kms.v1.ApprovalService/ApproveApproval", "success"),
            (ALICE, "/kms.v1.AccessService/CreateGrant", "success"),
            (BOB, "/kms.v1.KeyService/RevokeKey", "failure"),
            (ALICE, "/kms.v1.KeyService/RotateKey", "success"),
        ],
    ),
    "data-volume": (
        {"principal": BOB},
        ("day", "principal", "events", "items", "failures", "bytes_in", "bytes_out"),
        [("2024-03-04", BOB, "2", "11", "2", "1100", "900")],
    ),
    "out-of-hours": ({"zone": "Europe/Berlin"}, ("principal", "action"), [(BOB, DECRYPT)]),
    "by-key": ({"key": str(KEY)}, ("action", "key_version"), [(DECRYPT, "2"), (ENCRYPT, "2")]),
    "by-context": ({"key": "customer", "value": "42"}, ("action", "items"), [(DECRYPT, "10"), (ENCRYPT, "1")]),
    "changes-of-resource": (
        {"resource": PAYROLL},
        ("principal", "action", "reason"),
        [(ALICE, "/kms.v1.KeyService/RotateKey", "due")],
    ),
    "records-and-size-by-month": ({}, ("month", "events"), [("2024-03", "6"), ("2024-04", "3")]),
    "approvals": (
        {},
        ("action", "approval"),
        [
            ("/kms.v1.ApprovalService/ApproveApproval", ""),
            ("/kms.v1.AccessService/CreateGrant", "tenants/acme/approvals/1"),
        ],
    ),
    "enclave-executions": ({"mrenclave": MRENCLAVE}, ("principal", "action", "items"), [(BOB, ENCRYPT, "1")]),
    "security": (
        {},
        ("action", "severity", "risk"),
        [("security.event", "critical", "90"), ("/kms.v1.KeyService/RevokeKey", "high", "0")],
    ),
}


def test_every_query_is_asked():
    assert set(EXPECTED) == set(QUERIES)


@pytest.mark.usefixtures("seeded")
async def test_every_query_finds_what_it_should_and_nothing_else(servicer):
    for name, (parameters, columns, expected) in EXPECTED.items():
        rows = await asked(servicer, name, parameters=parameters)
        assert only(rows, *columns) == expected, name
        assert tuple(rows[0]) == QUERIES[name].columns


@pytest.mark.usefixtures("seeded")
async def test_a_query_may_be_asked_otherwise(servicer):
    by_name = await asked(servicer, "by-key", parameters={"key": PAYROLL})
    assert len(by_name) == 5  # whoever read, used, rotated or wanted to revoke it
    assert await asked(servicer, "out-of-hours", parameters={"days": "mon-sun", "from": "00:00", "to": "23:59"}) == []
    assert only(await asked(servicer, "failures", parameters={"principal": ALICE}), "events") == []
    everybodys = await asked(
        servicer, "by-key", OPERATOR, parent="installation", all_tenants=True, parameters={"key": str(KEY)}
    )
    assert len(everybodys) == 3
    assert len(await asked(servicer, "enclave-executions")) == 1
    assert await asked(servicer, "enclave-executions", parameters={"mrenclave": "cd" * 32}) == []
    # The hash is a tenant's own: over all tenants only what stands as it is can be found.
    pairs = {"key": "customer", "value": "42"}
    everybodys = await asked(
        servicer, "by-context", OPERATOR, parent="installation", all_tenants=True, parameters=pairs
    )
    assert only(everybodys, "action") == [(ENCRYPT,), (ENCRYPT,)]


@pytest.mark.usefixtures("seeded")
async def test_numbers_are_told_apart_and_the_period_is_told(servicer, wall):
    wall.now = UNTIL
    answer = await servicer.QueryAudit(pb.QueryAuditRequest(parent=PARENT, query="data-volume"), ACME)
    assert [column.name for column in answer.columns if column.number] == [
        "events",
        "items",
        "failures",
        "bytes_in",
        "bytes_out",
    ]
    assert answer.until.ToDatetime(UTC) == UNTIL
    assert answer.since.ToDatetime(UTC) == UNTIL - timedelta(days=30)
    assert len(answer.rows) == 0  # March 4 is longer ago
    by_month = await servicer.QueryAudit(pb.QueryAuditRequest(parent=PARENT, query="records-and-size-by-month"), ACME)
    assert by_month.since.ToDatetime(UTC) == UNTIL - timedelta(days=366)
    assert int(by_month.rows[0].cells[2]) > 6 * 200


@pytest.mark.usefixtures("seeded")
async def test_the_pages_of_a_query_follow_each_other(servicer):
    found, token = [], ""
    while True:
        request = pb.QueryAuditRequest(
            parent=PARENT,
            query="access-by-user",
            parameters={"principal": BOB},
            since=stamp(MONDAY),
            until=stamp(UNTIL),
            page_size=2,
            page_token=token,
        )
        answer = await servicer.QueryAudit(request, ACME)
        found += [row.cells[1] for row in answer.rows]
        token = answer.next_page_token
        if not token:
            break
    assert found == [action for action, _ in EXPECTED["access-by-user"][2]]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"query": "x"}, "query: must be one of access-by-user"),
        ({"parameters": {"x": "1"}}, "parameters: 'x' is none"),
        ({"query": "by-key"}, "by-key needs key"),
        ({"query": "out-of-hours", "parameters": {"zone": "../../etc/passwd"}}, "zone"),
        ({"query": "out-of-hours", "parameters": {"zone": "Europe/Nowhere"}}, "zone"),
        ({"since": stamp(UNTIL)}, "since: must be before until"),
        ({"page_token": "x"}, "page_token"),
    ],
)
async def test_a_question_of_another_form_is_refused(servicer, tenants, fields, said):
    with pytest.raises(InvalidRequest, match=said):
        await asked(servicer, **{"query": "denied", **fields})


async def test_the_catalogue_is_listed(servicer):
    listed = (await servicer.ListAuditQueries(pb.ListAuditQueriesRequest(), ACME)).queries
    assert [query.name for query in listed] == list(QUERIES)
    [zone] = [one for query in listed for one in query.parameters if one.name == "zone"]
    assert (zone.required, zone.default) == (False, "UTC")
    [resource] = [one for query in listed for one in query.parameters if one.name == "resource"]
    assert (resource.required, resource.default) == (True, "")


@pytest.mark.usefixtures("seeded")
async def test_a_report_says_who_has_used_a_subjects_data(servicer, wall):
    wall.now = UNTIL
    request = pb.ReportDataAccessRequest(
        parent=PARENT, context=pb.AuditEventFilter.Pair(key="customer", value="42"), since=stamp(MONDAY)
    )
    report = await servicer.ReportDataAccess(request, ACME)
    rows = [
        (one.principal, one.action, one.resource, one.key, one.outcome, one.events, one.items)
        for one in report.accesses
    ]
    assert rows == [
        (BOB, ENCRYPT, PAYROLL, str(KEY), "success", 1, 1),
        (BOB, DECRYPT, PAYROLL, str(KEY), "partial", 1, 10),
    ] or rows == [
        (BOB, DECRYPT, PAYROLL, str(KEY), "partial", 1, 10),
        (BOB, ENCRYPT, PAYROLL, str(KEY), "success", 1, 1),
    ]
    assert report.accesses[0].first_time.ToDatetime(UTC) >= MONDAY
    request.ClearField("since")
    assert len((await servicer.ReportDataAccess(request, ACME)).accesses) == 2
    request.until.FromDatetime(MONDAY + SECOND)
    assert [one.action for one in (await servicer.ReportDataAccess(request, ACME)).accesses] == [ENCRYPT]
    request.context.value = "43"
    assert list((await servicer.ReportDataAccess(request, ACME)).accesses) == []
    request.context.key = ""
    with pytest.raises(InvalidRequest, match=r"context\.key"):
        await servicer.ReportDataAccess(request, ACME)


async def test_sums_go_over_slices_and_are_bounded(storage, wall, trail, tenants, monkeypatch):
    acme, _ = tenants
    await trail.add(
        *[act(acme, principal=f"p{n % 3}", items=n, at=NOW + timedelta(microseconds=n // 3)) for n in range(20)]
    )
    wall.now = NOW + SECOND
    servicer = AuditServicer(AuditReader(storage, wall, may, rows=4))

    async def sums():
        given = {"since": stamp(NOW), "until": stamp(NOW + SECOND)}
        return only(await asked(servicer, "records-and-size-by-month", **given), "events")

    assert await sums() == [("3",), ("17",)]
    monkeypatch.setattr(audit_reader, "MOST_SUMMED", audit_reader.SLICE * 2)
    with pytest.raises(InvalidRequest, match=r"since: there are more than .* events"):
        await sums()
    monkeypatch.setattr(audit_reader, "MOST_GROUPS", 2)
    by_pair = AuditReader(storage, wall, may)
    with pytest.raises(InvalidRequest, match="since: there are more than 2 groups"):
        await by_pair._sums(acme, audit_reader.AuditFilter(), ("principal",))


async def test_the_status_tells_how_far_streams_are(servicer, trail, tenants):
    await trail.add(act(), act(tenants[0], at=NOW + SECOND))
    [stream] = (await servicer.GetAuditStatus(pb.GetAuditStatusRequest(), OPERATOR)).streams
    assert (stream.stream, stream.sequence, stream.hash) == (str(trail.stream), 2, trail.hash)
    assert (stream.begin_time.ToDatetime(UTC), stream.last_time.ToDatetime(UTC)) == (NOW, NOW + SECOND)
