"""Commands to keys, versions, policies and places."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from kms.core.census import PlaceKind
from kms.core.names import KeyVersionName, PlaceName, PolicyName
from kms.core.policy import Overrides
from kms.core.policy import Policy as StoredPolicy
from kms.core.suites import Purpose, Suite, choose_suite
from kms.services.census import NewPlace
from kms.services.keys import NewKey
from tests.histories import model as m
from tests.histories.model import Key, Place, Policy, Version, unless
from tests.histories.steps import Steps
from tests.histories.world import APPLICATION, TENANT
from tests.node import OPERATOR

WRONG_ETAG = "0"  # no revision has this number
POLICIES = ("fast", "slow")


class Management(Steps):
    """What staff does."""

    def create_key(
        self,
        node: int,
        slug: str,
        purpose: str,
        *,
        large_nonce: bool,
        pending: bool,
        policy: str,
        rules: dict[str, Any],
    ) -> None:
        wanted = Suite.XAES_256_GCM if large_nonce and purpose != "DETERMINISTIC" else None
        rules = _allowed(purpose, rules)
        suite = choose_suite(Purpose[purpose], wanted)
        wish = NewKey(slug, "", Purpose[purpose], suite, {}, policy, Overrides(**rules), pending)
        reasons = {"AlreadyExists"} if slug in self.model.keys else set()
        reasons |= {"InvalidRequest"} if policy and policy not in self.model.policies else set()
        call = self.seated(node).member.keys.create(APPLICATION, TENANT, wish)
        answer = self.expect("create key", call, unless(reasons))
        if answer.error:
            return
        self.uids[slug] = answer.value.key.uid
        now, state = self.model.now, m.PENDING if pending else m.ACTIVE
        key = Key(slug, purpose, state, {1: Version(1, state)}, now, now, policy, dict(rules))
        self.model.keys[slug] = key
        self.touched.add(slug)

    def step(self, node: int, command: str, target: str, *, stale: bool) -> None:
        """Activate, suspend, resume, archive or revoke a key."""
        caller, name = self.named(target)
        lifecycle, etag = self.seated(node).member.lifecycle, WRONG_ETAG if stale else ""
        if command in {"suspend", "revoke"}:
            call = getattr(lifecycle, command)(caller, name, etag, "why", wait=False)
        else:
            call = getattr(lifecycle, command)(caller, name, etag)
        key = self.known(target)
        reasons = self._wrong(key, stale=stale, states=m.COMMANDS[command][0])
        if self.expect(f"{command} key", call, unless(reasons)).error or key is None:
            return
        key.step(command, self.model.now)
        if command == "activate":
            key.versions[1].state = m.ACTIVE
            key.scheduled_from = self.model.now

    @staticmethod
    def _wrong(key: Key | None, *, stale: bool = False, states: frozenset[str] | None = None) -> set[str]:
        """What speaks against a command to a key that has to be in one of these states."""
        if key is None:
            return {"NotFound"}
        reasons = {"Conflict"} if stale else set()
        return reasons | ({"WrongKeyState"} if states is not None and key.state not in states else set())

    def rotate_key(self, node: int, target: str, *, stale: bool) -> None:
        caller, name = self.named(target)
        key = self.known(target)
        call = self.seated(node).member.keys.rotate(caller, name, WRONG_ETAG if stale else "")
        reasons = self._wrong(key, stale=stale, states=m.ENCRYPTING)
        if self.expect("rotate key", call, unless(reasons)).error or key is None:
            return
        key.replace_primary(self.model.now, self.model.rules(key).grace, self.model.now, revoked=False)

    def revoke_version(self, node: int, target: str, number: int, *, stale: bool) -> None:
        caller, name = self.named(target)
        key = self.known(target)
        number = self.number(key, number)
        call = self.seated(node).member.lifecycle.revoke_version(
            caller, KeyVersionName(name, number), WRONG_ETAG if stale else "", "why", wait=False
        )
        version = None if key is None else key.versions.get(number)
        reasons = {"NotFound"} if version is None else set()
        replaced = False
        if key is not None and version is not None:
            reasons = {"Conflict"} if stale else set()
            # A key that may encrypt again needs a primary version; one that does not rotate now gets no other.
            replaced = version is key.last and key.state not in {m.ARCHIVED, m.REVOKED, m.DESTROYED}
            rotates = key.state in m.ENCRYPTING
            if (replaced and not rotates) or (not replaced and version.state not in m.REVOCABLE):
                reasons.add("WrongKeyState")
        elif key is not None and stale:
            reasons = {"Conflict", "NotFound"}
        if self.expect("revoke version", call, unless(reasons)).error or key is None or version is None:
            return
        if replaced:
            key.replace_primary(self.model.now, self.model.rules(key).grace, self.model.now, revoked=True)
        else:
            version.revoke(self.model.now)
            key.settle_rotation()

    def update_key(self, node: int, target: str, policy: str | None, rules: dict[str, Any], *, stale: bool) -> None:
        caller, name = self.named(target)
        key = self.known(target)
        changes = {} if policy is None else {"policy": policy}
        rules = rules if key is None else _allowed(key.purpose, rules)
        call = self.seated(node).member.keys.update(caller, name, WRONG_ETAG if stale else "", changes, rules)
        reasons = self._wrong(key, stale=stale)
        if key is not None and policy and policy not in self.model.policies:
            reasons.add("InvalidRequest")
        if self.expect("update key", call, unless(reasons)).error or key is None:
            return
        key.policy = key.policy if policy is None else policy
        key.overrides |= rules
        key.unplanned = False

    def create_policy(self, node: int, slug: str, rules: dict[str, Any]) -> None:
        call = self.seated(node).member.policies.create(APPLICATION, TENANT, slug, StoredPolicy(**rules))
        reasons = {"AlreadyExists"} if slug in self.model.policies else set()
        if not self.expect("create policy", call, unless(reasons)).error:
            self.model.policies[slug] = Policy(1, dict(rules))

    def update_policy(self, node: int, slug: str, rules: dict[str, Any], *, stale: bool) -> None:
        policy = self.model.policies.get(slug)
        seen = 99 if stale else 0 if policy is None else policy.version
        name = PolicyName(TENANT.tenant, slug)
        call = self.seated(node).member.policies.update(APPLICATION, name, seen, rules)
        reasons = {"NotFound"} if policy is None else {"Conflict"} if stale else set()
        if self.expect("update policy", call, unless(reasons)).error or policy is None:
            return
        policy.version += 1
        policy.rules |= rules
        for key in self.model.keys.values():
            key.unplanned = key.unplanned or key.policy == slug

    def rotate_kek(self, node: int, *, stale: bool) -> None:
        call = self.seated(node).member.keks.rotate(OPERATOR, TENANT, 99 if stale else 0)
        if not self.expect("rotate KEK", call, unless({"Conflict"} if stale else ())).error:
            self.model.primary_kek += 1
            self.model.kek_made = self.model.now

    def rotate_all(self, node: int) -> None:
        """Begin to rotate all keys; one that is under way goes on."""
        call = self.seated(node).member.keys.rotate_all(APPLICATION, TENANT)
        self.expect("rotate all keys", call, m.YES)
        self.model.rotating_all = self.model.rotating_all or self.model.now

    # Places.

    def declare_place(self, node: int, target: str, store: str) -> None:
        caller, name = self.named(target)
        key = self.known(target)
        call = self.seated(node).member.census.create_place(caller, name, NewPlace(store, PlaceKind.COLUMN, ""))
        reasons = {"NotFound"} if key is None else {"AlreadyExists"} if store in key.places else set()
        if not self.expect("declare place", call, unless(reasons)).error and key is not None:
            key.places[store] = Place()

    def delete_place(self, node: int, target: str, store: str) -> None:
        caller, name = self.named(target)
        key = self.known(target)
        call = self.seated(node).member.census.delete_place(caller, PlaceName(name.tenant, name.key, store))
        there = key is not None and store in key.places
        if not self.expect("delete place", call, unless(() if there else {"NotFound"})).error and key is not None:
            del key.places[store]
            key.complete = False

    def declare_complete(self, node: int, target: str, *, complete: bool) -> None:
        """Say that the places are all there are, where that is true, or that they are not."""
        caller, name = self.named(target)
        key = self.known(target)
        complete = complete and key is not None and not self.model.undeclared(key)
        call = self.seated(node).member.census.declare(caller, name, complete=complete)
        if not self.expect("declare complete", call, unless(self._wrong(key))).error and key is not None:
            key.complete = complete

    def report(self, node: int, target: str, store: str, ago: int) -> None:
        """Report what a place holds, or held *ago* moments; -1 for a time in the future, -2 for a version not there."""
        caller, name = self.named(target)
        key = self.known(target)
        counted, counts = self.model.now, self.model.counts(target, store)
        if ago > 0 and self.model.past:
            counted, then = self.model.past[-min(ago, len(self.model.past))]
            counts = then.get((target, store), m.Tally())
        place = None if key is None else key.places.get(store)
        reasons = {"NotFound"} if place is None else set()
        if key is not None and ago < 0:
            reasons.add("InvalidRequest")
            counted += 6 * m.MINUTE if ago == -1 else timedelta(0)
            counts = m.Tally({key.last.number + 1: 1}) if ago == -2 else counts
        if place is not None and place.counted is not None and counted < place.counted:
            reasons.add("FailedPrecondition")
        where = PlaceName(name.tenant, name.key, store)
        call = self.seated(node).member.census.report(caller, where, counted, counts)
        if self.expect("report census", call, unless(reasons)).error or key is None or place is None:
            return
        place.counted, place.counts = counted, m.Tally(counts)
        self._retire_automatically(key)

    def _retire_automatically(self, key: Key) -> None:
        if not self.model.rules(key).automatic_retirement:
            return
        stored = self.run(self.installation.records(self.tenant)).versions[key.slug]
        for version in key.versions.values():
            zero = key.zero(version, self.model.now) if version.state in m.RETIRABLE else False
            if zero or (zero is None and stored[version.number].state.value == m.LEAVING):
                version.retire(self.model.quarantine_end(key))
                self.statistics.events["retired by policy"] += 1

    def report_everywhere(self, node: int, target: str) -> None:
        """Report what all places of a key hold now."""
        for store in list(self.model.keys[target].places) if target in self.model.keys else ():
            self.report(node, target, store, 0)

    # Ends.

    def retire_version(self, node: int, target: str, number: int) -> None:
        caller, name = self.named(target)
        key = self.known(target)
        number = self.number(key, number)
        call = self.seated(node).member.destruction.retire_version(caller, KeyVersionName(name, number))
        version = None if key is None else key.versions.get(number)
        expected = unless({"NotFound"})
        if key is not None and version is not None:
            expected = unless(() if version.state in m.RETIRABLE else {"WrongKeyState"})
            if expected.success:
                expected = self._census_allows(key.zero(version, self.model.now))
        if not self.expect("retire version", call, expected).error and key is not None and version is not None:
            version.retire(self.model.quarantine_end(key))

    def retirable(self, target: str) -> list[int]:
        """The versions of a key whose states allow their retirement."""
        key = self.model.keys.get(target)
        return [v.number for v in key.versions.values() if v.state in m.RETIRABLE] if key is not None else []

    @staticmethod
    def _census_allows(zero: bool | None) -> m.Expected:
        return m.Expected(zero is not False, frozenset() if zero else frozenset({"FailedPrecondition"}))

    def cancel_retirement(self, node: int, target: str, number: int) -> None:
        caller, name = self.named(target)
        key = self.known(target)
        number = self.number(key, number)
        call = self.seated(node).member.destruction.cancel_retirement(caller, KeyVersionName(name, number))
        version = None if key is None else key.versions.get(number)
        reasons = {"NotFound"} if version is None else set() if version.state == m.LEAVING else {"WrongKeyState"}
        if not self.expect("cancel retirement", call, unless(reasons)).error and version is not None:
            version.restore()

    def schedule_key(self, node: int, target: str, days: int | None, *, stale: bool) -> None:
        caller, name = self.named(target)
        key = self.known(target)
        waiting = None if days is None else days * m.DAY
        etag = WRONG_ETAG if stale else ""
        call = self.seated(node).member.destruction.schedule_key(caller, name, etag, "why", waiting)
        reasons = self._wrong(key, stale=stale, states=m.COMMANDS["schedule"][0])
        if waiting is not None and waiting < m.HORIZON:
            reasons.add("InvalidRequest")
        expected = unless(reasons)
        if key is not None and expected.success:
            expected = self._census_allows(key.all_zero(self.model.now))
        if not self.expect("schedule key destruction", call, expected).error and key is not None:
            key.step("schedule", self.model.now)
            key.destroy_at = self.model.now + (30 * m.DAY if waiting is None else waiting)
            key.begun, key.held = False, None

    def cancel_key(self, node: int, target: str, *, stale: bool) -> None:
        caller, name = self.named(target)
        key = self.known(target)
        call = self.seated(node).member.destruction.cancel_key(caller, name, WRONG_ETAG if stale else "")
        reasons = self._wrong(key, stale=stale, states=frozenset({m.LEAVING}))
        if key is not None and key.begun:
            reasons.add("WrongKeyState")
        if not self.expect("cancel key destruction", call, unless(reasons)).error and key is not None:
            key.cancel(self.model.now)

    @staticmethod
    def number(key: Key | None, number: int) -> int:
        """Read a number: from 1 upwards as it is, 0 for the primary version, below counted back from it."""
        if number > 0 or key is None:
            return max(number, 1)
        return key.last.number + number if key.last.number + number > 0 else key.last.number + 1


def _allowed(purpose: str, rules: dict[str, Any]) -> dict[str, Any]:
    """Leave out what the edge refuses for a deterministic key."""
    refused = {"rotation", "encryption_limit"} if purpose == "DETERMINISTIC" else set()
    return {name: value for name, value in rules.items() if name not in refused}
