"""Files that only this user can read, and what commands of `kmsd` refuse."""

from __future__ import annotations

import os
from pathlib import Path


class Refused(Exception):
    """The command does not do it; the message says why, and what would help."""


def write_private(path: Path, content: bytes) -> None:
    """Write a new file that only this user can read.

    Raises:
        OSError: it is there already, or cannot be made.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(content)
