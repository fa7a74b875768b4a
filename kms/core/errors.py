"""Every error that a caller can get, cut by what the caller can do about it.

KmsError
|-- InvalidRequest          fix the request: which field breaks which rule
|-- CannotDecrypt           one answer for every decryption failure
|-- Unauthenticated         no identity that can be used
|-- Denied                  an identity that may not do this
|   `-- SelfApproval
|-- NotFound                no such resource, or another tenant's
|-- AlreadyExists           choose another name
|-- Conflict                read again, then retry
|-- FailedPrecondition      legal request, illegal moment
|   |-- WrongKeyState
|   |-- WrongPurpose
|   |-- ClassViolation      a rule of the data's class; the message names it
|   |-- VersionExhausted    rotate the key
|   |-- ApprovalRequired    let others approve it, then repeat it
|   |-- ApprovalUnusable    ask for another approval
|   `-- WrongApprovalState
|-- NotSupported            not in this release
|-- LimitExceeded           slow down
|-- DeadlineExceeded        the time that the caller gave is over
|-- Unavailable             retry later
|   |-- HsmUnavailable
|   |-- EnclaveUnavailable
|   |-- StorageUnavailable
|   |-- BodyStoreUnavailable
|   |-- AuditUnavailable
|   `-- RevocationUnknown
`-- CorruptRecord           stored state that makes no sense; somebody has to look
    |-- BodyMissing         what was sealed is gone, or cut short
    `-- RolledBack          an older or another state than the one that was anchored

A message is written for the caller: names and rules, never secrets. `reason` and `metadata` go over the wire as those
of google.rpc.ErrorInfo, and the SDK turns them back into the class and its metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import ClassVar


class KmsError(Exception):
    """The root of all errors that are answered to a caller."""

    reason: ClassVar[str] = "INTERNAL"
    # What programs need of it beside the class, at most a few short pairs; set on the error, never secrets.
    metadata: Mapping[str, str] = MappingProxyType({})
    request_id: str = ""  # the id under which the daemon logged the call; set where the error has crossed the wire


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule: the field's path in the request and what it must be."""

    field: str
    rule: str


class InvalidRequest(KmsError):
    """The request breaks a rule of the API."""

    reason = "INVALID_REQUEST"

    def __init__(self, *violations: Violation) -> None:
        super().__init__("; ".join(f"{v.field}: {v.rule}" for v in violations))
        self.violations = violations


def invalid(field: str, rule: str) -> InvalidRequest:
    """Make the error for one broken rule."""
    return InvalidRequest(Violation(field, rule))


class CannotDecrypt(KmsError):
    """The ciphertext is well formed but does not decrypt here; the cause is not told."""

    reason = "DECRYPT_FAILED"

    def __init__(self, message: str = "the ciphertext does not decrypt under this key and context") -> None:
        super().__init__(message)


class Unauthenticated(KmsError):
    """The caller has shown no identity that this daemon knows how to read."""

    reason = "UNAUTHENTICATED"
    credential: str = ""  # the prefix of the token that was shown; set by who raises, and never sent


class Denied(KmsError):
    """The caller's identity may not do this."""

    reason = "DENIED"


class SelfApproval(Denied):
    """Who has asked for something cannot approve it."""

    reason = "SELF_APPROVAL"


class NotFound(KmsError):
    """No such resource, or one of another tenant: the answer is the same."""

    reason = "NOT_FOUND"

    def __init__(self, message: str) -> None:
        super().__init__(message if " " in message else f"{message} does not exist")


class AlreadyExists(KmsError):
    """The name is taken."""

    reason = "ALREADY_EXISTS"


class Conflict(KmsError):
    """Somebody else changed the resource in between."""

    reason = "CONFLICT"


class FailedPrecondition(KmsError):
    """The request is legal, but not for this resource in its present state."""

    reason = "FAILED_PRECONDITION"


class WrongKeyState(FailedPrecondition):
    """The key's state does not allow this."""

    reason = "WRONG_KEY_STATE"


class WrongPurpose(FailedPrecondition):
    """The key is for another purpose."""

    reason = "WRONG_PURPOSE"


class ClassViolation(FailedPrecondition):
    """The key, or what is to be done with it, breaks a rule of the class of its data."""

    reason = "CLASS_VIOLATION"


class VersionExhausted(FailedPrecondition):
    """The version has reached its limit of encryptions or wraps (SP 800-38D, section 8.3); rotate it."""

    reason = "VERSION_EXHAUSTED"


class ApprovalRequired(FailedPrecondition):
    """Others have to approve this request first; it is stored under the name in `approval`."""

    reason = "APPROVAL_REQUIRED"

    @property
    def approval(self) -> str:
        """The name of the stored request, `tenants/{tenant}/approvals/{approval}`; repeat the request under it."""
        return self.metadata.get("approval", "")

    @property
    def needed(self) -> int:
        """How many principals other than the requester have to approve; 0 where that is not told."""
        number = self.metadata.get("needed", "")
        return int(number) if number.isascii() and number.isdecimal() else 0


def approval_required(message: str, approval: str, needed: int) -> ApprovalRequired:
    """Make the error for a request that has been stored for approval."""
    error = ApprovalRequired(message)
    error.metadata = MappingProxyType({"approval": approval, "needed": str(needed)})
    return error


class ApprovalUnusable(FailedPrecondition):
    """The approval is for another request, not given, used, or over; the message says which."""

    reason = "APPROVAL_UNUSABLE"


class WrongApprovalState(FailedPrecondition):
    """The state of the stored request does not allow this."""

    reason = "WRONG_APPROVAL_STATE"


class NotSupported(KmsError):
    """This release does not do that."""

    reason = "NOT_SUPPORTED"


class LimitExceeded(KmsError):
    """Too much at once, or in too short a time; *retry_after* is the time after which to try again, if that is known."""

    reason = "LIMIT_EXCEEDED"

    def __init__(self, message: str, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineExceeded(KmsError):
    """The call did not finish in the time that the caller, or the daemon, allows it."""

    reason = "DEADLINE_EXCEEDED"


class Unavailable(KmsError):
    """A part that the call needs does not answer; retry later."""

    reason = "UNAVAILABLE"


class HsmUnavailable(Unavailable):
    """The token does not answer, or not as it should."""

    reason = "HSM_UNAVAILABLE"


class EnclaveUnavailable(Unavailable):
    """The enclave does not answer, or there is none that runs; what was asked of it may or may not have been done."""

    reason = "ENCLAVE_UNAVAILABLE"


class StorageUnavailable(Unavailable):
    """The database does not answer in time, or refuses to write."""

    reason = "STORAGE_UNAVAILABLE"


class BodyStoreUnavailable(Unavailable):
    """The store of blobs' bodies does not answer in time, refuses, or has no room left."""

    reason = "BODY_STORE_UNAVAILABLE"


class AuditUnavailable(Unavailable):
    """What was done, or was to be done, cannot be written to the audit trail; a change may have been made all the same."""

    reason = "AUDIT_UNAVAILABLE"


class RevocationUnknown(Unavailable):
    """Whether the caller's certificate is revoked is not known here: the daemon's lists are at fault, not the caller."""

    reason = "REVOCATION_UNKNOWN"


class CorruptRecord(KmsError):
    """A stored record contradicts itself or does not unwrap; the operator has to look."""

    reason = "CORRUPT_RECORD"
    rolled_back: bool = False  # an older state than was stored before; set by who raises, and never sent


class BodyMissing(CorruptRecord):
    """The body of a blob is not in its store, or shorter than it was recorded to be."""

    reason = "BODY_MISSING"


class RolledBack(CorruptRecord):
    """The database is not what was anchored outside of it: older, another one, or forged; a quorum has to look."""

    reason = "ROLLED_BACK"
    rolled_back = True
