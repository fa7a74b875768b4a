"""Records of nodes' enclaves for tests, and an enclave that shows what a test sets."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from kms.core.enclave_ports import AttestationState, EnclaveFacts, EnclaveStatus, Verdict
from kms.core.enclaves import MAX_QUOTE, EnclaveRecord, EnclaveUid
from kms.core.ports import HealthStatus, PartHealth
from tests.keyrings import NOW, times

FACTS = EnclaveFacts(
    backend="sgx-simulated",
    simulated=True,
    freshness="none",
    mrenclave=b"m" * 32,
    mrsigner=b"s" * 32,
    isv_prod_id=1,
    isv_svn=5,
    cpu_svn=b"c" * 16,
    debug=False,
    measures=(("no_network", False, "not allowed here"),),
)
VALID = Verdict(AttestationState.VALID, "", b"q" * 500, NOW, NOW + timedelta(hours=1))
STORED_HEALTH = (HealthStatus.HEALTHY, HealthStatus.DEGRADED, HealthStatus.UNHEALTHY)
STORED_STATES = tuple(state for state in AttestationState if state is not AttestationState.EXPIRED)


def new_enclave(node: str = "", node_uid: uuid.UUID | None = None, **fields: Any) -> EnclaveRecord:
    record = EnclaveRecord(
        uid=EnclaveUid(uuid.uuid4()),
        node=node or f"host:{uuid.uuid4().hex[:8]}",
        node_uid=node_uid or uuid.uuid4(),
        platform_id=os.urandom(16),
        facts=FACTS,
        verdict=VALID,
        state="running",
        restarts=0,
        active=True,
        health=HealthStatus.HEALTHY,
        health_reason="SIMULATED",
        started_at=NOW,
        changed_at=NOW,
    )
    return replace(record, **fields)


_WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
_NUMBERS = st.integers(0, 2**16 - 1)
FACTS_OF_ANY = st.builds(
    EnclaveFacts,
    backend=_WORDS,
    simulated=st.booleans(),
    freshness=_WORDS,
    mrenclave=st.binary(min_size=32, max_size=32),
    mrsigner=st.binary(min_size=32, max_size=32),
    isv_prod_id=_NUMBERS,
    isv_svn=_NUMBERS,
    cpu_svn=st.binary(min_size=16, max_size=16),
    debug=st.booleans(),
    measures=st.lists(st.tuples(_WORDS, st.booleans(), _WORDS), max_size=3).map(tuple),
)
ENCLAVES = st.builds(
    EnclaveRecord,
    uid=st.uuids(version=4),
    node=_WORDS,
    node_uid=st.uuids(),
    platform_id=st.binary(min_size=16, max_size=16),
    facts=FACTS_OF_ANY,
    verdict=st.builds(
        Verdict,
        state=st.sampled_from(STORED_STATES),
        reason=_WORDS,
        quote=st.binary(max_size=64) | st.just(bytes(MAX_QUOTE)),
        time=st.none() | times,
        expires=st.none() | times,
    ),
    state=_WORDS,
    restarts=_NUMBERS,
    active=st.booleans(),
    health=st.sampled_from(STORED_HEALTH),
    health_reason=_WORDS,
    started_at=times,
    changed_at=times,
)


class ShownEnclave:
    """A NodeEnclave that shows what a test sets; it runs nothing."""

    def __init__(self, platform_id: bytes = b"p" * 16) -> None:
        self.platform_id = platform_id
        self.status = EnclaveStatus("stopped", "", 0, simulated=True, facts=None, shown=None)
        self.found = PartHealth(HealthStatus.UNHEALTHY, "has not been started yet")
        self.changed: Callable[[], None] = lambda: None

    def runs(self, facts: EnclaveFacts = FACTS, verdict: Verdict = VALID, **fields: Any) -> None:
        """Let a process of it run, and tell so."""
        self.status = replace(self.status, state="running", greeted=facts, verdict=verdict, **fields)
        self.found = PartHealth(HealthStatus.HEALTHY, "SIMULATED")
        self.changed()

    def overview(self) -> EnclaveStatus:
        return self.status

    def watch(self, changed: Callable[[], None]) -> None:
        self.changed = changed

    async def health(self) -> PartHealth:
        return self.found
