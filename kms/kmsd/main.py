"""The `kmsd` command: set up, check, migrate, serve.

Exit codes: 0 done; 1 refused, or `check` found an error; 2 wrong usage; 3 the configuration cannot be used;
4 the daemon cannot start or has lost what it needs; 70 a bug; 130 interrupted.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from kms.core.errors import KmsError
from kms.redaction import clean_text, clean_trace
from kms.setting_values import SettingsError
from kms.settings import Settings, load

# When the collector looks for cycles: after so many new objects, and what survives after so many such looks. What has to be freed
# in this way waits until then: 50,000 objects, some MB.
COLLECTIONS: Final = (50_000, 20, 50)


class ExitCode(IntEnum):
    """How `kmsd` ends; docs/operations.md has the table."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    CONFIGURATION = 3
    CANNOT_RUN = 4
    BUG = 70
    INTERRUPTED = 130


class EnclaveBackend(StrEnum):
    """What `kmsd init` can make an enclave upon."""

    SIMULATED = "simulated"
    TPM2 = "tpm2"


app = typer.Typer(
    name="kmsd",
    help="Key management and encrypted storage daemon.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they show local variables
)

_Config = Annotated[Path, typer.Option("--config", metavar="FILE", help="The daemon's kmsd.toml.")]


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A directory that is missing or empty.")],
    address: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the daemon will listen.")] = "127.0.0.1:7443",
    trust_domain: Annotated[str, typer.Option(metavar="NAME", help="The trust domain of callers.")] = "kms.local",
    *,
    enclave: Annotated[bool, typer.Option(help="Make an enclave, too.")] = True,
    enclave_backend: Annotated[
        EnclaveBackend, typer.Option(help="What the enclave stands upon.")
    ] = EnclaveBackend.SIMULATED,
    tpm: Annotated[
        str | None,
        typer.Option(metavar="TCTI", help="The TPM of backend tpm2: device:/dev/tpmrm0, or swtpm:path=SOCKET."),
    ] = None,
    tpm_owner_auth: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The authorization of its owner hierarchy, where it has one; is copied."),
    ] = None,
    tpm_pcr: Annotated[int | None, typer.Option(min=0, max=15, help="The PCR to extend.  [default: 13]")] = None,
) -> None:
    """Set up one machine: a SoftHSM token, a database, certificates and the configuration."""
    from kms.kmsd.installation import initialise  # noqa: PLC0415  what a command needs is loaded by that command
    from kms.kmsd.tpm_files import TpmChoices  # noqa: PLC0415

    chosen = None
    if enclave and enclave_backend is EnclaveBackend.TPM2:
        if tpm is None:
            raise typer.BadParameter("backend tpm2 takes --tpm, such as device:/dev/tpmrm0", param_hint="--tpm")
        chosen = TpmChoices(tpm, tpm_owner_auth, *([] if tpm_pcr is None else [tpm_pcr]))
    elif (tpm, tpm_owner_auth, tpm_pcr) != (None, None, None):
        raise typer.BadParameter("is for --enclave-backend tpm2", param_hint="--tpm")
    initialise(directory, address, trust_domain, datetime.now(UTC), enclave=enclave, tpm=chosen)
    place = directory.absolute()
    typer.echo(
        f"{place} is ready. Next:\n"
        f"  kmsd serve --config {place}/kmsd.toml\n"
        "and in another terminal:\n"
        f"  export KMS_PROFILE={place}/kms.toml\n"
        "  kms tenants create acme\n"
        f"  kmsd issue-cert --config {place}/kmsd.toml tenants/acme/principals/app --out app\n"
        f"{place}/secrets and {place}/token together open every key: keep them private, and back them up apart."
    )
    if chosen is not None:
        typer.echo(
            f"The enclave stands upon the TPM {chosen.place}, as it answers now, and what it seals opens upon no other. "
            f"Move {place}/secrets/enclave-signing-key.pem away from the machine: it is not needed to serve."
        )
    elif enclave:
        typer.echo(
            f"The enclave is SIMULATED: it protects nothing from this machine. Move {place}/secrets/enclave-signing-key.pem "
            "and enclave-root-key.pem away from it: they are not needed to serve."
        )


@app.command("issue-cert")
def issue_cert(
    config: _Config,
    principal: Annotated[
        str,
        typer.Argument(
            metavar="PRINCIPAL",
            help="tenants/TENANT/principals/NAME, operators/NAME, or server to renew the daemon's own.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Gets the certificate, the key and a profile.")],
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long the certificate is valid.")] = 365,
) -> None:
    """Issue a certificate from the development CA that `kmsd init` made."""
    from kms.kmsd.installation import issue_certificate  # noqa: PLC0415

    lifetime = timedelta(days=days)
    files = issue_certificate(config, principal, out, lifetime=lifetime, now=datetime.now(UTC))
    typer.echo(f"{files.certificate}\n{files.private_key}")
    if files.profile is not None:
        typer.echo(f"export KMS_PROFILE={files.profile.absolute()}")


@app.command("revoke-cert")
def revoke_cert(
    config: _Config,
    certificate: Annotated[
        str, typer.Argument(metavar="CERTIFICATE", help="The certificate's PEM file, or its serial number (hex).")
    ],
) -> None:
    """Revoke a certificate of the development CA; daemons that read the list refuse it within seconds."""
    from kms.kmsd.installation import revoke_certificate  # noqa: PLC0415

    serial = revoke_certificate(config, certificate, datetime.now(UTC))
    typer.echo(f"serial number {serial:x} is revoked")


@app.command()
def check(
    config: _Config,
    login: Annotated[
        bool, typer.Option("--login", help="Try the PIN, too: a wrong one counts towards the token's lock.")
    ] = False,
) -> None:
    """Say what is wrong before serving: one line a finding, with how to mend it."""
    from kms.kmsd import checks  # noqa: PLC0415

    findings = checks.run(config, datetime.now(UTC), login=login)
    for finding in findings:
        typer.echo(str(finding))
    if checks.fails(findings):
        raise typer.Exit(ExitCode.REFUSED)
    typer.echo(f"{config}: no errors")


@app.command()
def migrate(config: _Config) -> None:
    """Bring the database to this release; without a SQLite file, make one."""
    from kms.kmsd.check_database import migration_target  # noqa: PLC0415
    from storage.migrate import upgrade  # noqa: PLC0415
    from storage.ownership import Ownership  # noqa: PLC0415

    settings = load(config)
    if settings.storage.kind == "sqlite":
        with Ownership.take(settings.data_directory):  # not under a running daemon
            upgrade(migration_target(settings))
    else:
        upgrade(migration_target(settings))
    typer.echo("the database is of this release")


@app.command()
def serve(config: _Config) -> None:
    """Serve until SIGTERM or SIGINT, then finish running calls and stop."""
    run(load(config))


enclave_commands = typer.Typer(help="The enclave of this machine.")
app.add_typer(enclave_commands, name="enclave")


@enclave_commands.command("sign")
def enclave_sign(
    config: _Config,
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The signer's key.  [default: secrets/enclave-signing-key.pem]"),
    ] = None,
    isv_svn: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="The security version.  [default: the present one]"),
    ] = None,
) -> None:
    """Measure the installed enclave and sign it, after an upgrade of this package, Python or a library."""
    from kms.kmsd.enclave_signing import sign_anew  # noqa: PLC0415

    settings, signed = sign_anew(config, key, isv_svn, datetime.now(UTC))
    kind = "the enclave upon the TPM," if settings.backend == "tpm2" else "SIMULATED enclave"
    typer.echo(f"{kind} {signed.mrenclave.hex()} is signed, with security version {signed.isv_svn}")
    if settings.backend == "tpm2":
        typer.echo(
            "Restart the machine: until then its TPM remembers the code of before, and the enclave does not start."
        )


@enclave_commands.command("measure")
def enclave_measure(
    backend: Annotated[EnclaveBackend, typer.Option("--backend", help="Which kind of enclave.")] = (
        EnclaveBackend.SIMULATED
    ),
) -> None:
    """Print MRENCLAVE of the enclave that is installed with this very command, as 64 hex digits; nothing is changed."""
    from kms.kmsd.measuring import measurement_of, start_measuring  # noqa: PLC0415

    typer.echo(measurement_of(start_measuring(backend.value)).hex())


integrity = typer.Typer(help="What to do about a database that is not what was anchored; the daemon is stopped.")
app.add_typer(integrity, name="integrity")


@integrity.command("explain")
def integrity_explain(config: _Config) -> None:
    """Say how the database stands to its anchor."""
    from kms.kmsd.integrity import explain  # noqa: PLC0415

    for line in asyncio.run(explain(load(config))):
        typer.echo(line)


@integrity.command("statement")
def integrity_statement(
    config: _Config,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why this state is to be accepted.")],
) -> None:
    """Print the statement that officers sign with `kms integrity sign`."""
    from kms.kmsd.integrity import statement  # noqa: PLC0415

    typer.echo(asyncio.run(statement(load(config), reason)))


@integrity.command("accept")
def integrity_accept(
    config: _Config,
    statement: Annotated[Path, typer.Option("--statement", metavar="FILE", help="The statement.")],
    signature: Annotated[list[Path], typer.Option("--signature", metavar="FILE", help="An officer's; repeat it.")],
) -> None:
    """Go on from the state that the statement describes."""
    from kms.kmsd.integrity import accept_statement  # noqa: PLC0415

    text = statement.read_text(encoding="utf-8").rstrip("\n")
    signatures = [path.read_text(encoding="utf-8") for path in signature]
    typer.echo(asyncio.run(accept_statement(load(config), text, signatures)))


@app.command()
def version() -> None:
    """Show the version."""
    typer.echo(version_of("kmsd"))


def run(settings: Settings) -> None:
    """Run the daemon in this process."""
    gc.disable()  # what is loaded stays: looking through it again and again takes a quarter of the start
    import uvloop  # noqa: PLC0415

    from kms import allocation, daemon, logs  # noqa: PLC0415

    allocation.keep_freed_memory()
    gc.freeze()
    # Calls that wait for their event to be durable are no garbage: by the defaults looking through them takes a tenth of a call.
    gc.set_threshold(*COLLECTIONS)
    gc.enable()
    logs.configure(settings.log.level, settings.log.format)
    uvloop.run(daemon.serve(settings))


def main() -> NoReturn:
    """Run the command line; expected failures become one line each and an exit code."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    except Exception as error:  # noqa: BLE001  nothing above this could tell anybody
        sys.exit(_report(error))
    sys.exit(ExitCode.DONE)


def _report(error: Exception) -> ExitCode:
    codes = []
    for leaf in _leaves(error):
        code = _code_of(leaf)
        codes.append(code)
        if code is ExitCode.BUG:
            typer.echo(f"kmsd: this is a bug, please report it:\n{clean_trace(leaf)}", err=True)
        else:
            for line in clean_text(str(leaf)).splitlines():
                typer.echo(f"kmsd: {line}", err=True)
    return max(codes)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """What a TaskGroup wraps."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _code_of(error: BaseException) -> ExitCode:
    from kms.kmsd.private_files import Refused  # noqa: PLC0415  only a failure pays for these
    from kms.rpc.server import ListenError  # noqa: PLC0415
    from storage.errors import CannotOpen  # noqa: PLC0415

    if isinstance(error, SettingsError):
        return ExitCode.CONFIGURATION
    if isinstance(error, Refused):
        return ExitCode.REFUSED
    if isinstance(error, KmsError | CannotOpen | ListenError | OSError):
        return ExitCode.CANNOT_RUN
    return ExitCode.BUG
