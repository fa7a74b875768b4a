"""Back-pressure: batches wait while replicas lag behind, or while others wait for locks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from .database import Connection
from .errors import ColumnsError

MOST_LAG: Final = 10.0  # seconds that a replica may be behind
MOST_BYTES: Final = 256 << 20  # of write-ahead log that it may be behind
MOST_WAITING: Final = 5  # sessions of the database that wait for a lock
PAUSE: Final = 0.5  # seconds
PATIENCE: Final = 1_800.0  # seconds; then a person has to look

# Without the role pg_monitor a replica's lag is NULL: it is not waited for.
_QUERY: Final = """
SELECT coalesce((SELECT max(extract(epoch FROM replay_lag)) FROM pg_stat_replication), 0)::float8,
       coalesce((SELECT max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)) FROM pg_stat_replication), 0)::float8,
       (SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND pid <> pg_backend_pid())
"""


@dataclass(slots=True)
class Pressure:
    """Called before each batch; returns when the database can bear it."""

    tell: Callable[[str], None]  # why it waits, once for each wait
    most_lag: float = MOST_LAG
    most_bytes: float = MOST_BYTES
    most_waiting: int = MOST_WAITING
    sleep: Callable[[float], None] = field(default=time.sleep)

    def __call__(self, connection: Connection) -> None:
        """Wait.

        Raises:
            ColumnsError: it has taken longer than PATIENCE.
        """
        waited = 0.0
        while reason := self.reason(connection):
            if waited == 0:
                self.tell(reason)
            if waited >= PATIENCE:
                raise ColumnsError(f"{reason}, for {PATIENCE:.0f} s now; run the command again when that is over")
            self.sleep(PAUSE)
            waited += PAUSE

    def reason(self, connection: Connection) -> str | None:
        """Return why no batch should be written now; None if one may be."""
        [(lag, behind, waiting)] = connection.execute(_QUERY).fetchall()
        if lag > self.most_lag or behind > self.most_bytes:
            return f"a replica is {lag:.0f} s and {behind:.0f} bytes behind"
        if waiting > self.most_waiting:
            return f"{waiting} sessions wait for locks"
        return None
