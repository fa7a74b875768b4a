"""The section `[enclave]` of kmsd.toml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from kms.setting_values import ConfigPath, Environment, Part

_Hex16 = Annotated[str, StringConstraints(pattern=r"\A[0-9a-f]{32}\z")]
_ZEROS = "00" * 16


class EnclaveToken(Part):
    """The token that holds the enclave's fuse; the enclave process opens it, the daemon never does."""

    module: ConfigPath
    label: Annotated[str, Field(min_length=1, max_length=32)]
    # A file and nothing else: the enclave process reads it, so that the PIN is never in the daemon's memory.
    pin_file: ConfigPath
    environment: Environment = Field(default_factory=dict)


class Attestation(Part):
    """What the platform is certified with, and what this daemon asks of its enclave before it uses it."""

    root: ConfigPath  # the simulated root's certificate, PEM
    platform: ConfigPath  # the platform's certificate, PEM
    platform_key: ConfigPath  # its key, PEM
    root_list: ConfigPath  # the root's revocation list, PEM or DER
    platform_list: ConfigPath  # the platform's
    policy: ConfigPath  # YAML as `kms enclave verify` takes it; docs/attestation.md


class Enclave(Part):
    """The enclave of this node; without this section there is none."""

    backend: Literal["simulated"]
    allow_simulated: bool = False  # the profile production refuses a simulated backend without it
    structure: ConfigPath  # signed; `kmsd enclave sign` makes it
    counters: ConfigPath  # the file of its monotonic counters
    platform_id: _Hex16
    owner_epoch: _Hex16 = _ZEROS
    cpu_svn: _Hex16 = _ZEROS
    token: EnclaveToken
    attestation: Attestation
