"""What a database remembers of the trees of its tenants, and what one transaction knows and changes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from kms.core.audit_ports import RecordChange, RecordSealer
from kms.core.canonical import Value
from kms.core.errors import CorruptRecord
from kms.core.integrity import Entry, Leaf, Place
from kms.core.names import TenantUid
from kms.core.refused import Refused

# Records whose state before is remembered, and changes that are told, in one transaction; more are not.
MOST_CHANGES: Final = 1_000

Changes = Callable[[Sequence[RecordChange]], None]
Watch = Callable[[TenantUid | None, CorruptRecord], None]


def ignore(changes: Sequence[RecordChange]) -> None:
    """Tell nobody."""


def overlook(tenant: TenantUid | None, error: CorruptRecord) -> None:
    """Tell nobody."""


@dataclass(slots=True)
class Seals:
    """The key of all MACs, who is told of changes and of lies, and the highest epoch that this process has seen of each tenant."""

    sealer: RecordSealer
    on_changes: Changes = ignore
    refused: Refused = field(default_factory=Refused)  # tenants that are not served
    epochs: dict[TenantUid, int] = field(default_factory=dict)
    on_lie: Watch = overlook

    def seen(self, tenant: TenantUid, epoch: int) -> None:
        """Remember an epoch."""
        if epoch > self.epochs.get(tenant, 0):
            self.epochs[tenant] = epoch


@dataclass(frozen=True, slots=True)
class Written:
    """A record that the transaction has written: its revision before (0 for none), and what it is now (None: removed)."""

    before: int
    now: Entry | None


@dataclass(slots=True)
class Tree:
    """What one transaction knows of one tenant's tree: all of it verified."""

    epoch: int  # 0: there is none
    root: bytes
    nodes: dict[str, bytes] = field(default_factory=dict)
    leaves: dict[str, Leaf] = field(default_factory=dict)
    written: dict[Place, Written] = field(default_factory=dict)


@dataclass(slots=True)
class Touched:
    """What one transaction has read and written of records."""

    seals: Seals
    floor: int  # the highest epoch of the transaction's tenant that was seen before it began
    trees: dict[TenantUid, Tree] = field(default_factory=dict)
    loaded: dict[tuple[UUID, Place], Mapping[str, Value]] = field(default_factory=dict)
    changes: list[RecordChange] = field(default_factory=list)
