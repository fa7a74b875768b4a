"""A circuit breaker: after a silence, callers are refused at once instead of each waiting for the bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from kms.core.errors import StorageUnavailable

PAUSE: Final = 1.0  # seconds without any try after a silence
TRY: Final = 3.0  # seconds that one try may take, more than a session's bound


class _State(StrEnum):
    CLOSED = "closed"  # the database answers
    OPEN = "open"  # it was silent; from `_retry_at` on, one caller may try
    PROBING = "probing"  # that one caller is trying, at most until `_retry_at`


@dataclass(slots=True)
class Breaker:
    """Owned by one event loop; *clock* gives seconds and never goes back.

    A refusal by the database is an answer too: only silence opens the breaker.
    """

    clock: Callable[[], float]
    _state: _State = _State.CLOSED
    _retry_at: float = 0.0

    @property
    def closed(self) -> bool:
        """Whether the database answered when it was last asked."""
        return self._state is _State.CLOSED

    def look(self) -> None:
        """Refuse a caller that has to wait before it can enter, while nobody may.

        Raises:
            StorageUnavailable: the database was silent and its pause is not over, or somebody is trying it.
        """
        # A try that never reported (its caller went away) counts as over after its time.
        if self._state is not _State.CLOSED and self.clock() < self._retry_at:
            raise StorageUnavailable("the database did not answer lately; it will be tried again shortly")

    def enter(self) -> None:
        """Let a caller through: any while the database answers, after a silence one at a time.

        Raises:
            StorageUnavailable: as look().
        """
        self.look()
        if self._state is not _State.CLOSED:
            self._state = _State.PROBING
            self._retry_at = self.clock() + TRY

    def answered(self) -> None:
        """Note that the database answered."""
        self._state = _State.CLOSED

    def silent(self) -> None:
        """Note that the database did not answer in time."""
        self._state = _State.OPEN
        self._retry_at = self.clock() + PAUSE
