"""The files that `kms enclave verify` is given; docs/attestation.md has the fields of a policy."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import typer

from enclave.attestation_errors import BadPolicy
from enclave.chain import MAX_LIST, Collateral
from enclave.tpm_quotes import TpmPolicy
from kms.attestation_policies import LARGEST, QuotePolicy, parse_list, parse_policy

from .files import read_bounded

_OPTION: Final = "--policy"


def read_policy(path: Path) -> QuotePolicy:
    """Read a policy from a file of at most 1 MiB.

    Raises:
        BadParameter: it cannot be read, is no YAML, or breaks a rule; says which field and which rule.
    """
    try:
        return parse_policy(read_bounded(path, LARGEST, _OPTION))
    except BadPolicy as error:
        raise typer.BadParameter(f"{path}: {error}", param_hint=_OPTION) from error


def read_lists(policy: QuotePolicy, root_list: Path | None, platform_list: Path | None) -> Collateral | None:
    """Read the revocation lists of a policy's kind, in PEM or DER; what is no list is left to the verifier.

    Raises:
        BadParameter: one is missing, cannot be read, or is larger than 1 MiB; or there are none of this kind.
    """
    named = {"--root-list": root_list, "--platform-list": platform_list}
    if isinstance(policy, TpmPolicy):
        for option, path in named.items():
            if path is not None:
                raise typer.BadParameter("the quotes of a TPM have no revocation lists", param_hint=option)
        return None
    return Collateral(*(_read_list(path, option) for option, path in named.items()))


def _read_list(path: Path | None, option: str) -> bytes:
    if path is None:
        raise typer.BadParameter("the policy is for quotes with revocation lists", param_hint=option)
    data = read_bounded(path, 2 * MAX_LIST, option)  # PEM is longer by a third
    try:
        return parse_list(data)
    except ValueError as error:
        raise typer.BadParameter(f"{path}: is no revocation list", param_hint=option) from error
