"""What notices that the database lies; each says what it has found."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol
from uuid import uuid4

from kms.core.audit import StreamUid
from kms.core.audit_filters import AuditFilter, Span
from kms.core.audit_ports import Anchor
from kms.core.audit_verify import Verifier
from kms.core.errors import CorruptRecord, StorageUnavailable
from kms.core.integrity import ScrubCursor
from kms.crypto.report_seal import ReportSeal
from kms.crypto.signatures import verifier
from kms.services.anchoring import Anchoring
from kms.services.event_recorder import Noticed
from kms.services.scrub import Scrub
from storage.database import Database
from storage.tables import RECORDS
from tests.tampering.filled import Content
from tests.tampering.reading import COUNTED, READS, READS_OVER, Reader, reader_of

MOST: Final = 1_000
EVENTS: Final = 10_000
TREE: Final = frozenset({"tree_nodes", "tenant_roots"})
TRAIL: Final = frozenset({"audit_log", "checkpoints", "checkpoint_roots", "checkpoint_head"})
READ: Final = frozenset({*READS, *READS_OVER, *COUNTED})  # by repositories
NUMBERS: Final = {table.name: number for number, table in enumerate(RECORDS)}
SCRUBBED: Final = TREE | NUMBERS.keys()
TRIES: Final = 5  # on a machine so busy that the database does not answer within its bound


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
        if table in TREE:
            await self.reader.read()
        elif table in READ:
            await self.reader.read({table})
        return ""


@dataclass
class Scrubbing:
    """Looks at every record and every place in the trees, as daemons do again and again."""

    storage: Database
    name: str = "scrub"

    async def look(self, table: str) -> str:
        if table not in SCRUBBED:
            return ""
        # First the pages that are about it, since a whole pass takes long.
        for tenant in await self.storage.scrub_tenants(None, MOST):
            cursor: ScrubCursor | None = ScrubCursor(NUMBERS.get(table, len(NUMBERS)))
            while cursor is not None:
                page = await self.storage.scrub(tenant, cursor)
                if page.lies:
                    return str(page.lies[0])
                cursor = page.after if table in TREE else None
        found: list[Noticed] = []
        scrub = Scrub(self.storage, found.append, timedelta(hours=1), _now, sleep=_no_pause)
        await scrub.look()
        return f"{scrub.lies} lies" if scrub.lies else ""


def _now() -> datetime:
    return datetime.now(UTC)


async def _no_pause(_: float) -> None:
    return


@dataclass
class Verifying:
    """Verifies the audit trail: columns beside bytes, the chain of each stream, checkpoints and what they cover."""

    storage: Database
    content: Content
    name: str = "verify"

    async def look(self, table: str) -> str:
        if table not in TRAIL:
            return ""
        token = self.content.token
        checking = Verifier(token.anchor.installation, verifier(token.public_key))
        async with self.storage.transaction() as work:
            events = await work.audit.list_events(None, AuditFilter(), Span(newest_first=False), EVENTS)
            assert len(events) < EVENTS
            streams: dict[StreamUid, list[bytes]] = {}
            for stream in sorted({event.stream for event in events}):
                found = await work.audit_feed.events_after(stream, 0, MOST)
                streams[stream] = [one.hash + one.canonical for one in found]
        taken: dict[StreamUid, int] = defaultdict(int)
        for made in await self.storage.checkpoints_after(0, MOST):
            for head in made.checkpoint.heads:
                bodies = streams.get(head.stream, [])
                checking.take_events(bodies[taken[head.stream] : head.sequence])
                taken[head.stream] = max(taken[head.stream], head.sequence)
            checking.take_checkpoint(made)
        for stream, bodies in streams.items():
            checking.take_events(bodies[taken[stream] :])
        checking.expect(token.anchor.serial, token.anchor.hash.hex())
        checking.finish()
        return "; ".join(map(str, checking.findings[:3]))


@dataclass(frozen=True)
class Remembered:
    """An AnchorStore that has what the token had."""

    anchor: Anchor

    async def newest(self) -> Anchor:
        return self.anchor

    async def put(self, anchor: Anchor) -> None:
        raise AssertionError("nothing is anchored here")


@dataclass
class Starting:
    """Looks as a daemon does before it serves."""

    storage: Database
    content: Content
    name: str = "start"

    async def look(self, table: str) -> str:
        if table not in TRAIL | TREE:
            return ""
        return await self.compare()

    async def compare(self) -> str:
        token = self.content.token
        anchoring = Anchoring(self.storage, None, Remembered(token.anchor), verifier(token.public_key), uuid4)  # type: ignore[arg-type]  # it asks for no key
        seen = await anchoring.look(self.storage)
        return seen.why or "; ".join(seen.tenants.values())


def reader_for(storage: Database, content: Content) -> Reader:
    """Return a reader of a database that should hold this."""
    return reader_of(storage, content.pristine, ReportSeal(content.token.reports))


async def detectors_of(storage: Database, content: Content) -> tuple[Detector, ...]:
    """Return all of them, over one database whose names are those that it had."""
    return (
        Loading(reader_for(storage, content)),
        Scrubbing(storage),
        Verifying(storage, content),
        Starting(storage, content),
    )


async def found_by(detectors: Sequence[Detector], table: str) -> tuple[str, str]:
    """Return the first detector that finds something, and what; empty for none."""
    quick_first = sorted(detectors, key=lambda detector: (detector.name == "load") is not (table in READ))
    for detector in quick_first:
        if found := await _patiently(detector, table):
            return detector.name, found
    return "", ""


async def _patiently(detector: Detector, table: str) -> str:
    for left in reversed(range(TRIES)):
        try:
            return await detector.look(table)
        except CorruptRecord as error:
            return str(error)
        except StorageUnavailable:
            if not left:
                raise
            await asyncio.sleep(1)
    raise AssertionError("there is no other way out")
