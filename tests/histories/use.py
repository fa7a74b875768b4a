"""Encrypting and decrypting, on nodes that have heard of everything, of less, or not for too long."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine
from itertools import groupby
from typing import Any

from kms.core.census import Uses
from kms.core.ports import Counter
from tests.histories import model as m
from tests.histories.management import Management
from tests.histories.model import Expected, Key, Value, Version, unless
from tests.histories.steps import Answer, Seat, Views
from tests.histories.world import APPLICATION, ROTATOR

CONTEXTS: tuple[tuple[tuple[str, bytes], ...], ...] = (
    (),
    (("table", b"customers"),),
    (("table", b"customers"), ("column", b"iban")),
    (("kms.tenant", b"mine"),),  # the daemon's own: refused
)
BAD_CONTEXT = 3
OTHER_CONTEXT = (("table", b"suppliers"),)
MOST_HELD = 3  # values of one large batch
OWN = "own"  # the key that made a value

Predicted = Callable[[dict[str, Key], dict[str, Key]], Expected]


class Use(Management):
    """What applications do."""

    def _believed(self, index: int, *, hears: bool) -> tuple[Seat, Views, bool]:
        """Return a node, which views of the keys it may act on, and whether its lease holds."""
        seat = self.seated(index)
        if hears or not self.shared:
            self.hear(index)
            return seat, [self.model.keys], True
        self.statistics.events["used without a word from the database"] += 1
        in_time = seat.heard is not None and self.model.now < seat.heard + m.DEADLINE
        return seat, self.views[seat.since :], in_time

    @staticmethod
    def _foreseen(views: Views, predicted: Predicted, *, in_time: bool) -> Expected:
        """What a node may answer: keys and versions may be remembered from different moments."""
        expected = Expected(success=False)
        for keys in views:
            for versions in views:
                expected |= predicted(keys, versions)
        if in_time:
            return expected
        return Expected(False, expected.errors | {"StorageUnavailable"})

    # Encrypting.

    def encrypt(self, node: int, target: str, store: str, context: int, count: int, *, hears: bool) -> None:
        """Encrypt one value, or a batch of *count* where that is not 0."""
        caller, name = self.named(target)
        seat, views, in_time = self._believed(node, hears=hears)
        plaintexts = [b"value %d" % (index % 4) for index in range(max(count, 1))]
        fields, pairs = seat.member.fields, CONTEXTS[context]
        call: Coroutine[Any, Any, Any]
        if count:
            call = fields.encrypt_batch(caller, name, plaintexts, pairs, None)
        else:
            call = fields.encrypt(caller, name, plaintexts[0], pairs)
        expected = self._foreseen(
            views,
            lambda keys, _: self._encrypting(keys.get(target), len(plaintexts), context, m.FIELDS),
            in_time=in_time,
        )
        answer = self.expect("encrypt batch" if count else "encrypt", call, expected)
        if not answer.error:
            made = answer.value.values if count else [answer.value.ciphertext]
            assert not count or not answer.value.failures
            pairs_made = zip(made, plaintexts, strict=True)
            self._made(views, target, answer.value.version, store, pairs, list(pairs_made))
        self._after_use(seat, views, {target}, answer)

    def generate_data_key(self, node: int, target: str, store: str, context: int, *, hears: bool) -> None:
        caller, name = self.named(target)
        seat, views, in_time = self._believed(node, hears=hears)
        call = seat.member.data_keys.generate(caller, name, 0, CONTEXTS[context])
        expected = self._foreseen(
            views, lambda keys, _: self._encrypting(keys.get(target), 1, context, {"DATA_KEY"}), in_time=in_time
        )
        answer = self.expect("generate data key", call, expected)
        if not answer.error:
            pair = (answer.value.ciphertext, answer.value.plaintext)
            self._made(views, target, answer.value.version, store, CONTEXTS[context], [pair])
        self._after_use(seat, views, {target}, answer)

    def _encrypting(self, key: Key | None, count: int, context: int, purposes: Collection[str]) -> Expected:
        if key is None:
            return unless({"NotFound"})
        reasons = set() if key.purpose in purposes else {"WrongPurpose"}
        reasons |= set() if key.state in m.ENCRYPTING else {"WrongKeyState"}
        reasons |= {"InvalidRequest"} if context == BAD_CONTEXT else set()
        return unless(reasons) if reasons else self._within_limit(key, count)

    def _within_limit(self, key: Key, count: int) -> Expected:
        """A version never encrypts past its limit; what other nodes, or dead ones, have reserved counts as used."""
        present = self.model.keys[key.slug]
        version, limit = present.versions[key.last.number], self.model.rules(present).encryption_limit
        if not limit or version.reserved + count <= limit:
            return m.YES
        # A block that was reserved before the limit was lowered may still be at hand.
        possible = version.made + count <= max(limit, version.reserved)
        return Expected(possible, frozenset({"VersionExhausted"}))

    def _made(
        self,
        views: Views,
        target: str,
        number: int,
        store: str,
        context: tuple[tuple[str, bytes], ...],
        made: list[tuple[bytes, bytes]],
    ) -> None:
        key = self.model.keys[target]
        self._encrypted(views, key, number, len(made))
        where = self.model.store_for(key, store)
        for ciphertext, plaintext in made[-MOST_HELD:]:
            if key.purpose == "DETERMINISTIC":
                self._same_again(Value(ciphertext, plaintext, context, target, number, where))
            self.model.values.append(Value(ciphertext, plaintext, context, target, number, where))

    def _encrypted(self, views: Views, key: Key, number: int, count: int) -> None:
        """Note encryptions, which must be under a version that the node may believe to be the primary one."""
        assert number in {view[key.slug].last.number for view in views if key.slug in view}
        version = key.versions[number]
        stop = key.stop_of(version)
        assert stop is None or stop > self.model.now, "encrypted after the time from which no node does"
        version.made += count

    def _same_again(self, value: Value) -> None:
        """Equal values have equal ciphertexts under one version of a deterministic key."""
        for other in self.model.values:
            if (other.key, other.version, other.plaintext, other.context) == (
                value.key,
                value.version,
                value.plaintext,
                value.context,
            ):
                assert other.ciphertext == value.ciphertext

    # Decrypting.

    def decrypt(self, node: int, index: int, addressed: str, twist: str, *, data_key: bool | None, hears: bool) -> None:
        """Decrypt any value ever returned, by the method for it or (*data_key*) one; one thing about it may be wrong."""
        value = self.value(index)
        if value is None:
            return
        if data_key is None:
            data_key = self.holds_data_keys(value.key)
        target = value.key if addressed == OWN else addressed
        caller, name = self.named(target)
        seat, views, in_time = self._believed(node, hears=hears)
        served = seat.member.data_keys if data_key else seat.member.fields
        ciphertext, context = self._twisted(value, twist)
        call = served.decrypt(caller, name, ciphertext, context)
        purposes = {"DATA_KEY"} if data_key else m.FIELDS

        def predicted(keys: dict[str, Key], versions: dict[str, Key]) -> Expected:
            key = keys.get(target)
            if key is None:
                return unless({"NotFound"})
            reasons = set() if key.purpose in purposes else {"WrongPurpose"}
            reasons |= set() if key.state in m.DECRYPTING else {"WrongKeyState"}
            return unless(reasons | self._opening(versions, {target}, value, twist, m.DECRYPTING))

        expected = self._foreseen(views, predicted, in_time=in_time)
        answer = self.expect("decrypt data key" if data_key else "decrypt", call, expected)
        if not answer.error:
            assert (answer.value.plaintext, answer.value.version) == (value.plaintext, value.version)
            last = {view[target].last.number for view in views if target in view}
            assert answer.value.primary in {value.version >= number for number in last}
            self._decrypted(value)
        self._after_use(seat, views, {target}, answer, value)

    def holds_data_keys(self, target: str) -> bool:
        key = self.model.keys.get(target)
        return key is not None and key.purpose == "DATA_KEY"

    def value(self, index: int) -> Value | None:
        """Return a value by its age, 0 for the newest."""
        values = self.model.values
        return values[-1 - index % len(values)] if values else None

    @staticmethod
    def _twisted(value: Value, twist: str) -> tuple[bytes, tuple[tuple[str, bytes], ...]]:
        match twist:
            case "cut":
                return value.ciphertext[:30], value.context
            case "altered":
                return value.ciphertext[:-1] + bytes([value.ciphertext[-1] ^ 1]), value.context
            case "context":
                return value.ciphertext, OTHER_CONTEXT
            case _:
                return value.ciphertext, value.context

    @staticmethod
    def _opening(
        keys: dict[str, Key], targets: Collection[str], value: Value, twist: str, allowed: Collection[str]
    ) -> set[str]:
        """What speaks against opening a value with these keys."""
        reasons = {"InvalidRequest"} if twist == "cut" else set()
        if value.key not in targets:
            return reasons | {"CannotDecrypt"}
        version = keys[value.key].versions.get(value.version) if value.key in keys else None
        if version is not None and version.state not in allowed:
            reasons.add("WrongKeyState")
        return reasons | ({"CannotDecrypt"} if twist in {"altered", "context"} else set())

    def _decrypted(self, value: Value) -> None:
        self.model.keys[value.key].versions[value.version].decrypted = self.model.now

    # Re-encrypting.

    def reencrypt(
        self, node: int, index: int, addressed: str, destination: str, twist: str, *, rescuer: bool, hears: bool
    ) -> None:
        """Bring a value to the primary version of its key, or of another one, and hold it in its place."""
        value = self.value(index)
        if value is None:
            return
        source = value.key if addressed == OWN else addressed
        target = destination or source
        caller, name = self.named(source)
        caller = ROTATOR if rescuer and caller is APPLICATION else caller
        seat, views, in_time = self._believed(node, hears=hears)
        ciphertext, context = self._twisted(value, twist)
        goal = self.key_name(destination) if destination else None
        call = seat.member.fields.reencrypt(caller, name, ciphertext, context, goal)
        expected = self._foreseen(
            views,
            lambda keys, versions: self._moving(keys, versions, source, target, value, twist, rescuer=rescuer),
            in_time=in_time,
        )
        answer = self.expect("rescue" if rescuer else "re-encrypt", call, expected)
        if not answer.error:
            self._decrypted(value)
            self._moved(views, value, self.model.keys[target], answer.value)
        self._after_use(seat, views, {source, target, value.key}, answer, value, moved=True)

    def _moving(
        self,
        keys: dict[str, Key],
        versions: dict[str, Key],
        source: str,
        target: str,
        value: Value,
        twist: str,
        *,
        rescuer: bool,
    ) -> Expected:
        start, goal = keys.get(source), keys.get(target)
        allowed = m.RESCUING if rescuer else m.DECRYPTING
        if start is None:
            return unless({"NotFound"})
        reasons = set() if start.state in allowed else {"WrongKeyState"}
        if goal is None:
            return unless(reasons | {"NotFound"})
        reasons |= set() if goal.purpose == start.purpose else {"WrongPurpose"}
        reasons |= set() if goal.state in m.ENCRYPTING else {"WrongKeyState"}
        reasons |= self._opening(versions, {source, target}, value, twist, allowed)
        at_home = value.key == target and value.version >= goal.last.number
        return unless(reasons) if reasons or at_home else self._within_limit(goal, 1)

    def _moved(self, views: Views, value: Value, key: Key, result: Any) -> None:
        """Hold what a re-encryption has returned in the place of what it was made from."""
        if result.ciphertext == value.ciphertext:
            assert not result.changed
            assert value.key == key.slug
            assert any(view[key.slug].last.number <= value.version for view in views if key.slug in view)
            return
        assert result.changed
        self._encrypted(views, key, result.version, 1)
        where = None if value.store is None else self.model.store_for(key, value.store)
        value.store = None
        fresh = Value(result.ciphertext, value.plaintext, value.context, key.slug, result.version, where)
        if key.purpose == "DETERMINISTIC":
            self._same_again(fresh)
        self.model.values.append(fresh)

    def migrate(self, node: int, target: str, *, rescuer: bool) -> None:
        """Bring all values that are held of a key to its primary version, batch by batch."""
        caller, name = self.named(target)
        caller = ROTATOR if rescuer and caller is APPLICATION else caller
        seat, views, _ = self._believed(node, hears=True)
        key = self.known(target)
        held = sorted(self.model.held(target), key=lambda value: value.context)
        for context, group in groupby(held, key=lambda value: value.context):
            values = list(group)
            call = seat.member.fields.reencrypt_batch(caller, name, [v.ciphertext for v in values], context, None)
            answer = self.expect("migrate", call, self._migrating(key, values, rescuer=rescuer))
            if not answer.error and key is not None:
                self._migrated(views, key, values, answer, rescuer=rescuer)
            self._after_use(seat, views, {target}, answer, *values, moved=True)

    def _migrating(self, key: Key | None, values: list[Value], *, rescuer: bool) -> Expected:
        if key is None or key.state not in m.ENCRYPTING:
            return unless({"NotFound"} if key is None else {"WrongKeyState"})
        changed = [value for value in values if value.version < key.last.number and self._may_open(key, value, rescuer)]
        return self._within_limit(key, len(changed))

    @staticmethod
    def _may_open(key: Key, value: Value, rescuer: bool) -> bool:
        return key.versions[value.version].state in (m.RESCUING if rescuer else m.DECRYPTING)

    def _migrated(self, views: Views, key: Key, values: list[Value], answer: Answer, *, rescuer: bool) -> None:
        batch = answer.value
        assert batch.version == key.last.number
        for index, value in enumerate(values):
            if not self._may_open(key, value, rescuer):
                assert type(batch.failures[index]).__name__ == "WrongKeyState"
                continue
            assert index not in batch.failures
            self._decrypted(value)
            if value.version == key.last.number:
                assert batch.values[index] == value.ciphertext
                continue
            self._encrypted(views, key, batch.version, 1)
            store, value.store = value.store, None
            self.model.values.append(
                Value(batch.values[index], value.plaintext, value.context, key.slug, batch.version, store)
            )

    def delete_values(self, target: str, version: int) -> None:
        """Let the application delete what it holds of a version of a key, or (0) of all."""
        self.statistics.commands["delete values"] += 1
        for value in self.model.held(target, version=version or None):
            value.store = None

    # What a use leaves behind.

    def _after_use(
        self, seat: Seat, views: Views, targets: set[str], answer: Answer, *values: Value, moved: bool = False
    ) -> None:
        """Let the node write what it has noted, and take over what only it can know, where that is plausible."""
        self.run(seat.member.uses.flush())
        for slug in targets & self.model.keys.keys():
            self.touched.add(slug)
            key = self.model.keys[slug]
            for version, uses in zip(key.versions.values(), self.run(self._uses_of(key)), strict=True):
                if uses.refused > version.refusals:
                    assert self._leaves(views, slug, version), "a use outside of quarantine was reported"
                    version.refusals, version.refused = uses.refused, self.model.now
                decrypted = uses.last_decrypted_at
                failed = answer.error if moved else answer.error == "StorageUnavailable"
                if failed and decrypted is not None and decrypted > self.model.now:
                    version.decrypted = self.model.now  # it was opened before the call failed, as where a lease is over
        if answer.error == "WrongKeyState" and len(views) == 1:
            self._check_reported(targets, values)

    async def _uses_of(self, key: Key) -> list[Uses]:
        return await self.installation.storage.uses(
            [Counter(self.tenant, self.uids[key.slug], number) for number in key.versions]
        )

    @staticmethod
    def _leaves(views: Views, slug: str, version: Version) -> bool:
        return any(
            slug in view and (view[slug].state == m.LEAVING or view[slug].versions[version.number].state == m.LEAVING)
            for view in views
            if slug in view and version.number in view[slug].versions
        )

    def _check_reported(self, targets: set[str], values: Collection[Value]) -> None:
        """A use that is refused in quarantine is reported."""
        for slug in targets & self.model.keys.keys():
            key = self.model.keys[slug]
            if key.state == m.LEAVING and len(targets) == 1:
                assert any(version.refused == self.model.now for version in key.versions.values())
                self.statistics.events["use of a leaving key reported"] += 1
        for value in values:
            key = self.model.keys[value.key]
            version = key.versions[value.version]
            if targets == {value.key} and key.state in m.ENCRYPTING and version.state == m.LEAVING:
                assert version.refused == self.model.now
                self.statistics.events["use of a leaving version reported"] += 1
