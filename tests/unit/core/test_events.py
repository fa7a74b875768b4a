"""The kinds of security events, their risk, their names, and what sinks are told."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from uuid import UUID

import pytest

from kms.core.errors import InvalidRequest
from kms.core.events import KINDS, Answer, EventType, Severity, event_body, risk_of
from kms.core.names import INSTALLATION_UID, SecurityEventName, SecurityEventsParent
from kms.core.outbox import line_of
from tests.keyrings import new_event, new_item

UID = UUID("7b0f3c1e-52a0-4b39-8d35-0a3a53a9c1de")


def test_every_type_has_its_kind():
    assert set(KINDS) == set(EventType)
    assert all(0 <= kind.risk <= 100 for kind in KINDS.values())


def test_the_worse_a_severity_the_higher_the_risk():
    by_severity = [[k.risk for k in KINDS.values() if k.severity is severity] for severity in Severity]
    bounds = [(min(risks), max(risks)) for risks in by_severity if risks]
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(bounds))


def test_a_key_is_suspended_only_for_what_its_users_do():
    # Otherwise whoever asks for a key in vain could stop it for those who may use it.
    assert {kind for kind, rule in KINDS.items() if Answer.SUSPEND_KEY in rule.answers} == {
        EventType.DECRYPT_FAILURES,
        EventType.CANARY_TOUCHED,
    }


@pytest.mark.parametrize(("count", "risk"), [(1, 50), (10, 50), (19, 50), (20, 55), (80, 65), (10**9, 100)])
def test_risk_rises_with_each_doubling_up_to_one(count, risk):
    assert risk_of(EventType.REPEATED_DENIALS, count, 10) == risk


def test_a_severity_knows_what_is_worse():
    assert Severity.HIGH.and_above == (Severity.HIGH, Severity.CRITICAL)
    assert Severity.INFO.and_above == tuple(Severity)


@pytest.mark.parametrize(
    ("text", "tenant"),
    [(f"tenants/acme/securityEvents/{UID}", "acme"), (f"installation/securityEvents/{UID}", None)],
)
def test_a_name_is_read_and_written_alike(text, tenant):
    name = SecurityEventName.parse(text)
    assert (name.tenant, name.event, str(name)) == (tenant, UID, text)
    assert name.parent == SecurityEventsParent(tenant)


@pytest.mark.parametrize(
    "text",
    [
        f"securityEvents/{UID}",
        f"tenants/acme/events/{UID}",
        f"tenants/Acme/securityEvents/{UID}",
        f"tenants/acme/securityEvents/{str(UID).upper()}",
        f"installation/securityEvents/{UID.hex}",
        f"installations/securityEvents/{UID}",
        "tenants/acme/securityEvents/",
        "",
    ],
)
def test_a_name_of_another_form_is_refused(text):
    with pytest.raises(InvalidRequest, match="name: must have the form"):
        SecurityEventName.parse(text)


def test_what_a_sink_is_told_is_one_line_of_json_without_an_investigation():
    event = replace(new_event(INSTALLATION_UID), uid=UID, indicators=("a\nb", '"'), notes="not told")
    item = replace(new_item(INSTALLATION_UID, event_body(event, "acme")), position=4)
    line = line_of(item)
    assert b"\n" not in line
    told = json.loads(line)
    assert told["body"]["name"] == f"tenants/acme/securityEvents/{UID}"
    assert told["body"]["indicators"] == ["a\nb", '"']
    assert "notes" not in told["body"]
    assert (told["position"], told["id"], told["topic"]) == (4, str(item.uid), "security_events")
