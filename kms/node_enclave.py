"""The enclave of this node: started, recorded, and started again; nothing uses it before that is done.

    not running --start--> running --recorded--> in use --ends--> not running

A daemon whose enclave does not start serves all the same: what needs the enclave is refused with EnclaveUnavailable,
and the start is tried again. A PIN that the fuse's token refuses is not tried again: that would bring its lock nearer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog

from enclave.command import TokenHostCommand, serve_command
from enclave.identity import MODE64BIT
from kms.channel import HostUnavailable
from kms.core.audit import AuditEvent, Category, Outcome, Retention
from kms.core.enclave_ports import EnclaveFacts, SealedInput
from kms.core.errors import AuditUnavailable, EnclaveUnavailable
from kms.core.ports import HealthStatus, PartHealth
from kms.enclave_host import DEADLINE, EnclaveHost
from kms.enclave_settings import Enclave as Settings
from kms.hosts import HostState, HostStatus
from kms.hsm.pkcs11 import HOST_COMMAND
from kms.services.audit import Acts, shown_details

_log = structlog.get_logger(__name__)

RETRY: Final = 10.0  # seconds after a start, or its record in the audit trail, has failed
SIMULATED: Final = "SIMULATED"  # the only kind of backend that there is
_PIN_REFUSED: Final = "FUSE_REFUSED"
_SIGN: Final = "after an upgrade of this package, Python or a library: kmsd enclave sign --config FILE"


class NodeEnclave:
    """The Enclave of kms/core/enclave_ports.py, of which a process runs that is in the audit trail."""

    def __init__(self, command: Sequence[str], settings: Settings, *, retry: float = RETRY) -> None:
        """Prepare; nothing is started before run()."""
        self._settings = settings
        self._retry = retry
        self._host = EnclaveHost(command, self._greeting, on_change=self._changed)
        self._changes = asyncio.Event()
        self._usable = asyncio.Event()  # cleared at once when the process ends
        self._why = "the enclave has not been started yet"

    def _greeting(self) -> Sequence[object]:
        """Return the arguments of `open`, anew for each process; the fuse is not among them."""
        settings = self._settings
        token = settings.token
        try:
            structure = settings.structure.read_bytes()
        except OSError as error:
            raise HostUnavailable(f"enclave.structure {settings.structure}: {error.strerror}") from error
        fuse = [str(token.module), token.label, bytes.fromhex(settings.platform_id)]
        chosen = [bytes.fromhex(settings.cpu_svn), MODE64BIT, 0, 0, bytes(64), 0]
        return [fuse, bytes.fromhex(settings.owner_epoch), structure, chosen]

    def _changed(self, status: HostStatus) -> None:
        self._usable.clear()
        self._changes.set()
        tell = _log.warning if status.state in (HostState.BACKING_OFF, HostState.FAILED) else _log.info
        tell("enclave.host", state=status.state, reason=status.reason, restarts=status.restarts, pid=status.pid)

    async def run(self, trail: Acts) -> None:
        """Keep it running until cancelled; each start is in the audit trail before the enclave is used."""
        while True:
            self._changes.clear()
            if await self._went_on(trail):
                await self._changes.wait()
            else:
                await asyncio.sleep(self._retry)

    async def stop(self) -> None:
        """Let the process leave."""
        await self._host.stop()

    async def _went_on(self, trail: Acts) -> bool:
        """Do what the present state asks for; returns whether only a change asks for more."""
        state = self._host.status.state
        if state in (HostState.STOPPED, HostState.FAILED):
            return await self._start()
        facts = self._host.facts
        if facts is None or self._usable.is_set():
            return True
        pid = self._host.status.pid
        try:
            await self._record(trail, facts)
        except AuditUnavailable as error:
            self._why = f"its start is not in the audit trail: {error}"
            _log.error("enclave.unusable", reason=self._why)
            return False
        if self._host.status.pid == pid:  # the process that was recorded, and no other
            self._usable.set()
        return True

    async def _start(self) -> bool:
        if self._host.refused == _PIN_REFUSED:
            await asyncio.Event().wait()  # until the daemon is started again
        await self._host.stop()
        try:
            await self._host.start()
        except EnclaveUnavailable as error:
            refused = self._host.refused
            self._why = f"{error} ({_SIGN})" if refused == "INVALID_SIGNATURE" else str(error)
            _log.error("enclave.does_not_start", backend=SIMULATED, reason=self._why)
            return False
        return True

    async def _record(self, trail: Acts, facts: EnclaveFacts) -> None:
        status = self._host.status
        about = _about(facts)
        missing = [name for name, done, _ in facts.measures if not done]
        tell = _log.warning if missing else _log.info
        tell("enclave.started", **about, restarts=status.restarts, reason=status.reason, measures_missing=missing)
        await trail.note(
            AuditEvent(
                action="enclave.started",
                category=Category.SECURITY,
                outcome=Outcome.SUCCESS,
                retention=Retention.EXTENDED,
                reason=status.reason[:200],  # of the end of the process before
                details=shown_details({**about, "restarts": status.restarts, "measures_missing": missing}),
            )
        )

    @property
    def facts(self) -> EnclaveFacts | None:
        """Who runs and may be used; Enclave has the words."""
        return self._host.facts if self._usable.is_set() else None

    async def health(self) -> PartHealth:
        """Ask it who it is; the reason says SIMULATED also where nothing is wrong."""
        status = self._host.status
        if status.state is HostState.STOPPED:
            return PartHealth(HealthStatus.UNKNOWN, f"{SIMULATED}; {self._why}")
        if status.state is not HostState.RUNNING:
            return PartHealth(HealthStatus.UNHEALTHY, f"{SIMULATED}; {status.reason or 'is being started'}")
        if not self._usable.is_set():
            return PartHealth(HealthStatus.UNHEALTHY, f"{SIMULATED}; {self._why}")
        found = await self._host.health()
        return PartHealth(found.status, "; ".join(filter(None, (SIMULATED, found.reason))), found.response_time)

    async def attest(self, report_data: bytes) -> bytes:
        """Return a quote; Enclave has the words."""
        await self._in_use()
        return await self._host.attest(report_data)

    async def execute(self, function: str, inputs: Sequence[SealedInput], argument: object) -> Any:
        """Run a registered function; Enclave has the words."""
        await self._in_use()
        return await self._host.execute(function, inputs, argument)

    async def _in_use(self) -> None:
        """Wait for a start that is under way; what follows at once is for a process that is in use.

        Raises:
            EnclaveUnavailable: there is none in time.
        """
        if self._usable.is_set():
            return
        if self._host.status.state is HostState.FAILED:
            raise EnclaveUnavailable(f"the enclave of this node cannot be used: {self._why}")
        try:
            async with asyncio.timeout(DEADLINE):
                # It may have ended again before this goes on.
                while not self._usable.is_set():
                    await self._usable.wait()
        except TimeoutError as error:
            reason = self._host.status.reason or self._why
            raise EnclaveUnavailable(f"the enclave of this node cannot be used: {reason}") from error


def _about(facts: EnclaveFacts) -> dict[str, Any]:
    return {
        "backend": facts.backend,
        "assurance": SIMULATED if facts.simulated else "hardware",
        "mrenclave": facts.mrenclave.hex(),
        "mrsigner": facts.mrsigner.hex(),
        "isv_prod_id": facts.isv_prod_id,
        "isv_svn": facts.isv_svn,
        "cpu_svn": facts.cpu_svn.hex(),
        "debug": facts.debug,
        "freshness": facts.freshness,
    }


@asynccontextmanager
async def opened_enclave(settings: Settings | None) -> AsyncIterator[NodeEnclave | None]:
    """Put together the enclave that the settings name, if any; run() starts it, and the end of the block stops it."""
    if settings is None:
        yield None
        return
    token = settings.token
    host = TokenHostCommand(HOST_COMMAND, token.environment, token.pin_file)
    enclave = NodeEnclave(serve_command(settings.counters, token_host=host), settings)
    try:
        yield enclave
    finally:
        await enclave.stop()
