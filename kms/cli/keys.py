"""`kms keys`: the keys themselves. Their states are in lifecycle, their receipts in receipts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, cast

import typer
from kms_client import ProtectionLevel, Purpose, Rule, Suite

from .choices import LevelChoice, PurposeChoice, RuleChoice, SuiteChoice, parse_labels
from .output import Output, show, show_all, show_with
from .records import of_key, of_key_version, of_operation
from .rules import CacheOption, GraceOption, LimitOption, QuarantineOption, RetirementOption, RotationOption
from .session import EtagOption, KeyArgument, OutputOption, ProfileOption, Session, TenantOption
from .words import VERSION_COLUMNS, version_row

app = typer.Typer(help="Keys, their versions and states.", no_args_is_help=True, rich_markup_mode=None)

Label = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="May be given more than once.", show_default=False),
]
PolicyOption = Annotated[
    str | None, typer.Option(metavar="POLICY", help="The policy's id; else the built-in one.", show_default=False)
]


@app.command()
def create(
    key: Annotated[str, typer.Argument(help="The new key's id, such as payroll.")],
    *,
    purpose: Annotated[PurposeChoice, typer.Option(help="What the key is for.")] = PurposeChoice.ENCRYPT,
    suite: Annotated[SuiteChoice | None, typer.Option(help="Else the purpose's default.", show_default=False)] = None,
    protection_level: Annotated[
        LevelChoice | None, typer.Option(help="Where the key may be in the clear.", show_default=False)
    ] = None,
    display_name: Annotated[str, typer.Option(help="Text for people.", show_default=False)] = "",
    label: Label = None,
    policy: PolicyOption = None,
    rotation_period: RotationOption = None,
    encryption_limit: LimitOption = None,
    cache_lifetime: CacheOption = None,
    quarantine: QuarantineOption = None,
    grace: GraceOption = None,
    automatic_retirement: RetirementOption = None,
    leasable: Annotated[
        bool, typer.Option("--leasable", help="Lend DEKs to applications; the suite is xaes-256-gcm then.")
    ] = False,
    pending: Annotated[bool, typer.Option("--pending", help="Not for use before `kms keys activate`.")] = False,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Create a key with version 1 as its primary; rules that are not given are those of its policy."""
    labels = parse_labels(label or [])
    chosen = None if suite is None else Suite[suite.name]
    if leasable and chosen is None:
        chosen = Suite.XAES_256_GCM  # the only one that is leased
    with Session(profile, tenant) as session:
        created = session.client.create_key(
            session.tenant,
            key,
            Purpose[purpose.name],
            suite=chosen,
            protection_level=None if protection_level is None else ProtectionLevel[protection_level.name],
            display_name=display_name,
            labels=labels,
            policy="" if policy is None else session.policy(policy),
            rotation_period=rotation_period,
            encryption_limit=encryption_limit,
            cache_lifetime=cache_lifetime,
            quarantine_period=quarantine,
            grace_period=grace,
            automatic_retirement=automatic_retirement,
            leasable=leasable,
            pending=pending,
        )
    show(of_key(created), output)


@app.command("list")
def list_(tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE) -> None:
    """List a tenant's keys by name."""
    with Session(profile, tenant) as session:
        records = [of_key(key) for key in session.client.list_keys(session.tenant)]
    show_all(records, ("name", "state", "classification", "purpose", "suite", "primary_version", "rotate_time"), output)


@app.command("show")
def show_(
    key: KeyArgument, tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Show one key, and for each version what it still protects and what remains to be done."""
    with Session(profile, tenant) as session:
        found = session.client.get_key(session.key(key))
        versions = list(session.client.list_key_versions(found.name))
    record = {**of_key(found), "versions": [of_key_version(version) for version in versions]}
    now = datetime.now(UTC)
    show_with(record, "versions", [version_row(version, now) for version in versions], VERSION_COLUMNS, output)


@app.command()
def update(
    key: KeyArgument,
    *,
    display_name: Annotated[str | None, typer.Option(help="Text for people.", show_default=False)] = None,
    label: Label = None,
    no_labels: Annotated[bool, typer.Option("--no-labels", help="Remove all labels.")] = False,
    policy: PolicyOption = None,
    no_policy: Annotated[bool, typer.Option("--no-policy", help="Go back to the built-in policy.")] = False,
    rotation_period: RotationOption = None,
    encryption_limit: LimitOption = None,
    cache_lifetime: CacheOption = None,
    quarantine: QuarantineOption = None,
    grace: GraceOption = None,
    automatic_retirement: RetirementOption = None,
    as_policy: Annotated[
        list[RuleChoice] | None,
        typer.Option(help="Go back to the policy's value; may be given more than once.", show_default=False),
    ] = None,
    etag: EtagOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Change what is given and leave the rest; --label replaces all labels."""
    if no_labels and label:
        raise typer.BadParameter("cannot be used with --label", param_hint="--no-labels")
    if no_policy and policy is not None:
        raise typer.BadParameter("cannot be used with --policy", param_hint="--no-policy")
    labels = parse_labels(label or []) if label or no_labels else None
    rules = (rotation_period, encryption_limit, cache_lifetime, quarantine, grace, automatic_retirement)
    if not (no_policy or as_policy) and all(value is None for value in (display_name, labels, policy, *rules)):
        raise typer.BadParameter("give something to change, such as --display-name, --label, --policy or --grace")
    with Session(profile, tenant) as session:
        changed = session.client.update_key(
            session.key(key),
            display_name=display_name,
            labels=labels,
            policy="" if no_policy else None if policy is None else session.policy(policy),
            rotation_period=rotation_period,
            encryption_limit=encryption_limit,
            cache_lifetime=cache_lifetime,
            quarantine_period=quarantine,
            grace_period=grace,
            automatic_retirement=automatic_retirement,
            clear=[cast("Rule", rule.name.lower()) for rule in as_policy or []],
            etag=etag,
        )
    show(of_key(changed), output)


@app.command()
def rotate(
    key: Annotated[str | None, typer.Argument(help="The key; or --all.", show_default=False)] = None,
    *,
    every: Annotated[
        bool, typer.Option("--all", help="Rotate all keys of the tenant that encrypt, as an operation.")
    ] = False,
    etag: EtagOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a new primary version; the older ones go on decrypting."""
    if (key is None) is not every:
        raise typer.BadParameter("give either a key or --all", param_hint="KEY")
    if every and etag:
        raise typer.BadParameter("is of one key, and cannot be used with --all", param_hint="--etag")
    with Session(profile, tenant) as session:
        if key is None:
            show(of_operation(session.client.rotate_keys(session.tenant)), output)
        else:
            show(of_key(session.client.rotate_key(session.key(key), etag=etag)), output)


@app.command()
def versions(
    key: KeyArgument, tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE
) -> None:
    """List the versions of a key by number."""
    with Session(profile, tenant) as session:
        records = [of_key_version(version) for version in session.client.list_key_versions(session.key(key))]
    columns = (
        *("version", "state", "kek", "create_time", "encryptions_reserved", "encryptions_limit"),
        *("expose_time", "destroy_time"),
    )
    show_all(records, columns, output)
