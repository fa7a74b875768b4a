"""`kms principals`."""

from __future__ import annotations

from typing import Annotated

import typer
from kms_client import PrincipalKind

from .access_records import of_principal
from .choices import PrincipalKindChoice
from .choices import parse_time as as_time
from .output import Output, show, show_all
from .session import OutputOption, ProfileOption, Session, TenantOption

app = typer.Typer(help="Who may call: create, block.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="The principal, such as billing or operators/bob.")]

_COLUMNS = ("name", "kind", "display_name", "blocked", "create_time")


@app.command()
def create(
    principal: Annotated[str, typer.Argument(help="The new principal's id, such as billing.")],
    *,
    kind: Annotated[PrincipalKindChoice, typer.Option(help="What it stands for.")] = PrincipalKindChoice.SERVICE,
    display_name: Annotated[str, typer.Option(help="Text for people.")] = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Create a principal; it may do nothing until something is granted to it."""
    with Session(profile, tenant) as session:
        created = session.client.create_principal(
            session.tenant, principal, kind=PrincipalKind[kind.name], display_name=display_name
        )
    show(of_principal(created), output)


@app.command("show")
def show_(
    principal: Name, tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Show one principal."""
    with Session(profile, tenant) as session:
        show(of_principal(session.client.get_principal(session.principal(principal))), output)


@app.command("list")
def list_(tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE) -> None:
    """List a tenant's principals by name."""
    with Session(profile, tenant) as session:
        records = [of_principal(principal) for principal in session.client.list_principals(session.tenant)]
    show_all(records, _COLUMNS, output)


@app.command()
def update(
    principal: Name,
    *,
    display_name: Annotated[str, typer.Option(help="Text for people.")],
    etag: Annotated[str, typer.Option(help="Act only if it still has this etag.", show_default=False)] = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Change the text for people."""
    with Session(profile, tenant) as session:
        name = session.principal(principal)
        show(of_principal(session.client.update_principal(name, display_name=display_name, etag=etag)), output)


@app.command()
def block(
    principal: Name,
    *,
    reason: Annotated[str, typer.Option(help="Why.")],
    until: Annotated[
        str | None, typer.Option(help="When it ends by itself, such as 2026-03-01T12:30:00Z.", show_default=False)
    ] = None,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Refuse everything to a principal; its grants stay."""
    end = None if until is None else as_time(until)
    with Session(profile, tenant) as session:
        name = session.principal(principal)
        show(of_principal(session.client.block_principal(name, reason=reason, until=end)), output)


@app.command()
def unblock(
    principal: Name, tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE
) -> None:
    """End a block."""
    with Session(profile, tenant) as session:
        show(of_principal(session.client.unblock_principal(session.principal(principal))), output)
