"""Where the files of archives are kept, as a Protocol."""

from __future__ import annotations

from typing import Protocol


class ArchiveFiles(Protocol):
    """A directory of archives; names are plain file names.

    Raises (all methods):
        Unavailable: the file system refuses, is full, or does not answer in time.
    """

    async def create(self, name: str, part: str) -> None:
        """Begin a file that will have a name, under the name *part*; what crashes left of that file long ago is removed."""
        ...

    async def append(self, part: str, data: bytes) -> None:
        """Write at the end of a file that was begun."""
        ...

    async def finish(self, part: str, name: str) -> None:
        """Bring a file to the disk, then give it its name."""
        ...

    async def read(self, name: str, offset: int, length: int) -> bytes:
        """Return at most *length* bytes of a file; none behind its end.

        Raises:
            NotFound: there is no such file.
        """
        ...

    async def remove(self, name: str) -> None:
        """Remove a file; one that is not there is removed."""
        ...
