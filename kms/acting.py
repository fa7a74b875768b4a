"""For whom the present task works, under which approval, and what it has done; nobody for what the daemon does by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Self

from kms.core.audit_ports import RecordChange
from kms.core.callers import Caller
from kms.core.context import Context
from kms.core.errors import KmsError
from kms.core.keyring import Key, Tenant
from kms.core.names import KeyUid, Principal, TenantUid
from kms.core.policy import AuditContext, Policy, logs_data_access

MOST_CHANGES: Final = 1_000  # of one act that are kept to be recorded; the rest is counted
MOST_VERSIONS: Final = 1_000  # the same of versions used
MOST_ENCLAVES: Final = 4  # in which one act has run something: more than one only where one was replaced meanwhile

Confirm = Callable[[], Awaitable[None]]

_NONE: Final[Mapping[int, KmsError]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class UsedKey:
    """What the audit trail says of a key that was used."""

    uid: KeyUid
    tenant: TenantUid
    name: str
    classification: str
    context: AuditContext
    each_item: bool  # whether each item of a batch has an event of its own

    @classmethod
    def of(cls, tenant: Tenant, key: Key, policy: Policy) -> Self:
        """Say it of a key that lives by this policy."""
        slug, each_item = policy.classification.slug, logs_data_access(policy)
        return cls(key.uid, tenant.uid, str(key.name(tenant)), slug, policy.audit_context, each_item)


@dataclass(slots=True)
class Executions:
    """What one act has run in one enclave."""

    functions: dict[str, int] = field(default_factory=dict)  # how often each, failures among them
    failed: int = 0
    seconds: float = 0.0  # until the answers came, with the wait for the enclave's turn


# Measurement (32 bytes), security version, and whether it is SIMULATED.
EnclaveKind = tuple[bytes, int, bool]


@dataclass(slots=True, repr=False)
class Noted:
    """What one act has used and changed, gathered while it goes on.

    Items are ciphertexts, those that came or those that leave, never plaintexts.
    """

    keys: list[UsedKey] = field(default_factory=list)  # in the order in which they were used
    versions: list[tuple[KeyUid, int]] = field(default_factory=list)  # some perhaps twice
    context: Context | None = None
    varying: str = ""  # the key of the pair that has a value of its own for each item
    values: Sequence[bytes] = ()  # its values
    items: Sequence[bytes] = ()
    failures: Mapping[int, KmsError] = field(default_factory=lambda: _NONE)  # of items, by their index
    executions: dict[EnclaveKind, Executions] = field(default_factory=dict)
    bodies: list[bytes] = field(default_factory=list)  # SHA-256 of the encrypted bodies of blobs that were read or made
    changes: list[RecordChange] = field(default_factory=list)
    left_out: int = 0  # changes beyond MOST_CHANGES
    confirm: Confirm | None = None  # looks once more whether what it gives out may leave


_caller: Final[ContextVar[Caller | None]] = ContextVar("caller", default=None)
_under: Final[ContextVar[str]] = ContextVar("under", default="")
_noted: Final[ContextVar[Noted | None]] = ContextVar("noted", default=None)


def act_for(caller: Caller | None) -> None:
    """Let the rest of this task, and what it starts, work for a caller."""
    _caller.set(caller)


def acting() -> Principal | None:
    """Return for whom this task works."""
    caller = _caller.get()
    return None if caller is None else caller.principal


def present_caller() -> Caller:
    """Return for whom this task works, from where, and by what that was shown.

    Raises:
        RuntimeError: it works for nobody.
    """
    caller = _caller.get()
    if caller is None:
        raise RuntimeError("no call is being worked on")
    return caller


def act_under(approval: str) -> None:
    """Let the rest of this task work under an approval, by its resource name."""
    _under.set(approval)


def acting_under() -> str:
    """Return the approval under which this task works; empty where there is none."""
    return _under.get()


def begin_noting() -> Noted:
    """Gather what the rest of this task, and what it starts, uses and changes."""
    noted = Noted()
    _noted.set(noted)
    return noted


@contextmanager
def noting() -> Iterator[Noted]:
    """Gather what the block uses and changes apart from what surrounds it."""
    noted = Noted()
    token = _noted.set(noted)
    try:
        yield noted
    finally:
        _noted.reset(token)


def note_key(key: UsedKey) -> None:
    """The present act uses a key, or has tried to."""
    noted = _noted.get()
    if noted is not None and key not in noted.keys:
        noted.keys.append(key)


def note_context(context: Context, varying: str = "", values: Sequence[bytes] = ()) -> None:
    """The present act is about values in this context."""
    noted = _noted.get()
    if noted is not None:
        noted.context, noted.varying, noted.values = context, varying, values


def note_version(key: KeyUid, version: int) -> None:
    """The present act uses a version of a key."""
    noted = _noted.get()
    if noted is not None and len(noted.versions) < MOST_VERSIONS:
        noted.versions.append((key, version))


def note_items(items: Sequence[bytes], failures: Mapping[int, KmsError] = _NONE) -> None:
    """The present act is about these ciphertexts, some of which fail; both may still be filled in."""
    noted = _noted.get()
    if noted is not None:
        noted.items, noted.failures = items, failures


def note_execution(enclave: EnclaveKind, function: str, seconds: float, *, failed: bool) -> None:
    """The present act has run a function in an enclave."""
    noted = _noted.get()
    if noted is None or (enclave not in noted.executions and len(noted.executions) >= MOST_ENCLAVES):
        return
    sum_ = noted.executions.setdefault(enclave, Executions())
    sum_.functions[function] = sum_.functions.get(function, 0) + 1
    sum_.seconds += seconds
    sum_.failed += failed


def note_body(sha256: bytes) -> None:
    """The present act reads or has made the encrypted body of a blob."""
    noted = _noted.get()
    if noted is not None:
        noted.bodies.append(sha256)


def note_confirmation(confirm: Confirm) -> None:
    """What the present act gives out may leave only if *confirm* raises nothing just before."""
    noted = _noted.get()
    if noted is not None:
        noted.confirm = confirm


def note_changes(changes: Sequence[RecordChange]) -> None:
    """A transaction of the present act has been committed, and has written these records."""
    noted = _noted.get()
    if noted is not None:
        room = MOST_CHANGES - len(noted.changes)
        noted.changes.extend(changes[:room])
        noted.left_out += max(len(changes) - room, 0)
