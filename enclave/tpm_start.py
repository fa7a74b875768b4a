"""The start of the enclave upon a TPM: the way to the TPM is opened before the process is closed off, and used only then.

The arguments of its process are where the TPM is (tpm_connection.py) and, where the owner hierarchy has an authorization,
the file of it. Its `open`:

    Name of the storage root key (34 bytes), signed structure (tpm_release.py)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from . import tpm_device
from .errors import InvalidParameter, PlatformFault
from .tpm import TpmEnclave
from .tpm_connection import Connection, connect
from .tpm_device import Tpm
from .tpm_release import parse_release, sign_release

NAME_LENGTH: Final = 34
# An authorization is at most as long as the TPM's longest hash. Source: TCG TPM 2.0 Library, Part 2, TPM2B_AUTH.
MAX_AUTH: Final = 64  # bytes


class TpmStart:
    """The Backend of host.py that makes a TpmEnclave."""

    def __init__(self, tcti: str, owner_auth: str | None) -> None:
        """Open the way to the TPM, and the file of the owner's authorization; what is not to be had is told by start()."""
        self._auth: int | None = None
        self._way: Connection | PlatformFault
        try:
            if owner_auth is not None:
                self._auth = _open(owner_auth)
            self._way = connect(tcti)
        except PlatformFault as error:
            self._way = error

    @property
    def descriptors(self) -> Sequence[int]:
        """The way to the TPM, and the open file."""
        way = (self._way.descriptor,) if isinstance(self._way, Connection) else ()
        return way if self._auth is None else (*way, self._auth)

    def ready(self) -> None:
        """Backend has the words: there is nothing to open any more."""

    def start(self, measured: bytes, storage_root: bytes, structure: bytes) -> TpmEnclave:
        """Return the enclave; Backend has the words."""
        if len(storage_root) != NAME_LENGTH:
            raise InvalidParameter(f"storage root: a Name of {NAME_LENGTH} bytes")
        release = parse_release(structure, measured)
        if isinstance(self._way, PlatformFault):
            raise self._way
        return TpmEnclave(Tpm(self._way, storage_root, _read(self._auth)), release)


def prepare(arguments: Sequence[str]) -> TpmStart:
    """Return the backend, with the way to the TPM opened."""
    tcti, *owner_auth = arguments
    return TpmStart(tcti, owner_auth[0] if owner_auth else None)


def warm_up() -> None:
    """Use once what loads its parts late: the verification of a release."""
    measured = bytes(32)
    parse_release(sign_release(measured, 0, 0, ec.generate_private_key(ec.SECP256R1())), measured)


def pinned(arguments: Sequence[str]) -> str:
    """Return what the TPM is to be known by, of the same arguments: Name and attestation key in hex, and what it is.

    Raises:
        PlatformFault: it does not answer.
    """
    tcti, *owner_auth = arguments
    pins = tpm_device.pin(tcti, _read(_open(owner_auth[0]) if owner_auth else None))
    kind = "simulated" if pins.simulated else "hardware"
    return f"{pins.storage_root.hex()} {pins.attestation_key.hex()} {kind}"


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise PlatformFault(f"TPM: the file of the owner's authorization cannot be opened ({error.strerror})") from None


def _read(descriptor: int | None) -> bytes:
    """Return the authorization without the end of its line, empty where there is none."""
    if descriptor is None:
        return b""
    with open(descriptor, "rb") as file:  # noqa: PTH123  a descriptor
        auth = file.read(MAX_AUTH + 3).rstrip(b"\r\n")
    if not 1 <= len(auth) <= MAX_AUTH:
        raise PlatformFault(f"TPM: the owner's authorization has 1 to {MAX_AUTH} bytes")
    return auth
