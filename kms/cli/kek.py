"""`kms kek`."""

from __future__ import annotations

from typing import Annotated

import typer

from .output import Output, show, show_all
from .records import of_kek
from .session import OutputOption, ProfileOption, Session, TenantOption

app = typer.Typer(help="The tenant's key-encryption key, in the token.", no_args_is_help=True, rich_markup_mode=None)

_COLUMNS = (
    "version",
    "primary",
    "state",
    "create_time",
    "next_rotation_time",
    "destroy_time",
    "wrapped_key_versions",
    "wraps_reserved",
    "hsm_key_id",
)


@app.command()
def status(tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE) -> None:
    """List the versions of a tenant's KEK by number, and what they wrap, and when they rotate or are destroyed."""
    with Session(profile, tenant) as session:
        records = [of_kek(kek) for kek in session.client.list_keks(session.tenant)]
    show_all(records, _COLUMNS, output)


@app.command()
def rotate(
    primary_version: Annotated[
        int, typer.Option(help="Act only if this is still the primary version.", min=0, show_default=False)
    ] = 0,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a new version, which wraps what is new; an operation re-wraps the rest, and older versions are retired."""
    with Session(profile, tenant) as session:
        show(of_kek(session.client.rotate_kek(session.tenant, primary_version=primary_version)), output)
