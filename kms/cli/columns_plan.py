"""`kms columns plan`, `check` and `schema`: what is to be protected, whether that can be done, and the plan's form."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from .columns import DatabaseOption, PlanArgument, connected
from .output import Output, emit_json, emit_text, print_line
from .session import OutputOption, ProfileOption, Session, TenantOption, tenant_name

app = typer.Typer(rich_markup_mode=None)


@app.command()
def schema() -> None:
    """Print the JSON Schema of plans."""
    from kms.columns.plan_schema import document  # noqa: PLC0415

    emit_text(document())


@app.command()
def plan(*, database: DatabaseOption = "", tenant: TenantOption = None, profile: ProfileOption = None) -> None:
    """Propose a plan for a database, with the reasons: from its catalogue, its data_classification, and samples."""
    from kms.columns import catalogue, plan_text, propose  # noqa: PLC0415

    if tenant:
        name = tenant_name(tenant)
    else:
        with Session(profile) as session:
            name = session.tenant
    with connected(database) as connection:
        proposal = propose.propose(connection, catalogue.read(connection))
    emit_text(plan_text.write(proposal, name.removeprefix("tenants/")))


@app.command()
def check(
    plan: PlanArgument,
    *,
    database: DatabaseOption = "",
    catalogue_only: Annotated[
        bool, typer.Option("--catalogue-only", help="Measure no values: no pass over the tables.")
    ] = False,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say what in a database, or of the keys, stands against a plan, and what to do about it; errors end with code 3."""
    from kms.columns import catalogue, check_keys, errors  # noqa: PLC0415
    from kms.columns import check as checking  # noqa: PLC0415
    from kms.columns import plan as plans  # noqa: PLC0415

    loaded = plans.load(plan)
    with Session(profile) as session, connected(database) as connection:
        found = checking.check(
            connection,
            loaded,
            catalogue.read(connection),
            check_keys.key_facts(session.client),
            values=not catalogue_only,
        )
    if output is Output.JSON:
        emit_json([asdict(one) for one in found])
    else:
        for one in found:
            print_line(f"{one.severity.value}: {one.where}: {one.what}; {one.todo}")
    bad = sum(one.severity == "error" for one in found)
    if bad:
        raise errors.PlanError(f"{plan}: {bad} of {len(found)} findings have to be mended first")
