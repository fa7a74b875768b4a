"""`kms approvals`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Final

import typer
from kms_client import Approval

from .access_records import of_approval
from .confirm import confirm
from .output import Output, emit_json, print_line, print_record, print_text, show_all
from .session import OutputOption, ProfileOption, Session, TenantOption

app = typer.Typer(help="Dangerous requests, and who has approved them.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="The approval: its UUID or its whole name.")]
Comment = Annotated[str, typer.Option("--comment", help="Kept with the vote.", show_default=False)]

SHORTEST_INTERVAL: Final = 1  # seconds
LONGEST_INTERVAL: Final = 3_600
# What a watch has shown and need not show again, of a tenant that has at most 1,000 waiting.
_MOST_SEEN: Final = 10_000

_COLUMNS = ("name", "state", "method", "resources", "requester", "approvals", "needed", "expire_time")


def new_ones(
    look: Callable[[], Iterator[Approval]], interval: float, sleep: Callable[[float], None]
) -> Iterator[Approval]:
    """Yield each waiting request once, and go on looking for others each *interval* seconds."""
    seen: dict[str, None] = {}
    while True:
        for approval in sorted(look(), key=lambda approval: approval.create_time):
            if approval.name not in seen:
                seen[approval.name] = None
                yield approval
        while len(seen) > _MOST_SEEN:
            del seen[next(iter(seen))]
        sleep(interval)


@app.command("list")
def list_(
    *,
    all_: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, and print each that comes, until Ctrl-C.")] = False,
    interval: Annotated[
        int, typer.Option(min=SHORTEST_INTERVAL, max=LONGEST_INTERVAL, help="With --watch: seconds between two looks.")
    ] = 5,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the requests that wait for approvals, or for their requester; the newest first."""
    if watch and all_:
        raise typer.BadParameter("cannot be used with --all", param_hint="--watch")
    with Session(profile, tenant) as session:
        if watch:
            for approval in new_ones(
                lambda: session.client.list_approvals(session.tenant, waiting_only=True), interval, time.sleep
            ):
                _print_new(approval, output)
        records = [
            of_approval(approval) for approval in session.client.list_approvals(session.tenant, waiting_only=not all_)
        ]
    shown = records if output is Output.JSON else [{**row, "resources": _joined(row["resources"])} for row in records]
    show_all(shown, _COLUMNS, output)


def _print_new(approval: Approval, output: Output) -> None:
    if output is Output.JSON:
        print_line(json.dumps(of_approval(approval)))
        return
    about = ", ".join(approval.resources)
    print_line(f"{approval.name}: {approval.requester} asks for {approval.method} on {about}: {approval.reason or '-'}")


def _joined(names: object) -> str:
    return ", ".join(map(str, names)) if isinstance(names, list) else str(names)


def _show(approval: Approval, output: Output) -> None:
    record = of_approval(approval)
    if output is Output.JSON:
        emit_json(record)
        return
    apart = ("request", "votes", "resources")
    print_record({**{k: v for k, v in record.items() if k not in apart}, "resources": ", ".join(approval.resources)})
    for vote in approval.votes:
        print_line(f"{'approved' if vote.approved else 'rejected'} by {vote.principal}: {vote.comment or '-'}")
    print_line("")
    print_text(approval.request_json)


@app.command("show")
def show_(
    approval: Name, tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Show one request: what exactly would be done, who asks, and who has voted."""
    with Session(profile, tenant) as session:
        _show(session.client.get_approval(session.approval(approval)), output)


@app.command()
def approve(
    approval: Name,
    *,
    digest: Annotated[
        str, typer.Option("--digest", help="Act only on what has this digest, as `show` prints it.", show_default=False)
    ] = "",
    comment: Comment = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Approve a request of somebody else; shows it and asks first, unless its digest is given."""
    if not digest and not sys.stdin.isatty():
        raise typer.BadParameter("is needed where there is no terminal to ask on", param_hint="--digest")
    with Session(profile, tenant) as session:
        name = session.approval(approval)
        if not digest:
            looked_at = session.client.get_approval(name)
            _show(looked_at, Output.TABLE)
            confirm(f"Approve this request of {looked_at.requester}?", yes=False)
            digest = looked_at.digest
        _show(session.client.approve(name, digest=digest, comment=comment), output)


@app.command()
def reject(
    approval: Name,
    *,
    comment: Comment = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Reject a request of somebody else, which ends it."""
    with Session(profile, tenant) as session:
        _show(session.client.reject(session.approval(approval), comment=comment), output)


@app.command()
def withdraw(
    approval: Name, tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Take back one's own request."""
    with Session(profile, tenant) as session:
        _show(session.client.withdraw(session.approval(approval)), output)
