"""`kms audit verify`: an exported audit trail against the token's public key, without a daemon; or the stored one."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

# The one command that works without a daemon, with the same pure modules.
from kms.core.audit_check import NOTICES, Report, check_export
from kms.core.audit_export import NoExport
from kms.core.audit_findings import Finding
from kms.crypto.signatures import verifier

from .audit_verify_online import verify_stored
from .exit_codes import ExitCode
from .files import read_text
from .output import Output, Record, emit_json, print_line, print_record, print_records
from .session import OutputOption, ProfileOption, Session

_EVERY: Final = 0.5  # seconds between two reports of progress
_COLUMNS: Final = ("fault", "stream", "first", "last", "checkpoint", "text")


def _of_finding(finding: Finding) -> Record:
    return {
        "fault": finding.fault.value,
        "stream": None if finding.stream is None else str(finding.stream),
        "first": finding.first or None,
        "last": finding.last or None,
        "checkpoint": finding.serial or None,
        "text": finding.text or None,
        "notice": finding.fault in NOTICES,
    }


def _of_report(report: Report) -> dict[str, object]:
    return {
        "whole": report.whole,
        "installation": str(report.installation),
        "from_beginning": report.from_beginning,
        "events": report.events,
        "streams": report.streams,
        "archives": report.archives,
        "checkpoints": report.checkpoints,
        "first_checkpoint": report.first_serial or None,
        "last_checkpoint": report.last_serial or None,
        "last_hash": report.last_hash or None,
        "more_findings": report.suppressed,
    }


def _progress(size: int) -> Callable[[int], None] | None:
    """Return what tells people how far it is; programs are told nothing."""
    if not sys.stderr.isatty():
        return None
    told = 0.0

    def tell(done: int) -> None:
        nonlocal told
        if time.monotonic() - told >= _EVERY or done == size:
            told = time.monotonic()
            end = "\n" if done == size else ""
            sys.stderr.write(f"\rverified {done / max(size, 1):.0%} of {size >> 20} MiB{end}")
            sys.stderr.flush()

    return tell


def _public_key(path: Path) -> Callable[[bytes, bytes], bool]:
    try:
        key = load_pem_public_key(read_text(path, "--public-key").encode())
        return verifier(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise typer.BadParameter(f"{path}: is no public key on P-256 in PEM", param_hint="--public-key") from error


def verify(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="As `kms audit export` writes it; without it the daemon verifies what it stores.",
            show_default=False,
        ),
    ] = None,
    *,
    public_key: Annotated[
        Path | None,
        typer.Option(
            metavar="PEM",
            help="For FILE: the token's, as `kms keys signing-key` prints; keep your own copy.",
            show_default=False,
        ),
    ] = None,
    expect_serial: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="The last checkpoint, as known from elsewhere.", show_default=False),
    ] = None,
    expect_hash: Annotated[
        str | None, typer.Option(metavar="HEX", help="The hash of that checkpoint.", show_default=False)
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Read each event to its end; slower.")] = False,
    tail: Annotated[bool, typer.Option("--tail", help="Let events pass that follow the last checkpoint.")] = False,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Verify an audit trail: every event, every stream, every checkpoint; exit code 8 where it is not whole."""
    if file is None:
        if public_key is not None or expect_serial is not None or expect_hash is not None or strict or tail:
            raise typer.BadParameter("is needed with these options", param_hint="FILE")
        with Session(profile) as session:
            verify_stored(session.client, output)
        return
    if public_key is None:
        raise typer.BadParameter("is needed with FILE", param_hint="--public-key")
    if (expect_serial is None) != (expect_hash is None):
        raise typer.BadParameter("give --expect-serial and --expect-hash together", param_hint="--expect-serial")
    expected = None if expect_serial is None or expect_hash is None else (expect_serial, expect_hash)
    key = _public_key(public_key)
    try:
        with file.open("rb") as opened:
            progress = _progress(os.fstat(opened.fileno()).st_size)
            report = check_export(opened, key, strict=strict, tail=tail, expected=expected, progress=progress)
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="FILE") from error
    except NoExport as error:
        raise typer.BadParameter(f"{file}: {error}", param_hint="FILE") from error
    _show(report, output)
    if not report.whole:
        raise typer.Exit(ExitCode.NOT_SO)


def _show(report: Report, output: Output) -> None:
    findings = [_of_finding(finding) for finding in report.findings]
    if output is Output.JSON:
        emit_json(_of_report(report) | {"findings": findings})
        return
    print_record(_of_report(report))
    if findings:
        print_line("")
        print_records(findings, _COLUMNS)
