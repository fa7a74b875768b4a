"""`kms keys`: the states of keys and versions."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer
from kms_client import KeyName, Propagation, under

from .choices import parse_period
from .confirm import YesOption, confirm
from .exit_codes import ExitCode
from .output import Output, Record, emit_json, print_line, print_record, print_records, show
from .records import of_key, of_key_version, of_propagation
from .session import ApprovalOption, EtagOption, KeyArgument, OutputOption, ProfileOption, Session, TenantOption
from .words import STOP_COLUMNS, stop_line, stop_rows

app = typer.Typer(rich_markup_mode=None)

Reason = Annotated[str, typer.Option(help="Why; 1 to 256 characters, kept with the key.", show_default=False)]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until no node uses the key any more.")]
VersionNumber = Annotated[int, typer.Argument(min=1, help="The number of the version.")]
VersionOption = Annotated[
    int | None, typer.Option(min=1, help="This version only, not the whole key.", show_default=False)
]

ForceOption = Annotated[bool, typer.Option("--force", help="Whatever the census says: what it still protects is lost.")]

_SHOWN = ("name", "state", "state_reason", "state_time")


def _version(key: str, number: int) -> str:
    return KeyName.parse(key, "key").version(number)


def _show_stop(field: str, record: Record, propagation: Propagation, wait: bool, output: Output) -> None:
    """Print what was stopped and how far that has come; who waited for all nodes in vain gets an exit code of its own."""
    if output is Output.JSON:
        emit_json({field: record, "propagation": of_propagation(propagation)})
    else:
        print_record({name: record[name] for name in _SHOWN})
        if propagation.nodes:
            print_line("")
            print_records(stop_rows(propagation), STOP_COLUMNS)
        print_line("")
        print_line(stop_line(propagation))
    if wait and not propagation.complete:
        raise typer.Exit(ExitCode.NOT_SO)


@app.command()
def activate(
    key: KeyArgument,
    etag: EtagOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let a pending key be used."""
    with Session(profile, tenant) as session:
        show(of_key(session.client.activate_key(session.key(key), etag=etag)), output)


@app.command()
def suspend(
    key: KeyArgument,
    *,
    reason: Reason,
    wait: Wait = False,
    etag: EtagOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Stop a key until `kms keys resume`: it neither encrypts nor decrypts."""
    with Session(profile, tenant) as session:
        stopped = session.client.suspend_key(session.key(key), reason=reason, etag=etag, wait=wait)
    _show_stop("key", of_key(stopped.key), stopped.propagation, wait, output)


@app.command()
def resume(
    key: KeyArgument,
    etag: EtagOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """End a suspension."""
    with Session(profile, tenant) as session:
        show(of_key(session.client.resume_key(session.key(key), etag=etag)), output)


@app.command()
def archive(
    key: KeyArgument,
    *,
    etag: EtagOption = "",
    yes: YesOption = False,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let a key decrypt only, for good."""
    with Session(profile, tenant) as session:
        name = session.key(key)
        confirm(f"Archive {name}? It will never encrypt again.", yes)
        show(of_key(session.client.archive_key(name, etag=etag)), output)


@app.command()
def revoke(
    key: KeyArgument,
    *,
    reason: Reason,
    version: VersionOption = None,
    wait: Wait = False,
    etag: EtagOption = "",
    yes: YesOption = False,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Declare a key, or one version of it, compromised, for good: no node encrypts or decrypts under it any more."""
    with Session(profile, tenant) as session:
        name = session.key(key) if version is None else _version(session.key(key), version)
        confirm(f"Revoke {name}, for good? Nobody but the rotation identity can read what it encrypted.", yes)
        if version is None:
            stopped = session.client.revoke_key(name, reason=reason, etag=etag, wait=wait)
            field, record, propagation = "key", of_key(stopped.key), stopped.propagation
        else:
            stopped_version = session.client.revoke_key_version(name, reason=reason, etag=etag, wait=wait)
            field, record = "key_version", of_key_version(stopped_version.key_version)
            propagation = stopped_version.propagation
    _show_stop(field, record, propagation, wait, output)


@app.command()
def destroy(
    key: KeyArgument,
    *,
    reason: Reason,
    waiting_period: Annotated[
        timedelta | None,
        typer.Option(parser=parse_period, metavar="PERIOD", help="At least 7d; 30d if not given.", show_default=False),
    ] = None,
    force: ForceOption = False,
    approval: ApprovalOption = "",
    etag: EtagOption = "",
    yes: YesOption = False,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Schedule a key's destruction: it stops at once and can be saved by `kms keys restore` until the period is over."""
    with Session(profile, tenant) as session:
        name = session.key(key)
        confirm(f"Destroy {name} after the waiting period? It neither encrypts nor decrypts from now on.", yes)
        with under(session.approval(approval)):
            scheduled = session.client.schedule_key_destruction(
                name, reason=reason, waiting_period=waiting_period, etag=etag, force=force
            )
    show(of_key(scheduled), output)


@app.command()
def restore(
    key: KeyArgument,
    *,
    version: VersionOption = None,
    etag: EtagOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Save a key from its destruction, or a version from its quarantine: it is again what it was before."""
    if version is not None and etag:
        raise typer.BadParameter("cannot be used with --version", param_hint="--etag")
    with Session(profile, tenant) as session:
        name = session.key(key)
        if version is None:
            record = of_key(session.client.cancel_key_destruction(name, etag=etag))
        else:
            record = of_key_version(session.client.cancel_key_version_retirement(_version(name, version)))
    show(record, output)


@app.command()
def retire(
    key: KeyArgument,
    version: VersionNumber,
    *,
    force: ForceOption = False,
    approval: ApprovalOption = "",
    yes: YesOption = False,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Begin the quarantine after which a version is destroyed; it must be known to protect nothing, or forced."""
    with Session(profile, tenant) as session:
        name = _version(session.key(key), version)
        if force:
            confirm(f"Retire {name} whatever it still protects? That cannot be read any more.", yes)
        with under(session.approval(approval)):
            show(of_key_version(session.client.retire_key_version(name, force=force)), output)
