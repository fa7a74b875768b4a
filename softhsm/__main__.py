"""python -m softhsm DIR --label kms --pin-file FILE: a token in one command."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from pathlib import Path

from .token import SoftHsmError, create_token


def _read_or_make_pin(path: Path) -> str:
    """Return the PIN in a file; a file that is not there is made, mode 0600, with a random one."""
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except FileNotFoundError:
        pin = secrets.token_hex(16)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(pin + "\n")
        return pin


def main() -> None:
    """Make the token and say how to use it."""
    parser = argparse.ArgumentParser(prog="python -m softhsm", description="Make a SoftHSM token for development.")
    parser.add_argument("directory", type=Path, help="gets softhsm2.conf and tokens/")
    parser.add_argument("--label", default="kms")
    parser.add_argument("--pin-file", type=Path, required=True, help="the PIN; made with a random one if not there")
    parser.add_argument("--so-pin-file", type=Path, help="the security officer's PIN; without it nobody has one")
    arguments = parser.parse_args()
    try:
        so_pin = arguments.so_pin_file and _read_or_make_pin(arguments.so_pin_file)
        token = create_token(arguments.directory, arguments.label, _read_or_make_pin(arguments.pin_file), so_pin)
    except (OSError, SoftHsmError) as error:
        sys.exit(f"softhsm: {error}")
    lines = [f"token {token.label}", f"module {token.module}"]
    lines += [f"{name}={value}" for name, value in token.environment.items()]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
