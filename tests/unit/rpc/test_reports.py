"""ReportService over a real database: what is shown, pages, forms, and fields that are refused."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from kms.core.errors import FailedPrecondition, InvalidRequest, NotFound, SelfApproval
from kms.core.names import Principal
from kms.core.report_body import Heading, compose, content_of
from kms.core.reports import ReviewEvent, Step
from kms.crypto.report_seal import ReportSeal
from kms.rpc import reports as edge
from kms.rpc.reports import ReportServicer
from kms.services.reports import Reports
from kms.v1 import reports_pb2 as pb
from tests.keyrings import NOW
from tests.node import with_tenants
from tests.reports import completed, new_report, some_facts

ANNA, OTTO = Principal("acme", "anna"), Principal("acme", "otto")
PARENT = "tenants/acme"
ON_SQLITE = pytest.mark.parametrize("storage", ["sqlite"], indirect=True)
pytestmark = ON_SQLITE


@pytest.fixture
def seal():
    return ReportSeal(os.urandom(32))


@pytest.fixture
def woken():
    return []


@pytest.fixture
def servicer(storage, wall, seal, woken):
    return ReportServicer(Reports(storage, seal, lambda: woken.append(1), wall))


@pytest.fixture
async def acme(storage):
    return (await with_tenants(storage, "acme", "globex"))[0]


@pytest.fixture
def keep(storage, acme, seal):
    """Store a completed report; returns its name and content."""

    async def keep(**fields):
        report = new_report(acme, **fields)
        name = str(report.name("acme"))
        content = content_of(compose(Heading(report, name, PARENT, NOW, "1.0", "ab" * 32), some_facts()))
        sealed, digest = seal.seal(acme.uid, report.uid, content)
        async with storage.transaction(acme.uid, write=True) as work:
            await work.reports.add(replace(completed(report), sealed=sealed, digest=digest))
        return name, content

    return keep


def stamp(moment):
    made = Timestamp()
    made.FromDatetime(moment)
    return made


def request(**fields):
    given = {
        "parent": PARENT,
        "framework": "soc2",
        "start_time": stamp(NOW - timedelta(days=7)),
        "end_time": stamp(NOW),
    }
    return pb.GenerateReportRequest(**{name: value for name, value in (given | fields).items() if value is not None})


async def test_a_report_begins_with_its_operation(servicer, acme, woken):
    made = await servicer.GenerateReport(request(), ANNA)
    assert (made.report.framework, made.report.state, made.report.review_state) == ("soc2", "generating", "draft")
    assert (made.report.requester, made.report.sha256, made.report.signature) == (str(ANNA), "", b"")
    assert made.report.start_time.ToDatetime(NOW.tzinfo) == NOW - timedelta(days=7)
    assert (made.operation.kind, made.operation.target) == ("generate_report", made.report.name)
    assert woken == [1]
    shown = await servicer.GetReport(pb.GetReportRequest(name=made.report.name), ANNA)
    assert shown == made.report


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"parent": "acme"}, "parent"),
        ({"framework": ""}, "framework"),
        ({"framework": "sox"}, "framework"),
        ({"start_time": None}, "start_time"),
        ({"end_time": None}, "end_time"),
        ({"end_time": Timestamp(seconds=2**60)}, "end_time"),
        ({"start_time": stamp(NOW)}, "end_time"),
    ],
)
async def test_a_field_that_breaks_its_rule_is_named(servicer, acme, fields, field):
    with pytest.raises(InvalidRequest) as refused:
        await servicer.GenerateReport(request(**fields), ANNA)
    assert [one.field for one in refused.value.violations] == [field]


async def test_a_report_is_shown_whole(servicer, acme, keep):
    later = NOW + timedelta(hours=1)
    name, content = await keep(steps={ReviewEvent.SUBMIT: Step(str(ANNA), later)})
    shown = await servicer.GetReport(pb.GetReportRequest(name=name), OTTO)
    assert (shown.name, shown.state, shown.findings, shown.signature) == (name, "completed", 3, b"<signature>")
    assert shown.sha256 == hashlib.sha256(content).hexdigest()
    assert (shown.submitted.principal, shown.submitted.time.ToDatetime(NOW.tzinfo)) == (str(ANNA), later)
    assert not shown.HasField("reviewed")
    assert shown.complete_time.ToDatetime(NOW.tzinfo) == NOW


async def test_a_download_is_what_was_signed_or_a_page_of_it_and_is_noted(servicer, acme, keep):
    name, content = await keep()
    digest = hashlib.sha256(content).hexdigest()
    for form in (pb.DownloadReportRequest.FORM_UNSPECIFIED, pb.DownloadReportRequest.JSON):
        got = await servicer.DownloadReport(pb.DownloadReportRequest(name=name, form=form), OTTO)
        assert (got.content, got.sha256, got.signature) == (content, digest, b"<signature>")
    page = await servicer.DownloadReport(pb.DownloadReportRequest(name=name, form=pb.DownloadReportRequest.HTML), OTTO)
    assert page.content.startswith(b"<!DOCTYPE html>")
    assert digest.encode() in page.content
    assert (page.sha256, page.signature) == (digest, b"<signature>")
    [received] = (await servicer.GetReport(pb.GetReportRequest(name=name), ANNA)).recipients
    assert (received.principal, received.count) == (str(OTTO), 3)


async def test_a_form_that_is_none_is_refused_and_not_noted(servicer, acme, keep):
    name, _ = await keep()
    with pytest.raises(InvalidRequest, match="form"):
        await servicer.DownloadReport(pb.DownloadReportRequest(name=name, form=7), OTTO)
    assert not (await servicer.GetReport(pb.GetReportRequest(name=name), ANNA)).recipients


async def test_a_page_that_no_answer_holds_is_refused(servicer, acme, keep, monkeypatch):
    name, content = await keep()
    monkeypatch.setattr(edge, "MOST_BYTES", len(content))
    with pytest.raises(FailedPrecondition, match="ask for the JSON"):
        await servicer.DownloadReport(pb.DownloadReportRequest(name=name, form=pb.DownloadReportRequest.HTML), OTTO)


async def test_the_steps_of_a_review_are_taken_by_others(servicer, acme, keep):
    name, _ = await keep()
    submitted = await servicer.SubmitReport(pb.SubmitReportRequest(name=name), ANNA)
    assert submitted.review_state == "pending_review"
    with pytest.raises(SelfApproval):
        await servicer.ReviewReport(pb.ReviewReportRequest(name=name), ANNA)
    await servicer.ReviewReport(pb.ReviewReportRequest(name=name, etag=submitted.etag), OTTO)
    with pytest.raises(SelfApproval):
        await servicer.ApproveReport(pb.ApproveReportRequest(name=name), ANNA)
    await servicer.ApproveReport(pb.ApproveReportRequest(name=name), OTTO)
    archived = await servicer.ArchiveReport(pb.ArchiveReportRequest(name=name), OTTO)
    steps = (archived.submitted, archived.reviewed, archived.approved, archived.archived)
    assert [step.principal for step in steps] == [str(ANNA), str(OTTO), str(OTTO), str(OTTO)]


async def test_lists_are_paged_the_newest_first(servicer, acme, keep):
    names = [(await keep(created_at=NOW - timedelta(days=age)))[0] for age in (3, 2, 1)]
    first = await servicer.ListReports(pb.ListReportsRequest(parent=PARENT, page_size=2), ANNA)
    rest = await servicer.ListReports(
        pb.ListReportsRequest(parent=PARENT, page_size=2, page_token=first.next_page_token), ANNA
    )
    assert [one.name for one in (*first.reports, *rest.reports)] == names[::-1]
    assert rest.next_page_token == ""
    with pytest.raises(InvalidRequest, match="page_token"):
        await servicer.ListReports(pb.ListReportsRequest(parent=PARENT, page_token="eA=="), ANNA)


async def test_what_is_anothers_does_not_exist(servicer, acme, keep):
    name, _ = await keep()
    for asked in (name, f"tenants/acme/reports/{uuid4()}"):
        with pytest.raises(NotFound) as refused:
            await servicer.GetReport(pb.GetReportRequest(name=asked), Principal("globex", "app"))
        assert str(refused.value) == f"{asked} does not exist"
