"""What every call passes before its work is done, in this order, as Protocols: whoever refuses raises.

1. Authenticator: who calls; at this point also what that caller's credential allows (address, expiry).
2. Admission: rates, calls in flight, a fair turn among tenants.
3. Authorizer: may this caller do this to these resources.
4. QuorumGate: have others approved this very request, where it needs that.

And two at its end: the watch, which only looks on, and the trail, without which nothing is answered. The trail is also
asked before a change begins.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from kms.acting import Noted
from kms.core.audit_ports import Position
from kms.core.callers import Address, Caller
from kms.core.errors import KmsError
from kms.rpc.methods import Method
from kms.rpc.resources import Resource

APPROVAL: Final = "x-kms-approval"  # metadata: the name of the approval under which a request is made


class Authenticator(Protocol):
    """Reads the identity of a call from its connection and its metadata."""

    async def of(self, context: Any) -> Caller:
        """Return the caller.

        Raises:
            Unauthenticated: there is no identity that can be used.
            Denied: there is one, but not from this address, or it is blocked.
        """
        ...

    def address_of(self, context: Any) -> Address | None:
        """Return where a call comes from, also that of a caller who is not known."""
        ...


class Admission(Protocol):
    """Bounds what callers ask for at once and in a time."""

    def arrive(self, address: Address | None) -> None:
        """Count a call that has not shown yet who makes it.

        Raises:
            LimitExceeded: this address asks for too much, or has been refused too often.
        """
        ...

    def refused(self, address: Address | None) -> None:
        """Count a call that has failed to show who makes it."""
        ...

    def turn(self, method: Method, caller: Caller, size: int, context: Any) -> AbstractAsyncContextManager[None]:
        """Wait for a turn and hold it; *size* is the request's in bytes.

        Raises:
            InvalidRequest: the request is larger than one of its kind may be.
            LimitExceeded: the caller, its credential or its tenant asks for too much.
        """
        ...


class Authorizer(Protocol):
    """Decides who may do what."""

    async def check(self, method: Method, caller: Caller, request: Any) -> tuple[Resource, ...]:
        """Let a call pass; returns what it is about.

        Raises:
            InvalidRequest: a resource's name breaks its rule.
            NotFound: the resource is another tenant's.
            Denied: no grant allows it, or one forbids it.
        """
        ...


class QuorumGate(Protocol):
    """Holds back dangerous requests until enough others have approved them."""

    def passage(self, method: Method, caller: Caller, request: Any, approval: str) -> AbstractAsyncContextManager[None]:
        """Surround the work of a request that needs a quorum; *approval* is empty where the caller names none.

        Raises:
            ApprovalRequired: it has been stored for approval, under the name that the error tells.
            Denied, FailedPrecondition: the approval is for something else, not given, over or used.
        """
        ...


@dataclass(slots=True)
class Ended:
    """One call, as far as it has come; *caller* is None where it is not known, *error* where it succeeded."""

    method: Method
    request: Any
    response: Any
    caller: Caller | None
    address: Address | None
    error: KmsError | None
    request_id: str
    code: str = "OK"  # of gRPC
    size: int = 0  # of the request as it came, bytes
    answer_size: int = 0
    seconds: float = 0.0  # since it came
    user_agent: str = ""
    correlation_id: str = ""
    approval: str = ""  # that the caller names
    begun: bool = False  # whether its intent has been asked for
    intent: Position | None = None  # where that stands, once it is durable
    noted: Noted = field(default_factory=Noted)
    resources: tuple[Resource, ...] | None = None  # what it is about, once the authorizer has let it pass


class Watch(Protocol):
    """Is told how every call ended, at once and without waiting, for security events."""

    def ended(self, call: Ended) -> None:
        """One call has ended."""
        ...


class CallTrail(Protocol):
    """Makes every call durable in the audit trail before it is answered.

    Raises (began and ended):
        AuditUnavailable: it is not known to be durable.
    """

    async def began(self, call: Ended) -> Position:
        """Return when the intent of a call that changes something is durable; nothing of it has been done before."""
        ...

    async def ended(self, call: Ended) -> None:
        """Return when a call's outcome, or refusal, is durable, and anchored where its method asks for that."""
        ...

    def left(self, call: Ended) -> None:
        """A call has ended for which nobody waits any more: its event is written without waiting, or not at all."""
        ...


@dataclass(frozen=True, slots=True)
class Gates:
    """All of them."""

    authenticator: Authenticator
    admission: Admission
    authorizer: Authorizer
    quorum: QuorumGate
    watch: Watch
    trail: CallTrail
