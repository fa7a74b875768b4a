"""The simulated enclave: SGX's rules in an ordinary process; it protects nothing from the machine that it runs on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from . import execution, sealing
from .counters import Counters
from .domains import outside
from .errors import InvalidParameter, Unsupported
from .identity import Identity
from .interface import REPORT_DATA_LENGTH, Description, Freshness, Policy, SealedInput
from .own_quotes import OwnQuotes
from .sgx_keys import Platform

BACKEND: Final = "sgx-simulated"


class SimulatedEnclave:
    """An Enclave over a platform, an identity and a file of counters; one caller at a time."""

    def __init__(
        self, platform: Platform, identity: Identity, counters: Counters, quotes: OwnQuotes | None = None
    ) -> None:
        """Without *quotes* it cannot attest."""
        self._quotes = quotes
        self._platform = platform
        self._identity = identity
        self._counters = counters

    def describe(self) -> Description:
        """Tell who it is; Enclave has the words."""
        return Description(BACKEND, simulated=True, identity=self._identity, freshness=Freshness.NONE)

    def attest(self, report_data: bytes) -> bytes:
        """Return a quote; Enclave has the words."""
        if len(report_data) != REPORT_DATA_LENGTH:
            raise InvalidParameter(f"report data: {REPORT_DATA_LENGTH} bytes")
        if self._quotes is None:
            raise Unsupported("attest: no authority of the platform was given at the start")
        return self._quotes.quote(report_data)

    def seal(self, data: bytes, policy: Policy, associated_data: bytes) -> bytes:
        """Seal; Enclave has the words."""
        return self._seal(data, policy, outside(associated_data))

    def unseal(self, blob: bytes, associated_data: bytes) -> bytes:
        """Unseal; Enclave has the words."""
        return self._unseal(blob, outside(associated_data))

    def create_counter(self, name: str) -> int:
        """Make a counter; Enclave has the words."""
        return self._counters.create(name)

    def read_counter(self, name: str) -> int:
        """Read a counter; Enclave has the words."""
        return self._counters.read(name)

    def increment_counter(self, name: str) -> int:
        """Increment a counter; Enclave has the words."""
        return self._counters.increment(name)

    def execute(self, function: str, inputs: Sequence[SealedInput], argument: bytes) -> bytes:
        """Run a registered function on what the inputs seal; Enclave has the words."""
        return execution.execute(self._seal, self._unseal, function, inputs, argument)

    def _seal(self, data: bytes, policy: Policy, bound: bytes) -> bytes:
        return sealing.seal(self._platform, self._identity, sealing.options_for(policy), data, bound)

    def _unseal(self, blob: bytes, bound: bytes) -> bytes:
        return sealing.unseal(self._platform, self._identity, blob, bound)
