"""`kms report` and `kms reports`: compliance reports."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from kms_client import Client, NotGenuine, Operation, OperationState, Report, ReportForm, ReportStep, verify_report

from .choices import FrameworkChoice, parse_day
from .exit_codes import ExitCode
from .files import read_bytes, read_text, write_new
from .operations import follow, steps
from .output import Output, Record, print_line, show, show_all
from .records import moment
from .session import OutputOption, ProfileOption, Session, TenantOption

app = typer.Typer(
    help="Compliance reports: review them, hand them out, verify them.", no_args_is_help=True, rich_markup_mode=None
)

Name = Annotated[str, typer.Argument(help="The report: its UUID or its whole name.")]
EtagOption = Annotated[
    str, typer.Option("--etag", help="Act only if the report still has this etag.", show_default=False)
]
JsonOption = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="FILE",
        help="Write the JSON to this new file, and its signature to FILE.sig.",
        show_default=False,
    ),
]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write the page to this new file.", show_default=False)
]

_COLUMNS: Final = ("name", "framework", "start_time", "end_time", "state", "review_state", "findings")


def _step(step: ReportStep | None) -> Record | None:
    return None if step is None else {"principal": step.principal, "time": moment(step.time)}


def of_report(report: Report) -> Record:
    """Return all fields of a report."""
    return {
        "name": report.name,
        "framework": report.framework,
        "start_time": moment(report.start_time),
        "end_time": moment(report.end_time),
        "state": report.state,
        "review_state": report.review_state,
        "create_time": moment(report.create_time),
        "requester": report.requester,
        "complete_time": moment(report.complete_time),
        "findings": report.findings,
        "error": report.error,
        "sha256": report.sha256,
        "signature": base64.b64encode(report.signature).decode("ascii"),
        "submitted": _step(report.submitted),
        "reviewed": _step(report.reviewed),
        "approved": _step(report.approved),
        "archived": _step(report.archived),
        "recipients": [
            {
                "principal": one.principal,
                "first_time": moment(one.first_time),
                "last_time": moment(one.last_time),
                "count": one.count,
            }
            for one in report.recipients
        ],
        "etag": report.etag,
    }


def _write(client: Client, name: str, json_file: Path | None, html_file: Path | None) -> None:
    if json_file is not None:
        found = client.download_report(name, form=ReportForm.JSON)
        write_new(json_file, found.content, "--json")
        write_new(_signature_of(json_file), base64.b64encode(found.signature) + b"\n", "--json")
    if html_file is not None:
        write_new(html_file, client.download_report(name, form=ReportForm.HTML).content, "--html")


def _signature_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.sig")


def _require_new(json_file: Path | None, html_file: Path | None) -> None:
    """Refuse before anything is asked of the daemon what could not be written afterwards."""
    for option, file in (
        ("--json", json_file),
        ("--json", json_file and _signature_of(json_file)),
        ("--html", html_file),
    ):
        if file is not None and file.exists():
            raise typer.BadParameter(f"{file}: is there already", param_hint=option)


def report(
    *,
    framework: Annotated[FrameworkChoice, typer.Option("--framework", help="Whose controls the parts name.")],
    start: Annotated[
        datetime,
        typer.Option("--from", parser=parse_day, metavar="TIME", help="Such as 2026-01-01 (UTC).", show_default=False),
    ],
    end: Annotated[
        datetime | None,
        typer.Option(
            "--to", parser=parse_day, metavar="TIME", help="Not in the period any more; else now.", show_default=False
        ),
    ] = None,
    json_file: JsonOption = None,
    html_file: HtmlOption = None,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a compliance report, wait for it, and write it to files."""
    _require_new(json_file, html_file)
    with Session(profile, tenant) as session:
        client = session.client
        made = client.generate_report(session.tenant, framework.value, start=start, end=end or datetime.now(UTC))
        last: Operation = follow(steps(client, made.operation.name), output)
        if last.state == OperationState.SUCCEEDED:
            _write(client, made.report.name, json_file, html_file)
        found = client.get_report(made.report.name)
    show(of_report(found), output)
    if last.state != OperationState.SUCCEEDED:
        raise typer.Exit(ExitCode.NOT_SO)


@app.command("list")
def list_(tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE) -> None:
    """List a tenant's reports, the newest first."""
    with Session(profile, tenant) as session:
        records = [of_report(found) for found in session.client.list_reports(session.tenant)]
    show_all(records, _COLUMNS, output)


@app.command("show")
def show_(
    name: Name, tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Show one report: how it stands, who has reviewed it, and who has received it."""
    with Session(profile, tenant) as session:
        show(of_report(session.client.get_report(session.report(name))), output)


@app.command()
def download(
    name: Name,
    *,
    json_file: JsonOption = None,
    html_file: HtmlOption = None,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
) -> None:
    """Write a report to files; the daemon notes who has received it."""
    if json_file is None and html_file is None:
        raise typer.BadParameter("give --json, --html or both")
    _require_new(json_file, html_file)
    with Session(profile, tenant) as session:
        _write(session.client, session.report(name), json_file, html_file)


@app.command()
def submit(
    name: Name,
    *,
    etag: EtagOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Hand a draft in for review."""
    with Session(profile, tenant) as session:
        show(of_report(session.client.submit_report(session.report(name), etag=etag)), output)


@app.command()
def review(
    name: Name,
    *,
    etag: EtagOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say that a report has been reviewed; not by who generated or submitted it."""
    with Session(profile, tenant) as session:
        show(of_report(session.client.review_report(session.report(name), etag=etag)), output)


@app.command()
def approve(
    name: Name,
    *,
    etag: EtagOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Approve a reviewed report; not by who generated or submitted it."""
    with Session(profile, tenant) as session:
        show(of_report(session.client.approve_report(session.report(name), etag=etag)), output)


@app.command()
def archive(
    name: Name,
    *,
    etag: EtagOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Archive an approved report."""
    with Session(profile, tenant) as session:
        show(of_report(session.client.archive_report(session.report(name), etag=etag)), output)


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The JSON, as `kms report --json` writes it.")],
    *,
    signature: Annotated[
        Path | None,
        typer.Option("--signature", metavar="FILE", help="The signature; else FILE.sig.", show_default=False),
    ] = None,
    public_key: Annotated[
        Path, typer.Option("--public-key", metavar="FILE", help="As `kms keys signing-key` prints it.")
    ],
    output: OutputOption = Output.TABLE,
) -> None:
    """Check a report's hash and signature with nothing but the public key; no daemon is asked."""
    where = signature or _signature_of(file)
    try:
        signed = base64.b64decode(read_text(where, "--signature").strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise typer.BadParameter(f"{where}: is no signature", param_hint="--signature") from error
    try:
        found = verify_report(read_bytes(file, "FILE"), signed, read_text(public_key, "--public-key"))
    except NotGenuine as error:
        show({"genuine": False, "says": str(error)}, output)
        raise typer.Exit(ExitCode.NOT_SO) from error
    findings = found.get("findings", [])
    record = {field: found.get(field) for field in ("name", "framework", "period", "requester", "complete_time")}
    show({"genuine": True, **record, "findings": len(findings)}, output)
    if output is Output.TABLE:
        for one in findings:
            print_line(f"{one['severity']}: {one['meaning']} ({one['count']})")
