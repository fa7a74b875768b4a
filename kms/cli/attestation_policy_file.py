"""The files that `kms enclave verify` is given; docs/attestation.md has the fields of a policy."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import typer

from enclave.attestation_errors import BadPolicy
from enclave.attestation_policy import AttestationPolicy
from enclave.chain import MAX_LIST
from kms.attestation_policies import LARGEST, parse_list, parse_policy

from .files import read_bounded

_OPTION: Final = "--policy"


def read_policy(path: Path) -> AttestationPolicy:
    """Read a policy from a file of at most 1 MiB.

    Raises:
        BadParameter: it cannot be read, is no YAML, or breaks a rule; says which field and which rule.
    """
    try:
        return parse_policy(read_bounded(path, LARGEST, _OPTION))
    except BadPolicy as error:
        raise typer.BadParameter(f"{path}: {error}", param_hint=_OPTION) from error


def read_list(path: Path, option: str) -> bytes:
    """Read a revocation list in PEM or DER, and return it in DER; what is no list is left to the verifier.

    Raises:
        BadParameter: it cannot be read, or is larger than 1 MiB.
    """
    data = read_bounded(path, 2 * MAX_LIST, option)  # PEM is longer by a third
    try:
        return parse_list(data)
    except ValueError as error:
        raise typer.BadParameter(f"{path}: is no revocation list", param_hint=option) from error
