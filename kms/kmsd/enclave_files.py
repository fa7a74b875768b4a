"""What one machine's enclave needs: made by `kmsd init`, and signed anew by `kmsd enclave sign`.

    DIR/enclave/token/            the SoftHSM token of the fuse         DIR/secrets/enclave-pin               its PIN
    DIR/enclave/structure.bin     measured and signed                   DIR/secrets/enclave-signing-key.pem   the signer's
    DIR/enclave/root.pem .crl     the simulated root                    DIR/secrets/enclave-root-key.pem      its key
    DIR/enclave/platform.pem .crl the platform                          DIR/secrets/enclave-platform-key.pem  its key
    DIR/enclave/policy.yaml       what is asked of a quote

The keys of signer and root are not needed on the machine: move them away.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from enclave.command import measure_command
from enclave.errors import EnclaveError
from enclave.identity import MODE64BIT
from enclave.issuing import Issuer, new_platform, new_root
from enclave.quotes import SIMULATED
from enclave.sigstruct import EXPONENT, KEY_BITS, LENGTH, Release, mrsigner, sign, verified
from kms.channel import HostRefused, HostUnavailable
from kms.core.errors import HsmUnavailable
from kms.hosts import Host
from kms.hsm.pkcs11 import HOST_COMMAND, REOPEN_AFTER
from kms.settings import load
from softhsm import SoftHsmToken

from .private_files import Refused, write_private

SIGNING_KEY: Final = Path("secrets/enclave-signing-key.pem")
PRODUCT: Final = 1
FIRST_SVN: Final = 1
LIFETIME: Final = timedelta(days=3650)  # of the simulated root, platform and lists: nobody is there to renew them
_SKEW: Final = timedelta(minutes=5)
_SECONDS: Final = 60.0  # for measuring, and for making the fuse key
_LARGEST_KEY: Final = 1 << 16  # bytes of a signing key's file

_POLICY: Final = """\
# What a quote of this machine's enclave must show; docs/attestation.md has the fields.
version: 1
root: |
{root}
quoting: {{mrsigner: "{mrsigner}", isv_prod_id: {product}, least_isv_svn: {svn}}}
signers:
  - {{mrsigner: "{mrsigner}", isv_prod_id: {product}, least_isv_svn: {svn}}}
backends: [{backend}]
"""


def start_measuring() -> subprocess.Popen[str]:
    """Start the process that measures the enclave; others can work meanwhile."""
    return subprocess.Popen(  # noqa: S603  our own interpreter and package
        list(measure_command()), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={}, text=True
    )


def measurement_of(measuring: subprocess.Popen[str]) -> bytes:
    """Return MRENCLAVE, 32 bytes, when a process of start_measuring() has it.

    Raises:
        Refused: the enclave cannot be measured here.
    """
    try:
        output, said = measuring.communicate(timeout=_SECONDS)
        measured = bytes.fromhex(output)
    except (subprocess.TimeoutExpired, ValueError) as error:
        measuring.kill()
        measuring.communicate()
        raise Refused(f"the enclave could not be measured ({type(error).__name__})") from error
    if measuring.returncode != 0 or len(measured) != 32:
        last = (said.strip().splitlines() or [f"status {measuring.returncode}"])[-1]
        raise Refused(f"the enclave could not be measured: {last}")
    return measured


def make_fuse_key(token: SoftHsmToken, pin: str) -> None:
    """Make the key of the fuse in its token, once.

    Raises:
        HsmUnavailable: the token cannot be used, or has such a key.
    """
    asyncio.run(_make_fuse_key(token, pin))


async def _make_fuse_key(token: SoftHsmToken, pin: str) -> None:
    greeting = [str(token.module), token.label, pin, "probe", REOPEN_AFTER]
    host = Host("token", HOST_COMMAND, token.environment, greeting=lambda: greeting, start_deadline=_SECONDS)
    try:
        await host.start()
        await host.call("make_fuse_key", [], deadline=_SECONDS, spare=_SECONDS)
    except (HostUnavailable, HostRefused) as error:
        raise HsmUnavailable(f"the fuse's token {token.label!r}: {error}") from error
    finally:
        await host.stop()


def make_signed_files(building: Path, platform_id: bytes, measuring: subprocess.Popen[str], now: datetime) -> None:
    """Write signer, structure, simulated root and platform, their lists, and the policy for the platform's quotes."""
    signer = rsa.generate_private_key(EXPONENT, KEY_BITS)
    start, end = now - _SKEW, now + LIFETIME
    root = new_root(start, end)
    platform = new_platform(root, platform_id, start, end)
    release = Release(
        mrenclave=measurement_of(measuring),
        isv_prod_id=PRODUCT,
        isv_svn=FIRST_SVN,
        date=_date(now),
        flags=MODE64BIT,
        flags_mask=(1 << 64) - 1,  # as here and not otherwise: DEBUG neither
    )
    contents: Mapping[str, bytes] = {
        "secrets/enclave-signing-key.pem": _pem(signer),
        "secrets/enclave-root-key.pem": _pem(root.key),
        "secrets/enclave-platform-key.pem": _pem(platform.key),
        "enclave/structure.bin": sign(release, signer),
        "enclave/root.pem": _certificate(root),
        "enclave/platform.pem": _certificate(platform),
        "enclave/root.crl": _list(root, start, end),
        "enclave/platform.crl": _list(platform, start, end),
        "enclave/policy.yaml": policy_text(root, mrsigner(signer.public_key())).encode(),
    }
    for name, content in contents.items():
        write_private(building / name, content)


def policy_text(root: Issuer, signer: bytes) -> str:
    """Return the policy that allows a signer's (MRSIGNER, 32 bytes) enclave under a simulated root."""
    lines = _certificate(root).decode().splitlines()
    return _POLICY.format(
        root="\n".join(f"  {line}" for line in lines),
        mrsigner=signer.hex(),
        product=PRODUCT,
        svn=FIRST_SVN,
        backend=SIMULATED,
    )


def sign_anew(config: Path, key_file: Path | None, isv_svn: int | None, now: datetime) -> Release:
    """Measure the installed enclave and replace the signed structure that the configuration names; returns what is signed.

    Args:
        config: the daemon's kmsd.toml.
        key_file: the signer's key; unless given, where `kmsd init` has put it.
        isv_svn: the security version; unless given, that of the present structure.
        now: for the date in it.

    Raises:
        SettingsError: the configuration cannot be used.
        Refused: no enclave, no such key, no structure to go on from, another signer, or a lower security version.
    """
    settings = load(config).enclave
    if settings is None:
        raise Refused(f"{config}: has no section [enclave]")
    measuring = start_measuring()
    key_file = key_file or config.resolve().parent / SIGNING_KEY
    key = _signing_key(key_file)
    try:
        before, signer = verified(settings.structure.read_bytes())
    except (OSError, EnclaveError) as error:
        raise Refused(f"{settings.structure}: cannot be read as a signed structure: {error}") from error
    if signer != mrsigner(key.public_key()):
        raise Refused(f"{key_file}: is another signer's key; what this one has sealed would not open any more")
    svn = before.isv_svn if isv_svn is None else isv_svn
    if svn < before.isv_svn:
        raise Refused(f"isv_svn {svn}: below the present one, {before.isv_svn}; what that has sealed would not open")
    release = replace(before, mrenclave=measurement_of(measuring), isv_svn=svn, date=_date(now))
    _replace(settings.structure, sign(release, key))
    return release


def measured_release(structure: Path) -> tuple[Release, bytes]:
    """Return what a structure's file says, and MRENCLAVE of what is installed.

    Raises:
        Refused: it cannot be read, or nothing can be measured.
        EnclaveError: it is no structure, or its signature does not verify.
    """
    measuring = start_measuring()
    measured = measurement_of(measuring)
    try:
        with structure.open("rb") as file:
            release, _ = verified(file.read(LENGTH + 1))
    except OSError as error:
        raise Refused(f"{structure}: {error.strerror}") from error
    return release, measured


def _signing_key(path: Path) -> rsa.RSAPrivateKey:
    try:
        with path.open("rb") as file:
            key = load_pem_private_key(file.read(_LARGEST_KEY), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise Refused(
            f"{path}: cannot be read as the signer's key ({type(error).__name__}); name it with --key"
        ) from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise Refused(f"{path}: is no RSA key")
    return key


def _replace(path: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(descriptor, "wb") as fresh:
        fresh.write(content)
        fresh.flush()
        os.fsync(fresh.fileno())
    Path(name).replace(path)


def _date(now: datetime) -> int:
    return int(now.astimezone(UTC).strftime("%Y%m%d"))


def _pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _certificate(issuer: Issuer) -> bytes:
    return issuer.certificate.public_bytes(Encoding.PEM)


def _list(issuer: Issuer, start: datetime, end: datetime) -> bytes:
    der = issuer.revocation_list(1, [], start, end)
    return x509.load_der_x509_crl(der).public_bytes(Encoding.PEM)
