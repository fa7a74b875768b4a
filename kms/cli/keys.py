"""`kms keys`."""

from __future__ import annotations

from typing import Annotated

import typer
from kms_client import ProtectionLevel, Purpose, Suite

from .choices import LevelChoice, PurposeChoice, SuiteChoice, parse_labels, parse_period
from .output import Output, show, show_all
from .records import of_key, of_key_version
from .session import OutputOption, ProfileOption, Session, TenantOption

app = typer.Typer(help="Keys and their versions.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="The key, such as payroll or tenants/acme/keys/payroll.")]
Etag = Annotated[str, typer.Option(help="Act only if the key still has this etag.", show_default=False)]
Period = Annotated[
    str | None, typer.Option(metavar="PERIOD", help="Hours or days, such as 24h or 90d.", show_default=False)
]
Label = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="May be given more than once.", show_default=False),
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
    rotation_period: Period = None,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Create a key with version 1 as its primary."""
    labels, period = parse_labels(label or []), parse_period(rotation_period)
    with Session(profile, tenant) as session:
        created = session.client.create_key(
            session.tenant,
            key,
            Purpose[purpose.name],
            suite=None if suite is None else Suite[suite.name],
            protection_level=None if protection_level is None else ProtectionLevel[protection_level.name],
            display_name=display_name,
            labels=labels,
            rotation_period=period,
        )
    show(of_key(created), output)


@app.command("list")
def list_(tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE) -> None:
    """List a tenant's keys by name."""
    with Session(profile, tenant) as session:
        records = [of_key(key) for key in session.client.list_keys(session.tenant)]
    show_all(records, ("name", "purpose", "suite", "primary_version", "rotate_time"), output)


@app.command("show")
def show_(
    key: Name, tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Show one key."""
    with Session(profile, tenant) as session:
        show(of_key(session.client.get_key(session.key(key))), output)


@app.command()
def update(
    key: Name,
    *,
    display_name: Annotated[str | None, typer.Option(help="Text for people.", show_default=False)] = None,
    label: Label = None,
    no_labels: Annotated[bool, typer.Option("--no-labels", help="Remove all labels.")] = False,
    rotation_period: Period = None,
    etag: Etag = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Change what is given and leave the rest; --label replaces all labels."""
    if no_labels and label:
        raise typer.BadParameter("cannot be used with --label", param_hint="--no-labels")
    labels = parse_labels(label or []) if label or no_labels else None
    period = parse_period(rotation_period)
    if display_name is None and labels is None and period is None:
        raise typer.BadParameter("give something to change: --display-name, --label, --no-labels, --rotation-period")
    with Session(profile, tenant) as session:
        changed = session.client.update_key(
            session.key(key), display_name=display_name, labels=labels, rotation_period=period, etag=etag
        )
    show(of_key(changed), output)


@app.command()
def rotate(
    key: Name,
    etag: Etag = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a new primary version; the older ones go on decrypting."""
    with Session(profile, tenant) as session:
        show(of_key(session.client.rotate_key(session.key(key), etag=etag)), output)


@app.command()
def versions(
    key: Name, tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE
) -> None:
    """List the versions of a key by number."""
    with Session(profile, tenant) as session:
        records = [of_key_version(version) for version in session.client.list_key_versions(session.key(key))]
    show_all(records, ("version", "primary", "kek", "create_time", "encryptions_reserved", "encryptions_limit"), output)
