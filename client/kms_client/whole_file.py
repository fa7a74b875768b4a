"""A file that appears under its name only when it is whole."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from .tls import StrPath

PART_PREFIX: Final = ".kms-"
PART_SUFFIX: Final = ".part"


@contextlib.contextmanager
def whole_file(target: StrPath, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Yield a temporary file beside *target* that takes its name when the block ends well, and is removed otherwise.

    Only its owner can read it. Its bytes are on the disk (fsync) before it has its name, and the name before this
    returns. A process that is killed leaves the temporary file: `.kms-*.part`.

    Raises:
        FileExistsError: *target* is there and *overwrite* is False, also where it appears meanwhile.
        OSError: it cannot be written, or *target* is no regular file (a device, a link, a folder).
    """
    path = Path(target)
    _check(path, overwrite)
    descriptor, part = tempfile.mkstemp(prefix=PART_PREFIX, suffix=PART_SUFFIX, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            _check(path, overwrite)
            Path(part).replace(path)
        else:
            # Unlike a renaming, a link never takes the place of what is there.
            path.hardlink_to(part)
    finally:
        Path(part).unlink(missing_ok=True)
    _sync_folder(path.parent)


def _check(path: Path, overwrite: bool) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not overwrite:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "is not a regular file", str(path))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
