"""Reports over real databases and a real token: what they say, encryption at rest, states, tenants, many rows."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from kms_client import verify_report
from sqlalchemy import text, update

from kms.core.approvals import ApprovalState, ApprovalUid
from kms.core.audit import Category, Outcome, Phase
from kms.core.errors import (
    Conflict,
    CorruptRecord,
    FailedPrecondition,
    HsmUnavailable,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    SelfApproval,
    StorageUnavailable,
)
from kms.core.events import EventType
from kms.core.lifecycle import KeyState
from kms.core.names import Principal, ReportName, TenantName
from kms.core.operations import OperationEvent, OperationKind, OperationState
from kms.core.policy import Overrides
from kms.core.report_ports import NoEvidence, RecordCheck, TrailCheck
from kms.core.reports import KEPT, MOST_GENERATING, Framework, ReportState, ReviewEvent, ReviewState
from kms.core.retention import LegalHold
from kms.crypto.report_seal import ReportSeal
from kms.services import report_stages, report_trail
from kms.services.operations import Operations
from kms.services.receipts import Receipts
from kms.services.report_generation import ReportGeneration
from kms.services.reports import Reports
from storage.audit_tables import audit_log
from tests import keyrings
from tests.both_databases import Wall
from tests.contract.storage_approvals import new_request, new_vote
from tests.keyrings import NOW
from tests.reports import DANGEROUS, installation
from tests.tokens import new_token
from tests.trails import Trail, act, as_owner

pytestmark = pytest.mark.softhsm

DAY = timedelta(days=1)
ANNA, OTTO = Principal("acme", "anna"), Principal("acme", "otto")
ACME = TenantName("acme")
PERIOD = (NOW - 30 * DAY, NOW)
# What does not depend on the engine is tried on one.
ON_SQLITE = pytest.mark.parametrize("storage", ["sqlite"], indirect=True)


class Checked(NoEvidence):
    """Somebody has verified trail and records."""

    async def trail_check(self, tenant):
        return TrailCheck(NOW, NOW, 1_000, 1, "event 7 of a stream is missing")

    async def record_check(self, tenant):
        return RecordCheck(NOW, 50, 0)


class Making:
    """Everything that makes reports, over one storage."""

    def __init__(self, storage, vault, key=None, evidence=None, signer=None, **fields):
        self.storage, self.vault, self.wall, self.ticks = storage, vault, Wall(), 0.0
        self.key = key or os.urandom(32)
        self.seal = ReportSeal(self.key)
        self.receipts = Receipts(storage, vault, self.wall)
        self.generation = ReportGeneration(
            storage,
            self.seal,
            signer or vault,
            self.receipts,
            installation(**fields),
            evidence or NoEvidence(),
            self.wall,
        )
        self.operations = Operations(
            storage, {OperationKind.GENERATE_REPORT: self.generation}, uuid4(), self.wall, clock=self._tick
        )
        self.reports = Reports(storage, self.seal, self.operations.wake, self.wall)

    def _tick(self):
        self.ticks += 1.0  # what rests has rested after some looks
        return self.ticks

    async def begin(self, caller=ANNA, framework=Framework.ALL, period=PERIOD):
        tenant, report, operation = await self.reports.generate(caller, TenantName(caller.tenant), framework, *period)
        return report.name(tenant.slug), operation

    async def finish(self):
        """Carry on what runs."""
        while await self.operations.step():
            pass

    async def made(self, caller=ANNA, framework=Framework.ALL, period=PERIOD):
        """Make a report batch by batch; on a slow machine the database may be silent for a moment."""
        name, operation = await self.begin(caller, framework, period)
        async with asyncio.timeout(60):
            while True:
                try:
                    if (await self.generation.batch(operation)).finished:
                        return name
                except StorageUnavailable:
                    await asyncio.sleep(0.1)

    async def said(self, name, caller=ANNA):
        return json.loads((await self.reports.download(caller, name)).json)


@pytest.fixture
async def tenants(storage):
    made = []
    for slug in ("acme", "globex"):
        tenant = keyrings.new_tenant(slug)
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.tenants.add(tenant)
            await work.keks.add(keyrings.new_kek(tenant))
        made.append(tenant)
    return made


@pytest.fixture
def making(storage, open_vault, tenants):
    return Making(storage, open_vault)


async def add_key(storage, tenant, slug, ages, **fields):
    """Store a key whose versions were made so many days ago, the oldest first."""
    key = replace(
        keyrings.new_key(tenant, slug),
        primary_version=len(ages),
        rotated_at=NOW - ages[-1] * DAY,
        state=KeyState.ACTIVE,
        overrides=Overrides(rotation=10 * DAY),
    )
    key = replace(key, **fields)
    async with storage.transaction(tenant.uid, write=True) as work:
        await work.keys.add(key)
        for number, age in enumerate(ages, 1):
            state = KeyState.ACTIVE if number == len(ages) else KeyState.ARCHIVED
            version = replace(keyrings.new_version(key, number), created_at=NOW - age * DAY, state=state)
            await work.key_versions.add(version)
    return key


def part(report, name):
    return next(one for one in report["parts"] if one["part"] == name)


def table(report, name, caption):
    return next(one for one in part(report, name)["tables"] if one["caption"] == caption)


def figures(report, name):
    return {one["label"]: one["value"] for one in part(report, name)["figures"]}


def finding(report, rule):
    return next((one for one in report["findings"] if one["rule"] == rule), None)


async def test_keys_their_ages_and_rotations_are_told(storage, making, tenants):
    acme, globex = tenants
    # 15 days between the second and the third, of 10 that it may: late. The first gap lies before the period.
    await add_key(storage, acme, "payroll", [60, 40, 25, 5])
    await add_key(storage, acme, "overdue", [12])
    await add_key(storage, globex, "hidden", [12])
    report = await making.said(await making.made())
    assert figures(report, "inventory") == {"Keys": 2, "KEK versions": 1}
    assert [row[0] for row in table(report, "inventory", "Keys")["rows"]] == ["overdue", "payroll"]
    ages = {row[0]: row[7] for row in table(report, "inventory", "Keys")["rows"]}
    assert ages == {"overdue": 12, "payroll": 5}
    assert figures(report, "rotations") == {
        "Rotations in the period": 2,
        "On time": 0,
        "Late": 2,
        "By schedule": 0,
    }
    late = table(report, "rotations", "Late rotations")["rows"]
    assert [(row[0], row[1], row[3]) for row in late] == [("payroll", 2, "5 days"), ("payroll", 3, "10 days")]
    assert finding(report, "key-overdue")["subjects"] == ["overdue: overdue by 2 days"]
    assert "hidden" not in json.dumps(report)


@ON_SQLITE
@pytest.mark.parametrize("at_once", [500, 2])
async def test_revoked_versions_that_were_lent_are_found_once_each(storage, making, tenants, monkeypatch, at_once):
    monkeypatch.setattr(report_stages, "VERSIONS_AT_ONCE", at_once)
    monkeypatch.setattr(report_stages, "VERSIONS_IN_BATCH", 2 * at_once)
    key = await add_key(storage, tenants[0], "lent", list(range(7, 0, -1)), leasable=True)
    await add_key(storage, tenants[0], "kept", [3, 2, 1])
    async with storage.transaction(key.tenant, write=True) as work:
        for version in await work.key_versions.list_by_version(key.tenant, key.uid, 0, 6):
            revoked = replace(version, state=KeyState.REVOKED, exposed_at=NOW if version.version % 2 else None)
            await work.key_versions.replace(revoked)
    report = await making.said(await making.made())
    found = finding(report, "version-exposed")
    assert found["subjects"] == [f"lent: version {n}: what it protects is not known" for n in (1, 3, 5)]
    assert found["severity"] == "high"


@ON_SQLITE
async def test_many_keys_and_versions_are_counted_once_each(storage, making, tenants, monkeypatch):
    monkeypatch.setattr(report_stages, "KEYS_AT_ONCE", 3)
    monkeypatch.setattr(report_stages, "VERSIONS_AT_ONCE", 2)
    monkeypatch.setattr(report_stages, "VERSIONS_IN_BATCH", 4)
    counts = [1, 9, 2, 4, 3, 1, 5]
    for number, versions in enumerate(counts):
        await add_key(storage, tenants[0], f"key-{number}", list(range(versions, 0, -1)))
    report = await making.said(await making.made())
    assert figures(report, "inventory")["Keys"] == len(counts)
    assert figures(report, "rotations")["Rotations in the period"] == sum(counts) - len(counts)
    assert len(table(report, "inventory", "Keys")["rows"]) == len(counts)


async def test_grants_tokens_approvals_events_receipts_and_holds_are_told(storage, making, tenants):
    acme, _ = tenants
    async with storage.transaction(acme.uid, write=True) as work:
        for slug in ("app", "idle"):
            principal = keyrings.new_principal(acme, slug)
            await work.principals.add(principal)
            await work.grants.add(keyrings.new_grant(principal))
        await work.tokens.add(replace(new_token(acme), expires_at=NOW + 900 * DAY))
        request = new_request(
            acme, created_at=NOW - DAY, state=ApprovalState.EXECUTED, uid=ApprovalUid(uuid.UUID(int=4))
        )
        await work.approvals.add(request)
        await work.approvals.add_vote(new_vote(request))
        old = new_request(acme, created_at=NOW - 90 * DAY, digest=bytes(31) + b"x", uid=ApprovalUid(uuid4()))
        await work.approvals.add(old)
        await work.security_events.add_all(
            [
                keyrings.new_event(acme.uid, EventType.CANARY_TOUCHED, created_at=NOW - 5 * DAY),
                keyrings.new_event(acme.uid, EventType.CANARY_TOUCHED, created_at=NOW - 40 * DAY),
                keyrings.new_event(
                    acme.uid, EventType.RATE_EXCEEDED, created_at=NOW - 2 * DAY, resolved_at=NOW - DAY, resolved_by="x"
                ),
            ]
        )
        await work.receipts.add(replace(keyrings.new_receipt(acme, "tenants/acme/keys/gone"), created_at=NOW - DAY))
        await work.legal_holds.add(LegalHold(acme.uid, "case-7", "a dispute", NOW - DAY, str(OTTO)))
    await Trail(storage).add(act(acme.uid, at=NOW - DAY))
    report = await making.said(await making.made())
    assert [(row[0], row[6]) for row in table(report, "access", "Grants")["rows"]] == [("app", True), ("idle", False)]
    assert finding(report, "grant-unused")["subjects"] == ["idle: no call in the period"]
    assert finding(report, "token-long-lived")["count"] == 1
    approvals = table(report, "dangerous", "Requests for approval in the period")["rows"]
    assert [(row[1], row[4], row[5]) for row in approvals] == [
        ("keys.destroy", "executed", "tenants/acme/principals/b")
    ]
    severities = {row[0]: row[1:] for row in table(report, "events", "By severity")["rows"]}
    assert severities["critical"] == [1, 2, 0, 960]
    assert severities["low"] == [1, 0, 24, 24]
    assert figures(report, "events")["Open from before the period"] == 1
    assert finding(report, "event-unresolved")["count"] == 2
    receipts = table(report, "destructions", "Receipts")["rows"]
    assert [row[0] for row in receipts] == ["tenants/acme/keys/gone"]
    holds = table(report, "retention", "Legal holds that stand")["rows"]
    assert [(row[0], row[4]) for row in holds] == [("case-7", "a dispute")]
    quorum = {row[0]: row[1] for row in table(report, "quorum", "Approvals needed")["rows"]}
    assert quorum == {"grants.create": 2, "keys.destroy": 2}


async def test_the_trail_is_summed_up_by_who_and_what(storage, making, tenants, monkeypatch):
    monkeypatch.setattr(report_trail, "EVENTS_AT_ONCE", 7)
    monkeypatch.setattr(report_trail, "PAGES_IN_BATCH", 2)
    acme, globex = tenants
    app, other = "tenants/acme/principals/app", "tenants/acme/principals/other"
    used = {"items": 10, "bytes_in": 100, "bytes_out": 200, "classification": "internal"}
    events = [act(acme.uid, principal=app, at=NOW - DAY + timedelta(seconds=n), **used) for n in range(40)]
    events += [
        act(acme.uid, principal=other, outcome=Outcome.FAILURE, error="DENIED", code="X", at=NOW - DAY)
        for _ in range(11)
    ]
    change = {"category": Category.ADMIN, "action": DANGEROUS, "resource": "tenants/acme/keys/payroll"}
    events += [
        act(acme.uid, phase=Phase.INTENT, at=NOW - DAY, **change),
        act(acme.uid, phase=Phase.OUTCOME, at=NOW - DAY, **change),
        act(acme.uid, phase=Phase.OUTCOME, at=NOW - DAY, approval="tenants/acme/approvals/1", **change),
        act(acme.uid, phase=Phase.OUTCOME, at=NOW - DAY, **{**change, "outcome": Outcome.FAILURE}),
        act(acme.uid, at=NOW - 31 * DAY, **used),
        act(acme.uid, at=NOW, **used),
        act(globex.uid, at=NOW - DAY, principal="tenants/globex/principals/spy", **used),
    ]
    await Trail(storage).add(*events)
    report = await making.said(await making.made())
    assert figures(report, "trail") == {"Events of the period": 54}
    volume = table(report, "volume", "By principal")
    assert volume["rows"][0] == [app, 400, 40, 4_000, 8_000]
    assert table(report, "volume", "By class of data")["rows"][0] == ["internal", 400, 40, 4_000, 8_000]
    failed = table(report, "failures", "By reason and act")["rows"]
    assert ["DENIED /kms.v1.CryptoService/Decrypt", 11] in failed
    assert finding(report, "many-failures")["subjects"] == [f"{other}: 11 of 11 calls"]
    assert figures(report, "dangerous") == {"Dangerous acts done": 2, "Dangerous acts refused": 1}
    assert finding(report, "dangerous-act-without-approval")["count"] == 1
    assert "spy" not in json.dumps(report)


async def test_an_event_whose_columns_lie_fails_the_report_which_goes_on_when_that_is_mended(database, open_vault):
    storage, making, acme = database, Making(database, open_vault), keyrings.new_tenant("acme")
    async with storage.transaction(acme.uid, write=True) as work:
        await work.tenants.add(acme)
    await Trail(storage).add(act(acme.uid, at=NOW - DAY))
    await as_owner(storage, text("DROP TRIGGER audit_log_refuse_update"), text("UPDATE audit_log SET principal = 'x'"))
    name, operation = await making.begin()
    await making.finish()
    _, report = await making.reports.get(ANNA, name)
    assert report.state is ReportState.FAILED
    assert "not what was written" in report.error
    with pytest.raises(FailedPrecondition, match="nothing to download"):
        await making.reports.download(ANNA, name)
    await as_owner(storage, update(audit_log).values(principal=act().principal))
    async with storage.transaction(acme.uid) as work:
        failed = await work.operations.get(acme.uid, operation.uid)
    assert failed.state is OperationState.FAILED
    await making.operations.change(acme, operation.uid, OperationEvent.RESUME)
    await making.finish()
    _, report = await making.reports.get(ANNA, name)
    assert (report.state, report.error) == (ReportState.COMPLETED, "")


@ON_SQLITE
async def test_what_others_have_verified_is_told_and_nothing_known_is_a_finding(storage, open_vault, tenants):
    making = Making(storage, open_vault)
    unknown = await making.said(await making.made())
    assert {"trail-unverified", "trail-empty", "records-not-scrubbed"} <= {one["rule"] for one in unknown["findings"]}
    assert table(unknown, "trail", "Last verification")["rows"] == [["Result", "not verified"]]
    known = Making(storage, open_vault, key=making.key, evidence=Checked(), open_tenants=True, approvals_needed=0)
    report = await known.said(await known.made())
    rules = {one["rule"]: one for one in report["findings"]}
    assert rules["trail-broken"]["subjects"] == ["event 7 of a stream is missing"]
    assert rules["quorum-zero"]["count"] == 2
    assert {"tenants-open"} <= set(rules)
    assert not {"trail-unverified", "records-not-scrubbed", "records-corrupt"} & set(rules)


@ON_SQLITE
async def test_a_report_is_signed_by_the_token_and_verified_with_the_public_key_alone(making, tenants):
    name = await making.made()
    content = await making.reports.download(ANNA, name)
    der = await making.receipts.public_key()
    pem = load_der_public_key(der).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    report = verify_report(content.json, content.report.signature, pem)
    assert report["name"] == str(name)
    assert report["requester"] == str(ANNA)
    assert content.report.findings == len(report["findings"]) > 0


async def test_a_stored_report_is_nowhere_to_be_read_in_the_database_file(hostile, database, open_vault):
    acme = keyrings.new_tenant("acme")
    planted = f"planted-{uuid4().hex}"
    async with database.transaction(acme.uid, write=True) as work:
        await work.tenants.add(acme)
        # What the search finds: the same text, in a record that is not encrypted.
        await work.legal_holds.add(LegalHold(acme.uid, "case-7", planted, NOW - DAY, str(OTTO)))
    making = Making(database, open_vault)
    name, _ = await making.begin()
    seen = []
    while await making.operations.step():
        seen.append(_count(hostile.path, planted.encode()))
    assert planted in json.dumps(await making.said(name))
    assert set(seen) == {seen[0]}
    assert seen[0] > 0
    assert _count(hostile.path, planted.encode()) == seen[0]
    assert _count(hostile.path, b"Key inventory and ages") == 0


def _count(path, wanted):
    return sum(file.read_bytes().count(wanted) for file in path.parent.glob(f"{path.name}*"))


@ON_SQLITE
async def test_the_content_of_one_report_is_not_that_of_another_nor_readable_with_another_key(storage, making, tenants):
    first, second = await making.made(), await making.made()
    async with storage.transaction(tenants[0].uid) as work:
        one, two = [await work.reports.get(tenants[0].uid, name.report) for name in (first, second)]
    assert making.seal.open(one) != making.seal.open(two)
    for wrong in (
        replace(one, sealed=two.sealed),
        replace(one, sealed=two.sealed, digest=two.digest),
        replace(one, tenant=tenants[1].uid),
        replace(one, digest=bytes(32)),
        replace(one, sealed=one.sealed[:-1] + bytes([one.sealed[-1] ^ 1])),
        replace(one, sealed=b"\x02" + one.sealed[1:]),
        replace(one, sealed=b""),
    ):
        with pytest.raises(CorruptRecord):
            making.seal.open(wrong)
    with pytest.raises(CorruptRecord):
        ReportSeal(os.urandom(32)).open(one)
    with pytest.raises(ValueError, match="32 bytes"):
        ReportSeal(b"short")


async def test_reports_of_another_tenant_do_not_exist(making, tenants):
    name = await making.made()
    spy = Principal("globex", "spy")
    stranger = ReportName("globex", name.report)
    attempts = [
        lambda asked: making.reports.get(spy, asked),
        lambda asked: making.reports.download(spy, asked),
        *(lambda asked, event=event: making.reports.review(spy, asked, event, "") for event in ReviewEvent),
    ]
    for attempt in attempts:
        for asked in (name, stranger):
            with pytest.raises(NotFound):
                await attempt(asked)
    with pytest.raises(NotFound):
        await making.reports.list_newest(spy, ACME, None, 10)
    with pytest.raises(NotFound):
        await making.reports.generate(spy, ACME, Framework.ALL, *PERIOD)
    with pytest.raises(NotFound):
        await making.reports.get(Principal(None, "root"), name)
    assert (await making.reports.list_newest(spy, TenantName("globex"), None, 10))[1] == []
    assert len((await making.reports.list_newest(ANNA, ACME, None, 10))[1]) == 1


async def test_a_review_is_kept_step_by_step_with_who_and_when(making, tenants):
    name = await making.made()
    reports = making.reports
    await reports.review(ANNA, name, ReviewEvent.SUBMIT, "")
    with pytest.raises(SelfApproval):
        await reports.review(ANNA, name, ReviewEvent.REVIEW, "")
    _, before = await reports.get(OTTO, name)
    making.wall.advance(DAY)
    await reports.review(OTTO, name, ReviewEvent.REVIEW, before.etag)
    with pytest.raises(Conflict):
        await reports.review(OTTO, name, ReviewEvent.APPROVE, before.etag)
    await reports.review(OTTO, name, ReviewEvent.APPROVE, "")
    await reports.download(OTTO, name)
    await reports.review(ANNA, name, ReviewEvent.ARCHIVE, "")
    _, report = await reports.get(ANNA, name)
    assert report.review is ReviewState.ARCHIVED
    assert {event: (step.by, step.at) for event, step in report.steps.items()} == {
        ReviewEvent.SUBMIT: (str(ANNA), NOW),
        ReviewEvent.REVIEW: (str(OTTO), NOW + DAY),
        ReviewEvent.APPROVE: (str(OTTO), NOW + DAY),
        ReviewEvent.ARCHIVE: (str(ANNA), NOW + DAY),
    }
    assert [(one.principal, one.count) for one in report.recipients] == [(str(OTTO), 1)]


@ON_SQLITE
async def test_downloads_at_the_same_time_are_all_noted(making, tenants):
    name = await making.made()
    readers = [Principal("acme", f"reader-{number}") for number in range(3)]
    contents = await asyncio.gather(*(making.reports.download(reader, name) for reader in readers))
    assert len({content.json for content in contents}) == 1
    _, report = await making.reports.get(ANNA, name)
    assert sorted(one.principal for one in report.recipients) == sorted(map(str, readers))


@ON_SQLITE
async def test_a_period_ends_now_at_the_latest_and_one_that_is_none_is_refused(making, tenants):
    name, _ = await making.begin(period=(NOW - DAY, NOW + 90 * DAY))
    assert (await making.reports.get(ANNA, name))[1].until == NOW
    with pytest.raises(InvalidRequest, match="end_time"):
        await making.begin(period=(NOW, NOW - DAY))


@ON_SQLITE
async def test_few_reports_are_made_at_once_and_one_that_was_stopped_counts_for_a_day(making, tenants):
    for _ in range(MOST_GENERATING):
        await making.begin()
    with pytest.raises(LimitExceeded):
        await making.begin()
    making.wall.advance(DAY + timedelta(seconds=1))
    await making.begin()


@ON_SQLITE
async def test_a_report_goes_on_when_the_token_comes_back(storage, open_vault, tenants):
    away = SimpleNamespace(is_away=True)

    class Signer:
        """The token's signer, which is away at times."""

        async def sign(self, message):
            if away.is_away:
                raise HsmUnavailable("the token is away")
            return await open_vault.sign(message)

    making = Making(storage, open_vault, signer=Signer())
    name, _ = await making.begin()
    await making.finish()
    assert (await making.reports.get(ANNA, name))[1].state is ReportState.GENERATING
    away.is_away = False
    again = Making(storage, open_vault, key=making.key)  # another node, or after a start
    again.wall.advance(DAY)
    await again.finish()
    assert (await making.reports.get(ANNA, name))[1].state is ReportState.COMPLETED


@ON_SQLITE
async def test_two_nodes_that_make_the_same_report_make_it_once(storage, open_vault, tenants):
    for number in range(5):
        await add_key(storage, tenants[0], f"key-{number}", [3, 2, 1])
    one = Making(storage, open_vault)
    two = Making(storage, open_vault, key=one.key)
    name, operation = await one.begin()
    while (await one.reports.get(ANNA, name))[1].state is ReportState.GENERATING:
        await asyncio.gather(one.generation.batch(operation), two.generation.batch(operation))
    report = await one.said(name)
    assert figures(report, "inventory")["Keys"] == 5
    assert figures(report, "rotations")["Rotations in the period"] == 10


@ON_SQLITE
async def test_reports_that_are_over_go_after_seven_years_and_no_others(making, tenants):
    names = [await making.made() for _ in range(3)]
    for name in names[:2]:
        await making.reports.review(ANNA, name, ReviewEvent.SUBMIT, "")
        await making.reports.review(OTTO, name, ReviewEvent.REVIEW, "")
        await making.reports.review(OTTO, name, ReviewEvent.APPROVE, "")
    await making.reports.review(OTTO, names[0], ReviewEvent.ARCHIVE, "")
    making.wall.advance(KEPT)
    await making.begin()
    left = {one.uid for one in (await making.reports.list_newest(ANNA, ACME, None, 10))[1]}
    assert names[0].report in left
    making.wall.advance(timedelta(seconds=1))
    await making.begin()
    left = {one.uid for one in (await making.reports.list_newest(ANNA, ACME, None, 10))[1]}
    assert (names[0].report in left, names[1].report in left, names[2].report in left) == (False, True, True)


@ON_SQLITE
async def test_lists_go_page_by_page_the_newest_first(making, tenants):
    names = []
    for _ in range(3):
        names.append(await making.made())
        making.wall.advance(DAY)
    _, first = await making.reports.list_newest(ANNA, ACME, None, 2)
    _, rest = await making.reports.list_newest(ANNA, ACME, (first[-1].created_at, first[-1].uid), 2)
    assert [one.uid for one in (*first, *rest)] == [name.report for name in reversed(names)]
