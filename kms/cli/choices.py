"""Values of options: choices by name, periods and labels."""

from __future__ import annotations

import re
from datetime import timedelta
from enum import StrEnum
from typing import Final

import typer


class PurposeChoice(StrEnum):
    """kms_client.Purpose as a command line spells it; a test compares them."""

    ENCRYPT = "encrypt"
    DETERMINISTIC = "deterministic"
    DATA_KEY = "data-key"


class SuiteChoice(StrEnum):
    """kms_client.Suite."""

    AES_256_GCM = "aes-256-gcm"
    XAES_256_GCM = "xaes-256-gcm"
    AES_SIV = "aes-siv"


class LevelChoice(StrEnum):
    """kms_client.ProtectionLevel."""

    SOFTWARE = "software"
    ENCLAVE = "enclave"
    HSM = "hsm"


_PERIOD: Final = re.compile(r"([1-9][0-9]{0,5})([hd])")


def parse_period(text: str | None) -> timedelta | None:
    """Read hours or days, such as 24h or 90d.

    Raises:
        BadParameter: another form.
    """
    if text is None:
        return None
    found = _PERIOD.fullmatch(text)
    if found is None:
        raise typer.BadParameter("must be hours or days, such as 24h or 90d", param_hint="--rotation-period")
    return timedelta(hours=int(found[1])) if found[2] == "h" else timedelta(days=int(found[1]))


def parse_labels(pairs: list[str]) -> dict[str, str]:
    """Read KEY=VALUE pairs.

    Raises:
        BadParameter: another form, or a repeated key.
    """
    labels: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or key in labels:
            raise typer.BadParameter(f"{pair!r} must have the form KEY=VALUE, each KEY once", param_hint="--label")
        labels[key] = value
    return labels
