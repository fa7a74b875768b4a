"""The states of reports, who may take which step, and what is signed; docs/reports.md shows what the code has."""

from __future__ import annotations

import hashlib
import itertools
import re
from datetime import timedelta
from pathlib import Path

import pytest

from kms.core.errors import FailedPrecondition, InvalidRequest, SelfApproval
from kms.core.report_controls import CONTROLS, TITLES, Part, controls_of
from kms.core.report_rules import RULES, Rule
from kms.core.reports import (
    BY_ANOTHER,
    LABEL,
    LONGEST_PERIOD,
    MOST_RECIPIENTS,
    REVIEWS,
    TRANSITIONS,
    Framework,
    ReportEvent,
    ReportState,
    ReviewEvent,
    ReviewState,
    check_period,
    digest_of,
    signed_bytes,
)
from tests import keyrings
from tests.keyrings import NOW
from tests.reports import completed, new_report

TENANT = keyrings.new_tenant("acme")
PAGE = (Path(__file__).parents[3] / "docs/reports.md").read_text()
MADE = [
    (ReportState.GENERATING, ReportEvent.COMPLETE, ReportState.COMPLETED),
    (ReportState.GENERATING, ReportEvent.FAIL, ReportState.FAILED),
    (ReportState.FAILED, ReportEvent.RESUME, ReportState.GENERATING),
]
STEPS = [
    (ReviewState.DRAFT, ReviewEvent.SUBMIT, ReviewState.PENDING_REVIEW),
    (ReviewState.PENDING_REVIEW, ReviewEvent.REVIEW, ReviewState.REVIEWED),
    (ReviewState.REVIEWED, ReviewEvent.APPROVE, ReviewState.APPROVED),
    (ReviewState.APPROVED, ReviewEvent.ARCHIVE, ReviewState.ARCHIVED),
]


def test_every_pair_of_state_and_event_leads_where_the_table_says_or_nowhere():
    allowed = {(state, event): following for state, event, following in MADE}
    ended = {"leads": 0, "refused": 0}
    for state, event in itertools.product(ReportState, ReportEvent):
        report = new_report(TENANT, state=state)
        if (state, event) in allowed:
            assert report.after(event).state is allowed[state, event]
            ended["leads"] += 1
        else:
            with pytest.raises(FailedPrecondition):
                report.after(event)
            ended["refused"] += 1
    assert ended == {"leads": 3, "refused": 6}
    assert len(TRANSITIONS) == 3


def test_every_step_of_a_review_is_taken_in_order_and_only_of_a_completed_report():
    allowed = {(review, event): following for review, event, following in STEPS}
    ended = {"leads": 0, "refused": 0}
    for state, review, event in itertools.product(ReportState, ReviewState, ReviewEvent):
        report = new_report(TENANT, state=state, review=review)
        if state is ReportState.COMPLETED and (review, event) in allowed:
            after = report.reviewed(event, "otto", NOW)
            assert after.review is allowed[review, event]
            assert (after.steps[event].by, after.steps[event].at) == ("otto", NOW)
            ended["leads"] += 1
        else:
            with pytest.raises(FailedPrecondition):
                report.reviewed(event, "otto", NOW)
            ended["refused"] += 1
    assert ended == {"leads": 4, "refused": 56}
    assert len(REVIEWS) == 4


@pytest.mark.parametrize("event", ReviewEvent)
def test_who_generated_or_submitted_a_report_neither_reviews_nor_approves_it(event):
    at = {step: state for state, step, _ in STEPS}[event]
    submitted = completed(new_report(TENANT, created_by="anna")).reviewed(ReviewEvent.SUBMIT, "sam", NOW)
    outcomes = {}
    for by in ("anna", "sam", "otto"):
        report = completed(new_report(TENANT, created_by="anna", review=at, steps=submitted.steps))
        try:
            outcomes[by] = report.reviewed(event, by, NOW).steps[event].by
        except SelfApproval:
            outcomes[by] = "refused"
    own = "refused" if event in {ReviewEvent.REVIEW, ReviewEvent.APPROVE} else None
    assert outcomes == {"anna": own or "anna", "sam": own or "sam", "otto": "otto"}
    assert frozenset({ReviewEvent.REVIEW, ReviewEvent.APPROVE}) == BY_ANOTHER


def test_every_download_is_noted_with_first_and_last_time_and_count():
    later = NOW + timedelta(hours=1)
    report = completed(new_report(TENANT)).received("otto", NOW).received("anna", NOW).received("otto", later)
    noted = {one.principal: (one.first_at, one.last_at, one.count) for one in report.recipients}
    assert noted == {"otto": (NOW, later, 2), "anna": (NOW, NOW, 1)}


def test_a_report_that_is_not_completed_is_not_downloaded():
    for state in (ReportState.GENERATING, ReportState.FAILED):
        with pytest.raises(FailedPrecondition, match="nothing to download"):
            new_report(TENANT, state=state).received("otto", NOW)


def test_no_more_principals_receive_a_report_than_are_noted():
    report = completed(new_report(TENANT))
    for number in range(MOST_RECIPIENTS):
        report = report.received(f"p{number}", NOW)
    assert report.received("p7", NOW).recipients[-1].count == 2
    with pytest.raises(FailedPrecondition, match="no more can"):
        report.received("one-more", NOW)


@pytest.mark.parametrize(
    ("since", "until", "field"),
    [
        (NOW, NOW, "end_time"),
        (NOW, NOW - timedelta(days=1), "end_time"),
        (NOW - LONGEST_PERIOD - timedelta(days=1), NOW, "end_time"),
        (NOW + timedelta(days=1), NOW + timedelta(days=2), "start_time"),
    ],
)
def test_a_period_that_is_none_is_refused(since, until, field):
    with pytest.raises(InvalidRequest) as refused:
        check_period(since, until, NOW)
    assert [one.field for one in refused.value.violations] == [field]
    check_period(NOW - LONGEST_PERIOD, NOW, NOW)


def test_what_is_signed_is_a_label_and_the_digest():
    assert LABEL == b"kms/v1/report\0"
    assert signed_bytes(digest_of(b"{}")) == b"kms/v1/report\0" + hashlib.sha256(b"{}").digest()


def test_every_part_has_a_title_and_a_control_of_every_framework():
    frameworks = set(Framework) - {Framework.ALL}
    assert set(CONTROLS) == set(TITLES) == set(Part)
    for part in Part:
        assert set(CONTROLS[part]) == frameworks
        assert all(CONTROLS[part].values())
        assert set(controls_of(part, Framework.ALL)) == {one.value for one in frameworks}
        assert controls_of(part, Framework.GDPR) == {"gdpr": list(CONTROLS[part][Framework.GDPR])}


SHAPES = {
    Framework.SOC2: r"(CC[1-9]\.[1-9]|C1\.[12])",
    Framework.PCI_DSS: r"[1-9][0-9]?(\.[1-9][0-9]?){2,3}",
    Framework.HIPAA: r"164\.3(08|10|12|16)\([a-e]\)\([1-8]\)(\((i|ii|iii|iv)\)(\([A-D]\))?)?|164\.312\([bd]\)",
    Framework.GDPR: r"Art\. [1-9][0-9]?(\([1-9]\)(\([a-f]\))?)?",
    Framework.ISO27001: r"A\.[58]\.[1-9][0-9]?",
}


def test_identifiers_have_the_form_of_their_framework():
    seen = 0
    for controls in CONTROLS.values():
        for framework, names in controls.items():
            for name in names:
                assert re.fullmatch(SHAPES[framework], name), name
                seen += 1
    assert seen > 100


def test_the_page_shows_the_parts_and_controls_of_the_code():
    shown = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.splitlines()
        if re.match(r"\| `[a-z]+` \| [A-Z]", line)
    ]
    frameworks = (Framework.SOC2, Framework.PCI_DSS, Framework.HIPAA, Framework.GDPR, Framework.ISO27001)
    assert shown == [
        [f"`{part}`", TITLES[part], *(", ".join(CONTROLS[part][framework]) for framework in frameworks)]
        for part in Part
    ]


def test_the_page_shows_the_rules_of_the_code():
    shown = re.findall(r"^\| `([a-z-]+)` \| ([a-z]+) \| `([a-z]+)` \| ([^|`]+) \|$", PAGE, re.MULTILINE)
    assert shown == [
        (rule.value, RULES[rule].severity.value, RULES[rule].part.value, RULES[rule].meaning) for rule in Rule
    ]


def test_the_page_shows_the_steps_of_a_review():
    shown = re.findall(
        r"^\| `([a-z_]+)` \| ([a-z]+) \| `([a-z_]+)` \| `reports\.([a-z]+)` \| (.+) \|$", PAGE, re.MULTILINE
    )
    others = "not who generated or submitted it"
    assert shown == [
        (before.value, event.value, after.value, event.value, others if event in BY_ANOTHER else "-")
        for before, event, after in STEPS
    ]
