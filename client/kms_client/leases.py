"""Which leases hold, as pure bookkeeping: the moment is always an argument, and nothing here asks the daemon.

Invariant: look() returns a key at a moment only if a lease of it was asked for less than its duration before that moment,
and neither a refusal of that key nor a close has come in between. `tests/property/test_leases.py` draws histories against it.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Final, NamedTuple
from weakref import WeakSet

from .formats.errors import CannotDecrypt, Conflict, DeadlineExceeded, KmsError, LimitExceeded, Unavailable
from .formats.names import KeyUid
from .leased_key import LeasedKey

# Key versions that are leased at once, by one Local; the one that was not used for longest makes room.
MOST_LEASED: Final = 256

# Renewals of leases that still hold, under way at once; each has a thread, or a task, while it lasts.
MOST_RENEWALS: Final = 8
# Seconds that a renewal is given at least, and that pass at least between two looks at what has ended.
SHORTEST: Final = 0.5
LOOK: Final = 0.05
# How often a call asks anew because the lease that it was given had ended by then.
TRIES: Final = 3

CLOSED: Final = "the local mode of this client is closed"

# What says nothing about whether the key may be used: a lease that holds, holds on.
TRANSIENT: Final = (Unavailable, DeadlineExceeded, LimitExceeded, Conflict)

# What is asked of the daemon: a key's resource name and a version of it, 0: the primary one.
Asked = tuple[str, int]


class Wanted(NamedTuple):
    """What a step of work needs: a version of a key, or the one that encrypts (0), at this very moment.

    Attributes:
        name: the key's resource name.
        version: from 1, or 0.
        key: the uid that the header of a ciphertext names; None where there is none.
        pause: whether other work may have its turn before.
    """

    name: str
    version: int = 0
    key: KeyUid | None = None
    pause: bool = False


class Leases:
    """The leases of one Local; whoever shares it between threads locks it."""

    def __init__(self, most: int = MOST_LEASED) -> None:
        self._most = most
        self._held: OrderedDict[Asked, LeasedKey] = OrderedDict()
        self._primary: dict[str, int] = {}  # of keys that have a held version which encrypts
        self._over = ""
        _alive.add(self)

    def __len__(self) -> int:
        return len(self._held)

    def check(self) -> None:
        """Let through who may still use leases.

        Raises:
            RuntimeError: closed, or made before a fork.
        """
        if self._over:
            raise RuntimeError(self._over)

    def look(self, wanted: Wanted, now: float) -> tuple[LeasedKey | None, bool]:
        """Return what holds at *now*, if anything does, and whether the daemon is to be asked for a lease.

        Raises:
            CannotDecrypt: the ciphertext names another key than this name has.
        """
        name = wanted.name
        place = name, wanted.version or self._primary.get(name, 0)
        leased = self._held.get(place)
        if leased is not None and now >= leased.ends:
            self._drop(place)
            leased = None
        if leased is None:
            if wanted.key is not None and any(
                other.uid != wanted.key
                for (named, _), other in self._held.items()
                if named == name and now < other.ends
            ):
                raise CannotDecrypt
            return None, True
        self._held.move_to_end(place)
        due = now >= leased.renew_at
        if due:
            leased.postpone(now)
        return leased, due

    def put(self, asked: Asked, leased: LeasedKey) -> None:
        """Hold what the daemon has answered.

        Raises:
            KmsError: it is another version than was asked for.
        """
        name, version = asked
        if version not in (0, leased.version):
            raise KmsError(f"the daemon leases version {leased.version} of {name} where {version} was asked for")
        if self._over:
            return
        if any(named == name and other.uid != leased.uid for (named, _), other in self._held.items()):
            self._forget(name)  # another key has got the name
        primary = self._primary.get(name, 0)
        if leased.version < primary:
            leased.encrypts = False  # this answer was overtaken by that of a rotation
        elif leased.encrypts:
            if 0 < primary < leased.version:
                self._held[name, primary].encrypts = False
            self._primary[name] = leased.version
        elif leased.version == primary:
            del self._primary[name]
        place = name, leased.version
        self._held[place] = leased
        self._held.move_to_end(place)
        while len(self._held) > self._most:
            self._drop(next(iter(self._held)))

    def failed(self, asked: Asked, error: BaseException) -> None:
        """Take note of a refusal: what the daemon refuses to lease is not used on, nor are other versions of that key."""
        name, version = asked
        if not isinstance(error, TRANSIENT) and (version == 0 or asked in self._held):
            self._forget(name)

    def sweep(self, now: float) -> float | None:
        """Drop what has ended; returns when the next one ends, None where none is held."""
        for place in [place for place, leased in self._held.items() if now >= leased.ends]:
            self._drop(place)
        return min((leased.ends for leased in self._held.values()), default=None)

    def close(self, why: str) -> None:
        """Drop everything, for good."""
        self._over = self._over or why
        self._held.clear()
        self._primary.clear()

    def _forget(self, name: str) -> None:
        for place in [place for place in self._held if place[0] == name]:
            self._drop(place)

    def _drop(self, place: Asked) -> None:
        del self._held[place]
        if self._primary.get(place[0]) == place[1]:
            del self._primary[place[0]]


_alive: WeakSet[Leases] = WeakSet()


def _after_fork() -> None:
    # A child that went on would repeat the nonce prefixes of its parent, and hold DEKs that nobody knows of.
    for leases in list(_alive):
        leases.close("made before a fork: a child makes its own client and its own Local")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
