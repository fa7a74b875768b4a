"""What one machine's simulated enclave needs: made by `kmsd init`, and signed anew by `kmsd enclave sign`.

    DIR/enclave/token/            the SoftHSM token of the fuse         DIR/secrets/enclave-pin               its PIN
    DIR/enclave/structure.bin     measured and signed                   DIR/secrets/enclave-signing-key.pem   the signer's
    DIR/enclave/root.pem .crl     the simulated root                    DIR/secrets/enclave-root-key.pem      its key
    DIR/enclave/platform.pem .crl the platform                          DIR/secrets/enclave-platform-key.pem  its key
    DIR/enclave/policy.yaml       what is asked of a quote

The keys of signer and root are not needed on the machine: move them away.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from enclave.identity import MODE64BIT
from enclave.issuing import Issuer, new_platform, new_root
from enclave.quotes import SIMULATED
from enclave.sigstruct import EXPONENT, KEY_BITS, Release, mrsigner, sign, verified
from kms.channel import HostRefused, HostUnavailable
from kms.core.errors import HsmUnavailable
from kms.hosts import Host
from kms.hsm.pkcs11 import HOST_COMMAND, REOPEN_AFTER
from softhsm import SoftHsmToken

from .measuring import FIRST_SVN, PRODUCT, SECONDS, Signed, measurement_of, private_pem, signing_key
from .private_files import Refused, write_private

LIFETIME: Final = timedelta(days=3650)  # of the simulated root, platform and lists: nobody is there to renew them
_SKEW: Final = timedelta(minutes=5)

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


def make_fuse_key(token: SoftHsmToken, pin: str) -> None:
    """Make the key of the fuse in its token, once.

    Raises:
        HsmUnavailable: the token cannot be used, or has such a key.
    """
    asyncio.run(_make_fuse_key(token, pin))


async def _make_fuse_key(token: SoftHsmToken, pin: str) -> None:
    greeting = [str(token.module), token.label, pin, "probe", REOPEN_AFTER]
    host = Host("token", HOST_COMMAND, token.environment, greeting=lambda: greeting, start_deadline=SECONDS)
    try:
        await host.start()
        await host.call("make_fuse_key", [], deadline=SECONDS, spare=SECONDS)
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
        "secrets/enclave-signing-key.pem": private_pem(signer),
        "secrets/enclave-root-key.pem": private_pem(root.key),
        "secrets/enclave-platform-key.pem": private_pem(platform.key),
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


def read_structure(data: bytes) -> Signed:
    """Return what a structure says.

    Raises:
        EnclaveError: it is none, or its signature does not verify.
    """
    release, signer = verified(data)
    return Signed(release.mrenclave, release.isv_svn, signer)


def sign_structure(data: bytes, key_file: Path, measured: bytes, isv_svn: int, now: datetime) -> bytes:
    """Return the structure that follows on *data*, for what was measured (32 bytes).

    Raises:
        Refused: the key cannot be used.
        EnclaveError: *data* is no structure.
    """
    before, _ = verified(data)
    key = signing_key(key_file)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise Refused(f"{key_file}: is no RSA key")
    return sign(replace(before, mrenclave=measured, isv_svn=isv_svn, date=_date(now)), key)


def _date(now: datetime) -> int:
    return int(now.astimezone(UTC).strftime("%Y%m%d"))


def _certificate(issuer: Issuer) -> bytes:
    return issuer.certificate.public_bytes(Encoding.PEM)


def _list(issuer: Issuer, start: datetime, end: datetime) -> bytes:
    der = issuer.revocation_list(1, [], start, end)
    return x509.load_der_x509_crl(der).public_bytes(Encoding.PEM)
