"""`kms columns apply`, `status`, `verify`, `blank`, `drop` and `undo`: protecting columns, and taking that back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .columns import DatabaseOption, PlanArgument, TableOption, connected, plan_of, pressure, tell_of_triggers, teller
from .output import Output, Record, emit_text, show_all
from .session import OutputOption, ProfileOption, Session, TenantOption

if TYPE_CHECKING:
    from kms.columns.apply import Outcome, Runner
    from kms.columns.batches import Progress

app = typer.Typer(rich_markup_mode=None)

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show the SQL of what is not begun yet; change nothing.")]

_COLUMNS: Final = ("table", "column", "state")
_STATUS: Final = ("table", "column", "state", "mode", "key", "at_work")


def _seen(progress: Progress) -> str:
    return f"{progress.seen} of about {progress.total} rows, {progress.skipped} left or at fault"


@contextmanager
def _runner(
    path: Path, database: str, tenant: str | None, profile: Path | None, tables: list[str] | None
) -> Iterator[Runner]:
    # Only these commands load the database's driver.
    from kms.columns.apply import Runner  # noqa: PLC0415

    plan = plan_of(path, tenant)
    with Session(profile, plan.tenant) as session, connected(database) as connection:
        runner = Runner(connection, session.client, plan, teller(_seen), pressure(), tuple(tables or ()))
        tell_of_triggers(quiet=runner.quiet)
        yield runner


def _show(outcomes: list[Outcome], output: Output) -> None:
    records: list[Record] = [{"table": one.table, "column": one.column, "state": one.state} for one in outcomes]
    show_all(records, _COLUMNS, output)


@app.command()
def apply(
    plan: PlanArgument,
    *,
    dry_run: DryRunOption = False,
    table: TableOption = None,
    database: DatabaseOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Encrypt the columns of a plan beside their plaintext, while applications go on, and verify every value."""
    with _runner(plan, database, tenant, profile, table) as runner:
        if dry_run:
            emit_text("".join(f"{statement};\n" for statement in runner.statements()))
        else:
            _show(runner.apply(), output)


@app.command()
def status(*, database: DatabaseOption = "", output: OutputOption = Output.TABLE) -> None:
    """Show how far the protection of each column is."""
    from kms.columns.apply import status as look  # noqa: PLC0415

    with connected(database) as connection:
        found = look(connection)
    records: list[Record] = [
        {
            "table": one.known.table,
            "column": one.known.column.column,
            "state": one.known.state.value,
            "mode": one.known.column.mode.value,
            "key": one.known.key_name,
            "index_key": one.known.index_key_name,
            "ciphertext_column": one.known.column.ciphertext,
            "at_work": list(one.at_work),
        }
        for one in found
    ]
    show_all(records, _STATUS, output)


@app.command()
def verify(
    plan: PlanArgument,
    *,
    table: TableOption = None,
    database: DatabaseOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Decrypt every ciphertext, and compare it with its version, its index, and the plaintext while that is there."""
    with _runner(plan, database, tenant, profile, table) as runner:
        _show(runner.verify(), output)


@app.command()
def blank(
    plan: PlanArgument,
    *,
    table: TableOption = None,
    database: DatabaseOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Empty the plaintext columns of verified ones; from then on programs read and write ciphertexts only."""
    with _runner(plan, database, tenant, profile, table) as runner:
        _show(runner.blank(), output)


@app.command()
def drop(
    plan: PlanArgument,
    *,
    table: TableOption = None,
    database: DatabaseOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Drop the plaintext columns of blanked ones; that cannot be undone."""
    with _runner(plan, database, tenant, profile, table) as runner:
        _show(runner.drop(), output)


@app.command()
def undo(
    plan: PlanArgument,
    *,
    table: TableOption = None,
    database: DatabaseOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Bring the plaintext back from the ciphertexts, and remove all that apply has added."""
    with _runner(plan, database, tenant, profile, table) as runner:
        _show(runner.undo(), output)
