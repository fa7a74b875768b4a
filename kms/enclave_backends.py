"""The kinds of enclave that a node can have: how each is started, and what its quotes are judged with."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from enclave.chain import Collateral
from enclave.command import TokenHostCommand, serve_command, serve_tpm_command
from enclave.identity import MODE64BIT
from enclave.launch import CannotLaunch
from kms.attestation import NotAttested, SimulatedAuthority
from kms.channel import HostUnavailable
from kms.enclave_settings import Enclave, SimulatedEnclave, TpmEnclave
from kms.hsm.pkcs11 import HOST_COMMAND
from kms.setting_values import SettingsError

INSTALL_TPM = "install it as requirements-tpm.lock has it (docs/operations.md, An installation on a TPM)"


class EnclaveBackend(Protocol):
    """One kind of enclave, as the settings describe it."""

    @property
    def name(self) -> str:
        """`enclave.backend` of the settings."""

    @property
    def simulated(self) -> bool:
        """Whether it is SIMULATED whatever it says."""

    @property
    def platform_id(self) -> bytes:
        """What the platform is listed by, 16 bytes."""

    @property
    def policy(self) -> Path:
        """The file that says what is asked of its quotes."""

    def command(self) -> Sequence[str]:
        """Return the command that serves it.

        Raises:
            SettingsError: a library that it needs is not installed.
        """

    def greeting(self) -> Sequence[object]:
        """Return the arguments of `open` (enclave/host.py), anew for each process; no fuse or PIN is among them.

        Raises:
            HostUnavailable: a file cannot be read as what it should be.
        """

    def collateral(self) -> Collateral | None:
        """Return the revocation lists that its quotes are judged with, where there are any.

        Raises:
            NotAttested: a file cannot be read as what it should be.
        """


class _Simulated:
    """The enclave of enclave/simulated.py."""

    name = "simulated"
    simulated = True

    def __init__(self, settings: SimulatedEnclave) -> None:
        self._settings = settings
        self.platform_id = bytes.fromhex(settings.platform_id)
        self._authority = SimulatedAuthority(settings.attestation, self.platform_id)
        self.policy = settings.attestation.policy

    def command(self) -> Sequence[str]:
        token = self._settings.token
        host = TokenHostCommand(HOST_COMMAND, token.environment, token.pin_file)
        return serve_command(self._settings.counters, token_host=host)

    def greeting(self) -> Sequence[object]:
        settings = self._settings
        structure = _structure(settings.structure)
        try:
            authority = self._authority.keys()
        except NotAttested as error:
            raise HostUnavailable(str(error)) from error
        fuse = [str(settings.token.module), settings.token.label, self.platform_id]
        chosen = [bytes.fromhex(settings.cpu_svn), MODE64BIT, 0, 0, bytes(64), 0]
        return [fuse, bytes.fromhex(settings.owner_epoch), structure, chosen, authority]

    def collateral(self) -> Collateral:
        return self._authority.collateral()


class _Tpm:
    """The enclave of enclave/tpm.py."""

    name = "tpm2"
    simulated = False

    def __init__(self, settings: TpmEnclave) -> None:
        self._settings = settings
        # Known before it answers; its quotes name it by the attestation key.
        self.platform_id = sha256(bytes.fromhex(settings.storage_root)).digest()[:16]
        self.policy = settings.attestation.policy

    def command(self) -> Sequence[str]:
        try:
            return serve_tpm_command(self._settings.tpm, self._settings.owner_auth_file)
        except CannotLaunch as error:
            raise SettingsError(f"enclave.backend tpm2: {error}; {INSTALL_TPM}") from error

    def greeting(self) -> Sequence[object]:
        return [bytes.fromhex(self._settings.storage_root), _structure(self._settings.structure)]

    def collateral(self) -> None:
        """A TPM's quotes have no certificates, and so no lists."""


def backend_of(settings: Enclave) -> EnclaveBackend:
    """Return the kind of enclave that the settings name."""
    match settings:
        case SimulatedEnclave():
            return _Simulated(settings)
        case TpmEnclave():
            return _Tpm(settings)


def _structure(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise HostUnavailable(f"enclave.structure {path}: {error.strerror}") from error
