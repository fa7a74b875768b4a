"""`kms enclave`: who the enclave of a daemon is, its quotes, and their verification."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from . import enclave_upgrades
from .enclave_verify import MAX_SAID, NONCE_DIGITS, parse_hex, verify
from .files import read_bounded, write_new
from .output import Output, show, show_all
from .records import moment, of_enclave, of_node_enclave
from .session import OutputOption, ProfileOption, Session

app = typer.Typer(help="Enclaves: who they are, and what proves it.", no_args_is_help=True, rich_markup_mode=None)
app.command()(verify)
app.command()(enclave_upgrades.census)
app.add_typer(enclave_upgrades.app, name="upgrade")

_COLUMNS: Final = (
    *("node", "assurance", "mrenclave", "isv_svn", "attestation_status", "attest_expire_time", "active", "health"),
    "health_reason",
)


@app.command()
def status(profile: ProfileOption = None, output: OutputOption = Output.TABLE) -> None:
    """Show the enclave of the daemon that answers, as the daemon says; what proves it is a quote."""
    with Session(profile) as session:
        show(of_enclave(session.client.get_enclave()), output)


@app.command("list")
def list_(
    all_: Annotated[bool, typer.Option("--all", help="Also those that do not run now.")] = False,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the enclaves of all daemons, as each has told of its own; all fields, quotes among them, are in the JSON."""
    with Session(profile) as session:
        found = [of_node_enclave(one) for one in session.client.list_enclaves(active_only=not all_)]
    show_all(found, _COLUMNS, output)


@app.command()
def attest(
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="Gets quote.bin, and root.crl and platform.crl; made if need be."),
    ],
    *,
    nonce: Annotated[
        bytes | None,
        typer.Option(parser=parse_hex, metavar="HEX", help="What to ask with; random.", show_default=False),
    ] = None,
    channel_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The key of the channel that it is to name.", show_default=False),
    ] = None,
    claims: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What it is to say besides.", show_default=False)
    ] = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Challenge the enclave, and keep its answer for `kms enclave verify`: nothing is verified by this command."""
    nonce = nonce or secrets.token_bytes(NONCE_DIGITS // 2)
    key = b"" if channel_key is None else read_bounded(channel_key, MAX_SAID, "--channel-key")
    said = b"" if claims is None else read_bounded(claims, MAX_SAID, "--claims")
    issued = datetime.now(UTC)
    with Session(profile) as session:
        answer = session.client.attest_enclave(nonce, channel_key=key, claims=said)
    answered = datetime.now(UTC)
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"{out}: {error.strerror}", param_hint="--out") from error
    files = {"quote": out / "quote.bin", "root_list": out / "root.crl", "platform_list": out / "platform.crl"}
    files = {name: path for name, path in files.items() if getattr(answer, name)}  # a TPM has no lists
    for name, path in files.items():
        write_new(path, getattr(answer, name), "--out")
    record = {name: str(path) for name, path in files.items()}
    show({"nonce": nonce.hex(), "issued": moment(issued), "at": moment(answered), **record}, output)
