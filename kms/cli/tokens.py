"""`kms tokens`: API tokens, whose text is shown once, when they are made."""

from __future__ import annotations

import os
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from kms_client import NewToken, TokenLimits, TokenScope, under

from .access_records import of_token
from .choices import parse_period
from .confirm import YesOption, confirm
from .output import Output, Record, print_line, show, show_all
from .session import ApprovalOption, OutputOption, ProfileOption, Session, TenantOption

app = typer.Typer(help="API tokens: make, list, rotate and revoke them.", no_args_is_help=True, rich_markup_mode=None)

_COLUMNS = ("name", "principal", "state", "scopes", "expire_time", "last_use_time", "use_count")
_DEFAULTS = TokenLimits(100, 1_000, 10_000)


class ScopeChoice(StrEnum):
    """kms_client.TokenScope as a command line spells it; a test compares them."""

    READ = "read"
    USE = "use"
    MANAGE = "manage"


Name = Annotated[str, typer.Argument(help="The token's prefix, such as 4fk29dm1x0zq, or its whole name.")]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="FILE", help="Write the token's text to a new file instead of showing it.", show_default=False
    ),
]
_Count = Annotated[int | None, typer.Option(min=0, help="Requests; 0: no limit.", show_default=False)]


@app.command()
def create(
    principal: Annotated[str, typer.Argument(help="Whom it stands for: app or tenants/acme/principals/app.")],
    *,
    display_name: Annotated[str, typer.Option(help="A name for people.", show_default=False)] = "",
    scope: Annotated[
        list[ScopeChoice] | None, typer.Option(help="What it is for; may be repeated. Else read.", show_default=False)
    ] = None,
    lifetime: Annotated[
        timedelta | None,
        typer.Option(parser=parse_period, metavar="PERIOD", help="How long it lives. Else 90d.", show_default=False),
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(help="An address or network from which it may be used; may be repeated.", show_default=False),
    ] = None,
    origin: Annotated[
        list[str] | None, typer.Option(help="A web origin that may use it; may be repeated.", show_default=False)
    ] = None,
    per_minute: _Count = None,
    per_hour: _Count = None,
    per_day: _Count = None,
    rate: Annotated[
        int | None, typer.Option(min=0, help="Requests in a second, on average.", show_default=False)
    ] = None,
    burst: Annotated[int | None, typer.Option(min=0, help="Requests at once, with --rate.", show_default=False)] = None,
    out: OutOption = None,
    approval: ApprovalOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a token; it reads only, 100 times a minute, unless more is given."""
    _check_free(out)
    given = (per_minute, per_hour, per_day, rate, burst)
    limits = None
    if any(number is not None for number in given):
        limits = TokenLimits(
            requests_per_minute=_DEFAULTS.requests_per_minute if per_minute is None else per_minute,
            requests_per_hour=_DEFAULTS.requests_per_hour if per_hour is None else per_hour,
            requests_per_day=_DEFAULTS.requests_per_day if per_day is None else per_day,
            requests_per_second=rate or 0,
            burst=burst or 0,
        )
    with Session(profile, tenant) as session, under(session.approval(approval)):
        made = session.client.create_token(
            session.tenant,
            session.principal(principal),
            display_name=display_name,
            scopes=[TokenScope[choice.name] for choice in scope or [ScopeChoice.READ]],
            lifetime=lifetime,
            allowed_networks=network or (),
            allowed_origins=origin or (),
            limits=limits,
        )
    _hand_over(made, out, output)


@app.command("show")
def show_(
    token: Name, tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Show a token, without its text."""
    with Session(profile, tenant) as session:
        show(of_token(session.client.get_token(session.token(token))), output)


@app.command("list")
def list_(tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE) -> None:
    """List a tenant's tokens, also those that have ended."""
    with Session(profile, tenant) as session:
        records = [of_token(token) for token in session.client.list_tokens(session.tenant)]
    show_all(records, _COLUMNS, output)


@app.command()
def rotate(
    token: Name,
    *,
    overlap: Annotated[
        timedelta | None,
        typer.Option(
            parser=parse_period, metavar="PERIOD", help="How long the old one works on. Else 24h.", show_default=False
        ),
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Without an overlap: the old one ends at once.")] = False,
    out: OutOption = None,
    approval: ApprovalOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a token's successor."""
    if now and overlap is not None:
        raise typer.BadParameter("give --overlap or --now")
    _check_free(out)
    with Session(profile, tenant) as session, under(session.approval(approval)):
        made = session.client.rotate_token(session.token(token), overlap=timedelta(0) if now else overlap)
    _hand_over(made, out, output)


@app.command()
def revoke(
    token: Name,
    *,
    reason: Annotated[str, typer.Option(help="Why.", show_default=False)],
    yes: YesOption = False,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """End a token, on every node within the revocation deadline."""
    with Session(profile, tenant) as session:
        name = session.token(token)
        confirm(f"Revoke {name}? Whoever uses it is refused from then on.", yes=yes)
        show(of_token(session.client.revoke_token(name, reason)), output)


def _check_free(out: Path | None) -> None:
    # Before anything is made: a token whose text cannot be handed over is lost.
    if out is not None and (out.exists() or not out.parent.is_dir()):
        raise typer.BadParameter(f"{out}: must be a new file in a directory that exists", param_hint="--out")


def _hand_over(made: NewToken, out: Path | None, output: Output) -> None:
    record: Record = of_token(made.token)
    if out is None:
        show({**record, "text": made.text}, output)
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(out, flags, 0o600), "w", encoding="ascii") as file:
        file.write(f"{made.text}\n")
    show(record, output)
    if output is Output.TABLE:
        print_line(f"the token is in {out}: name it as token in a profile, or in KMS_TOKEN_FILE")
