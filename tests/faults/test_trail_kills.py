"""kill -9 under load at every step between a call and its events: what was acknowledged is in the trail, and so is every change."""

from __future__ import annotations

import itertools
import json
import random
import signal
import sqlite3
import threading
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import pytest

from kms.core.audit import AuditEvent, Outcome, Phase, next_hash, parse
from kms.core.suites import Purpose
from kms.v1 import crypto_pb2, crypto_pb2_grpc, keys_pb2, keys_pb2_grpc
from tests.daemon import PATIENCE, Daemon, Installation, channel

KEY = "tenants/acme/keys/k1"
THREADS = 4
CHANGES = ("CreateKey", "RotateKey", "SuspendKey", "ResumeKey")
CONTEXT = [crypto_pb2.ContextPair(key="table", value=b"t")]
STEPS = (
    "audit.outcome_durable",
    "audit.group_committed",
    "audit.group_written",
    "audit.change_done",
    "audit.intent_durable",  # the last one, which leaves an intent
)
PASSES = frozenset({*STEPS, "audit.settling"})

_numbers = itertools.count(1)


@dataclass
class Load:
    """Mixed calls from several threads, until the daemon is dead; what was answered, by request id."""

    profile: Path
    answered: dict[str, str] = field(default_factory=dict)  # the method
    refused: dict[str, str] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def begin(self) -> None:
        self._stop.clear()
        self._threads = [threading.Thread(target=self._work, args=(seed,), daemon=True) for seed in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def _work(self, seed: int) -> None:
        chooser = random.Random(seed)
        with channel(self.profile) as line:
            crypto, keys = crypto_pb2_grpc.CryptoServiceStub(line), keys_pb2_grpc.KeyServiceStub(line)
            own = f"k-{next(_numbers)}"
            ciphertext = b""
            create = keys_pb2.CreateKeyRequest(parent="tenants/acme", key_id=own, key=keys_pb2.Key(purpose=1))
            if self._call(keys.CreateKey, create) is None:
                return
            while not self._stop.is_set():
                name = f"tenants/acme/keys/{own}"
                encrypt = crypto_pb2.EncryptRequest(name=KEY, plaintext=b"x", context=CONTEXT)
                calls: list[tuple[Any, Any]] = [
                    (crypto.Encrypt, encrypt),
                    (crypto.Decrypt, crypto_pb2.DecryptRequest(name=KEY, ciphertext=ciphertext, context=CONTEXT)),
                    (keys.GetKey, keys_pb2.GetKeyRequest(name=KEY)),
                    (keys.GetKey, keys_pb2.GetKeyRequest(name="tenants/acme/keys/missing")),
                    (keys.RotateKey, keys_pb2.RotateKeyRequest(name=name)),
                    (keys.SuspendKey, keys_pb2.SuspendKeyRequest(name=name, reason="load")),
                    (keys.ResumeKey, keys_pb2.ResumeKeyRequest(name=name)),
                ]
                answer = self._call(*chooser.choice(calls))
                if answer is None:
                    return
                ciphertext = getattr(answer, "ciphertext", ciphertext)

    def _call(self, method: Any, request: Any) -> Any:
        """Make a call; returns its answer, something for a refusal, and None where the daemon is dead."""
        name = method._method.decode() if isinstance(method._method, bytes) else method._method
        request_id = f"load-{next(_numbers)}"
        try:
            answer = method(request, timeout=10, metadata=(("x-request-id", request_id),))
        except grpc.RpcError as error:
            # What the daemon itself refuses has the call's id; everything else is a line that has broken.
            if "x-request-id" not in dict(error.trailing_metadata() or ()):
                return None
            if error.code() is not grpc.StatusCode.UNAVAILABLE:  # for which the trail itself may be the reason
                self.refused[request_id] = name
            return object()
        self.answered[request_id] = name
        return answer


@dataclass
class Trail:
    """What the database has: events in their order, by stream, and the number of versions of each key."""

    streams: dict[UUID, list[tuple[AuditEvent, bytes, bytes]]]
    versions: dict[str, int]

    @classmethod
    def read(cls, installation: Installation) -> Trail:
        streams: dict[UUID, list[tuple[AuditEvent, bytes, bytes]]] = defaultdict(list)
        with closing(sqlite3.connect(installation.directory / "data" / "kms.db", timeout=10)) as database:
            rows = database.execute("SELECT canonical, hash FROM audit_log ORDER BY stream_id, sequence")
            for canonical, digest in rows:
                event = parse(canonical)
                streams[event.stream].append((event, canonical, digest))
            versions = database.execute(
                "SELECT k.key_id, max(v.version) FROM encryption_keys k JOIN key_versions v ON v.key_uid = k.id GROUP BY 1"
            ).fetchall()
        return cls(dict(streams), dict(versions))

    @property
    def events(self) -> list[AuditEvent]:
        return [event for rows in self.streams.values() for event, _, _ in rows]

    def check_chains(self) -> None:
        """Each event's hash follows from the one before, without gaps, and each stream names the end of the one before."""
        ends = {}
        firsts = []
        for stream, rows in self.streams.items():
            assert [event.sequence for event, _, _ in rows] == list(range(1, len(rows) + 1))
            for (_, _, before), (_, canonical, digest) in pairwise(rows):
                assert next_hash(before, canonical) == digest
            assert all(one.at <= other.at for (one, _, _), (other, _, _) in pairwise(rows))
            ends[str(stream)] = (rows[-1][0].sequence, rows[-1][2].hex())
            firsts.append(rows[0][0])
        previous = [json.loads(first.details) for first in firsts]
        assert [first.action for first in firsts] == ["daemon.started"] * len(firsts)
        named = {told["previous_stream"]: (told["previous_sequence"], told["previous_hash"]) for told in previous}
        assert named.pop(None) == (0, "")
        assert all(ends[stream] == end for stream, end in named.items())
        assert len(named) == len(firsts) - 1

    def check_answered(self, load: Load) -> None:
        """What was acknowledged, or refused with an answer, has its event, and a change both of them."""
        by_request: dict[str, list[AuditEvent]] = defaultdict(list)
        for event in self.events:
            by_request[event.request_id].append(event)
        for request_id, method in {**load.answered, **load.refused}.items():
            found = by_request[request_id]
            assert {event.action for event in found} == {method}, request_id
            phases = [event.phase for event in found]
            changes = any(name in method for name in CHANGES)
            assert phases == ([Phase.INTENT, Phase.OUTCOME] if changes else [Phase.ACT]), request_id
            assert (found[-1].outcome is Outcome.SUCCESS) == (request_id in load.answered), request_id

    def check_changes(self) -> None:
        """Every key and every version in the database has its intent."""
        intents = Counter(
            (event.action.rpartition("/")[2], event.resource) for event in self.events if event.phase is Phase.INTENT
        )
        assert self.versions
        for slug, newest in self.versions.items():
            name = f"tenants/acme/keys/{slug}"
            assert intents["CreateKey", name] >= 1, slug
            assert intents["RotateKey", name] >= newest - 1, slug

    def unsettled(self) -> list[AuditEvent]:
        """Intents that have no outcome; no process is running."""
        settled = {
            (event.intent_stream, event.intent_sequence) for event in self.events if event.phase is Phase.OUTCOME
        }
        return [
            event
            for event in self.events
            if event.phase is Phase.INTENT and (event.stream, event.sequence) not in settled
        ]

    def check(self, load: Load) -> None:
        """All that holds after a kill and a start."""
        self.check_chains()
        self.check_answered(load)
        self.check_changes()
        assert self.unsettled() == []


class Scene:
    """An installation with a tenant and a key, whose daemon is killed again and again under one load."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        daemon = installation.start()
        with installation.tenant("acme") as client:
            client.create_key("tenants/acme", "k1", purpose=Purpose.ENCRYPT)
        daemon.stop()
        self.load = Load(installation.directory.parent / "clients" / "tenants-acme-principals-app" / "kms.toml")

    def killed(self, failpoint: str = "", after: float = 0.0) -> None:
        """Start, and let the load run until the daemon dies at a failpoint, or is killed after that many seconds."""
        daemon = self.installation.start(failpoint=failpoint)
        self.load.begin()
        if failpoint:
            died(daemon)
        else:
            assert not threading.Event().wait(after)  # the load works meanwhile
            daemon.process.kill()
            died(daemon)
        self.load.end()

    def check(self) -> Trail:
        """Start again, under load once more, end as one should, and look at everything."""
        daemon = self.installation.start()
        self.load.begin()
        assert not threading.Event().wait(0.5)
        assert daemon.stop() == 0
        self.load.end()
        trail = Trail.read(self.installation)
        trail.check(self.load)
        newest = max(trail.streams.values(), key=lambda rows: rows[0][0].at)
        assert newest[-1][0].action == "daemon.stopped"
        return trail


def died(daemon: Daemon) -> None:
    assert daemon.process.wait(PATIENCE) == -signal.SIGKILL


@pytest.fixture
def scene(installation: Installation) -> Scene:
    return Scene(installation)


def test_a_kill_between_any_two_steps_loses_no_event_of_what_was_acknowledged(scene: Scene):
    for number, failpoint in enumerate(STEPS):
        scene.killed(f"{failpoint}@{9 + number}")
    # A start that dies while it settles leaves the rest to the next one.
    assert Trail.read(scene.installation).unsettled() != []
    died(scene.installation.start(ready=False, failpoint="audit.settling"))
    trail = scene.check()
    left = [event for event in trail.events if event.phase is Phase.OUTCOME and event.outcome is Outcome.UNKNOWN]
    assert left
    assert all("the process ended" in event.details for event in left)
    assert len(scene.load.answered) > len(STEPS)
    # What is lost is found: the eye that says otherwise is not blind.
    acknowledged = next(iter(scene.load.answered))
    for rows in trail.streams.values():
        rows[:] = [row for row in rows if row[0].request_id != acknowledged]
    with pytest.raises(AssertionError):
        trail.check_answered(scene.load)
    with pytest.raises(AssertionError):
        trail.check_chains()


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=[pytest.mark.soak, pytest.mark.timeout(3_600)])])
def test_a_kill_at_any_moment_loses_no_event_of_what_was_acknowledged(scene: Scene, kills: int):
    chooser = random.Random(kills)
    for _ in range(kills):
        scene.killed(after=chooser.uniform(0.05, 1.0))
        trail = Trail.read(scene.installation)
        trail.check_chains()
        trail.check_answered(scene.load)
        trail.check_changes()
    scene.check()
    print(f"{kills} kills, {len(scene.load.answered)} calls acknowledged")  # noqa: T201
