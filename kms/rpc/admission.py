"""What callers may ask for at once and in a time: rates, calls and bytes in flight, and a fair turn at the work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from types import TracebackType
from typing import Any, Final

from kms.core.callers import Address, Caller
from kms.core.errors import LimitExceeded, invalid
from kms.core.limits import MINUTE, SECOND, Limiter, Rate, rates_of, window
from kms.rpc.fairness import QUANTUM, QueueFull, Turn, Turns
from kms.rpc.methods import AuditKind, Method
from kms.settings import Limits

# What a call costs beside the bytes of its request: a unary call takes some 250 us of CPU time, a batch some 1.6 us for
# each value, which is 100 to 150 bytes; and a call whose answer nobody reads keeps about 100 KB of memory.
CALL_COST: Final = 16 << 10  # bytes
# A stream has a few messages of 1 MiB in memory at any time, on their way from one part to the next.
STREAM_COST: Final = 4 << 20  # bytes
# Calls that use no key work with the database, which has eight connections unless it is told otherwise; one after
# another for each tenant where they must wait.
RECORDS_AT_WORK: Final = 8
# For what is in flight it is not known when it will be less.
BUSY: Final = 100_000_000  # nanoseconds


class Limit(StrEnum):
    """What refuses a call; the labels of a metric."""

    ADDRESS_RATE = "address_rate"
    ADDRESS_FAILURES = "address_failures"
    PRINCIPAL_RATE = "principal_rate"
    TOKEN_RATE = "token_rate"  # noqa: S105  a kind of limit, not a secret
    TENANT_RATE = "tenant_rate"
    CALLS = "calls_in_flight"
    TENANT_BYTES = "tenant_bytes_in_flight"
    BYTES = "bytes_in_flight"
    QUEUE = "queue"
    SIZE = "size"


@dataclass(frozen=True, slots=True)
class _Rates:
    """The limiters of one node; None where there is no such limit."""

    address: Limiter | None
    failures: Limiter | None
    principal: Limiter | None
    tenant: Limiter | None
    token: Limiter

    @classmethod
    def of(cls, limits: Limits) -> _Rates:
        block = _nanoseconds(limits.block)

        def limiter(rate: int | None) -> Limiter | None:
            if rate is None:
                return None
            burst = max(int(rate * limits.burst.total_seconds()), 1)
            return Limiter((Rate(rate, SECOND, burst),), block=block)

        failures = None
        if limits.failures_per_minute:
            rate = window(limits.failures_per_minute, MINUTE)
            failures = Limiter((rate,), block=_nanoseconds(limits.failure_block))
        return cls(
            address=limiter(limits.address_rate),
            failures=failures,
            principal=limiter(limits.principal_rate),
            tenant=limiter(limits.tenant_rate),
            token=Limiter(block=block),
        )


class FairAdmission:
    """Admission by the settings [limits]; its state is this node's alone, and in memory."""

    def __init__(self, limits: Limits, clock: Callable[[], int]) -> None:
        """*clock* shows nanoseconds and never goes back."""
        self._limits = limits
        self._clock = clock
        self._rates = _Rates.of(limits)
        self._calls: Counter[Hashable] = Counter()  # in flight, by principal
        self._bytes: Counter[str | None] = Counter()  # in flight, by tenant; None: the operators'
        self._tenants_bytes = 0  # in flight, of all tenants
        self.refusals = {limit.value: 0 for limit in Limit}

        def turns(room: int) -> Turns:
            return Turns(room, limits.queue, clock)

        # Calls that use keys hold the loop, others wait for the database: neither takes the other's room. Operators
        # have room of their own, so that no tenant can lock them out.
        records = RECORDS_AT_WORK * QUANTUM
        self._keys, self._records, self._operators = turns(limits.room_bytes), turns(records), turns(records)

    @property
    def waiting(self) -> int:
        """The number of calls that wait for their turn."""
        return self._keys.waiting + self._records.waiting + self._operators.waiting

    @property
    def idle(self) -> bool:
        """Whether nothing is counted as in flight, at work or waiting."""
        turns = (self._keys, self._records, self._operators)
        return not (self._calls or self._bytes or self._tenants_bytes or any(map(len, turns)) or self.waiting)

    def arrive(self, address: Address | None) -> None:
        """Count a call that has not shown yet who makes it.

        Raises:
            LimitExceeded: this address asks for too much, or has failed to authenticate too often.
        """
        if address is None:
            return
        failures, rate = self._rates.failures, self._rates.address
        if failures is not None and (wait := failures.blocked(_source(address), self._clock())):
            self._refuse(Limit.ADDRESS_FAILURES, f"{address} has failed to authenticate too often", wait)
        if rate is not None and (wait := rate.take(_source(address), self._clock())):
            self._refuse(Limit.ADDRESS_RATE, f"{address} makes too many calls", wait)

    def refused(self, address: Address | None) -> None:
        """Count a call that has failed to show who makes it."""
        if address is not None and self._rates.failures is not None:
            self._rates.failures.take(_source(address), self._clock())

    def turn(self, method: Method, caller: Caller, size: int, context: Any) -> _Admitted:
        """Return what waits for a turn when it is entered, and holds it; *size* is the request's in bytes.

        Raises, when it is entered:
            InvalidRequest: the request is larger than one of its kind may be.
            LimitExceeded: the caller, its credential or its tenant asks for too much.
        """
        return _Admitted(self, method, caller, size, context)

    def admit(self, method: Method, caller: Caller, size: int, context: Any) -> Turn | None:
        """Count a call as in flight until its answer has left; returns the turn that it must wait for, if any."""
        self._check_size(method, size)
        cost = size + (STREAM_COST if method.streams else CALL_COST)
        self._check_in_flight(caller, cost)
        self._check_rates(caller)
        self._count(caller, cost, context)
        if method.waits:
            return None
        tenant = caller.principal.tenant
        if tenant is None:
            return self._operators.turn(caller.principal.name, QUANTUM)
        if method.audit is AuditKind.DATA:
            return self._keys.turn(tenant, size + CALL_COST)
        return self._records.turn(tenant, QUANTUM)

    def refuse_queued(self, caller: Caller, full: QueueFull) -> None:
        """Refuse a call for which there is no room to wait."""
        self._refuse(Limit.QUEUE, f"{_whose(caller)} has {self._limits.queue} calls waiting", full.wait)

    def _check_size(self, method: Method, size: int) -> None:
        if method.audit is not AuditKind.DATA and size > self._limits.record_bytes:
            self.refusals[Limit.SIZE] += 1
            raise invalid("request", f"must have at most {self._limits.record_bytes} bytes, has {size}")

    def _check_in_flight(self, caller: Caller, size: int) -> None:
        limits, tenant = self._limits, caller.principal.tenant
        if self._calls[caller.principal] >= limits.calls_in_flight:
            message = f"{caller.principal} has {limits.calls_in_flight} calls in flight, which is the limit"
            self._refuse(Limit.CALLS, message, BUSY)
        if self._bytes[tenant] + size > limits.tenant_bytes_in_flight:
            self._refuse(Limit.TENANT_BYTES, f"{_whose(caller)} has too many bytes in flight", BUSY)
        if tenant is not None and self._tenants_bytes + size > limits.bytes_in_flight:
            self._refuse(Limit.BYTES, "all tenants together have too many bytes in flight", BUSY)

    def _check_rates(self, caller: Caller) -> None:
        """Count the call in each of the rates that it falls under, or in none."""
        rates, now = self._rates, self._clock()
        taken: list[tuple[Limiter, Hashable]] = []
        tenant, credential = caller.principal.tenant, caller.credential
        if rates.principal is not None:
            if wait := rates.principal.wait(caller.principal, now):
                self._refuse(Limit.PRINCIPAL_RATE, f"{caller.principal} makes too many calls", wait)
            taken.append((rates.principal, caller.principal))
        if credential.limits is not None and (own := rates_of(credential.limits)):
            if wait := rates.token.wait(credential.id, now, own):
                self._refuse(Limit.TOKEN_RATE, f"token {credential.id} is used too often", wait)
            taken.append((rates.token, credential.id))
        if rates.tenant is not None and tenant is not None:
            if wait := rates.tenant.wait(tenant, now):
                self._refuse(Limit.TENANT_RATE, f"{_whose(caller)} makes too many calls", wait)
            taken.append((rates.tenant, tenant))
        for limiter, subject in taken:
            limiter.spend(subject, now)

    def _count(self, caller: Caller, size: int, context: Any) -> None:
        principal, tenant = caller.principal, caller.principal.tenant
        self._calls[principal] += 1
        self._bytes[tenant] += size
        if tenant is not None:
            self._tenants_bytes += size

        # Given back when the answer has left, not when it is ready: a peer that does not read keeps its calls.
        def leave(_: object) -> None:
            _subtract(self._calls, principal, 1)
            _subtract(self._bytes, tenant, size)
            if tenant is not None:
                self._tenants_bytes -= size

        context.add_done_callback(leave)

    def _refuse(self, limit: Limit, message: str, wait: int) -> None:
        self.refusals[limit] += 1
        delay = timedelta(microseconds=-(-wait // 1000))
        raise LimitExceeded(f"{message}; try again in {delay.total_seconds():.3g} s", delay)


class _Admitted:
    """What surrounds the work of one call; a class, since a generator costs three times as much, for every call."""

    __slots__ = ("_admission", "_call", "_turn")

    def __init__(self, admission: FairAdmission, method: Method, caller: Caller, size: int, context: Any) -> None:
        self._admission = admission
        self._call = (method, caller, size, context)
        self._turn: Turn | None = None

    async def __aenter__(self) -> None:
        turn = self._admission.admit(*self._call)
        if turn is None:
            return
        try:
            await turn.__aenter__()
        except QueueFull as full:
            self._admission.refuse_queued(self._call[1], full)
        self._turn = turn

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._turn is not None:
            await self._turn.__aexit__(kind, error, trace)


def _source(address: Address) -> IPv4Address | IPv6Address:
    """Return what is limited of an address: of IPv6 the network of 64 bits, which one host can have to itself."""
    if isinstance(address, IPv4Address):
        return address
    return address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64)


def _whose(caller: Caller) -> str:
    tenant = caller.principal.tenant
    return "the operators" if tenant is None else f"tenants/{tenant}"


def _subtract(counts: Counter[Any], key: Hashable, amount: int) -> None:
    counts[key] -= amount
    if not counts[key]:
        del counts[key]


def _nanoseconds(length: timedelta) -> int:
    return length // timedelta(microseconds=1) * 1000
