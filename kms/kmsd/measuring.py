"""What signing an enclave takes, of whatever backend: its measurement, the signer's key, and what a structure says."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from enclave.command import SIMULATED, measure_command
from enclave.launch import CannotLaunch
from kms.enclave_backends import INSTALL_TPM

from .private_files import Refused

PRODUCT: Final = 1
FIRST_SVN: Final = 1
SECONDS: Final = 60.0  # for a process that measures, or makes a key
_LARGEST_KEY: Final = 1 << 16  # bytes of a signing key's file

SigningKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Signed:
    """What a signed structure names."""

    mrenclave: bytes  # 32 bytes
    isv_svn: int
    mrsigner: bytes  # 32 bytes


def start(command: Sequence[str]) -> subprocess.Popen[str]:
    """Start a process of the enclave's launcher; others can work meanwhile."""
    return subprocess.Popen(  # noqa: S603  our own interpreter and package
        list(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env={}, text=True
    )


def output_of(process: subprocess.Popen[str], what: str, seconds: float = SECONDS) -> str:
    """Return what a process of start() prints.

    Raises:
        Refused: *what* was not done; says why.
    """
    try:
        output, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        raise Refused(f"{what}: no answer within {seconds:g} s") from error
    if process.returncode != 0:
        last = (said.strip().splitlines() or [f"status {process.returncode}"])[-1]
        raise Refused(f"{what}: {last}")
    return output


def start_measuring(backend: str = SIMULATED) -> subprocess.Popen[str]:
    """Start the process that measures the enclave of a backend.

    Raises:
        Refused: a library of that backend is not installed.
    """
    try:
        return start(measure_command(backend=backend))
    except CannotLaunch as error:
        raise Refused(f"the enclave could not be measured: {error}; {INSTALL_TPM}") from error


def measurement_of(measuring: subprocess.Popen[str]) -> bytes:
    """Return MRENCLAVE, 32 bytes, when a process of start_measuring() has it.

    Raises:
        Refused: the enclave cannot be measured here.
    """
    return bytes.fromhex(output_of(measuring, "the enclave could not be measured"))


def signing_key(path: Path) -> SigningKey:
    """Return the signer's key from a PEM file.

    Raises:
        Refused: it cannot be read, or is of another kind than any backend takes.
    """
    try:
        with path.open("rb") as file:
            key = load_pem_private_key(file.read(_LARGEST_KEY), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise Refused(
            f"{path}: cannot be read as the signer's key ({type(error).__name__}); name it with --key"
        ) from error
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise Refused(f"{path}: is neither an RSA nor an EC key")
    return key


def private_pem(key: SigningKey) -> bytes:
    """Return a key as PEM, not encrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
