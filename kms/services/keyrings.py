"""What the hot path needs of a key, remembered for a bounded time, and whether what was found still stands.

Step by step, for every use of a key:
1. the key's record, from memory or read again, says whether the key may be used so;
2. the version, from memory or unwrapped, says whether it may be used so; what may not is not unwrapped;
3. the work is done;
4. just before the result leaves, this node's lease must hold, and no stop of the tenant's keys may have been heard of
   since the record was read: otherwise 1 and 2 are decided again.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NoReturn
from weakref import WeakValueDictionary

import structlog

from kms.acting import note_confirmation, note_key, note_version
from kms.core.ciphertext import HEADER_LENGTH, Header
from kms.core.classification import Classification
from kms.core.errors import (
    CannotDecrypt,
    ClassViolation,
    Conflict,
    CorruptRecord,
    NotFound,
    StorageUnavailable,
    WrongKeyState,
    WrongPurpose,
)
from kms.core.lease import ENDLESS, OVER, Lease
from kms.core.lifecycle import KeyState, Use, key_allows, spoken, version_allows
from kms.core.names import KeyName, Principal, TenantUid
from kms.core.policy import rotate_at, stop_at
from kms.core.ports import Counter, Storage
from kms.core.suites import Purpose
from kms.core.wrapping import DekPlace
from kms.crypto.cache import DekCache
from kms.services.counting import UsageCounter, UsageCounters
from kms.services.lineages import policy_of
from kms.services.ready_versions import ReadyVersion, list_readable, load_tool, readable_numbers
from kms.services.rings import Generation, Ring
from kms.services.sightings import KeySightings
from kms.services.uses import UseRecorder
from kms.services.wrapping import DekWrapping

_log = structlog.get_logger(__name__)

FIELD_PURPOSES: Final = frozenset({Purpose.ENCRYPT, Purpose.DETERMINISTIC})
DATA_KEY_PURPOSES: Final = frozenset({Purpose.DATA_KEY})
INDEX_PURPOSES: Final = frozenset({Purpose.INDEX})
CIPHER_PURPOSES: Final = FIELD_PURPOSES | DATA_KEY_PURPOSES

NO_WORD: Final = (
    "no word from the database for longer than cache.revocation_deadline allows: this node neither encrypts nor decrypts"
    " until it has heard again"
)


@dataclass(slots=True)
class Grant:
    """What a result was decided from: a key's record, and the versions that were used so."""

    ring: Ring
    use: Use
    versions: list[int] = field(default_factory=list)


class _Refused(Exception):
    """A version's state does not allow the use for which it was to be loaded."""

    def __init__(self, state: KeyState) -> None:
        super().__init__(state)
        self.state = state


class Keyrings:
    """Finds keys for callers and loads their versions; a hit costs neither the database nor the token.

    Attributes:
        lease: this node's lease; whoever hears from the database renews it.
    """

    def __init__(
        self,
        storage: Storage,
        wrapping: DekWrapping,
        usage: UsageCounters,
        rings: DekCache[KeyName, Ring],
        versions: DekCache[DekPlace, ReadyVersion],
        recorder: UseRecorder,
        boottime: Callable[[], float],
        sightings: KeySightings | None = None,
    ) -> None:
        self._sightings = sightings or KeySightings()
        self._storage = storage
        self._wrapping = wrapping
        self._usage = usage
        self._rings = rings
        self._versions = versions
        self._recorder = recorder
        self._boottime = boottime
        # Those of tenants of which nothing is remembered go by themselves.
        self._generations: WeakValueDictionary[TenantUid, Generation] = WeakValueDictionary()
        self.lease: Lease = OVER if storage.shared else ENDLESS

    async def find(
        self,
        caller: Principal,
        name: KeyName,
        purposes: frozenset[Purpose],
        use: Use,
        *,
        seen: int = 0,
        ciphertexts: Sequence[bytes] = (),
    ) -> Ring:
        """Return the key, if it is the caller's, for one of these purposes, and in a state that allows the use.

        Where a version *seen* is newer than the record in memory, another node has rotated the key: it is read again.
        *ciphertexts* are those to which the use would be put; they are looked at only to report a refusal.

        Raises:
            NotFound: no such key, or another tenant's: what is stored makes no difference to the second answer.
            WrongPurpose: the key is for something else.
            WrongKeyState: its state does not allow the use.
            ClassViolation: it breaks a rule of its class.
        """
        if caller.tenant != name.tenant:
            raise NotFound(str(name))
        ring = self._rings.peek(name)
        if ring is None or ring.changes != ring.generation.changes or ring.key.primary_version < seen:
            ring = await self._look_up(name, seen)
        note_key(ring.audited)
        if ring.key.purpose not in purposes:
            raise WrongPurpose(f"{name} is for {ring.key.purpose.name}, which this method does not serve")
        if use not in ring.uses:
            self._refuse_key(ring, use, ciphertexts)
        return ring

    async def classification_of(self, name: KeyName) -> Classification | None:
        """Return the class of a key, whoever asks; None where there is no such key. The token is not asked.

        Raises:
            StorageUnavailable, CorruptRecord: the record could not be read.
        """
        ring = self._rings.peek(name)
        if ring is None or ring.changes != ring.generation.changes:
            try:
                ring = await self._look_up(name)
            except NotFound:
                return None
        return ring.classification

    async def primary(self, ring: Ring) -> ReadyVersion:
        """Return the version that encrypts.

        Raises:
            WrongKeyState: the key, or its version, does not encrypt any more.
            HsmUnavailable, StorageUnavailable, CorruptRecord: it could not be loaded.
        """
        try:
            version = await self._load(ring, ring.key.primary_version, Use.ENCRYPT)
        except WrongKeyState:
            fresh = await self._permitted(ring, Use.ENCRYPT, again=True)
            if fresh.key.primary_version == ring.key.primary_version:
                raise
            # Another node has put a newer one in its place, of which this node has not heard yet.
            version = await self._load(fresh, fresh.key.primary_version, Use.ENCRYPT)
        if version is None:
            raise CorruptRecord(f"the primary version of {ring.key.name(ring.tenant)} is not there")
        return version

    async def named(self, ring: Ring, header: Header, use: Use, count: int = 1) -> ReadyVersion:
        """Return the version that the header of *count* ciphertexts names.

        Raises:
            CannotDecrypt: the header names another key or suite, or a version that the key does not have.
            WrongKeyState: the version's state does not allow the use.
            HsmUnavailable, StorageUnavailable, CorruptRecord: it could not be loaded.
        """
        if header.key != ring.key.uid or header.suite is not ring.key.suite:
            raise CannotDecrypt
        version = await self._load(ring, header.version, use, count)
        if version is None:
            raise CannotDecrypt
        return version

    async def readable(self, ring: Ring) -> tuple[Ring, list[ReadyVersion]]:
        """Return the versions of an INDEX key whose hashes may be looked for, the newest first, and the record used.

        Raises:
            FailedPrecondition: there are more than 16.
            WrongKeyState: the key's state does not allow it any more.
            HsmUnavailable, StorageUnavailable, CorruptRecord: one could not be loaded.
        """
        try:
            return ring, await self._each_readable(ring)
        except WrongKeyState:  # another node has stopped one of them, of which this node has not heard yet
            fresh = await self._permitted(ring, Use.DECRYPT, again=True)
            return fresh, await self._each_readable(fresh)

    async def _each_readable(self, ring: Ring) -> list[ReadyVersion]:
        found = []
        for number in readable_numbers(ring):
            version = await self._load(ring, number, Use.DECRYPT)
            if version is None:
                raise CorruptRecord(f"version {number} of {ring.key.name(ring.tenant)} is not there")
            found.append(version)
        return found

    def stands(self, ring: Ring) -> bool:
        """Whether what was decided by this record may leave; without an await in between, it may leave then.

        Raises:
            StorageUnavailable: this node's lease is over.
        """
        if self._boottime() >= self.lease.ends:
            raise StorageUnavailable(NO_WORD)
        return ring.stops == ring.generation.stops

    async def confirm(self, grants: Sequence[Grant]) -> None:
        """Let a result leave that was decided by these; where that does not stand any more, decide again, once.

        Raises:
            WrongKeyState, NotFound: what was used may not be used so any more.
            Conflict: a version that encrypted may not do so any more, while the key has a newer one.
            StorageUnavailable: this node's lease is over, or a stop came in between once more.
        """
        note_confirmation(partial(self.confirm, grants))  # until it leaves, it waits for the audit trail
        if self._all_stand(grants):
            return
        for grant in grants:
            if not self.stands(grant.ring):
                grant.ring = await self._decided(grant)
        if not self._all_stand(grants):
            raise StorageUnavailable("keys of the tenant are being stopped one after the other; try again")

    def forget(self, name: KeyName) -> None:
        """Drop a key's record after a change, so that this node sees it at once."""
        self._rings.drop(name)

    def stop(self, tenants: AbstractSet[TenantUid]) -> None:
        """Drop all that is held of these tenants; results under way are decided again before they leave."""
        for generation in self._generations_of(tenants):
            generation.stops += 1
        self.reread(tenants)
        self._versions.drop_where(lambda place: place.tenant in tenants)

    def reread(self, tenants: AbstractSet[TenantUid]) -> None:
        """Read the records of these tenants' keys again before their next use; DEKs stay."""
        for generation in self._generations_of(tenants):
            generation.changes += 1

    def _generations_of(self, tenants: AbstractSet[TenantUid]) -> Iterable[Generation]:
        return [generation for tenant in tenants if (generation := self._generations.get(tenant)) is not None]

    def _all_stand(self, grants: Iterable[Grant]) -> bool:
        return all(self.stands(grant.ring) for grant in grants)

    async def _decided(self, grant: Grant) -> Ring:
        """Decide again whether what was used may be used so, by records read after the last stop."""
        fresh = await self._permitted(grant.ring, grant.use)
        for number in grant.versions:
            try:
                version = await self._load(fresh, number, grant.use)
            except WrongKeyState as error:
                if grant.use is Use.ENCRYPT and number < fresh.key.primary_version:
                    raise Conflict(f"{error}; there is a newer version: try again") from error
                raise
            if version is None:
                raise CannotDecrypt
        return fresh

    async def _permitted(self, ring: Ring, use: Use, *, again: bool = False) -> Ring:
        """Return the present record of the same key, if its state allows the use; *again*: read it in any case."""
        name = ring.key.name(ring.tenant)
        if again:
            self.forget(name)
        fresh = await self._look_up(name)
        if fresh.key.uid != ring.key.uid:
            raise NotFound(str(name))
        if use not in fresh.uses:
            self._refuse_key(fresh, use, ())
        return fresh

    async def _look_up(self, name: KeyName, seen: int = 0) -> Ring:
        ring = await self._rings.get(name, lambda: self._read(name))
        if ring.changes != ring.generation.changes or ring.key.primary_version < seen:
            # It was remembered, or somebody had begun to read it, from before the change.
            self._rings.drop(name)
            ring = await self._rings.get(name, lambda: self._read(name))
        return ring

    async def _read(self, name: KeyName) -> Ring:
        async with self._storage.transaction() as work:
            tenant = await work.tenants.get(name.tenant)
        if tenant is None or not tenant.ready:
            raise NotFound(str(name))
        generation = self._generations.setdefault(tenant.uid, Generation())
        changes, stops = generation.changes, generation.stops
        async with self._storage.transaction(tenant.uid) as work:
            key = await work.keys.get(tenant.uid, name.key)
            if key is None:
                raise NotFound(str(name))
            policy, _ = await policy_of(work, key)
            readable = await list_readable(work, key)
        self._sightings.read(name, key)
        uses = frozenset(use for use in Use if key_allows(key.state, use))
        ring = Ring(tenant, key, policy, uses, generation, changes, stops, readable)
        self._usage_of(ring, key.primary_version)  # a limit that has changed holds from here on
        return ring

    async def _load(self, ring: Ring, number: int, use: Use, count: int = 1) -> ReadyVersion | None:
        place = ring.place if number == ring.key.primary_version else ring.key.place(number)
        ready = self._versions.peek(place)
        if ready is None:
            if ring.stops != ring.generation.stops:
                ring = await self._permitted(ring, use)
                place = ring.key.place(number)
            try:
                ready = await self._loaded(ring, place, use)
            except NotFound:
                return None
            except _Refused as refused:
                self._refuse_version(ring, number, refused.state, use, count)
        if use not in ready.uses:
            self._refuse_version(ring, number, ready.state, use, count)
        note_version(ring.key.uid, number)
        return ready

    async def _loaded(self, ring: Ring, place: DekPlace, use: Use) -> ReadyVersion:
        lifetime = ring.policy.cache_lifetime.total_seconds()
        try:
            return await self._versions.get(place, lambda: self._unwrap(ring, place.version, use), lifetime)
        except _Refused as refused:
            if not version_allows(refused.state, use):
                raise
        # Somebody who may do less began the load that this one waited for.
        return await self._unwrap(ring, place.version, use)

    async def _unwrap(self, ring: Ring, number: int, use: Use) -> ReadyVersion:
        tenant, key = ring.tenant, ring.key
        async with self._storage.transaction(tenant.uid) as work:
            stored = await work.key_versions.get(tenant.uid, key.uid, number)
        if stored is None:
            raise NotFound(key.name(tenant).version(number))
        if not version_allows(stored.state, use):
            raise _Refused(stored.state)
        try:
            tool, lent = await load_tool(self._wrapping, tenant, key, stored)
        except CorruptRecord as error:  # also told here, since a batch tells it of its items only
            _log.error("key_version.corrupt", name=key.name(tenant).version(number), reason=str(error))
            raise
        return ReadyVersion(
            version=number,
            header=Header(key.suite, key.uid, number).encode(),
            tool=tool,
            usage=self._usage_of(ring, number),
            state=stored.state,
            uses=frozenset(use for use in Use if version_allows(stored.state, use)),
            marks=self._recorder.marks(Counter(tenant.uid, key.uid, number)),
            lent=lent,
        )

    def _usage_of(self, ring: Ring, number: int) -> UsageCounter:
        suite = ring.key.suite
        counter = Counter(ring.tenant.uid, ring.key.uid, number)
        return self._usage.of(counter, stop_at(ring.policy, suite), rotate_at(ring.policy, suite))

    def _refuse_key(self, ring: Ring, use: Use, ciphertexts: Sequence[bytes]) -> NoReturn:
        key = ring.key
        if key_allows(key.state, use):
            told = "; ".join(f"{violation.field} {violation.rule}" for violation in ring.broken)
            raise ClassViolation(f"{key.name(ring.tenant)} breaks its class {ring.classification.name}: {told}")
        if key.state is KeyState.DESTRUCTION_SCHEDULED:
            named = Tally(number for c in ciphertexts if 0 < (number := version_in(c)) <= key.primary_version)
            for number, count in (named or {key.primary_version: 1}).items():
                self._report(ring, number, use, count)
        self._sightings.refused(str(key.name(ring.tenant)), key.state, max(len(ciphertexts), 1))
        raise WrongKeyState(f"{key.name(ring.tenant)} is {spoken(key.state)}: it cannot be used to {use}")

    def _refuse_version(self, ring: Ring, number: int, state: KeyState, use: Use, count: int) -> NoReturn:
        if state is KeyState.DESTRUCTION_SCHEDULED:
            self._report(ring, number, use, count)
        name = ring.key.name(ring.tenant).version(number)
        self._sightings.refused(name, state, count)
        raise WrongKeyState(f"{name} is {spoken(state)}: it cannot be used to {use}")

    def _report(self, ring: Ring, number: int, use: Use, count: int) -> None:
        counter = Counter(ring.tenant.uid, ring.key.uid, number)
        self._recorder.refused(counter, ring.key.name(ring.tenant).version(number), use, count)


def version_in(ciphertext: bytes) -> int:
    """Return the version that a ciphertext's header names; what is no header names none that counts."""
    return int.from_bytes(ciphertext[HEADER_LENGTH - 4 : HEADER_LENGTH], "big")
