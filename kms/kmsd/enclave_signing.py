"""`kmsd enclave sign`, and what `kmsd check` asks of the signed structure: the same for every backend."""

from __future__ import annotations

import os
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Final

from enclave.errors import EnclaveError
from kms.enclave_settings import Enclave, TpmEnclave
from kms.settings import load

from . import enclave_files, tpm_files
from .measuring import Signed, measurement_of, start_measuring
from .private_files import Refused

SIGNING_KEY: Final = Path("secrets/enclave-signing-key.pem")
_LARGEST: Final = 1 << 16  # bytes of a structure


def sign_anew(config: Path, key_file: Path | None, isv_svn: int | None, now: datetime) -> tuple[Enclave, Signed]:
    """Measure the installed enclave and replace the signed structure that the configuration names.

    Args:
        config: the daemon's kmsd.toml.
        key_file: the signer's key; unless given, where `kmsd init` has put it.
        isv_svn: the security version; unless given, that of the present structure.
        now: for the date in it.

    Returns: the enclave's settings, and what is signed.

    Raises:
        SettingsError: the configuration cannot be used.
        Refused: no enclave, no such key, no structure to go on from, another signer, or a lower security version.
    """
    settings = load(config).enclave
    if settings is None:
        raise Refused(f"{config}: has no section [enclave]")
    measuring = start_measuring(settings.backend)
    files = tpm_files if isinstance(settings, TpmEnclave) else enclave_files
    key_file = key_file or config.resolve().parent / SIGNING_KEY
    try:
        data = _read(settings.structure)
        before = files.read_structure(data)
        svn = before.isv_svn if isv_svn is None else isv_svn
        if svn < before.isv_svn:
            raise Refused(
                f"isv_svn {svn}: below the present one, {before.isv_svn}; what that has sealed would not open"
            )
        fresh = files.sign_structure(data, key_file, measurement_of(measuring), svn, now)
        signed = files.read_structure(fresh)
    except EnclaveError as error:
        raise Refused(f"{settings.structure}: cannot be read as a signed structure: {error}") from error
    finally:
        measuring.kill()
        measuring.communicate()
    if signed.mrsigner != before.mrsigner:
        raise Refused(f"{key_file}: is another signer's key; what this one has sealed would not open any more")
    _replace(settings.structure, fresh)
    return settings, signed


def measured_structure(settings: Enclave) -> tuple[Signed, bytes]:
    """Return what the structure's file says, and MRENCLAVE of what is installed.

    Raises:
        Refused: it cannot be read, or nothing can be measured.
        EnclaveError: it is no structure, or a signature does not verify.
    """
    measured = measurement_of(start_measuring(settings.backend))
    files = tpm_files if isinstance(settings, TpmEnclave) else enclave_files
    return files.read_structure(_read(settings.structure)), measured


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error


def _replace(path: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(descriptor, "wb") as fresh:
        fresh.write(content)
        fresh.flush()
        os.fsync(fresh.fileno())
    Path(name).replace(path)
