"""`kms certificates` and `kms whoami`: which certificates principals are bound to, and who one is."""

from __future__ import annotations

import re
import ssl
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Final

import typer

from .access_records import of_caller, of_pin
from .output import Output, show, show_all
from .session import OutputOption, ProfileOption, Session, TenantOption

app = typer.Typer(help="Pinned certificates: bind a principal to some.", no_args_is_help=True, rich_markup_mode=None)

_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")
_COLUMNS = ("fingerprint", "principal", "create_time", "creator")

PrincipalArgument = Annotated[
    str, typer.Argument(help="The principal: app, tenants/acme/principals/app or operators/root.")
]
CertificateArgument = Annotated[
    str, typer.Argument(help="The certificate's PEM file, or the SHA-256 of its DER in hexadecimal digits.")
]


@app.command()
def pin(
    principal: PrincipalArgument,
    certificate: CertificateArgument,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Accept a principal with this certificate, and with no other that is not pinned, too."""
    fingerprint = _fingerprint(certificate)
    with Session(profile, tenant) as session:
        show(of_pin(session.client.pin_certificate(session.principal(principal), fingerprint)), output)


@app.command()
def unpin(
    principal: PrincipalArgument,
    certificate: CertificateArgument,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
) -> None:
    """Take a pin away; without its last one, a principal is accepted with any certificate that names it."""
    fingerprint = _fingerprint(certificate)
    with Session(profile, tenant) as session:
        session.client.unpin_certificate(session.principal(principal), fingerprint)


@app.command("list")
def list_(
    principal: PrincipalArgument,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List a principal's pinned certificates."""
    with Session(profile, tenant) as session:
        pins = session.client.list_pinned_certificates(session.principal(principal))
    show_all([of_pin(pin) for pin in pins], _COLUMNS, output)


def whoami(profile: ProfileOption = None, output: OutputOption = Output.TABLE) -> None:
    """Show whom the daemon takes you for, and by what."""
    with Session(profile) as session:
        show(of_caller(session.client.who_am_i()), output)


def _fingerprint(certificate: str) -> str:
    if _FINGERPRINT.fullmatch(certificate):
        return certificate
    try:
        text = Path(certificate).read_text(encoding="ascii")
        # Of a chain the first one is the client's own.
        der = ssl.PEM_cert_to_DER_cert(
            f"{text[text.index(ssl.PEM_HEADER) :].partition(ssl.PEM_FOOTER)[0]}{ssl.PEM_FOOTER}"
        )
    except OSError as error:
        raise typer.BadParameter(f"{certificate}: {error.strerror}", param_hint="CERTIFICATE") from error
    except ValueError as error:
        raise typer.BadParameter(f"{certificate}: holds no PEM certificate", param_hint="CERTIFICATE") from error
    return sha256(der).hexdigest()
