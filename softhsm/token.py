"""Making a token: DIR/softhsm2.conf, DIR/tokens, and the token itself, initialised in a process of its own.

softhsm2-util takes PINs on its command line, which every user of the machine can read, or from a terminal. So the
module's C_InitToken and C_InitPIN are called here by a short-lived child that gets the PINs through a pipe.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

_MODULES: Final = (
    "/usr/lib/softhsm/libsofthsm2.so",  # Debian, Ubuntu
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",  # Fedora, RHEL
    "/usr/lib/pkcs11/libsofthsm2.so",  # Arch, SUSE
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",  # built from source
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)
MODULE_VARIABLE: Final = "SOFTHSM2_MODULE"

MAX_LABEL: Final = 32  # bytes of UTF-8, CK_TOKEN_INFO
PIN_LENGTHS: Final = range(4, 256)  # bytes, SoftHSM's MIN_PIN_LEN and MAX_PIN_LEN
_SECONDS: Final = 30
_CONFIGURATION: Final = (
    "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n"
)


class SoftHsmError(Exception):
    """No token can be made; the message says why and holds no PIN."""


@dataclass(frozen=True, slots=True)
class SoftHsmToken:
    """Where a token is: what a PKCS#11 user needs besides the PIN."""

    module: Path
    label: str
    environment: Mapping[str, str]


def find_module() -> Path:
    """Return the SoftHSM module: where SOFTHSM2_MODULE says, else in the usual places.

    Raises:
        SoftHsmError: it is in none of them.
    """
    places = (os.environ[MODULE_VARIABLE],) if os.environ.get(MODULE_VARIABLE) else _MODULES
    for place in places:
        if Path(place).is_file():
            return Path(place)
    raise SoftHsmError(
        "libsofthsm2.so is not installed: get the package libsofthsm2 (Debian, Ubuntu) or softhsm (Fedora, Arch), "
        f"or name the file in {MODULE_VARIABLE}"
    )


def create_token(directory: Path, label: str, pin: str, so_pin: str | None = None) -> SoftHsmToken:
    """Make a token in *directory*, which may hold others with other labels.

    Args:
        directory: made with mode 0700 if it is not there.
        label: 1 to 32 bytes of UTF-8.
        pin: the user's, 4 to 255 bytes of UTF-8.
        so_pin: the security officer's; without it a random one is used and thrown away, since whoever has it can
            set a new user PIN and so gets at the keys.

    Raises:
        SoftHsmError: no module, a bad label or PIN, a token of that label, or SoftHSM's own refusal.
    """
    if not 1 <= len(label.encode()) <= MAX_LABEL:
        raise SoftHsmError(f"a token's label has 1 to {MAX_LABEL} bytes")
    so_pin = so_pin or secrets.token_hex(16)
    if any(len(secret.encode()) not in PIN_LENGTHS for secret in (pin, so_pin)):
        raise SoftHsmError(f"a PIN has {PIN_LENGTHS.start} to {PIN_LENGTHS.stop - 1} bytes")
    module = find_module()
    directory = directory.resolve()
    tokens, configuration = directory / "tokens", directory / "softhsm2.conf"
    for path in (directory, tokens):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not configuration.exists():
        configuration.write_text(_CONFIGURATION.format(tokens), encoding="utf-8")
    environment = {"SOFTHSM2_CONF": str(configuration)}
    _initialise(environment, {"module": str(module), "label": label, "pin": pin, "so_pin": so_pin})
    return SoftHsmToken(module, label, MappingProxyType(environment))


def _initialise(environment: Mapping[str, str], order: Mapping[str, str]) -> None:
    try:
        done = subprocess.run(  # noqa: S603  our own interpreter and script
            [sys.executable, "-I", str(Path(__file__).with_name("initialise.py"))],
            input=json.dumps(order).encode(),
            env=dict(environment),
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SoftHsmError(f"SoftHSM did not make the token within {_SECONDS} s") from error
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").splitlines() or [f"status {done.returncode}"]
        raise SoftHsmError(f"SoftHSM did not make the token: {lines[-1]}")
