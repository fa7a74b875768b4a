"""What the enclave has sealed, together with who it was then."""

from __future__ import annotations

from collections.abc import Sequence

from kms.core.enclave_ports import Enclave, SealedInput
from kms.core.errors import EnclaveUnavailable
from kms.core.seals import SealedBy


def running(enclave: Enclave) -> SealedBy:
    """Return who runs now.

    Raises:
        EnclaveUnavailable: nobody does.
    """
    if (facts := enclave.facts) is None:
        raise EnclaveUnavailable("the enclave does not run now; try again")
    return facts.sealer


async def sealed(
    enclave: Enclave, function: str, inputs: Sequence[SealedInput], argument: object
) -> tuple[bytes, SealedBy]:
    """Run a function whose answer is a seal; returns that, and who has made it.

    Raises:
        EnclaveUnavailable: it does not answer, or another one was started meanwhile.
        CorruptRecord, FailedPrecondition: an input does not open.
    """
    for _ in range(2):  # the first may have waited for a start
        before = enclave.facts
        made: bytes = await enclave.execute(function, inputs, argument)
        after = enclave.facts
        if before is not None and after is not None and before.sealer == after.sealer:
            return made, after.sealer
    raise EnclaveUnavailable("the enclave has been started anew meanwhile; try again")
