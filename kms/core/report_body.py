"""A report as one value, composed of what was gathered: the same value becomes JSON and HTML.

A part has figures (a label and a value) and tables (a caption, columns, rows, and how many more there are).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from .events import Severity
from .receipts import JsonValue, json_text, moment
from .report_controls import TITLES, Part, controls_of
from .report_facts import Cell, Facts, Listing
from .report_rules import RULES, Rule, judge_failures
from .reports import Report

FORMAT: Final = 1

_SUMS: Final = ("Values", "Calls", "Bytes in", "Bytes out")


@dataclass(frozen=True, slots=True)
class Heading:
    """What a report says of itself."""

    report: Report
    name: str
    tenant: str
    made_at: datetime
    release: str
    signing_key: str  # SHA-256 of the public key, hexadecimal digits


def compose(heading: Heading, facts: Facts) -> dict[str, JsonValue]:
    """Return the whole report."""
    report = heading.report
    findings = found(facts)
    parts = [_part(part, heading, facts) for part in Part if part is not Part.FINDINGS]
    return {
        "format": FORMAT,
        "name": heading.name,
        "tenant": heading.tenant,
        "tenant_uid": str(report.tenant),
        "framework": report.framework.value,
        "period": {"start_time": moment(report.since), "end_time": moment(report.until)},
        "requester": report.created_by,
        "create_time": moment(report.created_at),
        "complete_time": moment(heading.made_at),
        "release": heading.release,
        "signing_key_sha256": heading.signing_key,
        "controls": {Part.FINDINGS.value: _controls(Part.FINDINGS, heading)},
        "findings": findings,
        "parts": parts,
    }


def content_of(value: Mapping[str, JsonValue]) -> bytes:
    """Return the one form of a report in bytes: JSON with sorted keys and no spaces, in UTF-8."""
    return json_text(value).encode()


def found(facts: Facts) -> list[JsonValue]:
    """Return the findings, the worst first."""
    severities = tuple(Severity)
    findings: list[JsonValue] = []
    for rule in sorted(Rule, key=lambda one: (-severities.index(RULES[one].severity), one.value)):
        listing = facts.listings.get(f"finding.{rule}")
        if listing is None or not listing.total:
            continue
        text = RULES[rule]
        findings.append(
            {
                "rule": rule.value,
                "severity": text.severity.value,
                "part": text.part.value,
                "meaning": text.meaning,
                "recommendation": text.recommendation,
                "count": listing.total,
                "subjects": [": ".join(str(one) for one in row if one not in (None, "")) for row in listing.rows],
            }
        )
    return findings


def judge_whole(facts: Facts, *, open_tenants: bool) -> None:
    """Add the findings that only the whole shows."""
    if open_tenants:
        facts.find([(Rule.TENANTS_OPEN, "access.open_tenants is true")])
    if not facts.counted("trail.events"):
        facts.find([(Rule.TRAIL_EMPTY, "0 events")])
    for principal, (calls, failed) in facts.tally("calls").sums.items():
        facts.find(judge_failures(calls, failed), principal)


def _part(part: Part, heading: Heading, facts: Facts) -> JsonValue:
    figures, tables, notes = _PARTS[part](facts)
    return {
        "part": part.value,
        "title": TITLES[part],
        "controls": _controls(part, heading),
        "figures": [{"label": label, "value": value} for label, value in figures],
        "tables": tables,
        "notes": notes,
    }


def _controls(part: Part, heading: Heading) -> JsonValue:
    return {name: [*controls] for name, controls in controls_of(part, heading.report.framework).items()}


Figures = list[tuple[str, int | str]]
Tables = list[JsonValue]
Parts = tuple[Figures, Tables, list[JsonValue]]


def _table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], others: int = 0) -> JsonValue:
    return {
        "caption": caption,
        "columns": list(columns),
        "rows": [list(row) for row in rows],
        "others": others,
    }


def _listed(facts: Facts, name: str, caption: str, *columns: str) -> JsonValue:
    listing = facts.listings.get(name, Listing())
    return _table(caption, columns, listing.rows, listing.others)


def _split(facts: Facts, prefix: str, caption: str, column: str) -> JsonValue:
    return _table(caption, (column, "Number"), [[name, number] for name, number in facts.below(prefix)])


def _summed(facts: Facts, name: str, caption: str, column: str, sums: Sequence[str] = _SUMS) -> JsonValue:
    top, others = facts.tally(name).top()
    rows: list[list[Cell]] = [[one or "(none)", *numbers] for one, numbers in top]
    if others:
        rows.append(["(all others)", *others])
    return _table(caption, (column, *sums), rows)


def _inventory(facts: Facts) -> Parts:
    columns = ("Key", "State", "Class", "Purpose", "Suite", "Level", "Primary version", "Its age in days", "Rotation")
    return (
        [("Keys", facts.counted("keys.total")), ("KEK versions", facts.counted("keks.total"))],
        [
            _split(facts, "keys.state.", "Keys by state", "State"),
            _split(facts, "keys.class.", "Keys by class of data", "Class"),
            _split(facts, "keys.suite.", "Keys by suite", "Suite"),
            _listed(facts, "keys", "Keys", *columns),
            _listed(facts, "keks", "KEK versions", "Version", "State", "Age in days", "Primary"),
        ],
        ["Ages and states are those of the time at which the report was made, not of the end of its period."],
    )


def _rotations(facts: Facts) -> Parts:
    return (
        [
            ("Rotations in the period", facts.counted("rotations.total")),
            ("On time", facts.counted("rotations.total") - facts.counted("rotations.late")),
            ("Late", facts.counted("rotations.late")),
            ("By schedule", facts.counted("rotations.scheduled")),
        ],
        [_listed(facts, "rotations", "Late rotations", "Key", "Version replaced", "Replaced at", "Late by")],
        ["A rotation is late by what holds now: the key's present rotation period, and an hour for the scheduler."],
    )


def _limits(facts: Facts) -> Parts:
    return (
        [("Primary versions with a limit", facts.counted("limits.counted"))],
        [_listed(facts, "limits", "Half used or more", "Key", "Version", "Used in percent", "Reserved")],
        ["Encryptions are reserved in blocks: a number may be higher than what was encrypted, and is never lower."],
    )


def _access(facts: Facts) -> Parts:
    return (
        [
            ("Principals", facts.counted("principals.total")),
            ("Blocked", facts.counted("principals.blocked")),
            ("Grants", facts.listing("grants").total),
        ],
        [
            _split(facts, "roles.", "Grants by role", "Role"),
            _listed(facts, "grants", "Grants", "Principal", "Effect", "Gives", "On", "Condition", "Ends", "Used"),
        ],
        ["A grant counts as used if its principal made any call in the period that the audit trail still has."],
    )


def _credentials(facts: Facts) -> Parts:
    return (
        [("May be used", facts.counted("tokens.usable")), ("Ended", facts.counted("tokens.ended"))],
        [_listed(facts, "tokens", "Tokens that may be used", "Token", "Principal", "Scopes", "Ends", "Last use")],
        [],
    )


def _dangerous(facts: Facts) -> Parts:
    approvals = ("Asked at", "Permission", "Requester", "Resources", "State", "Approved by")
    return (
        [
            ("Dangerous acts done", facts.counted("dangerous.done")),
            ("Dangerous acts refused", facts.counted("dangerous.refused")),
        ],
        [
            _listed(facts, "dangerous", "Dangerous acts", "At", "Act", "Principal", "Resource", "Outcome", "Approval"),
            _split(facts, "approvals.", "Requests for approval", "State"),
            _listed(facts, "approvals", "Requests for approval in the period", *approvals),
        ],
        [],
    )


def _quorum(facts: Facts) -> Parts:
    return (
        [],
        [_listed(facts, "quorum", "Approvals needed", "Permission", "Approvals", "By")],
        ["Classes of data and policies may ask for more for their own keys."],
    )


def _failures(facts: Facts) -> Parts:
    return (
        [
            ("Refused", facts.counted("trail.outcome.failure")),
            ("Failed for a fault of the daemon's", facts.counted("trail.outcome.error")),
            ("Batches that failed in part", facts.counted("trail.outcome.partial")),
        ],
        [
            _summed(facts, "failures", "By reason and act", "Reason and act", ("Number",)),
            _summed(facts, "failing", "By principal", "Principal", ("Failed",)),
        ],
        ["Attempts with credentials of nobody belong to no tenant: operators see them."],
    )


def _events(facts: Facts) -> Parts:
    rows: list[list[Cell]] = [
        [
            severity.value,
            facts.counted(f"security.{severity}.stored"),
            facts.counted(f"security.{severity}.open"),
            facts.counted(f"security.{severity}.hours") // max(facts.counted(f"security.{severity}.resolved"), 1),
            facts.counted(f"security.{severity}.longest"),
        ]
        for severity in Severity
    ]
    columns = ("Severity", "Stored", "Open now", "Mean hours until resolved", "Longest hours open")
    listed = ("Stored at", "Severity", "Type", "Principal", "Resource", "State", "Hours open")
    return (
        [("Open from before the period", facts.counted("security.before"))],
        [
            _table("By severity", columns, rows),
            _listed(facts, "security", "High or critical, or open", *listed),
        ],
        [],
    )


def _destructions(facts: Facts) -> Parts:
    return (
        [("Receipts of the period", facts.listing("receipts").total)],
        [_listed(facts, "receipts", "Receipts", "Destroyed", "At", "Forced by")],
        ["Receipts are signed: `kms keys receipts` shows them whole, `kms keys verify-receipt` verifies them."],
    )


def _volume(facts: Facts) -> Parts:
    return (
        [("Uses of keys", facts.counted("volume.calls"))],
        [
            _summed(facts, "volume.principal", "By principal", "Principal"),
            _summed(facts, "volume.class", "By class of data", "Class"),
            _summed(facts, "volume.key", "By key", "Key"),
        ],
        [],
    )


def _retention(facts: Facts) -> Parts:
    return (
        [],
        [
            _listed(facts, "retention", "The audit trail", "What", "Value"),
            _listed(facts, "holds", "Legal holds that stand", "Hold", "Since", "By", "About", "Reason"),
        ],
        [],
    )


def _trail(facts: Facts) -> Parts:
    return (
        [("Events of the period", facts.counted("trail.events"))],
        [_listed(facts, "verification", "Last verification", "What", "Value")],
        [],
    )


def _integrity(facts: Facts) -> Parts:
    return ([], [_listed(facts, "scrub", "Last pass over all records", "What", "Value")], [])


_PARTS: Final = {
    Part.INVENTORY: _inventory,
    Part.ROTATIONS: _rotations,
    Part.LIMITS: _limits,
    Part.ACCESS: _access,
    Part.CREDENTIALS: _credentials,
    Part.DANGEROUS: _dangerous,
    Part.QUORUM: _quorum,
    Part.FAILURES: _failures,
    Part.EVENTS: _events,
    Part.DESTRUCTIONS: _destructions,
    Part.VOLUME: _volume,
    Part.RETENTION: _retention,
    Part.TRAIL: _trail,
    Part.INTEGRITY: _integrity,
}
