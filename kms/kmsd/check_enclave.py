"""The enclave: its signed structure, the token of its fuse, and what its platform is attested with."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from cryptography import x509

from enclave.attestation_errors import BadPolicy
from enclave.errors import EnclaveError
from kms.attestation import Attester, NotAttested
from kms.attestation_policies import parse_policy
from kms.kmsd import check_token
from kms.kmsd.check_files import secret_file
from kms.kmsd.enclave_files import measured_release
from kms.kmsd.findings import Finding, Subject, error, warning
from kms.kmsd.private_files import Refused
from kms.setting_values import Secret
from kms.settings import Token

_SOON: Final = timedelta(days=30)


def structure(subject: Subject) -> Iterator[Finding]:
    """Whether the enclave that is installed may start: it is measured for that."""
    settings = subject.settings.enclave
    if settings is None:
        return
    if subject.settings.profile == "production":
        yield warning(
            "enclave.backend", "is SIMULATED and protects nothing from this machine", "docs/enclave.md says what"
        )
    name = f"enclave.structure {settings.structure}"
    remedy = f"kmsd enclave sign --config {subject.config}"
    try:
        release, measured = measured_release(settings.structure)
    except (Refused, EnclaveError) as problem:
        yield error(name, str(problem), remedy)
        return
    if release.mrenclave != measured:
        yield error(name, "was signed for other code, or another Python, than is installed", remedy)


def fuse(subject: Subject) -> Iterator[Finding]:
    """The token that holds the fuse."""
    settings = subject.settings.enclave
    if settings is None:
        return
    token = settings.token
    missing = list(secret_file("enclave.token.pin_file", token.pin_file))
    yield from missing
    if not missing:
        pin = Secret(file=token.pin_file)
        looked = Token(module=token.module, label=token.label, pin=pin, environment=token.environment)
        yield from check_token.look_at(subject, looked, "enclave.token")


def attestation(subject: Subject) -> Iterator[Finding]:
    """Whether all files can be read, and what in them ends soon."""
    enclave = subject.settings.enclave
    if enclave is None:
        return
    settings = enclave.attestation
    yield from secret_file("enclave.attestation.platform_key", settings.platform_key)
    attester = Attester(settings, bytes.fromhex(enclave.platform_id), lambda: subject.now)
    try:
        root, platform, *_ = attester.authority()
        lists = attester.collateral()
        parse_policy(settings.policy.read_bytes())
        ends = {
            "root": x509.load_der_x509_certificate(root).not_valid_after_utc,
            "platform": x509.load_der_x509_certificate(platform).not_valid_after_utc,
            "root_list": x509.load_der_x509_crl(lists.root_list).next_update_utc,
            "platform_list": x509.load_der_x509_crl(lists.platform_list).next_update_utc,
        }
    except (NotAttested, BadPolicy, OSError, ValueError) as problem:
        yield error("enclave.attestation", str(problem), "put back the file that `kmsd init` has made")
        return
    for name, end in ends.items():
        if end is not None and end - subject.now < _SOON:
            tell = error if end <= subject.now else warning
            yield tell(
                f"enclave.attestation.{name}", f"ends at {end.isoformat()}", "have its authority issue the next one"
            )
