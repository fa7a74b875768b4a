"""One history: commands to real nodes, each answered as the model expects, and everything compared after each."""

from __future__ import annotations

import copy
import random
from collections import Counter as Tally
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar

from kms.core.errors import KmsError
from kms.core.keyring import ERASED
from kms.core.names import KeyName, KeyUid, Principal
from kms.services.statuses import version_statuses
from tests.histories import model as m
from tests.histories.model import Expected, Key, Model, Value, Version
from tests.histories.world import APPLICATION, STRANGER, TENANT, Clocks, Installation, KekRecords, Member, Records

T = TypeVar("T")
Views = Sequence[dict[str, Key]]

THEIRS: Final = "theirs"  # stands for our own first key, asked for by another tenant
SAMPLE: Final = 5  # values that are decrypted after each step


@dataclass
class Statistics:
    """What the histories of one run have done and met."""

    commands: Tally[str] = field(default_factory=Tally)
    errors: Tally[str] = field(default_factory=Tally)
    events: Tally[str] = field(default_factory=Tally)

    def __str__(self) -> str:
        return "\n".join(
            f"{title}: " + ", ".join(f"{name} {count}" for name, count in sorted(tally.items()))
            for title, tally in (("commands", self.commands), ("errors", self.errors), ("events", self.events))
        )


@dataclass(frozen=True)
class Answer:
    """What a call has answered: a value, or the name of its error."""

    value: Any = None
    error: str = ""


@dataclass
class Seat:
    """A node, when it last heard from the database, and since which view of the keys it may believe in an old one."""

    member: Member
    heard: datetime | None = None
    since: int = 0


class Steps:
    """What all commands of a history have in common."""

    def __init__(
        self, installation: Installation, run: Callable[[Coroutine[Any, Any, Any]], Any], statistics: Statistics
    ) -> None:
        self.installation = installation
        self.run = run
        self.statistics = statistics
        self.clocks = Clocks()
        self.model = Model()
        self.tenant = run(installation.founded(self.clocks))
        self.uids: dict[str, KeyUid] = {}
        self.shared = installation.storage.shared
        self.views: list[dict[str, Key]] = [{}]
        self.seats = [Seat(self._member()) for _ in range(2 if self.shared else 1)]
        for index in range(len(self.seats)):
            self.hear(index)
        # Nobody's application: what it decrypts is never recorded as a use, so that looking changes nothing.
        self.observer = self._member()
        self.observed: datetime | None = None  # when it last heard from the database
        self.touched: set[str] = set()
        self._choice = random.Random(0)

    def _member(self) -> Member:
        return Member(self.installation.storage, self.installation.vault, self.clocks, "node")

    # Calls.

    def expect(self, command: str, call: Coroutine[Any, Any, T], expected: Expected) -> Answer:
        """Make a call, which must answer as expected."""
        self.statistics.commands[command] += 1
        try:
            value = self.run(call)
        except KmsError as error:
            name = type(error).__name__
            self.statistics.errors[name] += 1
            assert name in expected.errors, f"{command}: {name}: {error}; expected {expected}"  # noqa: PT017  one of several
            return Answer(error=name)
        assert expected.success, f"{command} succeeded; expected {expected}"
        return Answer(value)

    def hear(self, index: int) -> None:
        """Let a node hear from the database."""
        seat = self.seats[index % len(self.seats)]
        self.run(seat.member.membership.look())
        seat.heard, seat.since = self.model.now, len(self.views) - 1

    def restart(self, index: int) -> None:
        """Let a node die with all that it holds in memory, and another begin."""
        index %= len(self.seats)
        self.statistics.commands["restart"] += 1
        self.seats[index] = Seat(self._member())
        self.hear(index)

    def seated(self, index: int) -> Seat:
        return self.seats[index % len(self.seats)]

    def named(self, target: str) -> tuple[Principal, KeyName]:
        """Return who asks for which key."""
        return (STRANGER, KeyName(TENANT.tenant, "k0")) if target == THEIRS else (APPLICATION, self.key_name(target))

    def key_name(self, slug: str) -> KeyName:
        return KeyName(TENANT.tenant, slug)

    def known(self, target: str) -> Key | None:
        """Return the key as it should be; None for one that is not there, or not for whoever asks."""
        key = self.model.keys.get(target)
        if key is not None:
            self.touched.add(target)
        return key

    # Comparison.

    def compare(self) -> None:
        """States, primary versions, counters and decryptability are what they should be."""
        records = self.run(self.installation.records(self.tenant))
        assert set(records.keys) == set(self.model.keys)
        for key in self.model.keys.values():
            self._compare_key(key, records)
        for slug in sorted(self.touched):
            self._compare_versions(self.model.keys[slug], records)
        if self.touched:
            self._compare_keks(self.run(self.installation.kek_records(self.tenant)))
        if self.touched or self.observed != self.model.now:
            self.run(self.observer.membership.look())
            self.observed = self.model.now
        self.touched.clear()
        values = self.model.values
        self.decrypt_all([*values[-2:], *self._choice.sample(values[:-2], min(len(values[:-2]), SAMPLE - 2))])
        if self.shared:
            self.views.append(copy.deepcopy(self.model.keys))

    def _compare_key(self, key: Key, records: Records) -> None:
        stored, versions = records.keys[key.slug], records.versions[key.slug]
        found = (stored.state.value, stored.primary_version, stored.destroy_at, stored.scheduled_from)
        destroy_at = None if key.begun else key.destroy_at
        assert found == (key.state, key.last.number, destroy_at, key.scheduled_from), key.slug
        assert (stored.stopped_at, stored.places_complete_at is not None) == (key.stops, key.complete), key.slug
        assert {
            number: (version.state.value, version.until, version.stopped_at) for number, version in versions.items()
        } == {number: (version.state, version.until, version.stops) for number, version in key.versions.items()}
        for version in versions.values():
            assert (version.wrapped == ERASED) == (version.state.value == m.DESTROYED)
            if version.state.value == m.DESTROYED:
                assert not self.model.held(key.slug, version=version.version), "a version that is needed was destroyed"
        active = [number for number, version in versions.items() if version.state.value == m.ACTIVE]
        if key.state in m.ENCRYPTING | {m.SUSPENDED}:
            assert active == [stored.primary_version], "a key has exactly one primary version"
        else:
            assert active in ([], [stored.primary_version])

    def _compare_keks(self, records: KekRecords) -> None:
        assert records.tenant.primary_kek == self.model.primary_kek == max(records.keks)
        assert records.keks[self.model.primary_kek].state.value == "active"
        for number, count in records.wrapped.items():
            assert count == 0 or records.keks[number].state.value == "active", "what is needed must stay in the token"
        live = sum(len(key.live) for key in self.model.keys.values())
        assert sum(records.wrapped.values()) == live

    def _compare_versions(self, key: Key, records: Records) -> None:
        """Counters never go back and never say less than was done; a census is zero only where nothing is held."""
        stored, versions = records.keys[key.slug], list(records.versions[key.slug].values())
        found = self.run(version_statuses(self.installation.storage, stored, versions, self.model.now))
        for status in found:
            version = key.versions[status.version.version]
            assert status.encryptions_reserved >= max(version.made, version.reserved)
            version.reserved = status.encryptions_reserved
            self._compare_uses(version, status.uses.refused, status.uses.last_decrypted_at)
            if version.state == m.DESTROYED:
                continue
            expected = key.zero(version, self.model.now)
            assert expected in (None, status.census.zero), f"version {version.number}: {status.census}"
            counted = sum(place.counts[version.number] for place in key.places.values())
            assert status.census.count == counted
            if status.census.zero:
                assert not self.model.held(key.slug, version=version.number), "unknown was taken for zero"

    def _compare_uses(self, version: Version, refusals: int, decrypted: datetime | None) -> None:
        assert refusals == version.refusals, f"uses refused of version {version.number}"
        if version.decrypted is None:
            assert decrypted is None
        else:
            assert decrypted is not None
            assert version.decrypted <= decrypted <= version.decrypted + m.MINUTE

    def decrypt_all(self, values: Iterable[Value]) -> None:
        """Each of these values decrypts, or is refused as it should be, on a node that has heard of everything."""
        for value in values:
            key = self.model.keys[value.key]
            wanted = "" if self.readable(key, key.versions[value.version]) else "WrongKeyState"
            found = self._opened(value, key)
            assert (found == value.plaintext) if not wanted else (found == wanted), (value.key, value.version, found)

    @staticmethod
    def readable(key: Key, version: Version) -> bool:
        return key.state in m.DECRYPTING and version.state in m.DECRYPTING

    def _opened(self, value: Value, key: Key) -> bytes | str:
        name = self.key_name(key.slug)
        served = self.observer.fields if key.purpose in m.FIELDS else self.observer.data_keys
        try:
            opened = self.run(served.decrypt(APPLICATION, name, value.ciphertext, value.context))
        except KmsError as error:
            return type(error).__name__
        assert opened.version == value.version
        return bytes(opened.plaintext)
