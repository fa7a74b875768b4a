"""`kms tenants`."""

from __future__ import annotations

from typing import Annotated

import typer
from kms_client import Founder

from .choices import parse_founder
from .output import Output, show, show_all
from .records import of_tenant
from .session import OutputOption, ProfileOption, Session, tenant_name

app = typer.Typer(help="The owners of keys.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="The tenant, such as acme or tenants/acme.")]


@app.command()
def create(
    tenant: Annotated[str, typer.Argument(help="The new tenant's id, such as acme.")],
    display_name: Annotated[str, typer.Option(help="Text for people.")] = "",
    founder: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PRINCIPAL=ROLE,ROLE",
            help="One of its first principals, and what that may do, such as alice=tenant-admin; repeat it.",
            show_default=False,
        ),
    ] = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Create a tenant and the first version of its KEK."""
    founders = [Founder(*parse_founder(text)) for text in founder or ()]
    with Session(profile) as session:
        created = session.client.create_tenant(tenant, display_name=display_name, founders=founders)
    show(of_tenant(created), output)


@app.command("list")
def list_(profile: ProfileOption = None, output: OutputOption = Output.TABLE) -> None:
    """List the tenants by name."""
    with Session(profile) as session:
        records = [of_tenant(tenant) for tenant in session.client.list_tenants()]
    show_all(records, ("name", "display_name", "create_time"), output)


@app.command("show")
def show_(tenant: Name, profile: ProfileOption = None, output: OutputOption = Output.TABLE) -> None:
    """Show one tenant."""
    with Session(profile) as session:
        show(of_tenant(session.client.get_tenant(tenant_name(tenant))), output)
