"""Fields of requests parsed once into typed values; each rule stands beside its field in the .proto."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration

from kms.core.context import Pair
from kms.core.errors import InvalidRequest, NotSupported, Violation, invalid
from kms.core.policy import LONGEST_ROTATION, SHORTEST_ROTATION
from kms.core.suites import ProtectionLevel, Purpose, Suite
from kms.services.fields import Varying
from kms.v1 import crypto_pb2

MOST_LABELS: Final = 32
LONGEST_DISPLAY_NAME: Final = 128
LONGEST_ETAG: Final = 64
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9_.-]{0,63}")


def parse_display_name(text: str, field: str) -> str:
    """Check a text for people: at most 128 characters, none of them a control character."""
    return parse_text(text, field, LONGEST_DISPLAY_NAME)


def parse_text(text: str, field: str, longest: int) -> str:
    """Check a text for people: at most *longest* characters, none of them a control character."""
    if len(text) > longest:
        raise invalid(field, f"must have at most {longest} characters")
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise invalid(field, "must not contain control characters")
    return text


def parse_labels(labels: Mapping[str, str], field: str) -> dict[str, str]:
    """Check labels: at most 32 pairs."""
    if len(labels) > MOST_LABELS:
        raise invalid(field, f"must have at most {MOST_LABELS} pairs")
    violations = []
    for key, value in labels.items():
        if _LABEL_KEY.fullmatch(key) is None:
            violations.append(Violation(field, "each key must match [a-z][a-z0-9_-]{0,62}"))
        if _LABEL_VALUE.fullmatch(value) is None:
            violations.append(Violation(field, "each value must match [A-Za-z0-9_.-]{0,63}"))
    if violations:
        raise InvalidRequest(*dict.fromkeys(violations))
    return dict(labels)


def parse_purpose(number: int) -> Purpose:
    """Read the purpose of a new key, which must be given."""
    try:
        return Purpose(number)
    except ValueError as error:
        names = ", ".join(purpose.name for purpose in Purpose)
        raise invalid("key.purpose", f"must be one of {names}") from error


def parse_suite(number: int) -> Suite | None:
    """Read the suite of a new key; None where it is left to the purpose."""
    if number == 0:
        return None
    try:
        return Suite(number)
    except ValueError as error:
        names = ", ".join(suite.name for suite in Suite)
        raise invalid("key.suite", f"must be one of {names}") from error


def parse_level(number: int) -> ProtectionLevel:
    """Read the protection level of a new key; only SOFTWARE exists yet.

    Raises:
        NotSupported: a level of a later release.
    """
    try:
        level = ProtectionLevel(number or ProtectionLevel.SOFTWARE)
    except ValueError as error:
        raise invalid("key.protection_level", "must be SOFTWARE") from error
    if level is not ProtectionLevel.SOFTWARE:
        raise NotSupported(f"protection level {level.name} is not in this release")
    return level


def parse_rotation(present: bool, period: Duration, purpose: Purpose) -> timedelta | None:
    """Read a key's own rotation_period; None where its policy's holds."""
    if not present:
        return None
    if purpose is Purpose.DETERMINISTIC:
        raise invalid("key.rotation_period", "must be absent for a DETERMINISTIC key")
    return parse_hours(period, "key.rotation_period", SHORTEST_ROTATION, LONGEST_ROTATION)


def parse_hours(period: Duration, field: str, shortest: timedelta, longest: timedelta) -> timedelta:
    """Read a period of whole hours."""
    hours = timedelta(hours=1)
    return _parse_period(period, field, hours, shortest, longest)


def parse_seconds(period: Duration, field: str, shortest: timedelta, longest: timedelta) -> timedelta:
    """Read a period of whole seconds."""
    return _parse_period(period, field, timedelta(seconds=1), shortest, longest)


def _parse_period(period: Duration, field: str, unit: timedelta, shortest: timedelta, longest: timedelta) -> timedelta:
    name = "hours" if unit == timedelta(hours=1) else "seconds"
    least, most = shortest // unit, longest // unit
    number, rest = divmod(period.seconds, unit // timedelta(seconds=1))
    if rest or period.nanos or not least <= number <= most:
        raise invalid(field, f"must be whole {name}, {least} to {most}")
    return number * unit


def parse_etag(text: str, field: str = "etag") -> str:
    """Check an etag; empty for none."""
    if len(text) > LONGEST_ETAG:
        raise invalid(field, f"must have at most {LONGEST_ETAG} characters")
    return text


def pairs_of(context: Iterable[crypto_pb2.ContextPair]) -> list[Pair]:
    """Return the pairs as given; the core checks them."""
    return [(pair.key, pair.value) for pair in context]


def varying_of(request: Any) -> Varying | None:
    """Return the varying pair of a batch, None where there is none."""
    if not request.HasField("varying"):
        return None
    return Varying(request.varying.key, request.varying.values[:])
