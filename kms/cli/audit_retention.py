"""`kms audit holds` and `kms audit archives`: what is kept of the audit trail, and where."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Annotated, Final

import typer
from kms_client import AuditArchive, LegalHold, under

from .choices import parse_day
from .output import Output, Record, print_line, show, show_all
from .records import moment
from .session import ApprovalOption, OutputOption, ProfileOption, Session, TenantOption

holds = typer.Typer(help="Legal holds: events that must stay.", no_args_is_help=True, rich_markup_mode=None)
archives = typer.Typer(
    help="Archives: months of the trail that are files; for operators.", no_args_is_help=True, rich_markup_mode=None
)

Hold = Annotated[str, typer.Argument(help="The hold: its id or its whole name.")]
InstallationOption = Annotated[
    bool, typer.Option("--installation", help="Events that belong to no tenant; for operators.")
]

_HOLD_COLUMNS: Final = ("name", "reason", "start_time", "end_time", "create_time", "creator", "release_time")
_ARCHIVE_COLUMNS: Final = ("name", "state", "events", "file_name", "file_size", "detach_time", "old")


def of_hold(hold: LegalHold) -> Record:
    """Return all fields of a hold."""
    return {
        "name": hold.name,
        "reason": hold.reason,
        "resource": hold.resource,
        "principal": hold.principal,
        "start_time": moment(hold.start_time),
        "end_time": moment(hold.end_time),
        "create_time": moment(hold.create_time),
        "creator": hold.creator,
        "release_time": moment(hold.release_time),
        "releaser": hold.releaser,
    }


def of_archive(archive: AuditArchive) -> Record:
    """Return all fields of an archive."""
    return {
        "name": archive.name,
        "state": archive.state,
        "events": archive.events,
        "streams": archive.streams,
        "first_time": moment(archive.first_time),
        "last_time": moment(archive.last_time),
        "file_name": archive.file_name,
        "file_size": archive.file_size,
        "file_sha256": archive.file_sha256,
        "body": archive.body,
        "signature": base64.b64encode(archive.signature).decode("ascii"),
        "create_time": moment(archive.create_time),
        "verify_time": moment(archive.verify_time),
        "detach_time": moment(archive.detach_time),
        "delete_time": moment(archive.delete_time),
        "deleter": archive.deleter,
        "old": archive.old,
    }


@holds.command("create")
def create(
    hold: Annotated[str, typer.Argument(help="An id for it.")],
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why.")],
    resource: Annotated[str, typer.Option("--resource", help="Events about this resource are meant.")] = "",
    principal: Annotated[str, typer.Option("--principal", help="Events of this principal are meant.")] = "",
    start: Annotated[
        datetime | None,
        typer.Option("--from", parser=parse_day, metavar="TIME", help="Events from then on.", show_default=False),
    ] = None,
    end: Annotated[
        datetime | None,
        typer.Option("--to", parser=parse_day, metavar="TIME", help="Events before then.", show_default=False),
    ] = None,
    installation: InstallationOption = False,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Keep the months in which there are events, in the database as long as they are there, and as files."""
    with Session(profile, tenant) as session:
        made = session.client.create_legal_hold(
            session.events_parent(installation=installation),
            hold,
            reason=reason,
            resource=resource,
            principal=principal,
            start=start,
            end=end,
        )
    show(of_hold(made), output)


@holds.command("release")
def release(
    hold: Hold,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why, for those who approve.")] = "",
    approval: ApprovalOption = "",
    installation: InstallationOption = False,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """End a hold; it stays in the list."""
    with Session(profile, tenant) as session, under(session.approval(approval)):
        parent = "" if "/" in hold else f"{session.events_parent(installation=installation)}/legalHolds/"
        released = session.client.release_legal_hold(f"{parent}{hold}", reason=reason)
    show(of_hold(released), output)


@holds.command("list")
def list_holds(
    *,
    installation: InstallationOption = False,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List holds, released or not."""
    with Session(profile, tenant) as session:
        found = list(session.client.list_legal_holds(session.events_parent(installation=installation)))
    show_all([of_hold(hold) for hold in found], _HOLD_COLUMNS, output)


@archives.command("list")
def list_archives(*, profile: ProfileOption = None, output: OutputOption = Output.TABLE) -> None:
    """List archives, the oldest month first."""
    with Session(profile) as session:
        found = list(session.client.list_audit_archives())
    show_all([of_archive(archive) for archive in found], _ARCHIVE_COLUMNS, output)


@archives.command("run")
def run(*, profile: ProfileOption = None) -> None:
    """Begin to archive what is old enough, as the daemon does by itself once a day."""
    with Session(profile) as session:
        begun = session.client.archive_audit()
    print_line(f"operation {begun.operation}: {begun.months} months; `kms audit archives list` shows how far it is")


@archives.command("remove")
def remove(
    month: Annotated[str, typer.Argument(help="The month, such as 2024-07.")],
    *,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Remove the file of a month that need not be kept any more; what was signed of it stays."""
    with Session(profile) as session:
        show(of_archive(session.client.remove_archive(month)), output)
