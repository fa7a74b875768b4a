"""A whole history: time passes, the scheduler carries out what is due, and an honest end follows."""

from __future__ import annotations

import copy
from datetime import timedelta

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from kms.core.receipts import signed_bytes
from tests.histories import model as m
from tests.histories.model import Key, Version
from tests.histories.use import Use
from tests.histories.world import APPLICATION, TENANT, Records

HELD_FOR = m.HOUR  # a destruction that its census did not allow is tried again then


class History(Use):
    """All commands, time, and the end."""

    def wait(self, period: timedelta) -> None:
        """Let time pass, in which no node hears anything."""
        self.statistics.commands["wait"] += 1
        self.clocks.wait(period)
        self.model.wait(period)

    def carry_out(self, node: int, *, operations: bool) -> None:
        """Let a node do all that is due, with all long work or without it."""
        self.statistics.commands["scheduler" if operations else "scheduler without operations"] += 1
        self.hear(node)
        self.run(self.seated(node).member.carry_out(operations=operations))
        records = self.run(self.installation.records(self.tenant))
        for key in self.model.keys.values():
            before = copy.deepcopy(key)
            self._rotate_due(key, records, operations=operations)
            self._finish_due(key)
            for version in key.versions.values():
                self._destroy_due_version(key, version, records)
            self._destroy_due_key(key, records, operations=operations)
            key.unplanned = key.unplanned and not operations
            if key != before:
                self.touched.add(key.slug)
        if operations:
            self.model.rotating_all = None
        self._rotate_due_kek()
        if operations:
            wrapped = self.run(self.installation.kek_records(self.tenant)).wrapped
            assert {number for number, count in wrapped.items() if count} <= {self.model.primary_kek}

    def _rotate_due(self, key: Key, records: Records, *, operations: bool) -> None:
        """A key has at most one new primary version, for its slot, by its count, or because all were to be rotated."""
        version = records.versions[key.slug].get(key.last.number + 1)
        slot = self.model.slot(key)
        since = self.model.rotating_all
        wanted = since is not None and key.rotated < since and key.purpose != "DETERMINISTIC" and operations
        if version is None:
            # Where its policy has changed and nobody has planned it anew, it waits for that.
            assert slot is None or (key.unplanned and not operations), f"{key.slug} was not rotated for {slot}"
            assert not wanted or key.state not in m.ENCRYPTING
            return
        assert key.state in m.ENCRYPTING, f"{key.slug} was rotated"
        if version.due_at is not None:
            assert version.due_at == slot
            self.statistics.events["rotated by time"] += 1
        else:
            limit = self.model.rules(key).encryption_limit
            by_count = limit > 0 and key.last.reserved >= limit // 2
            assert by_count or wanted, f"nobody asked for version {version.version} of {key.slug}"
            self.statistics.events["rotated by count" if by_count else "rotated with all"] += 1
        now = self.model.now
        key.replace_primary(now, self.model.rules(key).grace, version.due_at or now, revoked=False)

    def _finish_due(self, key: Key) -> None:
        for version in key.versions.values():
            if version.state == m.ROTATING and version.until is not None and version.until <= self.model.now:
                version.state, version.until = m.ARCHIVED, None
        key.settle_rotation()

    def _destroy_due_version(self, key: Key, version: Version, records: Records) -> None:
        if version.state != m.LEAVING or version.until is None or version.until > self.model.now:
            return
        destroyed = records.versions[key.slug][version.number].state.value == m.DESTROYED
        self._check_destruction(key.zero(version, self.model.now), version.held, destroyed=destroyed)
        if destroyed:
            version.destroy()
            self.model.destroyed.add(f"{self.key_name(key.slug)}/versions/{version.number}")
            self.statistics.events["version destroyed"] += 1
        elif version.held is None or version.held + HELD_FOR <= self.model.now:
            version.held = self.model.now
            self.statistics.events["destruction of a version held"] += 1

    def _check_destruction(self, zero: bool | None, held: object, *, destroyed: bool) -> None:
        if destroyed:
            assert zero is not False, "destroyed, though its census is not known to be zero"
        elif zero:
            assert held is not None, "not destroyed, though nothing speaks against it"

    def _destroy_due_key(self, key: Key, records: Records, *, operations: bool) -> None:
        if key.state != m.LEAVING:
            return
        stored = records.keys[key.slug]
        if not key.begun:
            if key.destroy_at is None or key.destroy_at > self.model.now:
                return
            key.begun = stored.destroy_at is None
            self._check_destruction(key.all_zero(self.model.now), key.held, destroyed=key.begun)
            if not key.begun:
                key.held = self.model.now
                self.statistics.events["destruction of a key held"] += 1
        if key.begun and operations:
            key.state, key.before, key.destroy_at = m.DESTROYED, None, None
            for version in key.live:
                version.destroy()
            self.model.destroyed.add(str(self.key_name(key.slug)))
            self.statistics.events["key destroyed"] += 1

    def _rotate_due_kek(self) -> None:
        if self.model.now >= self.model.kek_made + m.KEK_PERIOD:
            self.model.primary_kek += 1
            self.model.kek_made = self.model.now
            self.statistics.events["KEK rotated by time"] += 1

    # The end.

    def end(self) -> None:
        """Everything that was ever returned is as it should be, and what nobody needs any more can be destroyed."""
        self.decrypt_all(self.model.values)
        kek = self.model.primary_kek
        self._let_go_of_everything()
        retired = self._retire_everything()
        self._pass(21 * m.DAY)  # beyond every quarantine here
        for key, number in retired:
            assert self.model.keys[key].versions[number].state == m.DESTROYED
        self._check_receipts()
        if kek == self.model.primary_kek:  # otherwise those before it are still on their way
            keks = self.run(self.installation.kek_records(self.tenant)).keks
            assert {keks[number].state.value for number in range(1, kek)} <= {m.DESTROYED}

    def _pass(self, period: timedelta) -> None:
        self.wait(period)
        self.carry_out(0, operations=True)
        self.compare()

    def _let_go_of_everything(self) -> None:
        for key in self.model.keys.values():
            self.delete_values(key.slug, 0)
            if not key.places:
                self.declare_place(0, key.slug, m.STORES[0])
            self.declare_complete(0, key.slug, complete=True)
        self._pass(2 * m.HOUR)
        self._pass(2 * m.HOUR)  # beyond every grace here

    def _retire_everything(self) -> list[tuple[str, int]]:
        for key in self.model.keys.values():
            for store in key.places:
                self.report(0, key.slug, store, 0)
            for version in key.versions.values():
                if version.state in m.RETIRABLE:
                    assert key.zero(version, self.model.now)
                    self.retire_version(0, key.slug, version.number)
        self.compare()
        return [
            (key.slug, version.number)
            for key in self.model.keys.values()
            for version in key.versions.values()
            if version.state == m.LEAVING
        ]

    def _check_receipts(self) -> None:
        member = self.observer
        receipts = self.run(member.destruction.list_receipts(APPLICATION, TENANT, "", 1_000))
        found = {receipt.subject for receipt in receipts if "/keys/" in receipt.subject}
        assert found == self.model.destroyed
        public_key = load_der_public_key(self.run(member.destruction.signing_key()))
        assert isinstance(public_key, ec.EllipticCurvePublicKey)
        for receipt in receipts:
            public_key.verify(receipt.signature, signed_bytes(receipt.body), ec.ECDSA(hashes.SHA256()))
