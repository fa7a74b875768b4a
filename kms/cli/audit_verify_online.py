"""`kms audit verify` without a file: the daemon verifies the trail that it stores."""

from __future__ import annotations

import sys
import time
from typing import Final

import typer
from kms_client import AuditFinding, AuditStatus, AuditVerification, AuditVerificationResult, Client, Unavailable

from .exit_codes import ExitCode
from .output import Output, Record, emit_json, plain, print_line, print_record, print_records
from .records import moment

_TURN: Final = 0.5  # seconds between two looks
_COLUMNS: Final = ("fault", "stream", "first", "last", "checkpoint", "text")


def of_status(status: AuditStatus) -> Record:
    """Return what `kms audit status` says beside the streams."""
    checkpoint, last = status.checkpoint, status.verification.last
    running = status.verification.begin_time
    return {
        "checkpoint": None if checkpoint is None else checkpoint.serial,
        "checkpoint_hash": None if checkpoint is None else checkpoint.hash.hex(),
        "checkpoint_time": None if checkpoint is None else moment(checkpoint.time),
        "anchored_checkpoint": status.anchored_checkpoint or None,
        "verified": None if last is None else moment(last.end_time),
        "verified_until": None if last is None else moment(last.cover_time),
        "problems": None if last is None else last.problems,
        "verifying_since": None if running is None else moment(running),
        "verification_failure": status.verification.failure or None,
        "problem": status.problem or None,
    }


def verify_stored(client: Client, output: Output) -> None:
    """Have the stored trail verified, wait for it, and show what was found.

    Raises:
        Unavailable: it has come to no result.
        Exit: something is wrong.
    """
    result = _awaited(client)
    findings = [_of_finding(finding) for finding in result.findings]
    if output is Output.JSON:
        emit_json(_of_result(result) | {"findings": findings})
    else:
        print_record(_of_result(result))
        if findings:
            print_line("")
            print_records(findings, _COLUMNS)
    if result.problems:
        raise typer.Exit(ExitCode.NOT_SO)


def _awaited(client: Client) -> AuditVerificationResult:
    state = client.verify_audit()
    began = state.begin_time
    while state.begin_time is not None and state.begin_time == began:
        _tell(state)
        time.sleep(_TURN)
        state = client.get_audit_status(streams=False).verification
    if sys.stderr.isatty():
        sys.stderr.write("\n")
    if state.last is None or state.last.begin_time != began:
        raise Unavailable(state.failure or "the daemon was started anew meanwhile; verify again")
    return state.last


def _tell(state: AuditVerification) -> None:
    """Tell people how far it is; programs are told nothing."""
    if sys.stderr.isatty():
        known = max(state.events, state.known_events)
        sys.stderr.write(f"\rverified {plain(f'{state.events:,} of {known:,}')} events")
        sys.stderr.flush()


def _of_result(result: AuditVerificationResult) -> dict[str, object]:
    return {
        "whole": result.problems == 0,
        "verified_until": moment(result.cover_time),
        "began": moment(result.begin_time),
        "ended": moment(result.end_time),
        "requester": result.requester,
        "events": result.events,
        "columns_compared": result.columns,
        "streams": result.streams,
        "checkpoints": result.checkpoints,
        "last_checkpoint": result.last_checkpoint or None,
        "last_hash": result.last_hash.hex() or None,
        "problems": result.problems,
    }


def _of_finding(finding: AuditFinding) -> Record:
    return {
        "fault": finding.fault,
        "stream": finding.stream or None,
        "first": finding.first or None,
        "last": finding.last or None,
        "checkpoint": finding.checkpoint or None,
        "text": finding.text or None,
        "notice": finding.notice,
    }
