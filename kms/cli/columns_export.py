"""`kms columns export`: a pseudonymized copy of the tables of a plan, for development."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from .columns import DatabaseOption, PlanArgument, TableOption, connected, plan_of, teller
from .output import Output, Record, show_all
from .session import OutputOption, ProfileOption, Session, TenantOption

app = typer.Typer(rich_markup_mode=None)

_EXPORTED: Final = ("table", "rows", "file")


@app.command()
def export(
    plan: PlanArgument,
    *,
    key: Annotated[str, typer.Option("--key", help="A key of purpose pseudonym: equal values have one pseudonym.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the files go, one for each table.")],
    pseudonymized: Annotated[
        bool, typer.Option("--pseudonymized", help="Needed: nothing is exported in the clear.")
    ] = False,
    table: TableOption = None,
    database: DatabaseOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Copy tables for development, with pseudonyms in the place of every value that the plan protects."""
    if not pseudonymized:
        raise typer.BadParameter("is needed: values are not exported in the clear", param_hint="--pseudonymized")
    from kms.columns.export import export as copy  # noqa: PLC0415  only this command loads it

    loaded = plan_of(plan, tenant)
    tell = teller(lambda progress: f"{progress.seen} rows")
    with Session(profile, loaded.tenant) as session, connected(database) as connection:
        try:
            made = copy(connection, session.client, loaded, session.key(key), out, table or (), tell=tell)
        except OSError as error:
            raise typer.BadParameter(f"{error.filename or out}: {error.strerror}", param_hint="--out") from error
    records: list[Record] = [{"table": one.table, "rows": one.rows, "file": str(one.file)} for one in made]
    show_all(records, _EXPORTED, output)
