"""Mutual TLS: which files show who the client is. What is in them is read by `identity`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .identity import Identity

StrPath = str | os.PathLike[str]


class ConfigurationError(Exception):
    """The client cannot be set up; the message says which setting or file and why, and holds no secret."""


def read_file(path: Path, what: str) -> bytes:
    """Read a file of the configuration.

    Raises:
        ConfigurationError: it is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{what} {path}: cannot be read: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class Tls:
    """Paths of PEM files: the CA of the daemon's certificate, and the client's own certificate (its chain) and key.

    *server_name* is the name to expect in the daemon's certificate where the target's differs.
    """

    ca: StrPath
    certificate: StrPath | None = None
    private_key: StrPath | None = None
    server_name: str | None = None

    def state(self) -> tuple[tuple[int, ...], ...]:
        """Return what tells whether a file is another one than before, or has been written since; () if one is missing."""
        paths = (path for path in (self.ca, self.certificate, self.private_key) if path is not None)
        try:
            stats = [Path(path).stat() for path in paths]
        except OSError:
            return ()
        return tuple((found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns) for found in stats)

    def load(self) -> Identity:
        """Read and check the files.

        Raises:
            ConfigurationError: one is missing, unreadable or no PEM, or certificate and key do not belong together.
        """
        # A quarter of the time of `import kms_client` would be that of cryptography.x509: who uses TLS pays for it.
        from .identity import Identity  # noqa: PLC0415

        return Identity.of(self)
