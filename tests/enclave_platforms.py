"""Platforms for enclaves of every backend, behind one face, for the contract that all of them pass."""

from __future__ import annotations

import hashlib
import os
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Protocol

from enclave import counters as counter_files
from enclave.attestation_policy import AttestationPolicy, SignerRule
from enclave.chain import Collateral
from enclave.identity import Identity
from enclave.interface import REPORT_DATA_LENGTH, Enclave
from enclave.issuing import new_platform, new_root
from enclave.nonces import Challenge
from enclave.quotes import SIMULATED
from enclave.quoting import QuotingEnclave
from enclave.report import ReportBody, make_report
from enclave.sgx_keys import Platform, report_key
from enclave.simulated import SimulatedEnclave
from enclave.verifier import Attested, verify
from tests.attestation import DAY, END, NOW, QUOTING, START, identity


class EnclavePlatform(Protocol):
    """A machine of which one enclave runs at a time: start() ends the one before."""

    def start(self, code: str = "E1", signer: str = "S1", product: int = 1, svn: int = 5) -> Enclave: ...

    def crash(self) -> None:
        """Kill what keeps durable state; start() goes on with what is left."""

    def verify(self, quote: bytes, challenge: Challenge, code: str = "E1") -> Attested:
        """Judge a quote by a policy that allows this code alone."""

    def close(self) -> None: ...


def measurement(code: str) -> bytes:
    return hashlib.sha256(code.encode()).digest()


class QuotedEnclave(SimulatedEnclave):
    """The simulated enclave, with a quoting enclave of its platform in the same process."""

    def __init__(self, platform: Platform, who: Identity, counters: counter_files.Counters, quoting: QuotingEnclave):
        super().__init__(platform, who, counters)
        self._of, self._quoting = (platform, who), quoting

    def attest(self, report_data: bytes) -> bytes:
        if len(report_data) != REPORT_DATA_LENGTH:
            return super().attest(report_data)
        platform, who = self._of
        key_id = os.urandom(32)
        key = report_key(platform, self._quoting.identity, key_id)
        return self._quoting.quote(make_report(ReportBody(who, report_data), key_id, key))


class SimulatedPlatform:
    def __init__(self, directory: Path) -> None:
        self._path = directory / "counters"
        self._descriptor: int | None = None
        self._platform = Platform(os.urandom(32), bytes(16))
        self._root = new_root(START, END)
        platform_id = os.urandom(16)
        self._issuer = new_platform(self._root, platform_id, START, END)
        key = partial(report_key, self._platform, QUOTING)
        self._quoting = QuotingEnclave(QUOTING, platform_id, (self._root, self._issuer), key, START, END)

    def start(self, code: str = "E1", signer: str = "S1", product: int = 1, svn: int = 5) -> Enclave:
        self.crash()
        who = identity(code.encode(), signer.encode(), isv_prod_id=product, isv_svn=svn)
        self._descriptor = counter_files.open_file(self._path)
        counters = counter_files.Counters(self._descriptor, counter_files.mac_key(self._platform, who))
        return QuotedEnclave(self._platform, who, counters, self._quoting)

    def crash(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def verify(self, quote: bytes, challenge: Challenge, code: str = "E1") -> Attested:
        policy = AttestationPolicy(
            root=self._root.der,
            quoting=SignerRule(mrsigner=QUOTING.mrsigner, isv_prod_id=QUOTING.isv_prod_id, least_isv_svn=9),
            measurements=frozenset({measurement(code)}),
            backends=frozenset({SIMULATED}),
        )
        lists = [issuer.revocation_list(1, [], START, NOW + DAY) for issuer in (self._root, self._issuer)]
        return verify(quote, policy, Collateral(*lists), challenge, NOW + timedelta(seconds=1))

    def close(self) -> None:
        self.crash()
