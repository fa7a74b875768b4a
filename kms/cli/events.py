"""`kms events`: what the daemon has noticed, and what came of looking into it."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import typer
from kms_client import Client, SecurityEvent, Severity

from .access_records import of_security_event, of_security_event_sum
from .choices import SeverityChoice, parse_period
from .output import Output, Record, emit_line, print_line, show, show_all
from .records import choice
from .session import OutputOption, ProfileOption, Session, TenantOption

app = typer.Typer(
    help="Security events: list them, follow them, investigate them.", no_args_is_help=True, rich_markup_mode=None
)

Name = Annotated[str, typer.Argument(help="The event: its UUID or its whole name.")]
InstallationOption = Annotated[
    bool, typer.Option("--installation", help="Those that belong to no tenant; for operators.")
]
SeverityOption = Annotated[
    SeverityChoice | None, typer.Option("--severity", help="This severity or a worse one.", show_default=False)
]
TypeOption = Annotated[
    str, typer.Option("--type", help="This type only, such as repeated_denials.", show_default=False)
]
SinceOption = Annotated[
    timedelta | None,
    typer.Option(
        "--since",
        parser=parse_period,
        metavar="PERIOD",
        help="Stored within this time, such as 24h.",
        show_default=False,
    ),
]
EtagOption = Annotated[
    str, typer.Option("--etag", help="Act only if the event still has this etag.", show_default=False)
]

_COLUMNS: Final = ("name", "create_time", "severity", "type", "count", "principal", "address", "resource", "resolved")
_OVERLAP: Final = timedelta(minutes=1)  # nodes' clocks differ
_MOST_SEEN: Final = 10_000  # events that are not shown twice


def _severity(wanted: SeverityChoice | None) -> Severity | None:
    return None if wanted is None else Severity[wanted.name]


@app.command("list")
def list_(
    *,
    severity: SeverityOption = None,
    type_: TypeOption = "",
    since: SinceOption = None,
    unresolved: Annotated[bool, typer.Option("--unresolved", help="Only what nobody has resolved.")] = False,
    installation: InstallationOption = False,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List events, those that were stored last first."""
    with Session(profile, tenant) as session:
        events = session.client.list_security_events(
            session.events_parent(installation=installation),
            since=None if since is None else datetime.now(UTC) - since,
            severity=_severity(severity),
            type=type_,
            unresolved=unresolved,
        )
        records = [of_security_event(event) for event in events]
    show_all(records, _COLUMNS, output)


@app.command("show")
def show_(
    event: Name,
    *,
    installation: InstallationOption = False,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one event."""
    with Session(profile, tenant) as session:
        name = session.event(event, installation=installation)
        show(of_security_event(session.client.get_security_event(name)), output)


def _new(
    client: Client, parent: str, severity: Severity | None, since: datetime, seen: OrderedDict[str, None]
) -> Iterator[SecurityEvent]:
    """Yield the events that were stored since, and not yielded before, the oldest first."""
    found = list(client.list_security_events(parent, since=since, severity=severity, page_size=1_000))
    for event in reversed(found):
        if event.name not in seen:
            seen[event.name] = None
            if len(seen) > _MOST_SEEN:
                seen.popitem(last=False)
            yield event


def _line(event: SecurityEvent) -> str:
    record: Record = of_security_event(event)
    who = event.principal or event.address or "unknown"
    what = f" on {event.resource}" if event.resource else ""
    return f"{record['create_time']} {choice(event.severity)} {event.type} x{event.count} by {who}{what} ({event.name})"


@app.command()
def tail(
    *,
    severity: SeverityOption = None,
    interval: Annotated[float, typer.Option(min=1, max=60, help="Seconds between two looks.")] = 2.0,
    looks: Annotated[int, typer.Option(min=0, help="Leave off after so many looks; 0: with Ctrl-C.")] = 0,
    installation: InstallationOption = False,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show events as they are stored, from one minute ago on: a line each, or a JSON object on a line each."""
    seen: OrderedDict[str, None] = OrderedDict()
    with Session(profile, tenant) as session:
        parent = session.events_parent(installation=installation)
        since = datetime.now(UTC) - _OVERLAP
        turn = 0
        while True:
            newest = since
            for event in _new(session.client, parent, _severity(severity), since, seen):
                newest = max(newest, event.create_time - _OVERLAP)
                if output is Output.JSON:
                    emit_line(of_security_event(event))
                else:
                    print_line(_line(event))
            since = newest
            turn += 1
            if turn == looks:
                return
            time.sleep(interval)


@app.command()
def note(
    event: Name,
    text: Annotated[str, typer.Argument(help="What is known; it takes the place of the notes before.")],
    *,
    incident: Annotated[
        str | None, typer.Option("--incident", help="What the incident is called elsewhere.", show_default=False)
    ] = None,
    etag: EtagOption = "",
    installation: InstallationOption = False,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Write down what is known of an event."""
    with Session(profile, tenant) as session:
        name = session.event(event, installation=installation)
        changed = session.client.update_security_event(name, notes=text, incident=incident, etag=etag)
    show(of_security_event(changed), output)


@app.command()
def resolve(
    event: Name,
    *,
    false_alarm: Annotated[
        bool | None, typer.Option("--false-alarm/--no-false-alarm", help="Whether it was one.", show_default=False)
    ] = None,
    reopen: Annotated[bool, typer.Option("--reopen", help="It is not resolved after all.")] = False,
    etag: EtagOption = "",
    installation: InstallationOption = False,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say that an event needs nobody any more."""
    with Session(profile, tenant) as session:
        name = session.event(event, installation=installation)
        changed = session.client.update_security_event(name, resolved=not reopen, false_alarm=false_alarm, etag=etag)
    show(of_security_event(changed), output)


@app.command()
def summary(
    *,
    days: Annotated[int, typer.Option(min=1, max=366, help="How many days, today included.")] = 30,
    installation: InstallationOption = False,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Sum events up by day (UTC), type and severity."""
    with Session(profile, tenant) as session:
        sums = session.client.summarize_security_events(session.events_parent(installation=installation), days=days)
    columns = ("day", "type", "severity", "events", "occurrences", "resolved")
    show_all([of_security_event_sum(one) for one in sums], columns, output)
