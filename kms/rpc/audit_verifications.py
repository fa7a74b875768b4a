"""Messages of verifications of the audit trail."""

from __future__ import annotations

from kms.core.audit_check import NOTICES
from kms.core.audit_findings import Finding
from kms.core.checkpoints import SignedCheckpoint
from kms.rpc.messages import timestamp
from kms.services.audit_verification import Verification, VerificationState
from kms.v1 import audit_pb2 as pb


def checkpoint_message(made: SignedCheckpoint) -> pb.AuditStatus.Checkpoint:
    """Format the newest checkpoint."""
    return pb.AuditStatus.Checkpoint(serial=made.serial, hash=made.hash, time=timestamp(made.checkpoint.at))


def verification_message(state: VerificationState) -> pb.AuditVerification:
    """Format what is going on, and what came of the last one."""
    return pb.AuditVerification(
        begin_time=timestamp(state.began_at),
        events=state.events,
        known_events=state.known,
        last=None if state.last is None else _result(state.last),
        failure=state.failure,
    )


def _result(made: Verification) -> pb.AuditVerification.Result:
    return pb.AuditVerification.Result(
        begin_time=timestamp(made.began_at),
        end_time=timestamp(made.at),
        cover_time=timestamp(made.covers),
        requester=made.by,
        events=made.events,
        columns=made.columns,
        streams=made.streams,
        checkpoints=made.checkpoints,
        last_checkpoint=made.last_serial,
        last_hash=made.last_hash,
        findings=[_finding(finding) for finding in made.findings],
        problems=made.problems,
    )


def _finding(found: Finding) -> pb.AuditFinding:
    return pb.AuditFinding(
        fault=found.fault.value,
        stream=str(found.stream or ""),
        first=_number(found.first),
        last=_number(found.last),
        checkpoint=_number(found.serial),
        text=found.text,
        notice=found.fault in NOTICES,
    )


def _number(number: int) -> int:
    """Return what a message can hold of a number that may have been forged."""
    return min(max(number, 0), 2**64 - 1)
