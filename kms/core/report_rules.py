"""The rules that make findings of what a report has gathered: each a pure question about one thing.

A rule returns its findings as pairs: the rule, and in words what exactly was found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from .access import Effect, Grant
from .census import VersionCensus
from .events import SecurityEvent, Severity
from .keyring import Key, KeyVersion
from .lifecycle import ENCRYPTING, KeyState
from .policy import NEVER, Policy, stop_at
from .report_controls import Part
from .roles import LEASE
from .suites import ROTATED_BY_HAND
from .tokens import ApiToken, TokenUse

Found = Iterator[tuple[str, str]]

LATE_AFTER: Final = timedelta(hours=1)  # what a scheduler may take, a restart included
NEAR_LIMIT: Final = 75  # percent of what one version may ever encrypt
LONG_LIVED: Final = timedelta(days=365)  # a token that is valid for longer from now
UNUSED: Final = timedelta(days=90)  # PCI DSS v4.0, 8.2.6
LONG_OPEN: Final = timedelta(days=1)  # a high or critical event that nobody has resolved


class Rule(StrEnum):
    """What may be found."""

    KEY_OVERDUE = "key-overdue"
    KEY_NOT_ROTATED = "key-not-rotated"
    ROTATION_LATE = "rotation-late"
    NEAR_LIMIT = "version-near-limit"
    COMPROMISED = "key-compromised"
    EXPOSED = "version-exposed"
    TENANTS_OPEN = "tenants-open"
    GRANT_UNUSED = "grant-unused"
    GRANT_ALL_KEYS = "grant-uses-all-keys"
    TOKEN_LONG_LIVED = "token-long-lived"  # noqa: S105  a rule's name
    TOKEN_UNUSED = "token-unused"  # noqa: S105
    WITHOUT_QUORUM = "quorum-zero"
    WITHOUT_APPROVAL = "dangerous-act-without-approval"
    FAILURES = "many-failures"
    EVENT_OPEN = "event-unresolved"
    TRAIL_EMPTY = "trail-empty"
    TRAIL_UNVERIFIED = "trail-unverified"
    TRAIL_BROKEN = "trail-broken"
    SCRUB_MISSING = "records-not-scrubbed"
    SCRUB_BROKEN = "records-corrupt"


@dataclass(frozen=True, slots=True)
class RuleText:
    """How bad a finding is, in which part the facts stand, what it means, and what to do."""

    severity: Severity
    part: Part
    meaning: str
    recommendation: str


RULES: Final[Mapping[Rule, RuleText]] = MappingProxyType(
    {
        Rule.KEY_OVERDUE: RuleText(
            Severity.HIGH,
            Part.ROTATIONS,
            "a key's primary version is older than its rotation period",
            "rotate the key, and look why the scheduler has not: health part schedule, the log",
        ),
        Rule.KEY_NOT_ROTATED: RuleText(
            Severity.LOW,
            Part.INVENTORY,
            "a key that encrypts is never rotated by time",
            "give it a rotation period, or write down why it has none; deterministic and index keys are rotated by hand",
        ),
        Rule.ROTATION_LATE: RuleText(
            Severity.MEDIUM,
            Part.ROTATIONS,
            "a version was replaced later than the rotation period allows",
            "look what kept the scheduler from running at that time",
        ),
        Rule.NEAR_LIMIT: RuleText(
            Severity.HIGH,
            Part.LIMITS,
            f"a primary version has used {NEAR_LIMIT} % of the encryptions that it may ever make",
            "rotate the key, and look why it has not been rotated by count",
        ),
        Rule.COMPROMISED: RuleText(
            Severity.HIGH,
            Part.INVENTORY,
            "a key is revoked as compromised and not destroyed yet",
            "encrypt anew what it protects, then schedule its destruction",
        ),
        Rule.EXPOSED: RuleText(
            Severity.HIGH,
            Part.INVENTORY,
            "a version is revoked whose DEK had been leased to applications, and it may still protect values",
            "re-encrypt what it encrypted, and count every place of the key; `kms keys show` names the next step",
        ),
        Rule.TENANTS_OPEN: RuleText(
            Severity.HIGH,
            Part.ACCESS,
            "every principal of the tenant holds every role without a grant",
            "grant what each needs, then set access.open_tenants to false",
        ),
        Rule.GRANT_UNUSED: RuleText(
            Severity.LOW,
            Part.ACCESS,
            "a principal that holds a grant has made no call in the period",
            "remove the grant where it is not needed any more",
        ),
        Rule.GRANT_ALL_KEYS: RuleText(
            Severity.MEDIUM,
            Part.ACCESS,
            "a grant gives the use of every key of the tenant, without a condition or an end",
            "grant the keys that the application needs, by name or pattern",
        ),
        Rule.TOKEN_LONG_LIVED: RuleText(
            Severity.MEDIUM,
            Part.CREDENTIALS,
            f"an API token is valid for more than {LONG_LIVED.days} days from now",
            "rotate it to one with a shorter life",
        ),
        Rule.TOKEN_UNUSED: RuleText(
            Severity.LOW,
            Part.CREDENTIALS,
            f"an API token that may be used has not been for {UNUSED.days} days",
            "revoke it where nobody needs it",
        ),
        Rule.WITHOUT_QUORUM: RuleText(
            Severity.HIGH,
            Part.QUORUM,
            "a dangerous permission needs no approval",
            "set quorum.approvals, or a rule with `kms quorum set`",
        ),
        Rule.WITHOUT_APPROVAL: RuleText(
            Severity.HIGH,
            Part.DANGEROUS,
            "a dangerous act was done without the approval of others",
            "look into each, and set a quorum",
        ),
        Rule.FAILURES: RuleText(
            Severity.MEDIUM,
            Part.FAILURES,
            "a principal's calls failed or were refused in more than one of ten cases",
            "look what it tries: a wrong configuration, or somebody who should not be there",
        ),
        Rule.EVENT_OPEN: RuleText(
            Severity.CRITICAL,
            Part.EVENTS,
            "a high or critical security event has been open for more than a day",
            "investigate it, and resolve it with what was found",
        ),
        Rule.TRAIL_EMPTY: RuleText(
            Severity.HIGH,
            Part.TRAIL,
            "the audit trail has no event of the tenant in the period",
            "look whether the audit trail was on, or whether events have been archived",
        ),
        Rule.TRAIL_UNVERIFIED: RuleText(
            Severity.HIGH,
            Part.TRAIL,
            "no verification of the audit trail is known that covers the period",
            "run `kms audit verify`, then make the report anew",
        ),
        Rule.TRAIL_BROKEN: RuleText(
            Severity.CRITICAL,
            Part.TRAIL,
            "the last verification of the audit trail found that it has been changed",
            "treat it as an incident: keep the database and the log as they are",
        ),
        Rule.SCRUB_MISSING: RuleText(
            Severity.MEDIUM,
            Part.INTEGRITY,
            "no pass over the stored records is known that verified all of them",
            "let the daemon finish a pass, then make the report anew",
        ),
        Rule.SCRUB_BROKEN: RuleText(
            Severity.CRITICAL,
            Part.INTEGRITY,
            "the last pass over the stored records found some that have been changed",
            "treat it as an incident; `kms doctor` tells the way out",
        ),
    }
)


def days(period: timedelta) -> int:
    """Return whole days, rounded down."""
    return period // timedelta(days=1)


def late_by(made_at: datetime, replaced_at: datetime, policy: Policy) -> timedelta | None:
    """Return by how much a version outlived the rotation period; None where it did not, or none holds."""
    if policy.rotation == NEVER:
        return None
    late = replaced_at - made_at - policy.rotation
    return late if late > LATE_AFTER else None


def judge_key(key: Key, policy: Policy, reserved: int, now: datetime) -> Found:
    """Judge a key as it is now; *reserved* encryptions may have been made under its primary version."""
    if key.state is KeyState.REVOKED:
        yield Rule.COMPROMISED, f"since {days(now - key.state_at)} days"
    if key.state not in ENCRYPTING:
        return
    if policy.rotation == NEVER and key.purpose not in ROTATED_BY_HAND:
        yield Rule.KEY_NOT_ROTATED, f"its primary version is {days(now - key.rotated_at)} days old"
    if (late := late_by(key.rotated_at, now, policy)) is not None:
        yield Rule.KEY_OVERDUE, f"overdue by {spoken(late)}"
    if (used := used_percent(policy, key, reserved)) is not None and used >= NEAR_LIMIT:
        yield Rule.NEAR_LIMIT, f"{used} % of the limit are used"


def judge_exposed(version: KeyVersion, census: VersionCensus) -> Found:
    """Judge a version by what it still protects, if its DEK has left the daemon."""
    if version.state is KeyState.REVOKED and version.exposed_at is not None and not census.zero:
        still = "what it protects is not known" if census.unknown else f"it protects {census.count} values"
        yield Rule.EXPOSED, f"version {version.version}: {still}"


def used_percent(policy: Policy, key: Key, reserved: int) -> int | None:
    """Return how much of its limit the primary version has used; None where it has no limit."""
    limit = stop_at(policy, key.suite)
    return None if limit is None else min(reserved * 100 // limit, 100)


def judge_rotation(previous: KeyVersion, version: KeyVersion, policy: Policy) -> Found:
    """Judge the rotation that replaced one version with the next."""
    if (late := late_by(previous.created_at, version.created_at, policy)) is not None:
        yield Rule.ROTATION_LATE, f"version {previous.version} was replaced {spoken(late)} late"


def judge_grant(grant: Grant, now: datetime, *, seen: bool) -> Found:
    """Judge a grant; *seen*: its principal has made a call in the period."""
    if grant.effect is not Effect.ALLOW or grant.expired(now):
        return
    if not seen:
        yield Rule.GRANT_UNUSED, "no call in the period"
    uses = not grant.gives().isdisjoint({"keys.encrypt", "keys.decrypt", LEASE})
    whole = str(grant.resource).split("/")[2:] in ([], ["**"], ["keys", "**"], ["keys", "*"])
    if uses and whole and grant.expires_at is None and not grant.conditions:
        yield Rule.GRANT_ALL_KEYS, str(grant.resource)


def judge_token(token: ApiToken, use: TokenUse | None, now: datetime) -> Found:
    """Judge an API token."""
    if token.ended(now) is not None:
        return
    if token.expires_at - now > LONG_LIVED:
        yield Rule.TOKEN_LONG_LIVED, f"valid for {days(token.expires_at - now)} days more"
    last = token.created_at if use is None or use.last_used_at is None else use.last_used_at
    if now - last > UNUSED:
        yield Rule.TOKEN_UNUSED, f"not used for {days(now - last)} days"


def judge_event(event: SecurityEvent, now: datetime) -> Found:
    """Judge a security event."""
    grave = event.severity in Severity.HIGH.and_above
    if grave and event.resolved_at is None and now - event.created_at > LONG_OPEN:
        yield Rule.EVENT_OPEN, f"{event.severity}, open for {spoken(now - event.created_at)}"


def judge_quorum(needed: int) -> Found:
    """Judge how many approvals a dangerous permission needs."""
    if needed == 0:
        yield Rule.WITHOUT_QUORUM, "no approval is needed"


def judge_failures(calls: int, failed: int) -> Found:
    """Judge the calls of one principal."""
    if failed >= 10 and failed * 10 > calls:
        yield Rule.FAILURES, f"{failed} of {calls} calls"


def spoken(period: timedelta) -> str:
    """Return a period in words: days, or hours below two days."""
    whole = days(period)
    return f"{whole} days" if whole >= 2 else f"{period // timedelta(hours=1)} hours"
