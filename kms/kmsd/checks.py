"""Everything that `kmsd check` looks at: independent checks, in the order in which their findings are best mended."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

from kms.kmsd import check_certificates, check_database, check_enclave, check_files, check_network, check_token
from kms.kmsd.findings import Check, Finding, Level, Subject, error
from kms.setting_values import SettingsError
from kms.settings import load

CHECKS: Final[tuple[Check, ...]] = (
    check_files.configuration_file,
    check_files.secrets,
    check_files.data_directory,
    check_files.body_directories,
    check_certificates.server,
    check_certificates.token_server,
    check_certificates.client_ca,
    check_certificates.revocations,
    check_network.tcp,
    check_network.tls,
    check_network.unix,
    check_network.metrics,
    check_token.token,
    check_enclave.structure,
    check_enclave.tpm,
    check_enclave.fuse,
    check_enclave.policy,
    check_enclave.attestation,
    check_database.database,
)


def run(config: Path, now: datetime, *, login: bool = False) -> list[Finding]:
    """Return what is wrong with a configuration and all that it names; empty is good."""
    try:
        settings = load(config)
    except SettingsError as problem:
        return [
            error("configuration", line, "docs/operations.md lists every setting") for line in str(problem).splitlines()
        ]
    subject = Subject(config, settings, now, login)
    return [finding for check in CHECKS for finding in _carry_out(check, subject)]


def fails(findings: list[Finding]) -> bool:
    """Whether the daemon should not be started."""
    return any(finding.level is Level.ERROR for finding in findings)


def _carry_out(check: Check, subject: Subject) -> list[Finding]:
    try:
        return list(check(subject))
    except Exception as failure:  # noqa: BLE001  one check that breaks must not hide what the others find
        name = f"{check.__module__.rpartition('.')[2]}.{check.__name__}"
        return [error(name, f"could not be carried out ({type(failure).__name__})", "please report it: this is a bug")]
