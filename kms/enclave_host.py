"""The enclave process as the services see it: FORMATS section 9, docs/enclave.md."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgpack

from enclave.identity import DEBUG
from kms.channel import HostRefused, HostUnavailable
from kms.core.enclave_ports import EnclaveFacts, SealedInput
from kms.core.errors import CorruptRecord, EnclaveUnavailable, FailedPrecondition, KmsError, NotSupported
from kms.core.ports import HealthStatus, PartHealth
from kms.hosts import Host, HostState, HostStatus

# An enclave answers its calls one by one: this is for those before it, too.
DEADLINE: Final = 10.0  # seconds
# Measuring and loading take most of a second of a quiet machine.
START_DEADLINE: Final = 30.0  # seconds

_NEWER: Final = frozenset({"INVALID_ISVSVN", "INVALID_CPUSVN"})
# What it stands upon does not answer: the process leaves, and the next one tries anew.
_AWAY: Final = frozenset({"PLATFORM_FAULT", "expired"})
_ABSENT: Final = frozenset({"UNKNOWN_FUNCTION", "UNSUPPORTED"})
# A start that is refused so is refused again.
_FATAL: Final = frozenset(
    {"INVALID_SIGNATURE", "INVALID_ATTRIBUTE", "INVALID_PARAMETER", "COUNTER_FAULT", "FUSE_REFUSED"}
)


class EnclaveHost:
    """The Enclave of kms/core/enclave_ports.py over one supervised process."""

    def __init__(
        self,
        command: Sequence[str],
        greeting: Callable[[], Sequence[object]],
        *,
        deadline: float = DEADLINE,
        start_deadline: float = START_DEADLINE,
        on_change: Callable[[HostStatus], None] | None = None,
    ) -> None:
        """Prepare; nothing is started.

        Args:
            command: enclave.command.serve_command(...).
            greeting: makes the arguments of `open` (enclave/host.py), anew for every process.
            deadline: seconds for one call.
            start_deadline: seconds until a process must have been greeted.
            on_change: told of every change of status, for logs.
        """
        self._deadline = deadline
        self._host = Host(
            "enclave", command, {}, greeting=greeting, start_deadline=start_deadline, fatal=_FATAL, on_change=on_change
        )

    async def start(self) -> None:
        """Start and supervise the process.

        Raises:
            EnclaveUnavailable: it does not start; the message says why.
        """
        try:
            await self._host.start()
        except HostUnavailable as error:
            raise EnclaveUnavailable(str(error)) from error

    async def stop(self) -> None:
        """Let the process leave."""
        await self._host.stop()

    @property
    def status(self) -> HostStatus:
        """How the process is."""
        return self._host.status

    @property
    def refused(self) -> str:
        """The code with which the last start was refused, such as INVALID_SIGNATURE; empty where none was."""
        return self._host.refused

    @property
    def facts(self) -> EnclaveFacts | None:
        """Who runs; Enclave has the words."""
        greeted: Any = self._host.greeted
        if greeted is None or self._host.status.state is not HostState.RUNNING:
            return None
        identity = greeted["identity"]
        return EnclaveFacts(
            backend=greeted["backend"],
            simulated=greeted["simulated"],
            freshness=greeted["freshness"],
            mrenclave=identity["mrenclave"],
            mrsigner=identity["mrsigner"],
            isv_prod_id=identity["isv_prod_id"],
            isv_svn=identity["isv_svn"],
            cpu_svn=identity["cpu_svn"],
            debug=bool(identity["flags"] & DEBUG),
            measures=tuple((name, done, detail) for name, done, detail in greeted["measures"]),
        )

    @property
    def simulated(self) -> bool:
        """Whether the last process that was greeted has said that it is SIMULATED."""
        greeted: Any = self._host.greeted
        return greeted is not None and bool(greeted["simulated"])

    async def health(self) -> PartHealth:
        """Ask it who it is."""
        began = time.monotonic()
        try:
            await self._call("describe")
        except KmsError as error:
            return PartHealth(HealthStatus.UNHEALTHY, str(error), time.monotonic() - began)
        return PartHealth(HealthStatus.HEALTHY, "", time.monotonic() - began)

    async def attest(self, report_data: bytes) -> bytes:
        """Return a quote; Enclave has the words."""
        quote: bytes = await self._call("attest", report_data)
        return quote

    async def execute(self, function: str, inputs: Sequence[SealedInput], argument: object) -> Any:
        """Run a registered function; Enclave has the words."""
        sealed = [[one.blob, one.associated_data] for one in inputs]
        return msgpack.unpackb(await self._call("execute", function, sealed, msgpack.packb(argument)))

    async def _call(self, kind: str, *arguments: object) -> Any:
        try:
            return await self._host.call(kind, arguments, deadline=self._deadline)
        except HostUnavailable as error:
            raise EnclaveUnavailable(str(error)) from error
        except HostRefused as error:
            raise _translated(kind, error) from error


def _translated(kind: str, error: HostRefused) -> KmsError:
    if error.code in _NEWER:
        return FailedPrecondition(f"the enclave: {error}")
    if error.code in _ABSENT:
        return NotSupported(f"the enclave: {error}")
    if error.code == "MAC_MISMATCH":
        return CorruptRecord("what is sealed does not open in this enclave")
    if error.code in _AWAY:
        return EnclaveUnavailable(f"the enclave: {error}")
    return KmsError(f"the enclave refuses {kind}: {error.code}")
