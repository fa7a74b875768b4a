"""`kms access`: what the roles are, and why something is allowed or not."""

from __future__ import annotations

from typing import Annotated

import typer
from kms_client import AccessExplanation, AccessRule

from .access_records import of_explanation, of_grant, of_role
from .choices import parse_pairs
from .exit_codes import ExitCode
from .output import Output, print_line, print_records, show, show_all
from .records import choice
from .session import OutputOption, ProfileOption, Session, TenantOption

app = typer.Typer(help="Roles, and why something is allowed or not.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def roles(profile: ProfileOption = None, output: OutputOption = Output.TABLE) -> None:
    """List the built-in roles with their permissions."""
    with Session(profile) as session:
        records = [of_role(role) for role in session.client.list_roles()]
    if output is Output.TABLE:  # a line for each permission can be read, and searched
        records = [
            {"role": record["name"], "permission": p} for record in records for p in _texts(record["permissions"])
        ]
        print_records(records, ("role", "permission"))
    else:
        show_all(records, (), output)


@app.command()
def explain(
    principal: Annotated[str, typer.Argument(help="The principal, such as billing or operators/bob.")],
    permission: Annotated[str, typer.Argument(help="The permission, such as keys.encrypt.")],
    resource: Annotated[str, typer.Argument(help="The whole name of a resource, such as tenants/acme/keys/payroll.")],
    *,
    context: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A context value of the call; repeat it.", show_default=False),
    ] = None,
    address: Annotated[str, typer.Option(help="Where the call would come from.", show_default=False)] = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say whether a principal may do something, and which rule decides; the exit code is 0 only if it may."""
    with Session(profile, tenant) as session:
        explained = session.client.explain_access(
            session.principal(principal),
            permission,
            resource,
            context=parse_pairs(context or [], "--context"),
            address=address,
        )
    if output is Output.JSON:
        show(of_explanation(explained), output)
    else:
        print_line(_verdict(explained))
        looks = [{**of_grant(look.grant), "applies": look.applies, "why": look.reason} for look in explained.looks]
        if looks:
            print_line("")
            print_records(looks, ("name", "effect", "role", "permissions", "resource", "applies", "why"))
    raise typer.Exit(ExitCode.OK if explained.allowed else ExitCode.NOT_SO)


def _verdict(explained: AccessExplanation) -> str:
    word = "allowed" if explained.allowed else "denied"
    reasons: dict[int, str] = {
        AccessRule.GRANT: f"by {explained.grant}",
        AccessRule.BUILT_IN: "by what everybody of this kind may do",
        AccessRule.BLOCKED: "the principal is blocked",
        AccessRule.DEFAULT: "no grant allows it",
        AccessRule.OTHER_TENANT: "the resource is not of the principal's tenant",
    }
    return f"{word}: {reasons.get(explained.rule, choice(explained.rule))}"


def _texts(value: object) -> list[str]:
    return [str(text) for text in value] if isinstance(value, list) else []
