"""What one machine's enclave upon a TPM needs: made by `kmsd init --enclave-backend tpm2`, and signed anew by `kmsd enclave sign`.

    DIR/enclave/structure.bin     measured and signed             DIR/secrets/enclave-signing-key.pem   the signer's key
    DIR/enclave/policy.yaml       what is asked of a quote        DIR/secrets/tpm-owner-auth            where there is one

The TPM is pinned: what answers at its place now is believed to be the machine's. The signer's key is not needed on the
machine: move it away.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from enclave.command import pin_command
from enclave.errors import EnclaveError
from enclave.launch import CannotLaunch
from enclave.tpm_connection import check_place
from enclave.tpm_release import DEFAULT_PCR, MAX_SVN, sign_release, signer_of, verified_release
from kms.enclave_backends import INSTALL_TPM

from .measuring import FIRST_SVN, PRODUCT, Signed, measurement_of, output_of, private_pem, signing_key, start
from .private_files import Refused, write_private

OWNER_AUTH: Final = Path("secrets/tpm-owner-auth")
_SECONDS: Final = 30.0  # for a TPM to answer
_LARGEST_AUTH: Final = 1 << 10  # bytes of the authorization's file

_POLICY: Final = """\
# What a quote of this machine's enclave must show; docs/attestation.md has the fields.
version: 1
kind: tpm2
# The TPM's, as it was pinned when this file was made.
attestation_key: "{attestation_key}"
pcr: {pcr}
signers:
  - {{mrsigner: "{mrsigner}", isv_prod_id: {product}, least_isv_svn: {svn}}}
{simulated}"""
_SIMULATED: Final = """\
# A software TPM, which protects nothing from whoever has its files.
allow_simulated: true
"""


@dataclass(frozen=True, slots=True)
class TpmChoices:
    """Which TPM a fresh installation stands upon."""

    place: str  # device:PATH or swtpm:path=PATH
    owner_auth: Path | None = None  # the file of the owner hierarchy's authorization, where it has one
    pcr: int = DEFAULT_PCR


@dataclass(frozen=True, slots=True)
class Pinned:
    """What a TPM has said of itself."""

    storage_root: bytes  # 34 bytes: Name of the storage root key
    attestation_key: bytes  # 64 bytes: x || y
    simulated: bool


def read_pins(place: str, owner_auth: Path | None) -> Pinned:
    """Ask a TPM what it is to be known by, through a process of its own.

    Raises:
        Refused: it does not answer, or tpm2-pytss is not installed.
    """
    what = f"the TPM {place} could not be asked"
    try:
        check_place(place)
        asking = start(pin_command(place, owner_auth))
    except (EnclaveError, CannotLaunch) as error:
        raise Refused(f"{what}: {error}" + (f"; {INSTALL_TPM}" if isinstance(error, CannotLaunch) else "")) from error
    root, key, kind = output_of(asking, what, _SECONDS).split()
    return Pinned(bytes.fromhex(root), bytes.fromhex(key), kind == "simulated")


def make_tpm_files(building: Path, tpm: TpmChoices, measuring: subprocess.Popen[str]) -> Pinned:
    """Pin the TPM, and write signer, structure, policy, and the owner's authorization where there is one.

    Raises:
        Refused: the TPM does not answer, the enclave cannot be measured, or the PCR is none that a seal may name.
        OSError: a file cannot be read or made.
    """
    auth = None
    if tpm.owner_auth is not None:
        auth = building / OWNER_AUTH
        with tpm.owner_auth.open("rb") as file:
            write_private(auth, file.read(_LARGEST_AUTH))
    pinned = read_pins(tpm.place, auth)
    signer = ec.generate_private_key(ec.SECP256R1())
    try:
        structure = sign_release(measurement_of(measuring), PRODUCT, FIRST_SVN, signer, tpm.pcr)
    except EnclaveError as error:
        raise Refused(str(error)) from error
    (building / "enclave").mkdir(mode=0o700)
    write_private(building / "secrets/enclave-signing-key.pem", private_pem(signer))
    write_private(building / "enclave/structure.bin", structure)
    write_private(
        building / "enclave/policy.yaml", policy_text(pinned, signer_of(signer.public_key()), tpm.pcr).encode()
    )
    return pinned


def policy_text(pinned: Pinned, signer: bytes, pcr: int = DEFAULT_PCR) -> str:
    """Return the policy that allows a signer's (MRSIGNER, 32 bytes) enclave upon one TPM."""
    return _POLICY.format(
        attestation_key=pinned.attestation_key.hex(),
        pcr=pcr,
        mrsigner=signer.hex(),
        product=PRODUCT,
        svn=FIRST_SVN,
        simulated=_SIMULATED if pinned.simulated else "",
    )


def read_structure(data: bytes) -> Signed:
    """Return what a structure says.

    Raises:
        EnclaveError: it is none, or an approval does not verify.
    """
    identity = verified_release(data).identity
    return Signed(identity.mrenclave, identity.isv_svn, identity.mrsigner)


def sign_structure(data: bytes, key_file: Path, measured: bytes, isv_svn: int, now: datetime) -> bytes:
    """Return the structure that follows on *data*, of the same product and PCR, for what was measured (32 bytes).

    Raises:
        Refused: the key cannot be used, or the security version is beyond what a structure has approvals for.
        EnclaveError: *data* is no structure.
    """
    del now  # it has no date
    before = verified_release(data)
    if isv_svn > MAX_SVN:
        raise Refused(f"isv_svn {isv_svn}: at most {MAX_SVN} upon a TPM")
    key = signing_key(key_file)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Refused(f"{key_file}: is no EC key")
    return sign_release(measured, before.identity.isv_prod_id, isv_svn, key, before.pcr.pcr)
