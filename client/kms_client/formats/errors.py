"""Every error that a caller can get, cut by what the caller can do about it.

KmsError
|-- InvalidRequest          fix the request: which field breaks which rule
|-- CannotDecrypt           one answer for every decryption failure
|-- Unauthenticated         no identity that can be used
|-- Denied                  an identity that may not do this
|-- NotFound                no such resource, or another tenant's
|-- AlreadyExists           choose another name
|-- Conflict                read again, then retry
|-- FailedPrecondition      legal request, illegal moment
|   |-- WrongKeyState
|   |-- WrongPurpose
|   `-- VersionExhausted    rotate the key
|-- NotSupported            not in this release
|-- LimitExceeded           slow down
|-- DeadlineExceeded        the time that the caller gave is over
|-- Unavailable             retry later
|   |-- HsmUnavailable
|   `-- StorageUnavailable
`-- CorruptRecord           stored state that makes no sense; somebody has to look

A message is written for the caller: names and rules, never secrets. `reason` goes over the wire as
google.rpc.ErrorInfo.reason, and the SDK turns it back into the class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class KmsError(Exception):
    """The root of all errors that are answered to a caller."""

    reason: ClassVar[str] = "INTERNAL"
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


class VersionExhausted(FailedPrecondition):
    """The version has reached its limit of encryptions or wraps (SP 800-38D, section 8.3); rotate it."""

    reason = "VERSION_EXHAUSTED"


class NotSupported(KmsError):
    """This release does not do that."""

    reason = "NOT_SUPPORTED"


class LimitExceeded(KmsError):
    """Too much at once; slow down and retry."""

    reason = "LIMIT_EXCEEDED"


class DeadlineExceeded(KmsError):
    """The call did not finish in the time that the caller, or the daemon, allows it."""

    reason = "DEADLINE_EXCEEDED"


class Unavailable(KmsError):
    """A part that the call needs does not answer; retry later."""

    reason = "UNAVAILABLE"


class HsmUnavailable(Unavailable):
    """The token does not answer, or not as it should."""

    reason = "HSM_UNAVAILABLE"


class StorageUnavailable(Unavailable):
    """The database does not answer in time, or refuses to write."""

    reason = "STORAGE_UNAVAILABLE"


class CorruptRecord(KmsError):
    """A stored record contradicts itself or does not unwrap; the operator has to look."""

    reason = "CORRUPT_RECORD"
