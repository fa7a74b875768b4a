"""The enclave: its signed structure, its TPM or the token of its fuse, and what it is attested with."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from cryptography import x509

from enclave.attestation_errors import BadPolicy
from enclave.errors import EnclaveError
from enclave.tpm_quotes import TpmPolicy
from kms.attestation import NotAttested, SimulatedAuthority
from kms.attestation_policies import parse_policy
from kms.enclave_settings import SimulatedEnclave, TpmEnclave
from kms.kmsd import check_token
from kms.kmsd.check_files import secret_file
from kms.kmsd.enclave_signing import measured_structure
from kms.kmsd.findings import Finding, Subject, error, warning
from kms.kmsd.private_files import Refused
from kms.kmsd.tpm_files import read_pins
from kms.setting_values import Secret
from kms.settings import Token
from storage.errors import CannotOpen
from storage.ownership import Ownership

_SOON: Final = timedelta(days=30)
_SIMULATED: Final = warning(
    "enclave.backend", "is SIMULATED and protects nothing from this machine", "docs/enclave.md says what"
)
_NOT_ALLOWED: Final = (
    "enclave.backend",
    "is SIMULATED (a software TPM), and will not be used with the profile production",
    "take a TPM that is hardware, or set enclave.allow_simulated = true",
)


def structure(subject: Subject) -> Iterator[Finding]:
    """Whether the enclave that is installed may start: it is measured for that."""
    settings = subject.settings.enclave
    if settings is None:
        return
    if subject.settings.profile == "production" and isinstance(settings, SimulatedEnclave):
        yield _SIMULATED
    name = f"enclave.structure {settings.structure}"
    remedy = f"kmsd enclave sign --config {subject.config}"
    try:
        signed, measured = measured_structure(settings)
    except (Refused, EnclaveError) as problem:
        yield error(name, str(problem), remedy)
        return
    if signed.mrenclave != measured:
        yield error(name, "was signed for other code, or another Python, than is installed", remedy)


def tpm(subject: Subject) -> Iterator[Finding]:
    """Whether the TPM answers, is the one that was pinned, and may be used."""
    settings = subject.settings.enclave
    if not isinstance(settings, TpmEnclave):
        return
    if settings.owner_auth_file is not None:
        yield from secret_file("enclave.owner_auth_file", settings.owner_auth_file)
    try:
        Ownership.take(subject.settings.data_directory).release()
    except CannotOpen:
        return  # a software TPM serves one client at a time, which is then the daemon; the directory is a finding
    name = f"enclave.tpm {settings.tpm}"
    try:
        pinned = read_pins(settings.tpm, settings.owner_auth_file)
    except Refused as problem:
        yield error(name, str(problem), "see whether it is there, and whether the user that runs kmsd may use it")
        return
    if pinned.storage_root.hex() != settings.storage_root:
        remedy = "bring back the TPM that was pinned; what was sealed upon it opens upon no other, nor after a clear"
        yield error(name, "is not the TPM that enclave.storage_root names, or was cleared", remedy)
    if pinned.simulated and subject.settings.profile == "production":
        yield _SIMULATED if settings.allow_simulated else error(*_NOT_ALLOWED)


def fuse(subject: Subject) -> Iterator[Finding]:
    """The token that holds the fuse."""
    settings = subject.settings.enclave
    if not isinstance(settings, SimulatedEnclave):
        return
    token = settings.token
    missing = list(secret_file("enclave.token.pin_file", token.pin_file))
    yield from missing
    if not missing:
        pin = Secret(file=token.pin_file)
        looked = Token(module=token.module, label=token.label, pin=pin, environment=token.environment)
        yield from check_token.look_at(subject, looked, "enclave.token")


def policy(subject: Subject) -> Iterator[Finding]:
    """Whether what is asked of a quote can be read, and is for this backend."""
    settings = subject.settings.enclave
    if settings is None:
        return
    name = f"enclave.attestation.policy {settings.attestation.policy}"
    try:
        found = parse_policy(settings.attestation.policy.read_bytes())
    except (BadPolicy, OSError) as problem:
        yield error(name, str(problem), "put back the file that `kmsd init` has made")
        return
    if isinstance(found, TpmPolicy) != isinstance(settings, TpmEnclave):
        yield error(name, f"is not for quotes of backend {settings.backend}", "docs/attestation.md has the fields")


def attestation(subject: Subject) -> Iterator[Finding]:
    """Whether what certifies a simulated platform can be read, and what in it ends soon."""
    enclave = subject.settings.enclave
    if not isinstance(enclave, SimulatedEnclave):
        return
    settings = enclave.attestation
    yield from secret_file("enclave.attestation.platform_key", settings.platform_key)
    authority = SimulatedAuthority(settings, bytes.fromhex(enclave.platform_id))
    try:
        root, platform, *_ = authority.keys()
        lists = authority.collateral()
        ends = {
            "root": x509.load_der_x509_certificate(root).not_valid_after_utc,
            "platform": x509.load_der_x509_certificate(platform).not_valid_after_utc,
            "root_list": x509.load_der_x509_crl(lists.root_list).next_update_utc,
            "platform_list": x509.load_der_x509_crl(lists.platform_list).next_update_utc,
        }
    except (NotAttested, OSError, ValueError) as problem:
        yield error("enclave.attestation", str(problem), "put back the file that `kmsd init` has made")
        return
    for name, end in ends.items():
        if end is not None and end - subject.now < _SOON:
            tell = error if end <= subject.now else warning
            yield tell(
                f"enclave.attestation.{name}", f"ends at {end.isoformat()}", "have its authority issue the next one"
            )
