"""Running a registered function on what sealed inputs hold: the same for every backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import functions
from .domains import inside
from .errors import InvalidParameter
from .functions import Seal, Unsealed
from .interface import MAX_ARGUMENT, MAX_INPUTS, Policy, SealedInput

Unseal = Callable[[bytes, bytes], bytes]  # blob, associated data


def execute(seal: Seal, unseal: Unseal, function: str, inputs: Sequence[SealedInput], argument: bytes) -> bytes:
    """Unseal the inputs and run the function on them; Enclave has the words.

    *seal* and *unseal* are the backend's own, which know no domains.

    Raises:
        InvalidParameter: too many inputs, too long an argument, or one that the function refuses.
        EnclaveError: an input does not open.
    """
    if len(inputs) > MAX_INPUTS:
        raise InvalidParameter(f"inputs: at most {MAX_INPUTS}")
    if len(argument) > MAX_ARGUMENT:
        raise InvalidParameter(f"argument: at most {MAX_ARGUMENT} bytes")

    def seal_inside(data: bytes, policy: Policy, associated_data: bytes) -> bytes:
        return seal(data, policy, inside(associated_data))

    unsealed = [Unsealed(unseal(item.blob, inside(item.associated_data)), item.associated_data) for item in inputs]
    return functions.run(function, seal_inside, unsealed, argument)
