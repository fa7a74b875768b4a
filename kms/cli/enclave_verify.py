"""`kms enclave verify`: who an enclave is, by its quote; no daemon is asked."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .choices import parse_time
from .exit_codes import ExitCode
from .files import read_bounded
from .output import Output, Record, emit_json, print_record
from .records import moment
from .session import OutputOption

# Like an exported audit trail, a quote is verified away from the daemon, by the same pure modules; they, and what reads the
# policy, are imported when the command runs: others need not wait for them.
if TYPE_CHECKING:
    from enclave.verifier import Attested

MAX_SAID: Final = 1 << 16  # bytes of a channel's key, or of claims
NONCE_DIGITS: Final = 64
_HEX: Final = re.compile(rf"[0-9a-fA-F]{{{NONCE_DIGITS}}}")


def parse_hex(text: str) -> bytes:
    """Read 32 bytes, a nonce or a measurement, as 64 hex digits.

    Raises:
        BadParameter: another form.
    """
    if _HEX.fullmatch(text) is None:
        raise typer.BadParameter(f"must be {NONCE_DIGITS} hex digits")
    return bytes.fromhex(text)


def _of_attested(attested: Attested) -> Record:
    it = attested.identity
    return {
        "verified": True,
        "backend": attested.backend,
        "platform_id": attested.platform_id.hex(),
        "mrenclave": it.mrenclave.hex(),
        "mrsigner": it.mrsigner.hex(),
        "isv_prod_id": it.isv_prod_id,
        "isv_svn": it.isv_svn,
        "cpu_svn": it.cpu_svn.hex(),
        "flags": f"{it.flags:016x}",
        "xfrm": f"{it.xfrm:016x}",
        "misc_select": f"{it.misc_select:08x}",
        "config_id": it.config_id.hex(),
        "config_svn": it.config_svn,
        "isv_family_id": it.isv_family_id.hex(),
        "isv_ext_prod_id": it.isv_ext_prod_id.hex(),
        "expire_time": moment(attested.expires.astimezone(UTC)),
    }


def verify(
    quote: Annotated[Path, typer.Argument(metavar="QUOTE", help="The quote's bytes.")],
    *,
    policy: Annotated[Path, typer.Option(metavar="FILE", help="What it must show, in YAML.")],
    root_list: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The root's revocation list, DER or PEM; a TPM has none.", show_default=False
        ),
    ] = None,
    platform_list: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The platform's revocation list.", show_default=False)
    ] = None,
    nonce: Annotated[bytes, typer.Option(parser=parse_hex, metavar="HEX", help="What the enclave was asked with.")],
    issued: Annotated[datetime, typer.Option(parser=parse_time, metavar="TIME", help="When it was asked.")],
    at: Annotated[
        datetime | None,
        typer.Option(parser=parse_time, metavar="TIME", help="When the answer came; now.", show_default=False),
    ] = None,
    channel_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The key of the channel that it names.", show_default=False)
    ] = None,
    claims: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What it says besides.", show_default=False)
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Verify a quote: structure, certificates, signatures, policy, nonce; exit code 8 where it does not show what it must.

    That a nonce was used once cannot be seen in a file: ask with a new one each time.
    """
    from enclave.attestation_errors import ChallengeRefused, QuoteRefused  # noqa: PLC0415
    from enclave.nonces import Challenge  # noqa: PLC0415
    from enclave.quotes import MAX_QUOTE  # noqa: PLC0415
    from kms.attestation_policies import judge  # noqa: PLC0415

    from .attestation_policy_file import read_lists, read_policy  # noqa: PLC0415

    asked = read_policy(policy)
    collateral = read_lists(asked, root_list, platform_list)
    challenge = Challenge(
        nonce,
        issued,
        b"" if channel_key is None else read_bounded(channel_key, MAX_SAID, "--channel-key"),
        b"" if claims is None else read_bounded(claims, MAX_SAID, "--claims"),
    )
    try:
        shown = judge(read_bounded(quote, MAX_QUOTE, "QUOTE"), asked, collateral, challenge, at or datetime.now(UTC))
    except (QuoteRefused, ChallengeRefused) as error:
        _show({"verified": False, "check": type(error).__name__, "text": str(error)}, output)
        raise typer.Exit(ExitCode.NOT_SO) from error
    _show(_of_attested(shown), output)


def _show(record: Record, output: Output) -> None:
    if output is Output.JSON:
        emit_json(record)
    else:
        print_record(record)
