"""`kms quorum`."""

from __future__ import annotations

from typing import Annotated

import typer
from kms_client import under

from .access_records import of_quorum_rule
from .output import Output, show, show_all
from .session import ApprovalOption, OutputOption, ProfileOption, Session, TenantOption

app = typer.Typer(
    help="How many others have to approve what is dangerous.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("list")
def list_(tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE) -> None:
    """List how many approvals each permission needs that can need any."""
    with Session(profile, tenant) as session:
        records = [of_quorum_rule(rule) for rule in session.client.list_quorum_rules(session.tenant)]
    show_all(records, ("permission", "approvals", "is_default", "updater", "update_time"), output)


@app.command("set")
def set_(
    permission: Annotated[str, typer.Argument(help="The permission, such as keys.destroy.")],
    approvals: Annotated[int, typer.Argument(min=0, max=10, help="How many others have to approve; 0 for nobody.")],
    *,
    approval: ApprovalOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Set how many approvals a permission needs; to lower that needs as many as it needs now."""
    with Session(profile, tenant) as session:
        holding = {rule.permission: rule for rule in session.client.list_quorum_rules(session.tenant)}
        if permission not in holding:
            raise typer.BadParameter(f"must be one of {', '.join(holding)}", param_hint="PERMISSION")
        rule = holding[permission]
        with under(session.approval(approval)):
            changed = session.client.update_quorum_rule(rule.name, approvals_needed=approvals, present=rule.approvals)
    show(of_quorum_rule(changed), output)
