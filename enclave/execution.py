"""Running a registered function on what sealed inputs hold: the same for every backend."""

from __future__ import annotations

from collections.abc import Sequence

from . import functions
from .errors import InvalidParameter
from .interface import MAX_ARGUMENT, MAX_INPUTS, Enclave, SealedInput


def execute(enclave: Enclave, function: str, inputs: Sequence[SealedInput], argument: bytes) -> bytes:
    """Unseal the inputs in *enclave* and run the function on them; Enclave has the words.

    Raises:
        InvalidParameter: too many inputs, too long an argument, or one that the function refuses.
        EnclaveError: an input does not open.
    """
    if len(inputs) > MAX_INPUTS:
        raise InvalidParameter(f"inputs: at most {MAX_INPUTS}")
    if len(argument) > MAX_ARGUMENT:
        raise InvalidParameter(f"argument: at most {MAX_ARGUMENT} bytes")
    unsealed = [enclave.unseal(item.blob, item.associated_data) for item in inputs]
    return functions.run(function, enclave.seal, unsealed, argument)
