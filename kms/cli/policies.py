"""`kms policies`."""

from __future__ import annotations

from typing import Annotated

import typer
from kms_client import AuditContext, Classification, under

from .choices import AuditContextChoice, ClassChoice
from .output import Output, show, show_all
from .records import of_policy
from .rules import (
    AccessOption,
    ApprovalsOption,
    AuditContextOption,
    CacheOption,
    ClassOption,
    GraceOption,
    LimitOption,
    QuarantineOption,
    RequiredOption,
    RetirementOption,
    ScheduleOption,
)
from .session import ApprovalOption, OutputOption, ProfileOption, Session, TenantOption

app = typer.Typer(
    help="The rules that keys live by: rotation, limits, quarantine.", no_args_is_help=True, rich_markup_mode=None
)

Name = Annotated[str, typer.Argument(help="The policy, such as gold or tenants/acme/policies/gold.")]

_COLUMNS = (
    "name",
    "version",
    "classification",
    "rotation_period_seconds",
    "encryption_limit",
    "cache_lifetime_seconds",
    "quarantine_period_seconds",
    "grace_period_seconds",
    "automatic_retirement",
)


def _chosen(choice: ClassChoice | None) -> Classification | None:
    return None if choice is None else Classification[choice.name]


def _shown(choice: AuditContextChoice | None) -> AuditContext | None:
    return None if choice is None else AuditContext[choice.name]


@app.command()
def create(
    policy: Annotated[str, typer.Argument(help="The new policy's id, such as gold.")],
    *,
    rotation_period: ScheduleOption = None,
    encryption_limit: LimitOption = None,
    cache_lifetime: CacheOption = None,
    quarantine: QuarantineOption = None,
    grace: GraceOption = None,
    automatic_retirement: RetirementOption = None,
    classification: ClassOption = None,
    required_context: RequiredOption = None,
    log_data_access: AccessOption = None,
    approvals: ApprovalsOption = None,
    audit_context: AuditContextOption = None,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Create a policy; what is not given is as in the built-in one."""
    with Session(profile, tenant) as session:
        created = session.client.create_policy(
            session.tenant,
            policy,
            rotation_period=rotation_period,
            encryption_limit=encryption_limit,
            cache_lifetime=cache_lifetime,
            quarantine_period=quarantine,
            grace_period=grace,
            automatic_retirement=automatic_retirement,
            classification=_chosen(classification),
            required_context=required_context or None,
            log_data_access=log_data_access,
            approvals=approvals,
            audit_context=_shown(audit_context),
        )
    show(of_policy(created), output)


@app.command("show")
def show_(
    policy: Name, tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Show the newest version of a policy."""
    with Session(profile, tenant) as session:
        show(of_policy(session.client.get_policy(session.policy(policy))), output)


@app.command("list")
def list_(tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE) -> None:
    """List the newest versions of a tenant's policies by name."""
    with Session(profile, tenant) as session:
        records = [of_policy(policy) for policy in session.client.list_policies(session.tenant)]
    show_all(records, _COLUMNS, output)


@app.command()
def versions(
    policy: Name, tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE
) -> None:
    """List all versions of a policy by number."""
    with Session(profile, tenant) as session:
        records = [of_policy(version) for version in session.client.list_policy_versions(session.policy(policy))]
    show_all(records, (*_COLUMNS[1:], "create_time", "creator"), output)


@app.command()
def update(
    policy: Name,
    *,
    rotation_period: ScheduleOption = None,
    encryption_limit: LimitOption = None,
    cache_lifetime: CacheOption = None,
    quarantine: QuarantineOption = None,
    grace: GraceOption = None,
    automatic_retirement: RetirementOption = None,
    classification: ClassOption = None,
    required_context: RequiredOption = None,
    no_required_context: Annotated[
        bool, typer.Option("--no-required-context", help="Require what the class requires, and no more.")
    ] = False,
    log_data_access: AccessOption = None,
    approvals: ApprovalsOption = None,
    audit_context: AuditContextOption = None,
    version: Annotated[
        int, typer.Option(min=0, help="Act only if this is still the newest version.", show_default=False)
    ] = 0,
    approval: ApprovalOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make the next version, which holds for the policy's keys from then on: change what is given, leave the rest."""
    if no_required_context and required_context:
        raise typer.BadParameter("cannot be used with --required-context", param_hint="--no-required-context")
    keys = required_context or ([] if no_required_context else None)
    rules = (rotation_period, encryption_limit, cache_lifetime, quarantine, grace, automatic_retirement)
    if all(value is None for value in (*rules, classification, keys, log_data_access, approvals, audit_context)):
        raise typer.BadParameter("give something to change, such as --rotation-period or --grace")
    with Session(profile, tenant) as session, under(session.approval(approval)):
        changed = session.client.update_policy(
            session.policy(policy),
            rotation_period=rotation_period,
            encryption_limit=encryption_limit,
            cache_lifetime=cache_lifetime,
            quarantine_period=quarantine,
            grace_period=grace,
            automatic_retirement=automatic_retirement,
            classification=_chosen(classification),
            required_context=keys,
            log_data_access=log_data_access,
            approvals=approvals,
            audit_context=_shown(audit_context),
            version=version,
        )
    show(of_policy(changed), output)
