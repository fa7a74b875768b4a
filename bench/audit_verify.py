"""bench/audit_verify: an exported audit trail is verified, beside nothing but the hashes of its chains.

The trail is written into a directory of its own: events of one request each, with a checkpoint after every 10,000. The
bare rate is a loop that hashes the same bytes in the same chains, which are in memory already, and compares nothing; it is
measured before and after.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final
from uuid import UUID, uuid4

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bench import report
from bench.rounds import WrongResult
from kms.core.audit import AuditEvent, Category, Outcome, StreamUid, body_of, canonical, first_hash, next_hash
from kms.core.audit_check import Report, check_export
from kms.core.audit_export import (
    HASH,
    TRAILER_LABEL,
    Kind,
    Trailer,
    batches,
    beginning,
    checkpoint_frame,
    event_frame,
    trailer_frame,
    trailer_text,
)
from kms.core.audit_ports import Position
from kms.core.checkpoints import NOTHING, Checkpoint, SignedCheckpoint, message_of
from kms.core.checkpoints import body_of as checkpoint_body
from kms.crypto.signatures import verifier

DEFAULT: Final = 1_000_000  # events
SEALED: Final = 10_000  # events between two checkpoints
NODE: Final = "bench:00000000"
BEGAN: Final = datetime(2031, 1, 1, tzinfo=UTC)
MOST: Final = 3.0  # times the bare hashes


@dataclass(slots=True)
class _Stream:
    uid: StreamUid
    sequence: int
    hash: bytes


class _Writer:
    """Writes a trail into a file."""

    def __init__(self, file: BinaryIO, streams: int) -> None:
        self._file = file
        self._installation = uuid4()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.public_key = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        uids = [StreamUid(uuid4()) for _ in range(streams)]
        self._streams = [_Stream(uid, 0, first_hash(self._installation, uid)) for uid in uids]
        self._made: list[tuple[int, bytes]] = []
        self._events = 0

    def write(self, events: int) -> None:
        self._file.write(beginning(self._installation, whole=True))
        bodies = [body_of(_event(number)) for number in range(1_000)]
        for number in range(events):
            stream = self._streams[number % len(self._streams)]
            self._add(stream, body_of(_started(number)) if stream.sequence == 0 else bodies[number % 1_000])
            if (number + 1) % SEALED == 0 or number + 1 == events:
                self._seal()
        (first, first_hash_), (last, last_hash) = self._made[0], self._made[-1]
        numbers = (self._events, len(self._made), first, first_hash_.hex(), last, last_hash.hex())
        text = trailer_text(Trailer(*numbers, BEGAN.isoformat()))
        self._file.write(trailer_frame(text, self._sign(TRAILER_LABEL + text)))

    def _add(self, stream: _Stream, body: bytes) -> None:
        stream.sequence += 1
        self._events += 1
        data = canonical(stream.uid, stream.sequence, BEGAN + timedelta(milliseconds=self._events), body)
        stream.hash = next_hash(stream.hash, data)
        self._file.write(event_frame(stream.hash, data))

    def _seal(self) -> None:
        heads = [Position(each.uid, each.sequence, each.hash) for each in self._streams if each.sequence]
        serial, previous = self._made[-1] if self._made else (0, NOTHING)
        ordered = tuple(sorted(heads, key=lambda head: head.stream.bytes))
        at = BEGAN + timedelta(milliseconds=self._events)
        said = Checkpoint(serial + 1, previous, self._installation, ordered, hashlib.sha256().digest(), at, NODE)
        body = checkpoint_body(said)
        made = SignedCheckpoint(said, body, self._sign(message_of(body)))
        self._made.append((made.serial, made.hash))
        self._file.write(checkpoint_frame(made))

    def _sign(self, message: bytes) -> bytes:
        return self._key.sign(message, ec.ECDSA(SHA256()))


def _event(number: int) -> AuditEvent:
    return AuditEvent(
        action="/kms.v1.CryptoService/EncryptBatch",
        category=Category.DATA_ACCESS,
        outcome=Outcome.SUCCESS,
        code="OK",
        principal="tenants/acme/principals/application",
        roles="application",
        credential_kind="certificate",
        credential_id=hashlib.sha256(b"certificate").hexdigest(),
        address="192.0.2.17",
        user_agent="grpc-python-asyncio/1.68.0",
        request_id=str(UUID(int=number)),
        node=NODE,
        release="0.1.0",
        resource_type="key",
        resource="tenants/acme/keys/payroll",
        key_version=3,
        context_digest=hashlib.sha256(b"%d" % number).digest(),
        items=100,
        bytes_in=10_000,
        bytes_out=14_000,
        duration_us=2_345,
    )


def _started(number: int) -> AuditEvent:
    event = _event(number)
    event.action, event.node = "daemon.started", f"bench{number}:00000000"
    event.details = json.dumps({"previous_stream": None, "previous_sequence": 0, "previous_hash": ""})
    return event


def _bare(path: Path) -> tuple[float, int]:
    """Return the seconds that the hashes of all chains take, and how many bytes they cover."""
    with path.open("rb") as file:
        bodies = [body for kind, run, _ in batches(file) if kind == Kind.EVENT for body in run]
    events = [body[HASH:] for body in bodies]
    size = sum(map(len, events))
    del bodies
    sha256, digest = hashlib.sha256, NOTHING
    began = time.perf_counter()
    for event in events:
        digest = sha256(digest + event).digest()
    return time.perf_counter() - began, size


def _verified(path: Path, public_key: bytes) -> tuple[float, Report]:
    began = time.perf_counter()
    with path.open("rb") as file:
        found = check_export(file, verifier(public_key))
    return time.perf_counter() - began, found


def run(events: int, streams: int) -> list[str]:
    """Measure, and return what is to be printed.

    Raises:
        WrongResult: the trail did not verify.
    """
    with tempfile.TemporaryDirectory(prefix="kms-bench-") as directory:
        path = Path(directory) / "trail"
        with path.open("wb") as file:
            writer = _Writer(file, streams)
            writer.write(events)
        before, size = _bare(path)
        seconds, found = _verified(path, writer.public_key)
        after, _ = _bare(path)
    if not found.whole or found.events != events:
        raise WrongResult(
            f"the trail did not verify: {found.events} events, {[str(one) for one in found.findings[:3]]}"
        )
    bare = (before + after) / 2
    row = (
        f"{streams} streams",
        f"{events:,}",
        f"{size / events:,.0f}",
        f"{events / seconds:,.0f}",
        f"{events / bare:,.0f}",
        f"{seconds / bare:.2f}",
        f"{size / seconds / 1e6:,.0f}",
    )
    header = ("", "events", "bytes each", "verified/s", "bare hashes/s", "ratio", "MB/s")
    aim = report.Aim("verifying beside bare hashes", seconds / bare, seconds / min(before, after), most=MOST)
    return [*report.table(header, [row]), str(aim)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(prog="bench/audit_verify", description=__doc__)
    parser.add_argument("events", type=int, nargs="?", default=DEFAULT)
    parser.add_argument("--streams", type=int, default=3)
    chosen = parser.parse_args(arguments)
    print("\n".join(["environment:", *(f"  {line}" for line in report.environment()), ""]))
    print("\n".join(f"  {line}" for line in run(chosen.events, chosen.streams)))


if __name__ == "__main__":
    main()
