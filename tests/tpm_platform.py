"""A platform for enclaves upon a software TPM; imports tpm2-pytss, and so is itself imported only where that is there."""

from __future__ import annotations

import functools
import signal
from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric import ec

from enclave.nonces import Challenge
from enclave.tpm import TpmEnclave
from enclave.tpm_device import Tpm, pin
from enclave.tpm_quotes import TpmPolicy, verify_tpm_quote
from enclave.tpm_release import parse_release, sign_release
from enclave.verifier import Attested
from tests.attestation import NOW
from tests.enclave_platforms import measurement
from tests.swtpm import Swtpm


@functools.cache
def approver(signer: str) -> ec.EllipticCurvePrivateKey:
    del signer
    return ec.generate_private_key(ec.SECP256R1())


class TpmPlatform:
    """Upon a software TPM, pinned when it is new."""

    def __init__(self) -> None:
        self.swtpm = Swtpm()
        self.swtpm.start()
        self.pins = pin(self.swtpm.tcti)
        self.tpm: Tpm | None = None

    def start(self, code: str = "E1", signer: str = "S1", product: int = 1, svn: int = 5) -> TpmEnclave:
        """Reset the TPM, since its PCR names the code of before, and start."""
        self.disconnect()
        self.swtpm.restart()
        return self.resume(code, signer, product, svn)

    def resume(self, code: str = "E1", signer: str = "S1", product: int = 1, svn: int = 5) -> TpmEnclave:
        """Start without a reset, as after a crash of the enclave's process."""
        self.disconnect()
        structure = sign_release(measurement(code), product, svn, approver(signer))
        self.tpm = Tpm(self.swtpm.tcti, self.pins.storage_root)
        return TpmEnclave(self.tpm, parse_release(structure, measurement(code)))

    def crash(self) -> None:
        self.disconnect()
        self.swtpm.restart(signal.SIGKILL)

    def verify(self, quote: bytes, challenge: Challenge, code: str = "E1") -> Attested:
        policy = TpmPolicy(
            attestation_key=self.pins.attestation_key,
            measurements=frozenset({measurement(code)}),
            allow_simulated=True,
        )
        return verify_tpm_quote(quote, policy, challenge, NOW + timedelta(seconds=1))

    def close(self) -> None:
        self.disconnect()
        self.swtpm.remove()

    def disconnect(self) -> None:
        if self.tpm is not None:
            self.tpm.close()
            self.tpm = None
