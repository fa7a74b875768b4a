"""The audit trail in messages: filters read from them, events and answers put into them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from kms.core.audit import FIELDS, AuditEvent, StreamUid
from kms.core.audit_filters import AMOUNTS, BEGINNINGS, CHOICES, KINDS, AuditFilter, AuditPosition, Kind, StreamHead
from kms.core.audit_queries import NamedQuery
from kms.core.canonical import EPOCH, Value, microseconds
from kms.core.context import check_key
from kms.core.errors import invalid
from kms.core.names import AuditEventName, SecurityEventsParent
from kms.rpc.fields import parse_text
from kms.rpc.messages import timestamp
from kms.rpc.paging import Page
from kms.v1 import audit_pb2 as pb

MOST_FIELDS: Final = 64
MOST_VALUES: Final = 32
MOST_POSITIONS: Final = 256
LONGEST_VALUE: Final = 1_024  # characters
# A page ends before it is too large for a reader that takes messages of gRPC's usual size, 4 MiB.
LARGEST_PAGE: Final = 2 * 2**20  # bytes

_LARGEST: Final = 2**63 - 1
_MICROSECOND: Final = timedelta(microseconds=1)
# Fields by their names in the API.
_OTHERWISE: Final = {"at": "time", "kept_until": "keep_time"}
FILTERED: Final = {_OTHERWISE.get(name, name): name for name in KINDS if name != "changes"}
# Of an event's fields those that a message takes over as they are.
_AS_THEY_ARE: Final = tuple(
    name for name in FIELDS if KINDS[name] in (Kind.TEXT, Kind.NUMBER) or name in ("context_digest", "items_digest")
)


def parse_filter(message: pb.AuditEventFilter) -> tuple[AuditFilter, tuple[str, str] | None]:
    """Read a filter, and the pair of the context that it wants.

    Raises:
        InvalidRequest: a field of it breaks its rule.
    """
    for name in ("equal", "begins", "least"):
        fields = [one.field for one in getattr(message, name)]
        if len(fields) > MOST_FIELDS or len(set(fields)) < len(fields):
            raise invalid(f"filter.{name}", f"must have at most {MOST_FIELDS} fields, each once")
    since, until = period_of(message, "filter.")
    wanted = AuditFilter(
        since=since,
        until=until,
        equal={FILTERED[one.field]: _parse_values(one) for one in map(_known, message.equal)},
        begins={one.field: _parse_beginnings(one) for one in message.begins},
        least={one.field: _parse_least(one) for one in message.least},
        beyond=_parse_positions(message.beyond),
    )
    return wanted, parse_pair(message.context, "filter.context") if message.HasField("context") else None


def parse_pair(pair: pb.AuditEventFilter.Pair, field: str) -> tuple[str, str]:
    """Read a pair of the context."""
    if "\0" in pair.value or len(pair.value) > LONGEST_VALUE:
        raise invalid(f"{field}.value", f"must have at most {LONGEST_VALUE} characters, none of them NUL")
    return check_key(pair.key, f"{field}.key"), pair.value


def period_of(message: Any, prefix: str = "") -> tuple[datetime | None, datetime | None]:
    """Read the fields since and until."""
    since, until = (
        _moment(getattr(message, name), f"{prefix}{name}") if message.HasField(name) else None
        for name in ("since", "until")
    )
    return since, until


def _moment(stamp: Timestamp, field: str) -> datetime:
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise invalid(field, "must be a time in the years 1 to 9999") from error


def _known(one: pb.AuditEventFilter.Values) -> pb.AuditEventFilter.Values:
    if one.field not in FILTERED:
        raise invalid("filter.equal", f"must name one of {', '.join(FILTERED)}")
    return one


def _texts(one: pb.AuditEventFilter.Values, field: str) -> list[str]:
    if not 1 <= len(one.values) <= MOST_VALUES:
        raise invalid(field, f"must have 1 to {MOST_VALUES} values for each field")
    if any("\0" in value or len(value) > LONGEST_VALUE for value in one.values):
        raise invalid(field, f"must have values of at most {LONGEST_VALUE} characters, none of them NUL")
    return list(one.values)


def _parse_values(one: pb.AuditEventFilter.Values) -> tuple[Value, ...]:
    name = FILTERED[one.field]
    return tuple(_parse_value(name, text) for text in _texts(one, "filter.equal"))


def _parse_value(name: str, text: str) -> Value:
    kind = KINDS[name]
    if kind is Kind.TEXT:
        if name in CHOICES and text not in CHOICES[name]:
            raise invalid("filter.equal", f"{name} must be one of {', '.join(filter(None, CHOICES[name]))}")
        return text
    try:
        if kind is Kind.NUMBER:
            return _parse_number(text)
        if kind is Kind.UID:
            return UUID(text) if text else None
        if kind is Kind.BYTES:
            return bytes.fromhex(text)
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else invalid_value(name, "a time with its zone")
    except (ValueError, OverflowError):
        expected = {Kind.NUMBER: "a number", Kind.UID: "a UUID", Kind.BYTES: "hexadecimal digits"}
        return invalid_value(name, expected.get(kind, "a time in RFC 3339"))


def invalid_value(name: str, expected: str) -> Value:
    """Refuse a value.

    Raises:
        InvalidRequest: always.
    """
    raise invalid("filter.equal", f"{name} must be {expected}")


def _parse_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 19 or int(text) > _LARGEST:
        raise ValueError("no number")
    return int(text)


def _parse_beginnings(one: pb.AuditEventFilter.Values) -> tuple[str, ...]:
    if one.field not in BEGINNINGS:
        raise invalid("filter.begins", f"must name one of {', '.join(BEGINNINGS)}")
    return tuple(_texts(one, "filter.begins"))


def _parse_least(one: pb.AuditEventFilter.Least) -> int:
    if one.field not in AMOUNTS or one.value > _LARGEST:
        raise invalid("filter.least", f"must name one of {', '.join(AMOUNTS)}, and a number below 2^63")
    return int(one.value)


def _parse_positions(positions: Any) -> Mapping[StreamUid, int]:
    if len(positions) > MOST_POSITIONS:
        raise invalid("filter.beyond", f"must have at most {MOST_POSITIONS} positions")
    try:
        return {StreamUid(UUID(one.stream)): min(one.sequence, _LARGEST) for one in positions}
    except ValueError as error:
        raise invalid("filter.beyond", "must name streams by their UUIDs") from error


def token_of(after: AuditPosition) -> str:
    """Return what a page token holds."""
    return f"{microseconds(after.at)}/{after.stream}/{after.sequence}"


def position_of(page: Page) -> AuditPosition | None:
    """Read where a page begins; None for the first.

    Raises:
        InvalidRequest: the token is of another list.
    """
    if not page.after:
        return None
    try:
        at, stream, sequence = page.after.split("/")
        return AuditPosition(EPOCH + int(at) * _MICROSECOND, StreamUid(UUID(stream)), _parse_number(sequence))
    except (ValueError, OverflowError) as error:
        raise invalid("page_token", "must be the next_page_token of the same list") from error


def event_message(parent: SecurityEventsParent, event: AuditEvent, values: str = "") -> pb.AuditEvent:
    """Format an event, with its *values* before and after a change for those who may see them."""
    return pb.AuditEvent(
        name=str(AuditEventName(parent.tenant, event.stream, event.sequence)),
        stream=str(event.stream),
        sequence=event.sequence,
        time=timestamp(event.at),
        tenant=str(event.tenant),
        intent_stream=str(event.intent_stream or ""),
        key=str(event.key or ""),
        changes=values,
        has_changes=bool(event.changes),
        keep_time=timestamp(event.kept_until),
        **{name: getattr(event, name) for name in _AS_THEY_ARE},
    )


def query_message(query: NamedQuery) -> pb.AuditQuery:
    """Format a named query."""
    return pb.AuditQuery(
        name=query.name,
        description=query.line,
        parameters=[
            pb.AuditQuery.Parameter(
                name=one.name, description=one.line, required=one.default is None, default=one.default or ""
            )
            for one in query.parameters
        ],
        columns=query.columns,
        groups=query.groups,
    )


def stream_message(head: StreamHead) -> pb.AuditStatus.Stream:
    """Format how far a stream is."""
    return pb.AuditStatus.Stream(
        stream=str(head.stream),
        node=head.node,
        begin_time=timestamp(head.began_at),
        sequence=head.sequence,
        last_time=timestamp(head.last_at),
        hash=head.hash,
    )


def parse_parameters(given: Mapping[str, str]) -> dict[str, str]:
    """Read the parameters of a named query."""
    if len(given) > MOST_FIELDS:
        raise invalid("parameters", f"must have at most {MOST_FIELDS} entries")
    return {name: parse_text(value, "parameters", LONGEST_VALUE) for name, value in given.items()}
