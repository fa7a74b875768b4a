"""What is noticed of keys while a call is worked on: which are canaries, and which uses their state refused.

A canary is a key with the label `canary` = `true`. It is known from the moment at which this node reads its record, and
every use of a key begins with that.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Final

from kms.core.keyring import Key
from kms.core.lifecycle import KeyState
from kms.core.names import KeyName

CANARY_LABEL: Final = "canary"
CANARY_VALUE: Final = "true"
MOST_CANARIES: Final = 10_000  # on one node; the ones whose records were read longest ago are forgotten first

Refusals = Mapping[tuple[str, KeyState], int]

# Of the call that this task works on. A call's task is its own, so that nothing of it is seen by another call.
_refusals: Final[ContextVar[dict[tuple[str, KeyState], int] | None]] = ContextVar("refusals", default=None)


class KeySightings:
    """Told by the keyrings, asked by the watch.

    Attributes:
        canaries: the names of the canaries known here.
    """

    def __init__(self, most: int = MOST_CANARIES) -> None:
        self._most = most
        self.canaries: OrderedDict[str, None] = OrderedDict()

    def read(self, name: KeyName, key: Key) -> None:
        """A key's record has been read."""
        if key.labels.get(CANARY_LABEL) == CANARY_VALUE:
            self.canaries[str(name)] = None
            self.canaries.move_to_end(str(name))
            if len(self.canaries) > self._most:
                self.canaries.popitem(last=False)
        elif self.canaries:
            self.canaries.pop(str(name), None)

    def refused(self, name: str, state: KeyState, count: int) -> None:
        """The state of a key or version has refused *count* uses by the call that this task works on."""
        noted = _refusals.get()
        if noted is None:
            noted = {}
            _refusals.set(noted)
        noted[name, state] = noted.get((name, state), 0) + count

    def taken(self) -> Refusals | None:
        """Return what the call of this task was refused, once; None for nothing."""
        noted = _refusals.get()
        if noted is not None:
            _refusals.set(None)
        return noted
