"""`kms audit`: the audit trail, to read."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Annotated, Final

import typer
from kms_client import AuditEvent, AuditFilter, AuditStream, Client, DataAccess

from .audit_records import of_audit_event, of_audit_query, of_audit_stream, of_data_access
from .audit_verify_online import of_status
from .choices import parse_alternatives, parse_pairs, parse_when
from .csv_output import ListOutput, ListOutputOption, csv_line, show_list
from .files import write_pieces
from .output import Output, Record, emit_line, emit_text, print_line, print_record, show
from .session import OutputOption, ProfileOption, Session, TenantOption

app = typer.Typer(
    help="The audit trail: list it, follow it, ask it, report on a subject.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

InstallationOption = Annotated[
    bool, typer.Option("--installation", help="Events that belong to no tenant; for operators.")
]
EverybodyOption = Annotated[bool, typer.Option("--all-tenants", help="Events of all tenants; for operators.")]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where", metavar="FIELD=VALUE", help="A field has this value; repeated, one of them.", show_default=False
    ),
]
BeginsOption = Annotated[
    list[str] | None,
    typer.Option("--begins", metavar="FIELD=TEXT", help="action or resource begins so.", show_default=False),
]
LeastOption = Annotated[
    list[str] | None,
    typer.Option(
        "--least", metavar="FIELD=N", help="items, bytes_in, duration_us ... is N or more.", show_default=False
    ),
]
ContextOption = Annotated[
    str, typer.Option("--context", metavar="KEY=VALUE", help="The context has this pair.", show_default=False)
]
SinceOption = Annotated[
    datetime | None,
    typer.Option(
        "--since", parser=parse_when, metavar="WHEN", help="Then or later: 24h, or a time.", show_default=False
    ),
]
UntilOption = Annotated[
    datetime | None,
    typer.Option("--until", parser=parse_when, metavar="WHEN", help="Before: 1h, or a time.", show_default=False),
]
LimitOption = Annotated[int, typer.Option("--limit", min=0, help="At most so many; 0: all.")]

_COLUMNS: Final = ("time", "outcome", "action", "principal", "address", "resource", "items", "code", "name")
_FIELDS: Final = tuple(field.name for field in dataclasses.fields(AuditEvent))
_STREAM_FIELDS: Final = tuple(field.name for field in dataclasses.fields(AuditStream))
_ACCESS_FIELDS: Final = tuple(field.name for field in dataclasses.fields(DataAccess))
_PAGE: Final = 1_000
_MOST_MARKS: Final = 256  # that the daemon takes
_OVERLAP: Final = timedelta(minutes=1)  # nodes' clocks differ


def _filter(
    since: datetime | None,
    until: datetime | None,
    where: Sequence[str] | None,
    begins: Sequence[str] | None,
    least: Sequence[str] | None,
    context: str,
) -> AuditFilter:
    pairs = parse_pairs([context], "--context") if context else {}
    numbers: dict[str, int] = {}
    for name, text in parse_pairs(least or [], "--least").items():
        if not (text.isascii() and text.isdecimal()) or len(text) > 18:
            raise typer.BadParameter(f"{name} must be a number", param_hint="--least")
        numbers[name] = int(text)
    return AuditFilter(
        since=since,
        until=until,
        equal=parse_alternatives(where or [], "--where"),
        begins=parse_alternatives(begins or [], "--begins"),
        least=numbers,
        context=next(iter(pairs.items()), None),
    )


def _parent(session: Session, *, installation: bool, everybody: bool) -> str:
    return session.events_parent(installation=installation or everybody)


@app.command("list")
def list_(
    *,
    since: SinceOption = None,
    until: UntilOption = None,
    where: WhereOption = None,
    begins: BeginsOption = None,
    least: LeastOption = None,
    context: ContextOption = "",
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="Not the newest first.")] = False,
    limit: LimitOption = 100,
    installation: InstallationOption = False,
    everybody: EverybodyOption = False,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: ListOutputOption = ListOutput.TABLE,
) -> None:
    """List events, the newest first."""
    wanted = _filter(since, until, where, begins, least, context)
    with Session(profile, tenant) as session:
        events = session.client.list_audit_events(
            _parent(session, installation=installation, everybody=everybody),
            wanted,
            oldest_first=oldest_first,
            all_tenants=everybody,
            page_size=min(limit or _PAGE, _PAGE),
        )
        show_list(map(of_audit_event, islice(events, limit or None)), _COLUMNS, output, _FIELDS)


@app.command("show")
def show_(
    event: Annotated[str, typer.Argument(help="The event: its whole name, or its last part, {stream}-{sequence}.")],
    *,
    installation: InstallationOption = False,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one event; with its values before and after a change to those who may see them."""
    with Session(profile, tenant) as session:
        parent = "" if "/" in event else f"{session.events_parent(installation=installation)}/auditEvents/"
        show(of_audit_event(session.client.get_audit_event(f"{parent}{event}")), output)


class _Tail:
    """Knows what has been shown: of each stream everything up to a number, since a stream is stored in its order."""

    def __init__(self, client: Client, parent: str, wanted: AuditFilter, since: datetime, *, everybody: bool) -> None:
        self._client = client
        self._parent = parent
        self._wanted = wanted
        self._everybody = everybody
        self._since = since
        self._newest = since
        self._marks: dict[str, tuple[datetime, int]] = {}

    def look(self) -> Iterator[AuditEvent]:
        """Yield what has been stored since the last look, the oldest first."""
        newest_marks = sorted(self._marks.items(), key=lambda mark: mark[1], reverse=True)[:_MOST_MARKS]
        wanted = dataclasses.replace(
            self._wanted, since=self._since, beyond={stream: last for stream, (_, last) in newest_marks}
        )
        events = self._client.list_audit_events(
            self._parent, wanted, oldest_first=True, all_tenants=self._everybody, page_size=_PAGE
        )
        for event in events:
            _, last = self._marks.get(event.stream, (event.time, 0))
            if event.sequence > last:
                self._marks[event.stream] = (event.time, event.sequence)
                self._newest = max(self._newest, event.time)
                yield event
        self._since = max(self._since, self._newest - _OVERLAP)
        # Times of a stream do not go back, so that what it had before is not found again.
        self._marks = {stream: mark for stream, mark in self._marks.items() if mark[0] >= self._since}


def _line(event: AuditEvent) -> str:
    record: Record = of_audit_event(event)
    who = event.principal or event.address or event.node
    what = f" on {event.resource}" if event.resource else ""
    return f"{record['time']} {event.outcome or event.phase} {event.action} by {who}{what} ({event.name})"


@app.command()
def tail(
    *,
    since: SinceOption = None,
    where: WhereOption = None,
    begins: BeginsOption = None,
    least: LeastOption = None,
    context: ContextOption = "",
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what is stored from now on.")] = False,
    interval: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds between two looks.")] = 2.0,
    looks: Annotated[int, typer.Option(min=0, help="Leave off after so many looks; 0: with Ctrl-C.")] = 0,
    installation: InstallationOption = False,
    everybody: EverybodyOption = False,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: ListOutputOption = ListOutput.TABLE,
) -> None:
    """Show events as they are stored, from one minute ago on: a line each, or a JSON object on a line each."""
    wanted = _filter(None, None, where, begins, least, context)
    with Session(profile, tenant) as session:
        parent = _parent(session, installation=installation, everybody=everybody)
        begin = since or datetime.now(UTC) - _OVERLAP
        seen = _Tail(session.client, parent, wanted, begin, everybody=everybody)
        if output is ListOutput.CSV:
            emit_text(csv_line(_FIELDS))
        turn = 0
        while True:
            for event in seen.look():
                _tell(event, output)
            turn += 1
            if not follow or turn == looks:
                return
            time.sleep(interval)


def _tell(event: AuditEvent, output: ListOutput) -> None:
    match output:
        case ListOutput.JSON:
            emit_line(of_audit_event(event))
        case ListOutput.CSV:
            emit_text(csv_line(of_audit_event(event).values()))
        case ListOutput.TABLE:
            print_line(_line(event))


@app.command()
def queries(*, profile: ProfileOption = None, output: ListOutputOption = ListOutput.TABLE) -> None:
    """List the named queries."""
    with Session(profile) as session:
        records = [of_audit_query(query) for query in session.client.list_audit_queries()]
    if output is ListOutput.JSON:
        show_list(records, (), output, ())
        return
    fields = ("name", "description", "parameters")
    show_list([{**record, "parameters": _parameters(record)} for record in records], fields, output, fields)


def _parameters(record: Record) -> str:
    parameters = record["parameters"]
    shown = []
    for one in parameters if isinstance(parameters, list) else []:
        given = f"{one['name']}={one['default']}" if not one["required"] else f"{one['name']}=..."
        shown.append(given if one["required"] else f"[{given}]")
    return " ".join(shown)


@app.command()
def query(
    name: Annotated[str, typer.Argument(help="A query of `kms audit queries`.")],
    *,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", metavar="NAME=VALUE", help="A parameter of the query.", show_default=False),
    ] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: LimitOption = 1_000,
    installation: InstallationOption = False,
    everybody: EverybodyOption = False,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: ListOutputOption = ListOutput.TABLE,
) -> None:
    """Ask a named query about a period, by default the last 30 days."""
    given = parse_pairs(param or [], "--param")
    with Session(profile, tenant) as session:
        parent = _parent(session, installation=installation, everybody=everybody)
        # Pages follow each other within one period, which must not go on with the clock.
        end = until or datetime.now(UTC)
        columns, rows = _ask(session.client, parent, name, given, since, end, limit, everybody=everybody)
        show_list(islice(rows, limit or None), columns, output, columns)


def _ask(
    client: Client,
    parent: str,
    name: str,
    given: Mapping[str, str],
    since: datetime | None,
    until: datetime,
    limit: int,
    *,
    everybody: bool,
) -> tuple[tuple[str, ...], Iterator[Record]]:
    """Return the columns of a query, and its rows as they are asked for."""

    def page(token: str) -> tuple[tuple[str, ...], tuple[Record, ...], str]:
        answer = client.query_audit(
            parent,
            name,
            given,
            since=since,
            until=until,
            all_tenants=everybody,
            page_size=min(limit or _PAGE, _PAGE),
            page_token=token,
        )
        return answer.columns, answer.rows, answer.next_page_token

    columns, first, following = page("")

    def rows() -> Iterator[Record]:
        yield from first
        token = following
        while token:
            _, more, token = page(token)
            yield from more

    return columns, rows()


@app.command()
def subject(
    *,
    context: Annotated[
        str, typer.Option("--context", metavar="KEY=VALUE", help="The pair that names the subject: customer=42.")
    ],
    since: SinceOption = None,
    until: UntilOption = None,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: ListOutputOption = ListOutput.TABLE,
) -> None:
    """Report who has used which data of one subject."""
    [(key, value)] = parse_pairs([context], "--context").items()
    with Session(profile, tenant) as session:
        report = session.client.report_data_access(session.tenant, key, value, since=since, until=until)
    columns = ("principal", "action", "resource", "outcome", "events", "items", "first_time", "last_time")
    show_list(map(of_data_access, report.accesses), columns, output, _ACCESS_FIELDS)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file, which only you can read.")],
    *,
    profile: ProfileOption = None,
) -> None:
    """Write the whole trail into a file for `kms audit verify`; for operators."""
    size = 0
    with Session(profile) as session:
        for piece in write_pieces(file, session.client.export_audit()):
            size += piece
    print_line(f"{file}: {size} bytes; look at it with kms audit verify {file}")


@app.command()
def status(*, profile: ProfileOption = None, output: ListOutputOption = ListOutput.TABLE) -> None:
    """Show how far the streams of events are and, as a table, the last checkpoint and verification; for operators."""
    with Session(profile) as session:
        found = session.client.get_audit_status()
    columns = ("stream", "node", "begin_time", "sequence", "last_time")
    show_list(map(of_audit_stream, found.streams), columns, output, _STREAM_FIELDS)
    if output is ListOutput.TABLE:
        print_line("")
        print_record(of_status(found))
