"""What notices that the database lies; each says what it has found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from kms.core.errors import CorruptRecord
from storage.database import Database
from tests.tampering.filled import Content
from tests.tampering.reading import Reader, reader_of


class Detector(Protocol):
    """One way to notice."""

    name: str

    async def look(self, table: str) -> str:
        """Return what is wrong, empty for nothing; *table* is where something was changed."""
        ...


@dataclass
class Loading:
    """Reads a table as services do: whoever uses what was changed is refused."""

    reader: Reader
    name: str = "load"

    async def look(self, table: str) -> str:
        try:
            await self.reader.read({table})
        except CorruptRecord as error:
            return str(error)
        return ""


async def detectors_of(storage: Database, content: Content) -> tuple[Detector, ...]:
    """Return all of them, over one database whose names are those that it had."""
    return (Loading(reader_of(storage, content.pristine)),)


async def found_by(detectors: Sequence[Detector], table: str) -> tuple[str, str]:
    """Return the first detector that finds something, and what; empty for none."""
    for detector in detectors:
        if found := await detector.look(table):
            return detector.name, found
    return "", ""
