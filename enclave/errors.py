"""What an enclave refuses; one class for each code that a caller can tell apart.

    EnclaveError
    |-- InvalidParameter    the caller can fix it: a length, a reserved bit, a policy without an identity
    |-- InvalidKeyName      no such key
    |-- InvalidAttribute    the enclave may not have this key
    |-- InvalidCpuSvn       sealed on a platform newer than this one
    |-- InvalidIsvSvn       sealed by a newer version of the enclave, or of its configuration
    |-- MacMismatch         everything else that keeps a blob closed: another identity, another machine, another byte
    |-- InvalidSignature    the enclave may not start: its signature, or what is signed, is not right
    |-- PlatformFault       the TPM does not answer, or is not in the state, or not the one, that it has to be
    |-- UnknownFunction     nothing of this name is registered
    |-- UnknownCounter      no counter of this name
    |-- CounterFault        the counters' file cannot be trusted or written
    |-- FuseRefused         the token that holds the fuse refuses the PIN
    |-- FuseUnavailable     the token that holds the fuse, or its key, is not to be had; retry later
    `-- Unsupported         a backend that has no such ability

The codes are those of SGX where SGX has one. Source: Intel SDM vol. 3D, EGETKEY; intel/linux-sgx, sgx_tseal.h.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import ClassVar, Final


class EnclaveError(Exception):
    """An enclave's refusal; its message holds no secret."""

    code: ClassVar[str] = "ENCLAVE_ERROR"


class InvalidParameter(EnclaveError):
    """An argument breaks a rule that the message names."""

    code = "INVALID_PARAMETER"


class InvalidKeyName(EnclaveError):
    """The key request names no key that there is."""

    code = "INVALID_KEYNAME"


class InvalidAttribute(EnclaveError):
    """The enclave lacks the attribute that this key needs."""

    code = "INVALID_ATTRIBUTE"


class InvalidCpuSvn(EnclaveError):
    """The request asks for a platform that is newer, in at least one component, than this one."""

    code = "INVALID_CPUSVN"


class InvalidIsvSvn(EnclaveError):
    """The request asks for a newer security version, of the enclave or its configuration, than it has."""

    code = "INVALID_ISVSVN"


class MacMismatch(EnclaveError):
    """The blob does not open here; whether by its bytes, its associated data or the identity is not told."""

    code = "MAC_MISMATCH"


class InvalidSignature(EnclaveError):
    """The signature structure does not let this enclave start."""

    code = "INVALID_SIGNATURE"


class PlatformFault(EnclaveError):
    """What the enclave stands upon does not answer, or is not the one that it was."""

    code = "PLATFORM_FAULT"


class UnknownFunction(EnclaveError):
    """No function of this name is registered."""

    code = "UNKNOWN_FUNCTION"


class UnknownCounter(EnclaveError):
    """No counter of this name has been made."""

    code = "UNKNOWN_COUNTER"


class CounterFault(EnclaveError):
    """The counters' file is damaged, another enclave's, or cannot be written."""

    code = "COUNTER_FAULT"


class FuseRefused(EnclaveError):
    """The token that holds the fuse refuses the PIN; another try would only bring its lock nearer."""

    code = "FUSE_REFUSED"


class FuseUnavailable(EnclaveError):
    """The token that holds the fuse, or its key, is not to be had."""

    code = "FUSE_UNAVAILABLE"


class Unsupported(EnclaveError):
    """This backend has no such ability."""

    code = "UNSUPPORTED"


BY_CODE: Final = MappingProxyType({error.code: error for error in EnclaveError.__subclasses__()})
