"""The catalogue of named queries: what auditors ask again and again, each as a value."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from types import MappingProxyType
from typing import Final
from uuid import UUID

from .audit import AuditEvent, Category, Outcome, Phase
from .audit_filters import EXECUTIONS, KINDS, SUMS, TIMES, AuditFilter, AuditSum, Kind, Pair
from .canonical import Value
from .errors import invalid
from .events import Severity
from .receipts import moment

MONTHS_BACK: Final = timedelta(days=366)
DAYS_BACK: Final = timedelta(days=30)
LONGEST_OUT_OF_HOURS: Final = timedelta(days=92)  # each day is a span of its own in the query

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
# Beside its intent a change has an outcome; whoever counts intents, too, counts it twice.
_DONE: Final = (Phase.OUTCOME.value, Phase.ACT.value)
_CHANGING: Final = (Category.ADMIN.value, Category.DATA_MODIFICATION.value, Category.SECURITY.value)
_CRYPTO: Final = "/kms.v1.CryptoService/"
_MEASUREMENT: Final = re.compile(r"[0-9a-f]{64}")
_FAILED: Final = (Outcome.FAILURE.value, Outcome.ERROR.value, Outcome.PARTIAL.value)
_GRAVE: Final = (Severity.HIGH.value, Severity.CRITICAL.value)


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a query wants to know; *default* is None where it must be given."""

    name: str
    line: str
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Arguments:
    """The parameters of one run: *since* and *until* are always known.

    *zone* finds a time zone by its name, *pair* the forms in which a pair of the context stands in events.
    """

    values: Mapping[str, str]
    since: datetime
    until: datetime
    zone: Callable[[str], tzinfo]
    pair: Callable[[str, str], Pair]


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """A question: which events, and what of them; with *groups*, their sums in place of themselves."""

    name: str
    line: str
    wanted: Callable[[Arguments], AuditFilter]
    columns: tuple[str, ...]
    parameters: tuple[Parameter, ...] = ()
    groups: tuple[str, ...] = ()
    back: timedelta = DAYS_BACK  # from where on, where nobody says since when

    def complete(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return the parameters with defaults for those that are not given.

        Raises:
            InvalidRequest: one that there is not, or one that must be given is missing.
        """
        known = {parameter.name: parameter.default for parameter in self.parameters}
        if unknown := sorted(given.keys() - known):
            raise invalid(
                "parameters", f"{unknown[0][:64]!r} is none of {self.name}: {', '.join(known) or 'it has none'}"
            )
        values = {name: given.get(name) or default for name, default in known.items()}
        complete = {name: value for name, value in values.items() if value is not None}
        if missing := sorted(values.keys() - complete):
            raise invalid("parameters", f"{self.name} needs {missing[0]}")
        return complete

    def kind(self, column: str) -> Kind:
        """Say what stands in a column."""
        if column in SUMS:
            return Kind.NUMBER
        return Kind.TIME if column in TIMES else KINDS.get(column, Kind.TEXT)


def cells(query: NamedQuery, event: AuditEvent) -> list[str]:
    """Return the row that an event makes."""
    return [as_text(getattr(event, column)) for column in query.columns]


def sum_cells(query: NamedQuery, one: AuditSum) -> list[str]:
    """Return the row that a group makes."""
    grouped = dict(zip(query.groups, one.group, strict=True))
    return [as_text(grouped[name] if name in grouped else getattr(one, name)) for name in query.columns]


def as_text(value: Value) -> str:
    """Return a field as text: times in RFC 3339, bytes in hexadecimal digits, nothing as nothing."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return moment(value)
    return value.hex() if isinstance(value, bytes) else str(value)


def out_of_hours(
    since: datetime, until: datetime, zone: tzinfo, hours: tuple[time, time], days: frozenset[int]
) -> tuple[tuple[datetime, datetime], ...]:
    """Return the spans between two times that lie outside working hours: *hours* of these *days* (0: Monday) in a zone."""
    spans = []
    begin = since
    day = since.astimezone(zone).date()
    last = until.astimezone(zone).date()
    while day <= last and begin < until:
        if day.weekday() in days:
            opens, closes = (datetime.combine(day, hour, zone).astimezone(UTC) for hour in hours)
            if begin < opens:
                spans.append((begin, min(opens, until)))
            begin = max(begin, closes)
        day = date.fromordinal(day.toordinal() + 1)
    if begin < until:
        spans.append((begin, until))
    return tuple(span for span in spans if span[0] < span[1])


def _parse_hour(text: str, name: str) -> time:
    try:
        hour = time.fromisoformat(text)
    except ValueError as error:
        raise invalid("parameters", f"{name} must be a time of the day such as 08:00") from error
    if hour.tzinfo is not None:
        raise invalid("parameters", f"{name} must be a time of the day such as 08:00, its zone goes into zone")
    return hour


def _parse_days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.lower().split(","):
        first, _, last = part.partition("-")
        if first not in _DAYS or (last or first) not in _DAYS:
            raise invalid("parameters", "days must be such as mon-fri or mon,wed,sat")
        begin, end = _DAYS.index(first), _DAYS.index(last or first)
        days |= {day % 7 for day in range(begin, end + 1 if end >= begin else end + 8)}
    return frozenset(days)


def _out_of_hours(given: Arguments) -> AuditFilter:
    values = given.values
    if given.until - given.since > LONGEST_OUT_OF_HOURS:
        raise invalid("since", f"must be at most {LONGEST_OUT_OF_HOURS.days} days before until for out-of-hours")
    opens, closes = _parse_hour(values["from"], "from"), _parse_hour(values["to"], "to")
    if opens >= closes:
        raise invalid("parameters", "from must be before to")
    spans = out_of_hours(
        given.since, given.until, given.zone(values["zone"]), (opens, closes), _parse_days(values["days"])
    )
    return AuditFilter(equal={"phase": _DONE}, present=("principal",), within=spans)


def _by_key(given: Arguments) -> AuditFilter:
    text = given.values["key"]
    try:
        return AuditFilter(equal={"key": (UUID(text),), "phase": _DONE})
    except ValueError:
        name = text.rstrip("/")
    either = (AuditFilter(equal={"resource": (name,)}), AuditFilter(begins={"resource": (f"{name}/",)}))
    return AuditFilter(equal={"phase": _DONE}, either=either)


def _changes(given: Arguments) -> AuditFilter:
    name = given.values["resource"].rstrip("/")
    either = (AuditFilter(equal={"resource": (name,)}), AuditFilter(begins={"resource": (f"{name}/",)}))
    return AuditFilter(equal={"phase": (Phase.OUTCOME.value,)}, either=either)


def _privileged(given: Arguments) -> AuditFilter:
    refused = {"category": (Category.AUTHORIZATION.value,), "severity": _GRAVE}
    return AuditFilter(
        equal={"phase": _DONE} | _of(given.values["principal"]),
        either=(AuditFilter(equal={"category": _CHANGING}), AuditFilter(equal=refused)),
    )


def _of(principal: str) -> dict[str, tuple[Value, ...]]:
    return {"principal": (principal,)} if principal else {}


def _executions(given: Arguments) -> AuditFilter:
    # A quote inside a text stands behind a backslash in JSON, so that no text of a request looks like these members.
    members = [f'"{EXECUTIONS}":[{{']
    if mrenclave := given.values["mrenclave"]:
        if _MEASUREMENT.fullmatch(mrenclave) is None:
            raise invalid("parameters", "mrenclave must be 64 hexadecimal digits in lower case")
        members.append(f'"mrenclave":"{mrenclave}"')
    return AuditFilter(equal={"phase": _DONE}, details=tuple(members))


_PRINCIPAL: Final = Parameter("principal", "Of this principal only, such as tenants/{tenant}/principals/app.", "")

_QUERIES: Final = (
    NamedQuery(
        "access-by-user",
        "What a principal has read, used, changed, and was refused",
        lambda given: AuditFilter(equal={"phase": _DONE} | _of(given.values["principal"])),
        ("at", "action", "resource", "outcome", "items", "bytes_in", "bytes_out", "address", "reason", "request_id"),
        (Parameter("principal", "Whose, such as tenants/{tenant}/principals/app or operators/bob."),),
    ),
    NamedQuery(
        "failures",
        "What failed, how often, and for whom",
        lambda given: AuditFilter(equal={"outcome": _FAILED, "phase": _DONE} | _of(given.values["principal"])),
        ("principal", "action", "outcome", "code", "error", "events", "first_at", "last_at"),
        (_PRINCIPAL,),
        ("principal", "action", "outcome", "code", "error"),
    ),
    NamedQuery(
        "denied",
        "Who was refused what, because they may not or nobody knows them",
        lambda _: AuditFilter(
            equal={"code": ("PERMISSION_DENIED", "UNAUTHENTICATED"), "phase": _DONE},
        ),
        ("at", "principal", "address", "action", "resource", "error", "error_message", "request_id"),
    ),
    NamedQuery(
        "privileged-operations",
        "What was managed: keys, policies, rights, credentials, the installation; and grave things that were refused",
        _privileged,
        ("at", "principal", "roles", "action", "resource", "outcome", "approval", "reason", "request_id"),
        (_PRINCIPAL,),
    ),
    NamedQuery(
        "data-volume",
        "How much data each principal has moved, by day",
        lambda given: AuditFilter(
            equal={"phase": _DONE} | _of(given.values["principal"]), begins={"action": (_CRYPTO,)}
        ),
        ("day", "principal", "events", "items", "failures", "bytes_in", "bytes_out"),
        (_PRINCIPAL,),
        ("day", "principal"),
    ),
    NamedQuery(
        "out-of-hours",
        "What principals did outside working hours",
        _out_of_hours,
        ("at", "principal", "address", "action", "resource", "outcome", "items", "request_id"),
        (
            Parameter("from", "When work begins.", "08:00"),
            Parameter("to", "When it ends.", "18:00"),
            Parameter("days", "On which days.", "mon-fri"),
            Parameter("zone", "In which time zone, such as Europe/Berlin.", "UTC"),
        ),
    ),
    NamedQuery(
        "by-key",
        "Who has used or changed a key",
        _by_key,
        ("at", "principal", "action", "resource", "key_version", "outcome", "items", "request_id"),
        (Parameter("key", "Its name, or its uid, which also finds what names it in another way."),),
    ),
    NamedQuery(
        "by-context",
        "What was done with the data of one context pair",
        lambda given: AuditFilter(equal={"phase": _DONE}, pair=given.pair(given.values["key"], given.values["value"])),
        ("at", "principal", "action", "resource", "outcome", "items", "context", "request_id"),
        (Parameter("key", "The pair's key, such as customer."), Parameter("value", "The pair's value, such as 42.")),
    ),
    NamedQuery(
        "changes-of-resource",
        "What became of a resource, and of what is below it",
        _changes,
        ("at", "principal", "action", "resource", "outcome", "approval", "reason", "request_id"),
        (Parameter("resource", "Its name, such as tenants/{tenant}/policies/gold."),),
    ),
    NamedQuery(
        "records-and-size-by-month",
        "How many events each month has, and how many bytes they are",
        lambda _: AuditFilter(),
        ("month", "events", "size", "first_at", "last_at"),
        (),
        ("month",),
        MONTHS_BACK,
    ),
    NamedQuery(
        "approvals",
        "What was asked for approval, decided, and done under it",
        lambda _: AuditFilter(
            equal={"phase": _DONE},
            either=(AuditFilter(present=("approval",)), AuditFilter(begins={"action": ("/kms.v1.ApprovalService/",)})),
        ),
        ("at", "principal", "action", "resource", "outcome", "code", "approval", "request_id"),
    ),
    NamedQuery(
        "security",
        "What matters to security: its own events, and all that is grave",
        lambda _: AuditFilter(
            equal={"phase": _DONE},
            either=(
                AuditFilter(equal={"category": (Category.SECURITY.value,)}),
                AuditFilter(equal={"severity": _GRAVE}),
            ),
        ),
        ("at", "severity", "risk", "principal", "address", "action", "resource", "outcome", "error", "request_id"),
    ),
    NamedQuery(
        "enclave-executions",
        "What calls have run in an enclave: in which one, which functions, for how long, and how it ended",
        _executions,
        (
            *("at", "principal", "action", "resource", "key_version", "outcome", "error", "items", "items_digest"),
            *("duration_us", "details", "request_id"),
        ),
        (Parameter("mrenclave", "In enclaves of this measurement only.", ""),),
    ),
)
QUERIES: Final = MappingProxyType({query.name: query for query in _QUERIES})
