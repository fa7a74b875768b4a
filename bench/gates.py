"""What each gate costs a call: the daemon's own gates over its own services, in this process and without gRPC.

The gates are those that the daemon puts together (kms.daemon.make_gates), passed in the order of kms/rpc/calls.py; only
the context of the call is ours. CPU time of the process is measured, which nothing else uses meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.calls import encrypt_batch_request
from bench.load import encrypt_request
from bench.rounds import WrongResult
from bench.service import KEY, PRINCIPAL, kmsd
from bench.workload import Workload
from kms.clock import boottime_ns
from kms.core.audit_ports import Position
from kms.core.callers import Caller
from kms.core.names import KeyName, Principal, TenantName
from kms.core.suites import Purpose, Suite
from kms.daemon import make_gates
from kms.logs import configure
from kms.parts import opened_parts
from kms.rpc.admission import FairAdmission
from kms.rpc.gates import Ended, Gates
from kms.rpc.methods import METHODS, Method
from kms.services.audit import UNRECORDED
from kms.services.keys import NewKey
from kms.settings import load
from kms.use_cases import make_services

OPERATOR: Final = Principal(None, "local")
AUTHENTICATOR: Final = "authentication"
ADMISSION: Final = "limits and turn"
AUTHORIZER: Final = "authorization"
WATCH: Final = "watch"
ALL: Final = "all gates"

_REQUESTS: Final = {1: ("Encrypt", encrypt_request), 1_000: ("EncryptBatch", encrypt_batch_request)}


class _NoTrail:
    """Writes nothing: what the audit trail costs is measured with a database."""

    async def began(self, call: Ended) -> Position:
        raise WrongResult(f"{call.method.name} changes something")

    async def ended(self, call: Ended) -> None:
        """Let it be answered."""

    def left(self, call: Ended) -> None:
        """Nobody waits."""


class Context:
    """A call over mutual TLS, as gRPC shows it."""

    def __init__(self, certificate: bytes, uri: bytes) -> None:
        self._auth = {
            "transport_security_type": [b"ssl"],
            "peer_spiffe_id": [uri],
            "x509_subject_alternative_name": [uri],
            "x509_common_name": [b"bench"],
            "x509_pem_cert": [certificate],
        }
        self._callbacks: list[Callable[[object], None]] = []

    def peer(self) -> str:
        return "ipv4:127.0.0.1:50000"

    def auth_context(self) -> dict[str, list[bytes]]:
        return self._auth

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return (("user-agent", "bench"),)

    def time_remaining(self) -> float:
        return 10.0

    def add_done_callback(self, callback: Callable[[object], None]) -> None:
        self._callbacks.append(callback)

    def end(self) -> None:
        for callback in self._callbacks:
            callback(self)
        self._callbacks.clear()


@dataclass(frozen=True, slots=True)
class Passing:
    """Gates, and a call with so many values to pass them."""

    gates: Gates
    context: Context
    method: Method
    request: Any
    size: int  # which the daemon knows from the bytes that come

    async def authenticate(self) -> Caller:
        self.gates.authenticator.address_of(self.context)
        return await self.gates.authenticator.of(self.context)

    async def admit(self, caller: Caller) -> None:
        self.gates.admission.arrive(caller.address)
        async with self.gates.admission.turn(self.method, caller, self.size, self.context):
            pass
        self.context.end()

    async def authorize(self, caller: Caller) -> None:
        await self.gates.authorizer.check(self.method, caller, self.request)
        if self.method.needs_quorum(self.request):
            raise WrongResult("what is measured needs a quorum")

    async def watch(self, caller: Caller) -> None:
        self.gates.watch.ended(Ended(self.method, self.request, None, caller, caller.address, None, "bench"))

    async def all(self, caller: Caller) -> None:
        del caller
        caller = await self.authenticate()
        await self.admit(caller)
        await self.authorize(caller)
        await self.watch(caller)

    async def costs(self, times: int) -> dict[str, float]:
        """Return the CPU seconds that one pass of each gate takes."""
        caller = await self.authenticate()
        parts: dict[str, Callable[[Caller], Awaitable[object]]] = {
            AUTHENTICATOR: lambda _: self.authenticate(),
            ADMISSION: self.admit,
            AUTHORIZER: self.authorize,
            WATCH: self.watch,
            ALL: self.all,
        }
        return {name: await _cost(part, caller, times) for name, part in parts.items()}


async def _cost(part: Callable[[Caller], Awaitable[object]], caller: Caller, times: int) -> float:
    before = time.process_time()
    for _ in range(times):
        await part(caller)
    return (time.process_time() - before) / times


@asynccontextmanager
async def passing(directory: Path) -> AsyncIterator[dict[int, Passing]]:
    """Set up an installation in *directory*; yields a call with a single value and one with a thousand."""
    home, client = directory / "gates", directory / "gates-client"
    kmsd("init", str(home))
    kmsd("issue-cert", "--config", str(home / "kmsd.toml"), PRINCIPAL, "--out", str(client))
    settings = load(home / "kmsd.toml")
    configure("error", "text")
    async with opened_parts(settings) as parts:
        services = await make_services(settings, parts, UNRECORDED, None, None)
        await services.membership.look()
        key = KeyName.parse(KEY)
        await services.tenants.create(OPERATOR, key.tenant, "")
        new = NewKey(key.key, "", Purpose.ENCRYPT, Suite.AES_256_GCM, {})
        await services.keys.create(Principal.parse(PRINCIPAL), TenantName(key.tenant), new)
        gates = make_gates(settings, parts, services, FairAdmission(settings.limits, boottime_ns), _NoTrail())
        certificate = next(client.glob("*.pem")).read_bytes()
        context = Context(certificate, f"spiffe://{settings.trust_domain}/{PRINCIPAL}".encode())
        rows = {method.name: method for method in METHODS}
        yield {
            values: Passing(gates, context, rows[name], made := request(Workload.of(values)), made.ByteSize())
            for values, (name, request) in _REQUESTS.items()
        }
