"""`kms operations`: long work."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, Final

import typer
from kms_client import Client, Operation, OperationState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .exit_codes import ExitCode
from .output import Output, plain, print_line, show, show_all
from .records import choice, of_operation
from .session import OutputOption, ProfileOption, Session, TenantOption

app = typer.Typer(help="Long work: watch it, stop it, let it go on.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="The operation: its UUID or its whole name.")]

_TURN: Final = 10.0  # seconds for which the daemon is asked to wait for progress


@app.command("list")
def list_(tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE) -> None:
    """List a tenant's operations, the newest first."""
    with Session(profile, tenant) as session:
        records = [of_operation(operation) for operation in session.client.list_operations(session.tenant)]
    show_all(records, ("name", "kind", "target", "state", "done", "total", "update_time"), output)


@app.command("show")
def show_(
    operation: Name, tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Show one operation."""
    with Session(profile, tenant) as session:
        show(of_operation(session.client.get_operation(session.operation(operation))), output)


def steps(client: Client, name: str) -> Iterator[Operation]:
    """Yield an operation as it is now, and then after each progress until it has ended."""
    operation = client.get_operation(name)
    yield operation
    while operation.running:
        before = operation
        operation = client.wait_operation(name, seconds=_TURN, etag=before.etag)
        if operation != before:
            yield operation


def _line(operation: Operation) -> str:
    return f"{choice(operation.state)}: {operation.done:,} of {max(operation.done, operation.total):,}"


def follow(turns: Iterator[Operation], output: Output) -> Operation:
    """Show progress until the end: a bar on a terminal, lines elsewhere, only the end as JSON."""
    last = next(turns)
    if output is Output.JSON:
        for step in turns:
            last = step
    elif sys.stdout.isatty():
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=Console()) as progress:
            task = progress.add_task(plain(last.kind), total=None)
            progress.update(task, completed=last.done, total=max(last.done, last.total) or None)
            for step in turns:
                last = step
                progress.update(task, completed=last.done, total=max(last.done, last.total) or None)
    else:
        print_line(_line(last))
        for step in turns:
            last = step
            print_line(_line(last))
    return last


@app.command()
def watch(
    operation: Name, tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Show progress until an operation has ended; to leave off with Ctrl-C does it no harm."""
    with Session(profile, tenant) as session:
        last = follow(steps(session.client, session.operation(operation)), output)
    if output is Output.JSON:
        show(of_operation(last), output)
    else:
        print_line(choice(last.state) + (f": {last.error}" if last.error else ""))
    raise typer.Exit(ExitCode.OK if last.state == OperationState.SUCCEEDED else ExitCode.NOT_SO)


@app.command()
def cancel(
    operation: Name, tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Stop an operation after the batch it is at; what is done stays done."""
    with Session(profile, tenant) as session:
        show(of_operation(session.client.cancel_operation(session.operation(operation))), output)


@app.command()
def resume(
    operation: Name, tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Let a cancelled or failed operation go on where it stopped."""
    with Session(profile, tenant) as session:
        show(of_operation(session.client.resume_operation(session.operation(operation))), output)
