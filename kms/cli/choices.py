"""Values of options: choices by name, periods, times, labels and counts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

import typer


class PurposeChoice(StrEnum):
    """kms_client.Purpose as a command line spells it; a test compares them."""

    ENCRYPT = "encrypt"
    DETERMINISTIC = "deterministic"
    DATA_KEY = "data-key"
    INDEX = "index"
    PSEUDONYM = "pseudonym"
    FORMAT_PRESERVING = "format-preserving"


class SuiteChoice(StrEnum):
    """kms_client.Suite."""

    AES_256_GCM = "aes-256-gcm"
    XAES_256_GCM = "xaes-256-gcm"
    AES_SIV = "aes-siv"
    HMAC_SHA_256 = "hmac-sha-256"
    AES_256_FF1 = "aes-256-ff1"


class LevelChoice(StrEnum):
    """kms_client.ProtectionLevel."""

    SOFTWARE = "software"
    ENCLAVE = "enclave"
    HSM = "hsm"


class ClassChoice(StrEnum):
    """kms_client.Classification."""

    PUBLIC = "public"
    INTERNAL = "internal"
    CONFIDENTIAL = "confidential"
    SECRET = "secret"  # noqa: S105  a class's name


class AuditContextChoice(StrEnum):
    """kms_client.AuditContext."""

    HASHED = "hashed"
    PLAIN = "plain"
    NONE = "none"


class PlaceKindChoice(StrEnum):
    """kms_client.PlaceKind."""

    COLUMN = "column"
    BLOBS = "blobs"
    DATA_KEYS = "data-keys"
    OTHER = "other"


class PrincipalKindChoice(StrEnum):
    """kms_client.PrincipalKind."""

    SERVICE = "service"
    PERSON = "person"


class SeverityChoice(StrEnum):
    """kms_client.Severity."""

    INFO = "info"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class FrameworkChoice(StrEnum):
    """What a compliance report is for."""

    SOC2 = "soc2"
    PCI_DSS = "pci-dss"
    HIPAA = "hipaa"
    GDPR = "gdpr"
    ISO27001 = "iso27001"
    ALL = "all"


class RuleChoice(StrEnum):
    """What a key may have otherwise than its policy: the options that set it, and kms_client.Rule by name."""

    ROTATION_PERIOD = "rotation-period"
    ENCRYPTION_LIMIT = "encryption-limit"
    CACHE_LIFETIME = "cache-lifetime"
    QUARANTINE_PERIOD = "quarantine"
    GRACE_PERIOD = "grace"
    AUTOMATIC_RETIREMENT = "automatic-retirement"


_PERIOD: Final = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_COUNT: Final = re.compile(r"([1-9][0-9]{0,9})=([0-9]{1,18})")


def parse_period(text: str) -> timedelta:
    """Read seconds, minutes, hours or days, such as 90s, 10m, 24h or 90d.

    Raises:
        BadParameter: another form.
    """
    found = _PERIOD.fullmatch(text)
    if found is None:
        raise typer.BadParameter("must be a number and s, m, h or d, such as 10m, 24h or 90d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def parse_schedule(text: str) -> timedelta:
    """Read a period, or `never`, which is zero.

    Raises:
        BadParameter: another form.
    """
    return timedelta(0) if text == "never" else parse_period(text)


def parse_time(text: str) -> datetime:
    """Read a time in RFC 3339, such as 2026-03-01T12:30:00Z.

    Raises:
        BadParameter: another form, or no time zone.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = datetime.min  # noqa: DTZ901 - without a zone, it is refused below
    if moment.utcoffset() is None:
        raise typer.BadParameter("must be a time with its zone, such as 2026-03-01T12:30:00Z")
    return moment


def parse_day(text: str) -> datetime:
    """Read a day such as 2026-03-01, which means its beginning in UTC, or a time as parse_time() does.

    Raises:
        BadParameter: another form.
    """
    if _DAY.fullmatch(text) is not None:
        return parse_time(f"{text}T00:00:00Z")
    return parse_time(text)


def parse_when(text: str) -> datetime:
    """Read a time in RFC 3339, or a period before now, such as 24h.

    Raises:
        BadParameter: another form.
    """
    if _PERIOD.fullmatch(text):
        return datetime.now(UTC) - parse_period(text)
    try:
        return parse_time(text)
    except typer.BadParameter as error:
        raise typer.BadParameter("must be a period such as 24h, or a time such as 2026-03-01T12:30:00Z") from error


def parse_counts(pairs: Sequence[str], option: str) -> dict[int, int]:
    """Read VERSION=N pairs.

    Raises:
        BadParameter: *option* has another form, or a repeated version.
    """
    counts: dict[int, int] = {}
    for pair in pairs:
        found = _COUNT.fullmatch(pair)
        if found is None or int(found[1]) in counts:
            raise typer.BadParameter(f"{pair!r} must have the form VERSION=N, each VERSION once", param_hint=option)
        counts[int(found[1])] = int(found[2])
    return counts


def parse_labels(pairs: list[str]) -> dict[str, str]:
    """Read KEY=VALUE pairs.

    Raises:
        BadParameter: another form, or a repeated key.
    """
    return parse_pairs(pairs, "--label")


def parse_pairs(pairs: Sequence[str], option: str) -> dict[str, str]:
    """Read KEY=VALUE pairs of any *option*.

    Raises:
        BadParameter: another form, or a repeated key.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or key in found:
            raise typer.BadParameter(f"{pair!r} must have the form KEY=VALUE, each KEY once", param_hint=option)
        found[key] = value
    return found


def parse_alternatives(pairs: Sequence[str], option: str) -> dict[str, tuple[str, ...]]:
    """Read KEY=VALUE pairs, of which a repeated key has several values.

    Raises:
        BadParameter: another form.
    """
    found: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{pair!r} must have the form KEY=VALUE", param_hint=option)
        found[key] = (*found.get(key, ()), value)
    return found


def parse_founder(text: str) -> tuple[str, tuple[str, ...]]:
    """Read PRINCIPAL=ROLE,ROLE.

    Raises:
        BadParameter: another form.
    """
    principal, equals, roles = text.partition("=")
    if not equals or not principal or not all(roles.split(",")):
        raise typer.BadParameter(
            f"{text!r} must have the form PRINCIPAL=ROLE,ROLE such as alice=tenant-admin", param_hint="--founder"
        )
    return principal, tuple(roles.split(","))
