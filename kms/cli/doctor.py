"""`kms doctor`: goes the way of a call step by step and says in plain words where it ends."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

import typer
from kms_client import (
    Client,
    ConfigurationError,
    Denied,
    HealthStatus,
    KmsError,
    NotFound,
    PartStatus,
    Profile,
    Tls,
    Unauthenticated,
)

from .exit_codes import ExitCode, code_of
from .output import Output, show_all
from .session import OutputOption, ProfileOption, TenantOption, tenant_name

_DEADLINE: Final = 5.0  # seconds for each step
_PARTS: Final = ("storage", "token")  # that every daemon has, as it names them in grpc.health.v1
_SERVING: Final = (PartStatus.HEALTHY, PartStatus.DEGRADED)
_SOON: Final = timedelta(days=14)


class Outcome(StrEnum):
    """How a check went."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    outcome: Outcome
    message: str
    code: ExitCode = ExitCode.OK


# What gRPC and TLS say, and what it means. The first that is found counts.
_WORDS: Final = (
    ("certificate has expired", "the daemon's certificate has expired"),
    ("certificate is not yet valid", "the daemon's certificate is not valid yet: compare the clocks"),
    ("Hostname Verification", "the daemon's certificate is for another name: set server_name in the profile"),
    ("CERTIFICATE_VERIFY_FAILED", "the daemon's certificate is not from the ca of the profile"),
    ("Connection refused", "nobody listens there: is kmsd running?"),
    ("No such file", "there is no such socket: is kmsd running?"),
    ("Permission denied", "this user may not use the socket"),
    ("WRONG_VERSION_NUMBER", "what listens there does not speak TLS"),
    ("name resolution", "the host name of the target is not known"),
    ("DNS", "the host name of the target is not known"),
)


def in_plain_words(error: KmsError) -> str:
    """Return what an error of a connection means, with its own text."""
    text = str(error)
    for sign, words in _WORDS:
        if sign.lower() in text.lower():
            return f"{words} ({text})"
    return text


def _failed(check: str, message: str, error: Exception) -> Finding:
    return Finding(check, Outcome.FAILED, message, code_of(error))


def _key_mode(tls: Tls) -> Iterator[Finding]:
    if tls.private_key is not None and Path(tls.private_key).stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield Finding("certificate", Outcome.WARNING, f"{tls.private_key} can be read by others: chmod 600")


def _certificate(tls: Tls, now: datetime) -> Iterator[Finding]:
    identity = tls.load()
    complaints = identity.complaints(now)
    for complaint in complaints:
        yield Finding("certificate", Outcome.FAILED, complaint, ExitCode.DENIED)
    yield from _key_mode(tls)
    if identity.leaf is None or complaints:
        return
    end = identity.leaf.not_valid_after_utc
    outcome = Outcome.OK if end - now > _SOON else Outcome.WARNING
    yield Finding(
        "certificate", outcome, f"{identity.principal or 'names no principal'}, until {end:%Y-%m-%d %H:%M} UTC"
    )


def _serving(check: str, status: HealthStatus, what: str) -> Finding:
    if status is HealthStatus.SERVING:
        return Finding(check, Outcome.OK, what)
    return Finding(check, Outcome.FAILED, what, ExitCode.UNAVAILABLE)


def _identity(client: Client, tenant: str | None) -> Iterator[Finding]:
    """Ask for what the identity must be able to read: there is no call that says who one is."""
    principal = client.principal
    if tenant is None and principal is not None:
        tenant = principal.tenant
    try:
        if tenant is not None:
            name = client.get_tenant(tenant_name(tenant), deadline=_DEADLINE).name
            yield Finding("identity", Outcome.OK, f"the daemon shows {name} to this client")
        else:
            next(client.list_tenants(page_size=1, deadline=_DEADLINE), None)
            yield Finding("identity", Outcome.OK, "the daemon takes this client for an operator")
    except NotFound as error:
        yield _failed("identity", f"the daemon knows no tenant {tenant}, or not for this client", error)
    except Denied as error:
        hint = "" if tenant else "; this client is no operator: give --tenant or set KMS_TENANT"
        yield _failed("identity", f"{error}{hint}", error)
    except Unauthenticated as error:
        yield _failed("identity", f"the daemon does not know who this client is: {error}", error)
    except KmsError as error:
        yield _failed("identity", str(error), error)


def _parts(client: Client) -> Iterator[Finding]:
    """Tell operators why a part is not well, and others whether it serves."""
    try:
        parts = client.get_health(deadline=_DEADLINE)
    except KmsError:
        yield from _serving_parts(client)
        return
    for part in parts:
        words = part.status.name if isinstance(part.status, PartStatus) else str(part.status)
        message = f"{words}: {part.reason}" if part.reason else words
        check = f"health of {part.name}"
        if part.status not in _SERVING:
            yield Finding(check, Outcome.FAILED, message, ExitCode.UNAVAILABLE)
        elif part.status is PartStatus.DEGRADED:
            yield Finding(check, Outcome.WARNING, message)
        else:
            yield Finding(check, Outcome.OK, message)


def _serving_parts(client: Client) -> Iterator[Finding]:
    try:
        found = client.healths(deadline=_DEADLINE)
    except KmsError as error:
        yield _failed("health of parts", str(error), error)
        return
    for part in _PARTS:
        if part not in found:
            yield Finding(f"health of {part}", Outcome.WARNING, "the daemon does not report on it")
    # The daemon itself has no name, and the services have packages.
    parts = {name: status for name, status in found.items() if name and not name.startswith(("kms.", "grpc."))}
    for part, status in sorted(parts.items(), key=lambda one: (one[0] not in _PARTS, one[0])):
        yield _serving(f"health of {part}", status, status.name)


# What is said of each type of event about records that were not what was written, and how to go on.
_LIES: Final = (
    ("tampered_record", "stored records were altered past the daemon, removed, or made up"),
    ("rolled_back_record", "the database shows an older state than was stored before"),
)


def _integrity(client: Client) -> Iterator[Finding]:
    """Tell an operator of lies that nobody has investigated; whoever may not list them hears nothing."""
    for kind, meaning in _LIES:
        try:
            events = client.list_security_events("installation", type=kind, unresolved=True, deadline=_DEADLINE)
            newest = next(iter(events), None)
        except KmsError:
            return
        if newest is not None:
            message = (
                f"{newest.name}: {meaning}. They are refused, and the others served. Do not write over them: restore them"
                " from a backup, or accept another state under a quorum (docs/operations.md, Records that lie)"
            )
            yield Finding("records", Outcome.FAILED, message, ExitCode.UNEXPECTED)


def examine(path: Path | None, tenant: str | None, now: datetime) -> Iterator[Finding]:
    """Check profile, certificate, connection, identity and health in turn; ends where nothing further can be known."""
    try:
        profile = Profile.load(path)
        yield Finding("profile", Outcome.OK, f"{profile.path}: {profile.target}")
    except ConfigurationError as error:
        yield _failed("profile", str(error), error)
        return
    try:
        if profile.tls is not None:
            yield from _certificate(profile.tls, now)
        client = Client(profile.target, profile.tls)
    except ConfigurationError as error:
        yield _failed("profile" if profile.tls is None else "certificate", str(error), error)
        return
    with client:
        try:
            status = client.health(deadline=_DEADLINE)
        except KmsError as error:
            yield _failed("connection", f"{profile.target}: {in_plain_words(error)}", error)
            return
        yield _serving("connection", status, f"{profile.target}: the daemon answers {status.name}")
        yield from _identity(client, tenant)
        yield from _parts(client)
        yield from _integrity(client)


def doctor(profile: ProfileOption = None, tenant: TenantOption = None, output: OutputOption = Output.TABLE) -> None:
    """Check profile, certificate, connection, identity and health, and say what is wrong."""
    findings = list(examine(profile, tenant, datetime.now(UTC)))
    records = [{"check": f.check, "outcome": f.outcome.value, "message": f.message} for f in findings]
    show_all(records, ("check", "outcome", "message"), output)
    raise typer.Exit(next((f.code for f in findings if f.outcome is Outcome.FAILED), ExitCode.OK))
