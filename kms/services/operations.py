"""Long work: what carries an operation on, batch by batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from kms.core.operations import Operation


@dataclass(frozen=True, slots=True)
class Batch:
    """What one batch has done: *done* units, up to *cursor*.

    *finished*: nothing is left, or, with an *error*, nothing more can be done now; a resumed operation begins at *cursor*.
    """

    cursor: str
    done: int
    finished: bool
    error: str = ""


class Runner(Protocol):
    """Carries out one kind of operation."""

    async def batch(self, operation: Operation) -> Batch:
        """Go on from the operation's cursor for a few seconds at most; doing the same again must do no harm.

        Raises:
            Unavailable: a part does not answer; the operation is left for later.
            KmsError: it cannot go on; the operation fails with the message.
        """
        ...
