"""A data directory belongs to one process at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final, Self

from .errors import CannotOpen, DirectoryInUse

LOCK_FILE: Final = "kmsd.lock"


class Ownership:
    """Holds a data directory until it is released, or its process ends in whatever way.

    The lock is the kernel's (flock) on a file of its own; the file stays, since whoever removed it could let two in.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    def take(cls, directory: Path) -> Self:
        """Take the directory.

        Raises:
            DirectoryInUse: another process has it.
            CannotOpen: it is missing, or not writable.
        """
        path = directory / LOCK_FILE
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise CannotOpen(f"the data directory {directory} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            os.close(descriptor)
            who = f"process {holder}" if holder.isdecimal() else "another process"
            raise DirectoryInUse(f"the data directory {directory} is in use by {who}") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Give the directory back; may be called twice."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
