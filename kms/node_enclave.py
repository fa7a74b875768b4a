"""The enclave of this node: started, recorded, and started again; nothing uses it before that is done.

    not running --start--> running --recorded, attested--> in use --ends, or attestation refused--> not in use

A daemon whose enclave does not start serves all the same: what needs the enclave is refused with EnclaveUnavailable,
and the start is tried again. A PIN that the fuse's token refuses is not tried again: that would bring its lock nearer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any, Final

import structlog

from enclave.quotes import challenge_binding
from kms.acting import note_execution
from kms.attestation import Attester, NotAttested
from kms.clock import now
from kms.core.audit import AuditEvent, Category, Outcome, Retention
from kms.core.enclave_ports import (
    NOT_YET,
    AttestationState,
    EnclaveAnswer,
    EnclaveFacts,
    EnclaveShown,
    EnclaveStatus,
    SealedInput,
    Verdict,
)
from kms.core.errors import AuditUnavailable, EnclaveUnavailable
from kms.core.ports import HealthStatus, PartHealth
from kms.enclave_backends import EnclaveBackend, backend_of
from kms.enclave_host import DEADLINE, EnclaveHost
from kms.enclave_settings import Enclave as Settings
from kms.hosts import HostState, HostStatus
from kms.services.audit import Acts, clean, shown_details

_log = structlog.get_logger(__name__)

RETRY: Final = 10.0  # seconds after a start, or its record in the audit trail, has failed
SIMULATED: Final = "SIMULATED"
_PIN_REFUSED: Final = "FUSE_REFUSED"
_SIGN: Final = "after an upgrade of this package, Python or a library: kmsd enclave sign --config FILE"
_NOT_ALLOWED: Final = (
    "it is SIMULATED, which protects nothing from this machine; with the profile production set "
    "enclave.allow_simulated = true to use it all the same"
)


class NodeEnclave:
    """The NodeEnclave of kms/core/enclave_ports.py: a process that is in the audit trail and has shown who it is."""

    def __init__(
        self,
        backend: EnclaveBackend,
        now: Callable[[], datetime],
        *,
        simulated_allowed: bool,
        retry: float = RETRY,
    ) -> None:
        """Prepare; nothing is started before run().

        Args:
            backend: what kind of enclave it is.
            now: tells the time.
            simulated_allowed: whether one that says that it is SIMULATED may be used.
            retry: seconds after a start, or its record, has failed.

        Raises:
            SettingsError: a library that the backend needs is not installed.
        """
        self._backend = backend
        self._now = now
        self._simulated_allowed = simulated_allowed
        self._retry = retry
        self._attester = Attester(backend.policy, backend.collateral, now)
        self._host = EnclaveHost(backend.command(), backend.greeting, on_change=self._changed)
        self._changes = asyncio.Event()
        self._usable = asyncio.Event()  # cleared at once when the process ends
        self._settled = asyncio.Event()  # usable, or failed: there is nothing to wait for
        self._recorded: int | None = None  # the process whose start is in the audit trail
        self._shown: EnclaveShown | None = None
        self._verdict = NOT_YET  # on the process that runs
        self._watching: list[Callable[[], None]] = []
        self._why = "has not been started yet"
        self._failed = False  # whether the last step has, so that it is of no use to wait for the next

    def _changed(self, status: HostStatus) -> None:
        self._usable.clear()
        self._shown = None
        self._verdict = NOT_YET
        # Where the supervisor tries again after a start that was refused, as while a TPM does not answer, nobody waits.
        trying = status.state in (HostState.BACKING_OFF, HostState.STARTING)
        self._settle(failed=trying and bool(self._host.refused and status.reason))
        self._changes.set()
        self._tell()
        tell = _log.warning if status.state in (HostState.BACKING_OFF, HostState.FAILED) else _log.info
        tell("enclave.host", state=status.state, reason=status.reason, restarts=status.restarts, pid=status.pid)

    def _settle(self, *, failed: bool) -> None:
        self._failed = failed
        if failed or self._usable.is_set():
            self._settled.set()
        else:
            self._settled.clear()

    async def run(self, trail: Acts) -> None:
        """Keep it running and attested until cancelled; each of its starts is in the audit trail before it is used."""
        while True:
            self._changes.clear()
            try:
                seconds = await self._step(trail)
            except (EnclaveUnavailable, AuditUnavailable, NotAttested) as error:
                self._why = str(error)
                _log.error("enclave.unusable", backend=self._backend.name, reason=self._why)
                self._settle(failed=True)
                self._changes.clear()  # what has led to this; the supervisor may be at it already
                seconds = self._retry
            self._tell()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changes.wait()

    async def stop(self) -> None:
        """Let the process leave."""
        await self._host.stop()

    async def _step(self, trail: Acts) -> float | None:
        """Do what the present state asks for; returns the seconds until more is to do, None where a change asks for it.

        Raises:
            EnclaveUnavailable, AuditUnavailable, NotAttested: the enclave is not in use; to be tried again.
        """
        if self._host.status.state in (HostState.STOPPED, HostState.FAILED):
            await self._start()
        facts, pid = self._host.facts, self._host.status.pid
        if facts is None:
            return None  # the supervisor is at it
        if self._recorded != pid:
            await self._record(trail, facts)
            self._recorded = pid
        shown = self._shown
        if shown is None or self._now() >= _renewal(shown):
            shown = await self._attest(trail, facts)
        if self._host.status.pid == pid:  # the process that was recorded and attested, and no other
            self._shown = shown
            self._usable.set()
            self._settle(failed=False)
        return max(0.0, (_renewal(shown) - self._now()).total_seconds())

    async def _start(self) -> None:
        if self._host.refused == _PIN_REFUSED:
            await asyncio.Event().wait()  # until the daemon is started again
        await self._host.stop()
        try:
            await self._host.start()
        except EnclaveUnavailable as error:
            if self._host.refused == "INVALID_SIGNATURE":
                raise EnclaveUnavailable(f"{error} ({_SIGN})") from error
            raise

    async def _record(self, trail: Acts, facts: EnclaveFacts) -> None:
        status = self._host.status
        missing = [name for name, done, _ in facts.measures if not done]
        details = {**_about(facts), "restarts": status.restarts, "measures_missing": missing}
        tell = _log.warning if missing else _log.info
        tell("enclave.started", **details, reason=status.reason)
        await trail.note(_event("enclave.started", details, reason=status.reason))  # of the end of the process before

    async def _attest(self, trail: Acts, facts: EnclaveFacts) -> EnclaveShown:
        try:
            self._check_allowed(facts)
            judged = await self._attester.attest(self._host.attest, facts.mrenclave)
        except NotAttested as error:
            self._usable.clear()
            self._settle(failed=False)
            self._shown = None
            state = AttestationState.REVOKED if error.revoked else AttestationState.INVALID
            self._verdict = Verdict(state, str(error), error.quote, self._now())
            await trail.note(_event("enclave.attestation_refused", _about(facts), Outcome.FAILURE, reason=str(error)))
            raise
        attested = judged.attested
        expires = attested.expires.isoformat()
        platform = attested.platform_id.hex()
        _log.info("enclave.attested", backend=attested.backend, platform=platform, expires=expires)
        details = {**_about(facts), "platform": platform, "expires": expires}
        await trail.note(_event("enclave.attested", details))
        self._verdict = Verdict(AttestationState.VALID, "", judged.quote, self._now(), attested.expires)
        return EnclaveShown(attested.platform_id, self._now(), attested.expires)

    def _check_allowed(self, facts: EnclaveFacts) -> None:
        if facts.simulated and not self._simulated_allowed:
            raise NotAttested(_NOT_ALLOWED)

    @property
    def facts(self) -> EnclaveFacts | None:
        """Who runs and may be used; Enclave has the words."""
        return self._host.facts if self._usable.is_set() else None

    def overview(self) -> EnclaveStatus:
        """Tell how it is; NodeEnclave has the words."""
        status = self._host.status
        why = status.reason if self._usable.is_set() else self._reason()
        return EnclaveStatus(
            status.state,
            why,
            status.restarts,
            simulated=self._simulated,
            facts=self.facts,
            shown=self._shown,
            greeted=self._host.facts,
            verdict=self._verdict,
        )

    @property
    def platform_id(self) -> bytes:
        """The platform that it runs on by the settings, 16 bytes."""
        return self._backend.platform_id

    def watch(self, changed: Callable[[], None]) -> None:
        """Call *changed* whenever the overview has changed; NodeEnclave has the words."""
        self._watching.append(changed)

    def _tell(self) -> None:
        for changed in self._watching:
            changed()

    @property
    def _simulated(self) -> bool:
        """Whether it is known to be SIMULATED: by its backend, or by what the last process of it has said."""
        return self._backend.simulated or self._host.simulated

    def _reason(self) -> str:
        """Why it is not in use."""
        running = self._host.status.state in (HostState.STOPPED, HostState.FAILED, HostState.RUNNING)
        return self._why if running else self._host.status.reason or "is being started"

    async def health(self) -> PartHealth:
        """Ask it who it is; the reason of a simulated one says SIMULATED also where nothing is wrong."""
        word = SIMULATED if self._simulated else ""
        if not self._usable.is_set():
            return PartHealth(HealthStatus.UNHEALTHY, "; ".join(filter(None, (word, self._reason()))))
        found = await self._host.health()
        shown, status, why = self._shown, found.status, found.reason
        if status is HealthStatus.HEALTHY and self._failed:  # in use by what it has shown before
            status, why = HealthStatus.DEGRADED, f"cannot be attested again: {self._why}"
        until = "" if shown is None else f"attested until {shown.expires.isoformat(timespec='seconds')}"
        reason = "; ".join(filter(None, (word, why, until)))
        return PartHealth(status, reason, found.response_time)

    async def answer(self, nonce: bytes, channel_key: bytes, claims: bytes) -> EnclaveAnswer:
        """Answer a challenge; NodeEnclave has the words."""
        try:
            lists = self._backend.collateral()
        except NotAttested as error:
            raise EnclaveUnavailable(f"the enclave of this node cannot be attested: {error}") from error
        quote = await self.attest(challenge_binding(nonce, channel_key, claims))
        return EnclaveAnswer(quote) if lists is None else EnclaveAnswer(quote, lists.root_list, lists.platform_list)

    async def attest(self, report_data: bytes) -> bytes:
        """Return a quote; Enclave has the words."""
        await self._in_use()
        return await self._host.attest(report_data)

    async def execute(self, function: str, inputs: Sequence[SealedInput], argument: object) -> Any:
        """Run a registered function; Enclave has the words."""
        await self._in_use()
        facts, began, failed = self._host.facts, time.perf_counter(), True
        try:
            answer = await self._host.execute(function, inputs, argument)
            failed = False
        finally:  # whoever gave up waiting does not know what has become of it
            if facts is not None:
                which = (facts.mrenclave, facts.isv_svn, facts.simulated)
                note_execution(which, function, time.perf_counter() - began, failed=failed)
        return answer

    async def _in_use(self) -> None:
        """Wait for a start that is under way; what follows at once is for a process that is in use.

        Raises:
            EnclaveUnavailable: there is none in time.
        """
        if self._shown is not None and self._now() >= self._shown.expires:  # and was not shown again in time
            self._usable.clear()
            self._settle(failed=False)
            self._changes.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE):
                while not self._usable.is_set() and not self._failed:  # it may have ended again before this goes on
                    await self._settled.wait()
        if self._usable.is_set():
            return
        raise EnclaveUnavailable(f"the enclave of this node is not in use: {self._reason()}")


def _renewal(shown: EnclaveShown) -> datetime:
    """When it has to be shown again: in time for another try."""
    return shown.time + (shown.expires - shown.time) / 2


def _event(
    action: str, details: Mapping[str, Any], outcome: Outcome = Outcome.SUCCESS, *, reason: str = ""
) -> AuditEvent:
    return AuditEvent(
        action=action,
        category=Category.SECURITY,
        outcome=outcome,
        retention=Retention.EXTENDED,
        resource_type="enclave",
        reason=clean(reason),
        details=shown_details(details),
    )


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
async def opened_enclave(settings: Settings | None, *, simulated_allowed: bool) -> AsyncIterator[NodeEnclave | None]:
    """Put together the enclave that the settings name, if any; run() starts it, and the end of the block stops it.

    Raises:
        SettingsError: a library that it needs is not installed.
    """
    if settings is None:
        yield None
        return
    enclave = NodeEnclave(backend_of(settings), now, simulated_allowed=simulated_allowed)
    try:
        yield enclave
    finally:
        await enclave.stop()
