"""The section `[enclave]` of kmsd.toml: one enclave for each node, of one of two backends."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, StringConstraints

from enclave.errors import PlatformFault
from enclave.tpm_connection import check_place
from kms.setting_values import ConfigPath, Environment, Part

_Hex16 = Annotated[str, StringConstraints(pattern=r"\A[0-9a-f]{32}\z")]
_Name = Annotated[str, StringConstraints(pattern=r"\A000b[0-9a-f]{64}\z")]
_ZEROS = "00" * 16


def _checked_place(tcti: str) -> str:
    try:
        check_place(tcti)
    except PlatformFault as error:
        raise ValueError(str(error)) from error
    return tcti


class EnclaveToken(Part):
    """The token that holds the enclave's fuse; the enclave process opens it, the daemon never does."""

    module: ConfigPath
    label: Annotated[str, Field(min_length=1, max_length=32)]
    # A file and nothing else: the enclave process reads it, so that the PIN is never in the daemon's memory.
    pin_file: ConfigPath
    environment: Environment = Field(default_factory=dict)


class Attestation(Part):
    """What this daemon asks of its enclave before it uses it."""

    policy: ConfigPath  # YAML as `kms enclave verify` takes it; docs/attestation.md


class SimulatedAttestation(Attestation):
    """What a simulated platform is certified with, besides."""

    root: ConfigPath  # the simulated root's certificate, PEM
    platform: ConfigPath  # the platform's certificate, PEM
    platform_key: ConfigPath  # its key, PEM
    root_list: ConfigPath  # the root's revocation list, PEM or DER
    platform_list: ConfigPath  # the platform's


class _Enclave(Part):
    """What every backend has."""

    allow_simulated: bool = False  # the profile production refuses a simulated backend without it
    structure: ConfigPath  # signed; `kmsd enclave sign` makes it


class SimulatedEnclave(_Enclave):
    """SGX's rules in an ordinary process."""

    backend: Literal["simulated"]
    counters: ConfigPath  # the file of its monotonic counters
    platform_id: _Hex16
    owner_epoch: _Hex16 = _ZEROS
    cpu_svn: _Hex16 = _ZEROS
    token: EnclaveToken
    attestation: SimulatedAttestation


class TpmEnclave(_Enclave):
    """A TPM 2.0, which is simulated or not as it says itself; which PCR it extends stands in the structure."""

    backend: Literal["tpm2"]
    tpm: Annotated[str, AfterValidator(_checked_place)]  # where it is: device:/dev/tpmrm0
    storage_root: _Name  # of the storage root key, by which it is known again
    # A file and nothing else, as for a PIN.
    owner_auth_file: ConfigPath | None = None
    attestation: Attestation


Enclave: TypeAlias = Annotated[SimulatedEnclave | TpmEnclave, Field(discriminator="backend")]
