"""Local mode against random histories: nothing is encrypted or decrypted after the end of a lease, nor after a stop's deadline.

The daemon's side is a model: a key with versions, a moment at which it was stopped, and answers that are decided at one
moment and arrive at a later one. Time moves only where a history says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from kms_client import local_work
from kms_client.formats.ciphertext import Header
from kms_client.formats.errors import KmsError, Unavailable, WrongKeyState
from kms_client.leased_key import MARGIN, LeasedKey
from kms_client.leases import Asked, Leases, Wanted

from tests.leased import lease_of

NAME = "tenants/acme/keys/notes"
DEADLINE = 5.0  # seconds after a stop at which nothing is used any more


@dataclass
class Daemon:
    """One key whose newest version encrypts, until it is stopped; a version may be revoked alone."""

    now: float = 1000.0
    primary: int = 1
    stopped: float | None = None
    revoked: dict[int, float] = field(default_factory=dict)
    rotated: dict[int, float] = field(default_factory=dict)  # when a version ceased to be the primary one

    def rotate(self) -> None:
        self.rotated[self.primary] = self.now
        self.primary += 1

    def revoke(self, version: int) -> None:
        if version < self.primary:
            self.revoked.setdefault(version, self.now)

    def stop(self) -> None:
        self.stopped = self.now if self.stopped is None else self.stopped

    def decide(self, version: int, seconds: float, began: float) -> LeasedKey | KmsError:
        version = version or self.primary
        if self.stopped is not None:
            return WrongKeyState(f"{NAME} is revoked: it cannot be used to decrypt")
        if version in self.revoked or version > self.primary:
            return WrongKeyState(f"{NAME}/versions/{version} is revoked: it cannot be used to decrypt")
        return LeasedKey(lease_of(version, encrypts=version == self.primary, seconds=seconds), began)

    def check(self, version: int, *, encrypts: bool) -> None:
        """Whether this version may be used at this moment: nothing that forbids it is as old as the deadline."""
        forbidden = [moment for moment in (self.stopped, self.revoked.get(version)) if moment is not None]
        if encrypts and version in self.rotated:
            forbidden.append(self.rotated[version])
        assert all(self.now < moment + DEADLINE for moment in forbidden)


@dataclass
class Request:
    asked: Asked
    began: float
    answer: LeasedKey | KmsError | None = None


durations = st.floats(0.2, DEADLINE)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.floats(0, 4)),
        st.tuples(st.just("lease"), st.integers(0, 2)),
        st.tuples(st.just("ask"), st.integers(0, 2)),
        st.tuples(st.just("decide"), durations),
        st.tuples(st.just("deliver"), st.integers(0, 1)),
        st.tuples(st.just("lose"), st.integers(0, 1)),
        st.tuples(st.just("look"), st.integers(0, 2)),
        st.tuples(st.sampled_from(["rotate", "stop", "sweep"]), st.just(0)),
        st.tuples(st.just("revoke"), st.integers(1, 2)),
    ),
    min_size=5,
    max_size=40,
)


class World:
    """A daemon, what is asked of it and under way, and the leases that its answers give."""

    def __init__(self) -> None:
        self.daemon, self.leases = Daemon(), Leases()
        self.requests: list[Request] = []
        self.ends: dict[int, float] = {}  # of the last answer for each version, by what the daemon said

    def wait(self, seconds: float) -> None:
        self.daemon.now += seconds

    def ask(self, version: int) -> None:
        self.requests.append(Request((NAME, version), self.daemon.now))

    def decide(self, seconds: float) -> None:
        for request in [request for request in self.requests if request.answer is None][:1]:
            request.answer = self.daemon.decide(request.asked[1], seconds, request.began)

    def deliver(self, number: int) -> None:
        decided = [request for request in self.requests if request.answer is not None]
        for request in decided[number : number + 1]:
            self.requests.remove(request)
            if isinstance(request.answer, LeasedKey):
                self.leases.put(request.asked, request.answer)
                self.ends[request.answer.version] = request.answer.ends + MARGIN
            elif request.answer is not None:
                self.leases.failed(request.asked, request.answer)
                if request.asked[1] == 0:
                    self.ends.clear()

    def lease(self, version: int) -> None:
        """Ask, and have the answer at once, beside whatever is under way."""
        under_way, self.requests = self.requests, []
        self.ask(version)
        self.decide(DEADLINE)
        self.deliver(0)
        self.requests = under_way

    def lose(self, number: int) -> None:
        for request in self.requests[number : number + 1]:
            self.requests.remove(request)
            self.leases.failed(request.asked, Unavailable("away"))

    def look(self, version: int) -> None:
        leased, _ = self.leases.look(Wanted(NAME, version), self.daemon.now)
        if leased is not None:
            assert version in (0, leased.version)
            assert self.daemon.now < self.ends[leased.version]
            assert leased.encrypts or version != 0
            self.daemon.check(leased.version, encrypts=version == 0)

    def sweep(self, _: int) -> None:
        self.leases.sweep(self.daemon.now)
        assert len(self.leases) <= sum(self.daemon.now < end for end in self.ends.values())

    def rotate(self, _: int) -> None:
        self.daemon.rotate()

    def stop(self, _: int) -> None:
        self.daemon.stop()

    def revoke(self, version: int) -> None:
        self.daemon.revoke(version)


@settings(max_examples=300)
@given(steps)
def test_what_is_looked_up_is_leased_and_was_not_stopped_longer_ago_than_the_deadline(history: list[tuple[str, Any]]):
    world = World()
    for act, value in history:
        getattr(world, act)(value)
        world.look(0)


class Driver:
    """Runs work while the world goes on: between any two steps of it whatever the history says happens."""

    def __init__(self, daemon: Daemon, events: Iterator[tuple[str, float]]) -> None:
        self.daemon, self.events, self.leases = daemon, events, Leases()

    def run(self, work: Any) -> Any:
        try:
            wanted = next(work)
            while True:
                try:
                    leased = self.leased(wanted)
                except KmsError as error:
                    wanted = work.throw(error)
                else:
                    wanted = work.send(leased)
        except StopIteration as end:
            return end.value

    def happen(self) -> None:
        act, value = next(self.events)
        if act == "wait":
            self.daemon.now += value
        elif act == "rotate":
            self.daemon.rotate()
        elif act == "revoke":
            self.daemon.revoke(int(value))
        else:
            self.daemon.stop()

    def leased(self, wanted: Wanted) -> LeasedKey:
        leased, due = self.leases.look(wanted, self.daemon.now)
        if due:
            answer = self.daemon.decide(wanted.version, DEADLINE, self.daemon.now)
            if isinstance(answer, KmsError):
                self.leases.failed((NAME, wanted.version), answer)
                if leased is None:
                    raise answer
            else:
                self.leases.put((NAME, wanted.version), answer)
                answer.cipher = Lasting(answer.cipher, self.happen)  # type: ignore[assignment]
                if leased is None:
                    leased = self.leases.look(wanted, self.daemon.now)[0]
        assert leased is not None
        return leased


class Lasting:
    """A cipher whose work takes time: before and after each turn of it something happens."""

    def __init__(self, cipher: Any, happen: Callable[[], None]) -> None:
        self._cipher, self._happen = cipher, happen

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def work(*arguments: Any) -> Any:
            self._happen()
            done = getattr(self._cipher, method)(*arguments)
            self._happen()
            return done

        return work


events = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.floats(0, 7)),
        st.tuples(st.just("rotate"), st.just(0.0)),
        st.tuples(st.just("revoke"), st.floats(1, 3)),
        st.tuples(st.just("stop"), st.just(0.0)),
    ),
    max_size=20,
)
nothing = repeat(("wait", 0.0))


def chained(history: list[tuple[str, float]]) -> Iterator[tuple[str, float]]:
    yield from history
    yield from nothing


ROTATED_WITHIN_A_BATCH = [
    ("wait", 0.0),
    ("rotate", 0.0),
    ("wait", 3.0),
    ("revoke", 1.0),
    ("wait", 3.0),
    ("wait", 3.0),
    ("wait", 3.0),
]


# The batch has versions 1, 1, 2; version 1 is revoked between its turns of decryption and that of version 2.
REVOKED_WITHIN_A_BATCH = [
    *[("wait", 0.0), ("rotate", 0.0), ("wait", 3.0), *[("wait", 0.0)] * 8],
    *[("revoke", 1.0), ("wait", 3.0), ("wait", 3.0)],
]


@settings(max_examples=120)
@example(REVOKED_WITHIN_A_BATCH, [b"first", b"second", b"third"], True, 1)
@example(ROTATED_WITHIN_A_BATCH, [b"first", b"second", b"third", b"fourth", b"fifth"], False, 1)
@given(events, st.lists(st.binary(max_size=20), min_size=1, max_size=12), st.booleans(), st.integers(1, 4))
def test_a_result_leaves_only_while_its_version_may_be_used_and_is_what_was_asked_for(
    history: list[tuple[str, float]], values: list[bytes], rows: bool, turn: int
):
    """Encrypts, lets the world go on, decrypts: never a ciphertext as plaintext, never one that was encrypted twice."""
    with_turns_of(turn, lambda: _round_trip(history, values, rows=rows))


def with_turns_of(turn: int, act: Callable[[], None]) -> None:
    before = local_work.TURN
    local_work.TURN = turn  # type: ignore[misc]
    try:
        act()
    finally:
        local_work.TURN = before  # type: ignore[misc]


def _round_trip(history: list[tuple[str, float]], values: list[bytes], *, rows: bool) -> None:
    daemon = Daemon()
    driver = Driver(daemon, chained(history))
    varying = ("row", [str(number) for number in range(len(values))]) if rows else None
    try:
        made = driver.run(local_work.encrypt_batch(NAME, values, {"table": "t"}, varying)).complete()
    except (WrongKeyState, Unavailable):
        return
    versions = [Header.parse(ciphertext).version for ciphertext in made]
    # The versions of a batch's earlier turns are confirmed to be readable; the last one to encrypt.
    for version in versions:
        daemon.check(version, encrypts=version == versions[-1])
    assert versions == sorted(versions)
    try:
        found = driver.run(local_work.decrypt_batch(NAME, made, {"table": "t"}, varying))
    except (WrongKeyState, Unavailable):
        return
    for index, value in enumerate(found.values):
        if value is None:
            assert isinstance(found.failures[index], WrongKeyState)
        else:
            assert value == values[index]
            daemon.check(versions[index], encrypts=False)
    try:
        one = driver.run(local_work.encrypt(NAME, values[0], None))
        daemon.check(one.version, encrypts=True)
        told = driver.run(local_work.decrypt(NAME, one.ciphertext, None))
    except (WrongKeyState, Unavailable):
        return
    daemon.check(one.version, encrypts=False)
    assert told.plaintext == values[0]
