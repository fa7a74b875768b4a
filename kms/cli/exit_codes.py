"""What the exit code of `kms` tells; docs/cli.md has the same table, and a test compares them."""

from __future__ import annotations

from enum import IntEnum
from types import MappingProxyType
from typing import Final

import kms_client

from kms.columns.errors import ColumnsError, PlanError


class ExitCode(IntEnum):
    """Cut by what the caller can do."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    INVALID = 3
    NOT_FOUND = 4
    DENIED = 5
    CONFLICT = 6
    UNAVAILABLE = 7
    NOT_SO = 8
    APPROVAL = 9
    INTERRUPTED = 130  # 128 and the number of SIGINT, as shells have it


MEANINGS: Final = MappingProxyType(
    {
        ExitCode.OK: "done",
        ExitCode.UNEXPECTED: "an error that should not happen, or work on columns that cannot go on; somebody has to look",
        ExitCode.USAGE: "wrong options or arguments, or a profile that cannot be used",
        ExitCode.INVALID: "the daemon refuses the request as invalid, or does not support it; a plan is none, or does not fit its database; a file is not encrypted, is altered, or is of another key or context",
        ExitCode.NOT_FOUND: "no such resource, or one of another tenant",
        ExitCode.DENIED: "the identity is unknown or may not do this",
        ExitCode.CONFLICT: "the name is taken, somebody else changed the resource, or its state does not allow this",
        ExitCode.UNAVAILABLE: "the daemon, its token or its database does not answer in time; retry later",
        ExitCode.NOT_SO: "not so: access is denied, an operation failed or was cancelled, a node has not stopped, a receipt, a report or a quote proves nothing, or an audit trail is not whole",
        ExitCode.APPROVAL: "others have to approve it first; then repeat the command with --approval",
        ExitCode.INTERRUPTED: "interrupted, or not confirmed",
    }
)

OF_ERROR: Final = MappingProxyType(
    {
        kms_client.KmsError: ExitCode.UNEXPECTED,
        kms_client.InvalidRequest: ExitCode.INVALID,
        kms_client.CannotDecrypt: ExitCode.INVALID,
        kms_client.NotSupported: ExitCode.INVALID,
        kms_client.NotFound: ExitCode.NOT_FOUND,
        kms_client.Unauthenticated: ExitCode.DENIED,
        kms_client.Denied: ExitCode.DENIED,
        kms_client.AlreadyExists: ExitCode.CONFLICT,
        kms_client.Conflict: ExitCode.CONFLICT,
        kms_client.FailedPrecondition: ExitCode.CONFLICT,
        kms_client.ApprovalRequired: ExitCode.APPROVAL,
        kms_client.LimitExceeded: ExitCode.UNAVAILABLE,
        kms_client.DeadlineExceeded: ExitCode.UNAVAILABLE,
        kms_client.Unavailable: ExitCode.UNAVAILABLE,
        kms_client.CorruptRecord: ExitCode.UNEXPECTED,
    }
)


def code_of(error: Exception) -> ExitCode:
    """Return the exit code for an error of the SDK, or of the work on columns."""
    if isinstance(error, ColumnsError):
        return ExitCode.INVALID if isinstance(error, PlanError) else ExitCode.UNEXPECTED
    if isinstance(error, kms_client.ConfigurationError):
        return ExitCode.USAGE
    return next((OF_ERROR[kind] for kind in type(error).__mro__ if kind in OF_ERROR), ExitCode.UNEXPECTED)
