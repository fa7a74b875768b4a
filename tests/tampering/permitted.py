"""What may go unnoticed, and why: docs/threat-model.md has the same list, and everything else is noticed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from storage.tables import RECORDS
from tests.tampering.attacks import Attack, Kind


class Outcome(StrEnum):
    """What becomes of an attack that nothing notices."""

    HARMLESS = "harmless"  # proved: whoever uses the system sees no difference
    EXCLUDED = "excluded"  # accepted, for the reason that stands beside it


RECORD_TABLES: Final = frozenset(table.name for table in RECORDS)
ROWS: Final = ("rows",)  # whole ones, not single columns
ANY: Final = ("any",)


@dataclass(frozen=True)
class Permit:
    """A kind of attacks on a table that may go unnoticed."""

    table: str
    columns: tuple[str, ...]
    kinds: tuple[Kind, ...]
    outcome: Outcome
    reason: str

    def covers(self, attack: Attack) -> bool:
        named = attack.column in self.columns if attack.column else self.columns == ROWS
        about = attack.table in RECORD_TABLES if self.table == RECORD else attack.table == self.table
        return about and attack.kind in self.kinds and (named or self.columns == ANY)


def _removed(table: str, reason: str) -> tuple[Permit, ...]:
    """Records with a MAC and no place in a tree: nobody can make or change one, but one can take them away or put them back."""
    given = Permit(
        table, ("tenant_id",), (Kind.EDIT,), Outcome.EXCLUDED, "taken away, for a tenant that does not exist"
    )
    return Permit(table, ROWS, (Kind.DELETE, Kind.ROLLBACK), Outcome.EXCLUDED, reason), given


def _everything(table: str, reason: str) -> Permit:
    return Permit(table, ANY, tuple(Kind), Outcome.EXCLUDED, reason)


RECORD: Final = "any record"
STRAY: Final = Permit(
    RECORD,
    ROWS,
    (Kind.STRAY,),
    Outcome.HARMLESS,
    "nobody asks for what is of a tenant that does not exist; all that is read stays as it was",
)
PERMITTED: Final = (
    STRAY,
    Permit(
        "tree_nodes",
        ROWS,
        (Kind.INSERT, Kind.STRAY),
        Outcome.HARMLESS,
        "no node above it names it; where a record comes to stand below it, it is noticed",
    ),
    Permit(
        "checkpoint_head",
        ANY,
        tuple(Kind),
        Outcome.EXCLUDED,
        "the lock under which checkpoints get their serials; with a false one none is made, and health says so",
    ),
    *_removed(
        "operations", "progress of long work, which is repeated where it is lost; what it changes is in the tree"
    ),
    *_removed("security_events", "notices; what they are about is in the audit trail"),
    *_removed("outbox_items", "what is still to be told to sinks, with a copy of what is told"),
    _everything(
        "blob_bodies", "opaque bodies of blobs; the blob's manifest and the tags of its chunks tell every change"
    ),
    _everything("blob_chunks", "as blob_bodies"),
    *_removed("blob_uploads", "progress of uploads, which begin anew where it is lost, each time under fresh salts"),
    *_removed("enclaves", "what nodes tell of their enclaves: each tells it again at its next start or change"),
    _everything("blob_uses", "what operators see of the last read; decides nothing"),
    _everything("claims", "who works on what is due; lost or false ones delay work until they end"),
    _everything("nodes", "who serves; false ones delay the end of a revocation, and say wrong things to operators"),
    _everything("epochs", "a signal to look sooner; nodes look again within cache.key_lifetime without it"),
    _everything("installation", "a signal, as epochs; and when a node was last seen, which can hold destruction back"),
    _everything("version_uses", "what operators see of the last use; decides nothing"),
    _everything("token_uses", "what operators see of the last use; decides nothing"),
    _everything("outbox_head", "the last position of the outbox; items could be told twice or late, not differently"),
    _everything("sink_positions", "how far a sink is; items could be told twice or not at all, and are in the trail"),
)


def permit_of(attack: Attack) -> Permit | None:
    """Return what permits that nothing notices an attack; None where something has to."""
    return next((permit for permit in PERMITTED if permit.covers(attack)), None)
