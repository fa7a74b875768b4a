"""`kms grants`."""

from __future__ import annotations

from typing import Annotated

import typer
from kms_client import Conditions, Effect, under

from .access_records import of_grant
from .choices import parse_alternatives
from .choices import parse_time as as_time
from .output import Output, print_line, show, show_all
from .session import ApprovalOption, OutputOption, ProfileOption, Session, TenantOption

app = typer.Typer(help="What principals may do.", no_args_is_help=True, rich_markup_mode=None)

Principal = Annotated[str, typer.Argument(help="The principal, such as billing.")]

_COLUMNS = ("name", "effect", "role", "permissions", "resource", "conditions", "expire_time")


@app.command()
def create(
    principal: Principal,
    *,
    role: Annotated[str, typer.Option(help="A role of `kms access roles`.", show_default=False)] = "",
    permission: Annotated[
        list[str] | None, typer.Option(help="A single permission, such as keys.encrypt; repeat it.", show_default=False)
    ] = None,
    resource: Annotated[
        str, typer.Option(help="On what, such as tenants/acme/keys/*; else all of the tenant.", show_default=False)
    ] = "",
    deny: Annotated[bool, typer.Option("--deny", help="Deny it, which wins over everything.")] = False,
    context: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="A context value that the call must give; repeat it.", show_default=False
        ),
    ] = None,
    key_class: Annotated[
        list[str] | None, typer.Option("--class", help="A class that the key must have; repeat it.", show_default=False)
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(metavar="CIDR", help="A network that the call must come from; repeat it.", show_default=False),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="When it ends, such as 2026-03-01T12:30:00Z.", show_default=False)
    ] = None,
    reason: Annotated[str, typer.Option(help="Text for people.", show_default=False)] = "",
    approval: ApprovalOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Grant a role or single permissions to a principal, or deny them."""
    if bool(role) == bool(permission):
        raise typer.BadParameter("give either --role or --permission")
    conditions = Conditions(
        parse_alternatives(context or [], "--context"), tuple(key_class or ()), tuple(network or ())
    )
    end = None if expires is None else as_time(expires)
    with Session(profile, tenant) as session, under(session.approval(approval)):
        created = session.client.create_grant(
            session.principal(principal),
            role=role,
            permissions=permission or (),
            resource=resource,
            effect=Effect.DENY if deny else Effect.ALLOW,
            conditions=conditions,
            expire_time=end,
            reason=reason,
        )
    show(of_grant(created), output)


@app.command("list")
def list_(
    principal: Principal,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List a principal's grants; those that have expired, too."""
    with Session(profile, tenant) as session:
        records = [of_grant(grant) for grant in session.client.list_grants(session.principal(principal))]
    show_all(records, _COLUMNS, output)


@app.command()
def delete(
    grant: Annotated[str, typer.Argument(help="The grant's whole name.")],
    tenant: TenantOption = None,
    profile: ProfileOption = None,
) -> None:
    """Delete a grant; what it allowed stops on every node within the revocation deadline."""
    with Session(profile, tenant) as session:
        session.client.delete_grant(grant)
    print_line(f"deleted {grant}")
