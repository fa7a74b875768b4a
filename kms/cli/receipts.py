"""`kms keys`: receipts of destruction, and what they prove."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from kms_client import DestructionReceipt, NotGenuine, verify_receipt

from .choices import parse_time
from .exit_codes import ExitCode
from .files import read_text
from .output import Output, Record, print_text, show_all
from .records import of_receipt
from .session import OutputOption, ProfileOption, Session, TenantOption

app = typer.Typer(rich_markup_mode=None)


def _receipt(entry: Any) -> DestructionReceipt:
    subject, body = entry["subject"], entry["body"]
    if not (isinstance(subject, str) and isinstance(body, str)):
        raise TypeError("subject and body are text")
    return DestructionReceipt(
        subject, body, base64.b64decode(entry["signature"], validate=True), parse_time(entry["create_time"])
    )


def parse_receipts(text: str) -> list[DestructionReceipt]:
    """Read receipts as `kms keys receipts --output json` prints them: an array, or a single one.

    Raises:
        BadParameter: another form.
    """
    try:
        found = json.loads(text)
        return [_receipt(entry) for entry in (found if isinstance(found, list) else [found])]
    except (ValueError, TypeError, KeyError, typer.BadParameter) as error:
        raise typer.BadParameter(
            "must hold receipts as `kms keys receipts --output json` prints them", param_hint="FILE"
        ) from error


@app.command()
def receipts(
    key: Annotated[str | None, typer.Argument(help="The key; else all of the tenant.", show_default=False)] = None,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the receipts of what was destroyed below a key, or all of a tenant, KEKs among them."""
    with Session(profile, tenant) as session:
        parent = session.tenant if key is None else session.key(key)
        records = [of_receipt(receipt) for receipt in session.client.list_destruction_receipts(parent)]
    show_all(records, ("subject", "create_time", "body"), output)


@app.command("signing-key")
def signing_key(profile: ProfileOption = None) -> None:
    """Print the public key that verifies receipts, in PEM; keep a copy away from the daemon."""
    with Session(profile) as session:
        print_text(session.client.get_signing_key().public_key_pem)


def _verified(receipt: DestructionReceipt, public_key: str) -> Record:
    try:
        verify_receipt(receipt, public_key)
    except NotGenuine as error:
        return {"subject": receipt.subject, "genuine": False, "says": str(error)}
    return {"subject": receipt.subject, "genuine": True, "says": receipt.body}


@app.command("verify-receipt")
def verify_receipts(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="As `kms keys receipts --output json` prints.")],
    public_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="As `kms keys signing-key` prints; else the daemon's.", show_default=False),
    ] = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check receipts against the public key; with --public-key no daemon is asked."""
    found = parse_receipts(read_text(file, "FILE"))
    if public_key is None:
        with Session(profile) as session:
            pem = session.client.get_signing_key().public_key_pem
    else:
        pem = read_text(public_key, "--public-key")
    records = [_verified(receipt, pem) for receipt in found]
    show_all(records, ("subject", "genuine", "says"), output)
    if not all(record["genuine"] for record in records):
        raise typer.Exit(ExitCode.NOT_SO)
